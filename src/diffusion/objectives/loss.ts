/** The training loss: pure, with all randomness in the batch, so it compiles and differentiates as it stands. */
import { ShapeError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { addNoise, type NoiseLevel } from "./add-noise.ts";
import type { Objective } from "./targets.ts";
import { type LossWeight, uniformWeight } from "./weights.ts";

/** A network in training: what it sees [N, …], its timesteps [N], its condition. */
export type TrainedNetwork<C> = (x: Tensor, timestep: Tensor, condition: C) => Tensor;

/** What one training step of a diffusion model is made of: clean samples, noise, levels, condition. */
export interface DiffusionBatch<C> {
  readonly x0: Tensor; // [N, …]
  readonly noise: Tensor; // [N, …]
  readonly level: NoiseLevel;
  /** What the network is told of the noise level, [N]. */
  readonly timestep: Tensor;
  readonly condition: C;
  /** Further normals [N, …], for input perturbation. */
  readonly perturbation?: Tensor;
  /** Importance weights [N] of timesteps that are not drawn uniformly. */
  readonly importance?: Tensor;
}

/** Options of `sampleLosses` and `diffusionLoss`. */
export interface DiffusionLossOptions {
  readonly objective: Objective;
  /** Default: uniform. */
  readonly weight?: LossWeight;
  /** Error of each element; default: the square. Weights are meant for squares. */
  readonly error?: (prediction: Tensor, target: Tensor) => Tensor;
  /** Share of `perturbation` in the noise that the network sees but need not predict (Ning et al. 2023). Default 0.1. */
  readonly perturb?: number;
}

const squaredError = (prediction: Tensor, target: Tensor): Tensor => prediction.sub(target).square();

/** The weighted loss of each sample, [N], averaged over its elements; without the importance weights. */
export function sampleLosses<C>(
  network: TrainedNetwork<C>,
  batch: DiffusionBatch<C>,
  options: DiffusionLossOptions,
): Tensor {
  const { objective, weight = uniformWeight, error = squaredError, perturb = 0.1 } = options;
  const { x0, noise, level, timestep, condition, perturbation } = batch;
  const seen = perturbation ? noise.add(perturbation.mul(perturb)) : noise;
  const prediction = network(objective.input(addNoise(x0, seen, level), level), timestep, condition);
  const target = objective.target(x0, noise, level);
  if (prediction.shape.join() !== target.shape.join())
    throw new ShapeError(
      `the network predicts [${prediction.shape}], its target is [${target.shape}]; a learned variance must be split off`,
    );
  const axes = x0.shape.slice(1).map((_, i) => i + 1);
  return error(prediction, target).mean(axes).mul(weight(objective, level));
}

/** The scalar to minimise: the mean of `sampleLosses`, times the importance weights where there are any. */
export function diffusionLoss<C>(
  network: TrainedNetwork<C>,
  batch: DiffusionBatch<C>,
  options: DiffusionLossOptions,
): Tensor {
  const losses = sampleLosses(network, batch, options);
  return (batch.importance ? losses.mul(batch.importance) : losses).mean();
}
