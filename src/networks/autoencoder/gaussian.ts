/** The posterior of a variational autoencoder: a normal with independent values. */
import { type Gaussian, gaussianDivergence } from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";

/** Mean and logarithm of the variance, both [N, Z, h, w]. The mode is the mean. */
export type DiagonalGaussian = Gaussian;

/** Log-variances are clamped to this range. */
const [MIN_LOGVAR, MAX_LOGVAR] = [-30, 20];

/** The distribution of moments [N, 2 Z, h, w]: means, then logarithms of variances. */
export function gaussianOf(moments: Tensor): DiagonalGaussian {
  const [mean, logvar] = moments.split(2, 1) as [Tensor, Tensor];
  return { mean, logvar: logvar.clip(MIN_LOGVAR, MAX_LOGVAR) };
}

/** The sample that standard normals of the mean's shape give. */
export const sampleGaussian = ({ mean, logvar }: DiagonalGaussian, noise: Tensor): Tensor =>
  mean.add(logvar.mul(0.5).exp().mul(noise));

/** Sum over all but the first axis. */
const perSample = (x: Tensor): Tensor => x.flattenAxes(1).sum(1);

/** Kullback-Leibler divergence from another such normal, by default the standard one: [N]. */
export const klDivergence = (gaussian: DiagonalGaussian, other?: DiagonalGaussian): Tensor =>
  perSample(gaussianDivergence(gaussian, other));

/** Negative logarithm of the density at x [N, Z, h, w]: [N]. */
export function negativeLogLikelihood({ mean, logvar }: DiagonalGaussian, x: Tensor): Tensor {
  const squares = x.sub(mean).square().mul(logvar.neg().exp());
  return perSample(logvar.add(squares).add(Math.log(2 * Math.PI))).mul(0.5);
}
