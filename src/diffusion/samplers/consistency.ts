/** Multistep consistency sampling and LCM: jump to the clean sample, and noise it again. */
import { runSampler, type SampleOptions, type Sampler } from "../sample.ts";
import { weightedSum } from "../weighted-sum.ts";

export interface ConsistencyOptions extends SampleOptions {
  /** Level at which the network is the identity: less noise is added by it. Default 0. */
  readonly sigmaMin?: number;
}

/**
 * Multistep consistency sampling (Song et al. 2023, algorithm 1); with latent consistency models (Luo et al. 2023,
 * algorithm 3) as denoiser it is LCM's sampler.
 */
export const consistency: Sampler<ConsistencyOptions> = (denoise, x, sigmas, options = {}) =>
  runSampler(denoise, x, sigmas, options, async ({ x, sigma, next, denoise, normal }) => {
    const { sigmaMin = 0 } = options;
    const denoised = await denoise(x, sigma);
    if (next <= sigmaMin) return { denoised, x: denoised };
    return { denoised, x: weightedSum([1, denoised], [Math.sqrt(next ** 2 - sigmaMin ** 2), normal()]) };
  });
