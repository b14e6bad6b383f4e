/** Objectives: what networks are trained to predict, and how much each noise level counts. */

export {
  addNoise,
  explodingLevel,
  flowLevel,
  levelOfAlphaBar,
  type NoiseLevel,
  perSample,
  preservingLevel,
  signalToNoise,
} from "./add-noise.ts";
export * from "./draws.ts";
export * from "./loss.ts";
export * from "./targets.ts";
export * from "./weights.ts";
