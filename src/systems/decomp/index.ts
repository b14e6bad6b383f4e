/** Decomp Diffusion: pictures taken apart without labels, for other programs: method, networks and their file, training, use. */
export * from "./data.ts";
export * from "./method.ts";
export * from "./model.ts";
export * from "./train.ts";
export * from "./use.ts";
