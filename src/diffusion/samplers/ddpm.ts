/** DDPM (Ho et al. 2020), with the variances of Nichol and Dhariwal (2021). */
import type { Tensor } from "../../tensor/index.ts";
import { runSampler, type SampleOptions, type Sampler } from "../sample.ts";
import { floatsOf, mapElements, scaleNoise, weightedSum } from "../weighted-sum.ts";

/** Variance of a DDPM step: of the posterior, of the forward process, or between the two as the network says. */
export type Variance =
  | "small"
  | "large"
  | { readonly learned: "range" | "log"; readonly value: () => Tensor };

/** Variance of the posterior and of the forward step from `next` to `sigma`, for variance-preserving samples. */
export function stepVariances(sigma: number, next: number): { small: number; large: number } {
  const large = (sigma ** 2 - next ** 2) / (1 + sigma ** 2);
  const small = Math.max(((next / sigma) ** 2 * (1 + sigma ** 2) * large) / (1 + next ** 2), 1e-20);
  return { small, large };
}

/** Deviation of each element, from what the network predicted: v in [-1, 1] between the logarithms, or the logarithm. */
export function learnedDeviation(value: Tensor, kind: "range" | "log", sigma: number, next: number): Tensor {
  if (kind === "log") return mapElements(value, (v) => Math.exp(v / 2));
  const { small, large } = stepVariances(sigma, next);
  const [low, high] = [Math.log(small), Math.log(large)];
  return mapElements(value, (v) => Math.exp((low + ((v + 1) / 2) * (high - low)) / 2));
}

export interface DDPMOptions extends SampleOptions {
  /** Default "small". */
  readonly variance?: Variance;
}

/** DDPM (Ho et al. 2020, algorithm 2; learned variances of Nichol and Dhariwal 2021, eq. 15). */
export const ddpm: Sampler<DDPMOptions> = (denoise, x, sigmas, options = {}) =>
  runSampler(denoise, x, sigmas, options, async ({ x, sigma, next, denoise, normal }) => {
    const { variance = "small" } = options;
    const denoised = await denoise(x, sigma);
    const mean = scaleNoise(x, denoised, (next / sigma) ** 2);
    if (next === 0) return { denoised, x: mean };
    // Deviations are those of variance-preserving samples; x here is such a sample over alpha.
    const perAlpha = Math.sqrt(1 + next ** 2);
    const noise = normal();
    if (typeof variance === "string") {
      const deviation = Math.sqrt(stepVariances(sigma, next)[variance]);
      return { denoised, x: weightedSum([1, mean], [perAlpha * deviation, noise]) };
    }
    const deviations = floatsOf(learnedDeviation(variance.value(), variance.learned, sigma, next));
    return {
      denoised,
      x: weightedSum([1, mean], [perAlpha, mapElements(noise, (z, i) => z * deviations[i]!)]),
    };
  });
