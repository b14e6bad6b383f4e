/** NCP-DPO: preferences learned in the U-Net's own features. */
export * from "./method.ts";
export * from "./model.ts";
export * from "./pairs.ts";
export * from "./scorers.ts";
export * from "./train.ts";
