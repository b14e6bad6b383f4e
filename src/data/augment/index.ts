/** Augmentations with exact randomness per sample; picture and labels change together. */
export * from "./degrade.ts";
export * from "./geometry.ts";
export * from "./noise.ts";
export * from "./sample.ts";
