/** SDSeg: one-step segmentation (Lin et al. 2024), for other programs: the method, its networks and their file, training, and use. */
export { exportSegmenter } from "./in-page.ts";
export * from "./method.ts";
export * from "./model.ts";
export { MODES } from "./options.ts";
export * from "./train.ts";
export * from "./use.ts";
