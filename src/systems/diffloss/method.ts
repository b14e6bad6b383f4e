/**
 * DiffLoss (Tan et al. 2024): a diffusion model that was trained on clean pictures, and is not trained any more, compares what a
 * network restores with the truth. Both are noised alike; the model's guesses of the noise ("naturalness") and its h-space
 * ("semantics") should agree. It is used while training only.
 */
import { addNoise, type NoiseLevel } from "../../diffusion/index.ts";
import { ArgumentError, ShapeError } from "../../errors.ts";
import type { LossParts } from "../../nn/index.ts";
import { constant, type Tensor } from "../../tensor/index.ts";

/** What is asked of the diffusion model: its guess of the noise, and its bottleneck, before the way up. */
export interface Features {
  readonly noise: Tensor; // [N, 3, H, W]
  readonly h: Tensor; // [N, K, h, w]
}

/** What the loss needs of a diffusion model. */
export interface Prior {
  readonly channels: number;
  /** Height and width are multiples of this. */
  readonly sizeFactor: number;
  /** Number of timesteps that it was trained with. */
  readonly timesteps: number;
  /** Of noised pictures [N, 3, H, W] in [-1, 1] at timesteps [N] and their levels. No gradient into its weights, all into x. */
  features(x: Tensor, t: Tensor, level: NoiseLevel): Features;
}

/** The random parts of a batch: one timestep and one noise for each pair, the same on both sides. */
export interface SharedNoise {
  readonly t: Tensor; // [N]
  readonly level: NoiseLevel; // [N]
  readonly noise: Tensor; // [N, 3, H, W]
}

/** Factors of the two parts of the loss. */
export interface Weights {
  /** gamma of the paper: 1e-3 in its code. */
  readonly natural: number;
  /** gamma lambda: 1e-6 there. */
  readonly semantic: number;
}

/** The weights of the published code, which belong to its model of 552 million parameters. */
export const PUBLISHED_WEIGHTS: Weights = { natural: 1e-3, semantic: 1e-6 };

/** What of the loss is switched off, as controls. */
export interface Controls {
  /** No gradient reaches the restored picture, as in the published code: training is then that of the pixels alone. */
  readonly detachPrior?: boolean;
}

/**
 * z_t = a z + s e, x_t = a x + s e; L_nat = mean (e_z - e_x)^2, L_sem = mean (h_z - h_x)^2; the truth's side is a constant.
 * Restored z and clean x are [N, 3, H, W] in [-1, 1], z not cut off. @throws ShapeError for pictures that the prior cannot take
 */
export function distances(
  prior: Prior,
  z: Tensor,
  x: Tensor,
  { t, level, noise }: SharedNoise,
): { readonly natural: Tensor; readonly semantic: Tensor } {
  checkPair(prior, z, x);
  const restored = prior.features(addNoise(z, noise, level), t, level);
  const clean = prior.features(addNoise(x, noise, level), t, level);
  return {
    natural: restored.noise.sub(clean.noise.stopGradient()).square().mean(),
    semantic: restored.h.sub(clean.h.stopGradient()).square().mean(),
  };
}

/** L = w_nat L_nat + w_sem L_sem, and both as metrics. */
export function diffLoss(
  prior: Prior,
  [z, x]: readonly [restored: Tensor, clean: Tensor],
  shared: SharedNoise,
  weights: Weights,
  { detachPrior = false }: Controls = {},
): LossParts {
  checkWeights(weights);
  const { natural, semantic } = distances(prior, detachPrior ? z.stopGradient() : z, x, shared);
  // A weight of 0 leaves a term out of the computation, not only out of the sum.
  const terms = [
    ...(weights.natural > 0 ? [natural.mul(weights.natural)] : []),
    ...(weights.semantic > 0 ? [semantic.mul(weights.semantic)] : []),
  ];
  const loss = terms.reduce<Tensor | undefined>((sum, term) => sum?.add(term) ?? term, undefined);
  return { loss: loss ?? constant("f32", [], [0]), metrics: { naturalness: natural, semantics: semantic } };
}

/** The part of L_nat that needs no network: with a Gaussian prior it is a loss of the gradients, mean |grad(z - x)|^2. */
export function gradientDistance(z: Tensor, x: Tensor): Tensor {
  const d = z.sub(x);
  const [height, width] = d.shape.slice(2) as [number, number];
  const down = d.sliceAxis(2, 1, height).sub(d.sliceAxis(2, 0, height - 1));
  const right = d.sliceAxis(3, 1, width).sub(d.sliceAxis(3, 0, width - 1));
  return down.square().mean().add(right.square().mean());
}

/** @throws ArgumentError for weights below 0 or that are no numbers */
export function checkWeights(weights: Weights): void {
  for (const [name, value] of Object.entries(weights))
    if (!(value >= 0 && Number.isFinite(value)))
      throw new ArgumentError(`DiffLoss: expected a weight ${name} of 0 or more, got ${value}`);
}

/** First and last timestep that noise is drawn for. */
export type TimestepRange = readonly [least: number, most: number];

/** @throws ArgumentError for a range that is none, or leaves the schedule */
export function checkRange([least, most]: TimestepRange, timesteps: number): void {
  const whole = [least, most].every((t) => Number.isInteger(t));
  if (!whole || least < 0 || most >= timesteps || least > most)
    throw new ArgumentError(
      `DiffLoss: expected timesteps from 0 to ${timesteps - 1}, the least first, got ${least} to ${most}`,
    );
}

function checkPair(prior: Prior, z: Tensor, x: Tensor): void {
  if (z.shape.join() !== x.shape.join())
    throw new ShapeError(`DiffLoss: restored ${z} and clean ${x} differ in shape`);
  const [, channels, height, width] = z.shape as [number, number, number, number];
  if (z.rank !== 4 || channels !== prior.channels)
    throw new ShapeError(
      `DiffLoss: the prior takes pictures of ${prior.channels} channels, got ${z}: a prior and a network see the same colours`,
    );
  if (height % prior.sizeFactor !== 0 || width % prior.sizeFactor !== 0)
    throw new ShapeError(
      `DiffLoss: the prior takes sides in multiples of ${prior.sizeFactor}, got ${height} x ${width}; choose another crop`,
    );
}
