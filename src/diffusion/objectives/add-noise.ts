/** Adds noise to a training batch: x = alpha * x0 + sigma * noise, with one alpha and one sigma per sample. */
import { ShapeError } from "../../errors.ts";
import { maximum, onesLike, type Tensor } from "../../tensor/index.ts";

export interface NoiseLevel {
  readonly alpha: Tensor; // [N]
  readonly sigma: Tensor; // [N]
}

/** The level of a variance-preserving model whose samples, divided by alpha, are x0 + sigma * noise. */
export function preservingLevel(sigma: Tensor): NoiseLevel {
  const alpha = sigma.square().add(1).rsqrt();
  return { alpha, sigma: sigma.mul(alpha) };
}

/** The same from the schedule's cumulative product of alphas, in [0, 1]. */
export const levelOfAlphaBar = (alphaBar: Tensor): NoiseLevel => ({
  alpha: alphaBar.sqrt(),
  sigma: alphaBar.neg().add(1).sqrt(),
});

/** x = x0 + sigma * noise. */
export const explodingLevel = (sigma: Tensor): NoiseLevel => ({ alpha: onesLike(sigma), sigma });

/** x = (1 - sigma) x0 + sigma * noise, sigma in [0, 1]. */
export const flowLevel = (sigma: Tensor): NoiseLevel => ({ alpha: sigma.neg().add(1), sigma });

/** One number per sample, [N], shaped to go with x: [N, 1, …]. */
export function perSample(values: Tensor, x: Tensor): Tensor {
  if (values.rank !== 1 || values.shape[0] !== x.shape[0])
    throw new ShapeError(`expected one number per sample [${x.shape[0]}], got [${values.shape}]`);
  return values.reshape([x.shape[0]!, ...x.shape.slice(1).map(() => 1)]);
}

/** x0 with noise at the given levels. */
export const addNoise = (x0: Tensor, noise: Tensor, level: NoiseLevel): Tensor =>
  x0.mul(perSample(level.alpha, x0)).add(noise.mul(perSample(level.sigma, x0)));

/** Below this, squares count as zero when something is divided by them. */
const TINY = 1e-12;

/** a^2 / b^2, finite for b = 0 too. */
export const squaredRatio = (a: Tensor, b: Tensor): Tensor => a.square().div(maximum(b.square(), TINY));

/** Signal-to-noise ratio alpha^2 / sigma^2, [N], at most 1e12. */
export const signalToNoise = ({ alpha, sigma }: NoiseLevel): Tensor => squaredRatio(alpha, sigma);
