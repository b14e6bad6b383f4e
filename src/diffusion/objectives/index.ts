/** Objectives: what networks are trained to predict, and how much each noise level counts. */
export * from "./draws.ts";
export {
  addNoise,
  explodingLevel,
  flowLevel,
  levelOfAlphaBar,
  type NoiseLevel,
  perSample,
  preservingLevel,
  signalToNoise,
} from "./levels.ts";
export * from "./loss.ts";
export * from "./targets.ts";
export * from "./weights.ts";
