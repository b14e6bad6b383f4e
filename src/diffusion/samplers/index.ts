/** Samplers: one function each, from noise to a sample. */
export * from "./ancestral.ts";
export * from "./consistency.ts";
export * from "./dpm-solver.ts";
export * from "./euler.ts";
export * from "./multistep.ts";
export * from "./predictor-corrector.ts";
export * from "./registry.ts";
export * from "./sa-solver.ts";
export { type UniPCOptions, unipc } from "./unipc.ts";
