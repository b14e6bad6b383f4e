/**
 * Metrics: numbers that merge, that carry their recipe, and that agree with independent implementations. Families
 * of metrics are complete, also where no system of this repository uses a member yet.
 */
export * from "./bootstrap.ts";
export * from "./classification.ts";
export * from "./components.ts";
export * from "./detection.ts";
export * from "./disentanglement.ts";
export * from "./feature-network.ts";
export * from "./frechet.ts";
export * from "./image-similarity.ts";
export * from "./inception-score.ts";
export * from "./kernel-distance.ts";
export * from "./linear-probe.ts";
export * from "./lpips.ts";
export * from "./manifold.ts";
export * from "./matching.ts";
export * from "./recipe.ts";
export * from "./restoration.ts";
export * from "./ridge-probe.ts";
export * from "./sample-quality.ts";
export * from "./sample-table.ts";
export * from "./segmentation.ts";
export * from "./shape-captions.ts";
export * from "./similarity.ts";
