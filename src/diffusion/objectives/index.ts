/**
 * Objectives: what networks are trained to predict, at which noise levels, and the weight of each level. Training code
 * takes its batches from here: the families are complete, also where no system of this repository uses a member yet.
 */

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
export * from "./noise-levels.ts";
export * from "./targets.ts";
export * from "./weights.ts";
