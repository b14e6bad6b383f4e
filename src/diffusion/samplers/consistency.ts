/** Multistep consistency sampling and LCM: jump to the clean sample, and noise it again. */
import type { Tensor } from "../../tensor/index.ts";
import { samplerOf } from "../rule.ts";
import type { SampleOptions } from "../sample.ts";
import { weightedSum } from "../weighted-sum.ts";

/** Options of `consistency`. */
export interface ConsistencyOptions extends SampleOptions {
  /** Level at which the network is the identity: less noise is added by it. Default 0. */
  readonly sigmaMin?: number;
}

/** The sample at `next` from a clean one and standard normals of its shape; `next` is at least `sigmaMin`. */
export const consistencyStep = (denoised: Tensor, noise: Tensor, next: number, sigmaMin = 0): Tensor =>
  weightedSum([1, denoised], [Math.sqrt(next ** 2 - sigmaMin ** 2), noise]);

/**
 * Multistep consistency sampling (Song et al. 2023, algorithm 1); with latent consistency models (Luo et al. 2023,
 * algorithm 3) as denoiser it is LCM's sampler.
 */
export const consistency = samplerOf<ConsistencyOptions, undefined>(function* (
  { x, sigma, next, normal },
  { sigmaMin = 0 },
) {
  const denoised = yield { x, sigma };
  if (next <= sigmaMin) return { denoised, x: denoised };
  return { denoised, x: consistencyStep(denoised, normal(), next, sigmaMin) };
});
