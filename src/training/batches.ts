/** Random parts of training batches, as pure functions of the step: with the library's own distributions and draws. */
import {
  drawDropout,
  drawTimesteps,
  explodingLevel,
  flowLevel,
  levelOfAlphaBar,
  type NoiseLevel,
  type Quantile,
  trainingNoise,
  uniformSteps,
} from "../diffusion/index.ts";
import { ArgumentError } from "../errors.ts";
import { fillPermutation, fromHost, type NoiseSource, type Seed, type Tensor } from "../tensor/index.ts";

/**
 * Indices of a step's batch. Every epoch is a permutation of its own, a function of the seed and the epoch; a batch may
 * reach from one epoch into the next. @throws ArgumentError without samples, or for a batch size below 1
 */
export function epochIndices(count: number, batch: number, seed: Seed): (step: number) => Int32Array {
  for (const [name, value] of Object.entries({ samples: count, "batch size": batch })) {
    if (!Number.isInteger(value) || value < 1)
      throw new ArgumentError(`epochs: expected ${name} from 1 up, got ${value}`);
  }
  const order = new Int32Array(count);
  let known = -1;
  const at = (position: number): number => {
    const epoch = Math.floor(position / count);
    if (epoch !== known) fillPermutation(order, { seed, sample: 0, purpose: "epoch", step: epoch });
    known = epoch;
    return order[position % count]!;
  };
  return (step) => Int32Array.from({ length: batch }, (_, i) => at(step * batch + i));
}

/** Which noise levels a network is trained on, and what it is told of them. */
export interface TrainingLevels {
  /** Distribution of what is drawn for each sample: a timestep, or a sigma. */
  readonly drawn: Quantile;
  /** The levels of what was drawn. */
  readonly levelOf: (drawn: Float32Array) => NoiseLevel;
}

const vector = (values: Float32Array): Tensor => fromHost("f32", [values.length], values); // [N]

/** Timesteps of a schedule given by its cumulative products of alphas. Default: each as often. */
export const alphaBarLevels = (
  alphaBars: ArrayLike<number>,
  drawn: Quantile = uniformSteps(alphaBars.length),
): TrainingLevels => ({
  drawn,
  levelOf: (t) => levelOfAlphaBar(vector(t.map((i) => alphaBars[i]!))),
});

/** Sigmas of x0 + sigma * noise, such as `logNormal()` for EDM. */
export const sigmaLevels = (drawn: Quantile): TrainingLevels => ({
  drawn,
  levelOf: (sigma) => explodingLevel(vector(sigma)),
});

/** Sigmas in [0, 1] of (1 - sigma) x0 + sigma * noise, such as `logitNormal()`. */
export const flowLevels = (drawn: Quantile): TrainingLevels => ({
  drawn,
  levelOf: (sigma) => flowLevel(vector(sigma)),
});

/** What is drawn for a training step. */
export interface DiffusionDraws {
  readonly source: NoiseSource;
  readonly step: number;
  readonly levels: TrainingLevels;
  /** Share of conditions that are dropped, for guidance. Default: `dropped` is left out. */
  readonly dropRate?: number | undefined;
  /** Levels spread evenly over every batch, see `drawTimesteps`. Default false. */
  readonly stratified?: boolean;
  /** See `trainingNoise`. Default 0. */
  readonly offset?: number;
}

/** What one training step drew. */
export interface DiffusionDraw {
  /** What was drawn for each sample, timesteps or sigmas, as `DiffusionBatch` has it. */
  readonly timestep: Tensor; // [N]
  readonly level: NoiseLevel;
  readonly noise: Tensor; // [N, …]
  /** True where the condition is dropped: for `dropCondition`. */
  readonly dropped?: Tensor; // [N]
}

/**
 * Timesteps, levels, noise and dropped conditions of a step for samples of this shape, [N, …].
 *
 * @example
 * ```ts
 * const levels = alphaBarLevels(alphasCumprod(betas()));
 * const { dropped, ...draws } = diffusionBatch(x0.shape, { source: createNoise("philox", 0), step, levels, dropRate: 0.1 });
 * const batch = { x0, condition: dropCondition(labels, none, dropped!), ...draws }; // for `diffusionLoss`
 * ```
 */
export function diffusionBatch(shape: readonly number[], draws: DiffusionDraws): DiffusionDraw {
  const { source, step, levels, dropRate, stratified = false, offset = 0 } = draws;
  const [count = 0] = shape;
  const at = { sample: 0, step };
  const drawn = drawTimesteps(levels.drawn, source, count, { at, stratified });
  return {
    timestep: vector(drawn),
    level: levels.levelOf(drawn),
    noise: trainingNoise(source, shape, { at, offset }),
    ...(dropRate !== undefined && { dropped: drawDropout(source, count, dropRate, at) }),
  };
}
