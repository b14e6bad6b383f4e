/** Few-step samplers for distilled networks: jump to the clean sample, and noise it again. */
import { ArgumentError } from "../../errors.ts";
import { linear, scaleNoise } from "../linear.ts";
import { runSampler, type SampleOptions, type Sampler } from "../sample.ts";

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
    return { denoised, x: linear([1, denoised], [Math.sqrt(next ** 2 - sigmaMin ** 2), normal()]) };
  });

export interface TCDOptions extends SampleOptions {
  /** Gamma: 0 deterministic, 1 multistep consistency sampling. Default 0.3. */
  readonly eta?: number;
  /** The level that is jumped to before noising to `next`. Default (1 - eta) * next. */
  readonly target?: (next: number, eta: number) => number;
}

/** Trajectory consistency distillation, strategic stochastic sampling (Zheng et al. 2024, algorithm 4). */
export const tcd: Sampler<TCDOptions> = (denoise, x, sigmas, options = {}) =>
  runSampler(denoise, x, sigmas, options, async ({ x, sigma, next, step, steps, denoise, normal }) => {
    const { eta = 0.3, target = (level: number, share: number) => (1 - share) * level } = options;
    if (!(eta >= 0 && eta <= 1)) throw new ArgumentError(`tcd: expected eta in [0, 1], got ${eta}`);
    const denoised = await denoise(x, sigma);
    const last = step === steps - 1;
    const down = eta === 0 || last ? next : target(next, eta);
    const clean = scaleNoise(x, denoised, down / sigma);
    if (eta === 0 || last) return { denoised, x: clean };
    const up = Math.sqrt(Math.max(0, next ** 2 - down ** 2));
    return { denoised, x: linear([1, clean], [up, normal()]) };
  });
