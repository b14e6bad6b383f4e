/** The sampler of trajectory consistency distillation. */
import { ArgumentError } from "../../errors.ts";
import { runSampler, type SampleOptions, type Sampler } from "../sample.ts";
import { scaleNoise, weightedSum } from "../weighted-sum.ts";

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
    return { denoised, x: weightedSum([1, clean], [up, normal()]) };
  });
