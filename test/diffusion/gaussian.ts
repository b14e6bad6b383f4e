/** Gaussian data, for which all that guidance should do is known in closed form. */
import type { ConditionalDenoise } from "../../src/diffusion/guidance/index.ts";
import type { Denoise } from "../../src/diffusion/sample.ts";
import { type Tensor, tensor } from "../../src/tensor/index.ts";

export const scalar = (value: number): Tensor => tensor([value], { shape: [] });

export interface Mean {
  readonly mean: Tensor;
}

/** E[x0 | x] for x0 ~ N(mean, variance) and x = x0 + sigma noise, with sigma as a tensor. */
export const posteriorMean = (x: Tensor, sigma: Tensor, mean: Tensor, variance: number): Tensor => {
  const noise = sigma.square();
  return x.mul(variance).add(mean.mul(noise)).div(noise.add(variance));
};

/** The perfect denoiser of Gaussians, told their mean. */
export const gaussian =
  (variance: number): ConditionalDenoise<Mean> =>
  (x, sigma, { mean }) =>
    posteriorMean(x, scalar(sigma), mean, variance);

export async function maxDifference(a: Tensor, b: Tensor): Promise<number> {
  return a.sub(b).abs().max().item();
}

/** The same denoiser with one number for all means. */
export const withMean =
  (denoise: ConditionalDenoise<Mean>, mean: number): Denoise =>
  (x, sigma) =>
    denoise(x, sigma, { mean: scalar(mean).broadcastTo(x.shape) });

/** From `high` to `low` in equal ratios, then 0. */
export const geometric = (high: number, low: number, steps: number): number[] => [
  ...Array.from({ length: steps }, (_, i) => high * (low / high) ** (i / (steps - 1))),
  0,
];
