/** NCP-DPO: preferences learned in the U-Net's own features. */
export * from "./method.ts";
export * from "./model.ts";
export * from "./pairs.ts";
export * from "./scorers.ts";
export { ncpDpo } from "./system.ts";
export * from "./train.ts";
