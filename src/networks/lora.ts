/** Low-rank adapters (Hu et al. 2021) of pipelines: read, applied, written. */
export * from "./lora/apply.ts";
export { type LoraComponent, type LoraTargets, ldmNames } from "./lora/names.ts";
export * from "./lora/read.ts";
export * from "./lora/write.ts";
