/** Low-rank adapters (Hu et al. 2021) of pipelines: read, applied, written. */
export * from "./apply.ts";
export { type LoraComponent, type LoraTargets, ldmNames } from "./names.ts";
export * from "./read.ts";
export * from "./write.ts";
