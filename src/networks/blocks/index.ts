/** Blocks that several networks share. */
export * from "./attention.ts";
export * from "./embeddings.ts";
export * from "./feature-norm.ts";
export * from "./resampling.ts";
export * from "./resnet.ts";
export * from "./transformer.ts";
export * from "./unet-blocks.ts";
