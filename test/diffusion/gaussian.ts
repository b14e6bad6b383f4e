/** Gaussian data, for which all that guidance should do is known in closed form. */
import type { ConditionalDenoise } from "../../src/diffusion/guidance/index.ts";
import type { Sampler } from "../../src/diffusion/sample.ts";
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

/** Euler's method on the probability-flow ODE, compiled once: enough to drive what wraps samplers. */
export const euler: Sampler = async function* (denoise, start, sigmas, options = {}) {
  let x = start;
  for (let step = 0; step + 1 < sigmas.length; step++) {
    options.signal?.throwIfAborted();
    const [sigma, sigmaNext] = [sigmas[step]!, sigmas[step + 1]!];
    const denoised = await denoise(x, sigma);
    const next = denoised.add(x.sub(denoised).mul(scalar(sigmaNext / sigma)));
    await next.eval();
    x = (yield { step, steps: sigmas.length - 1, sigma, sigmaNext, x: next, denoised }) ?? next;
  }
  return x;
};

export async function finish(sampling: ReturnType<Sampler>): Promise<Tensor> {
  for (;;) {
    const next = await sampling.next();
    if (next.done) return next.value;
  }
}

/** From `high` to `low` in equal ratios, then 0. */
export const geometric = (high: number, low: number, steps: number): number[] => [
  ...Array.from({ length: steps }, (_, i) => high * (low / high) ** (i / (steps - 1))),
  0,
];
