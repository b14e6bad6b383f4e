/** Samplers: one function each, from noise to a sample. */

export * from "./consistency.ts";
export * from "./ddim.ts";
export * from "./ddpm.ts";
export * from "./deis.ts";
export * from "./dpm-solver.ts";
export * from "./dpm2.ts";
export { type ChurnOptions, euler, eulerAncestral, eulerStep, type Stage } from "./euler.ts";
export * from "./heun.ts";
export * from "./lms.ts";
export * from "./pndm.ts";
export * from "./predictor-corrector.ts";
export * from "./registry.ts";
export * from "./sa-solver.ts";
export * from "./tcd.ts";
export { type UniPCOptions, unipc } from "./unipc.ts";
