/** Samplers that remove more noise than the step asks for and add the difference anew. */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { floatsOf, linear, mapElements, scaleNoise } from "../linear.ts";
import { epsilonPrediction, noiseWeights, type Parameterization, toPrediction } from "../parameterization.ts";
import { runSampler, type SampleOptions, type Sampler } from "../sample.ts";

/**
 * Splits a step to `next` into a deterministic one to `down` and noise of deviation `up`. With eta 1 this is the
 * posterior q(x_next | x, x0) of the forward process (Song et al. 2021, "DDIM", eq. 16).
 */
export function ancestralSplit(sigma: number, next: number, eta: number): { down: number; up: number } {
  if (!(eta >= 0)) throw new ArgumentError(`expected eta >= 0, got ${eta}`);
  if (next > sigma) return { down: next, up: 0 };
  const up = Math.min(next, eta * next * Math.sqrt(1 - (next / sigma) ** 2));
  return { down: Math.sqrt(Math.max(0, next ** 2 - up ** 2)), up };
}

export interface AncestralOptions extends SampleOptions {
  /** 1: as much new noise as the posterior has; 0: none. */
  readonly eta?: number;
  /** Deviation of the new noise. Default 1. */
  readonly noiseScale?: number;
}

export interface DDIMOptions extends AncestralOptions {
  /**
   * Applied to the guess of the clean sample, but not to the noise that the step keeps (as the reference library
   * does); to apply it to both, wrap the denoiser with `mapDenoised`.
   */
  readonly clip?: (denoised: Tensor) => Tensor;
}

/**
 * DDIM (Song et al. 2021, eq. 12), deterministic for eta 0, the default, and for eta 1 the ancestral sampler of DDPM.
 * Over rising levels it inverts: from a clean sample to its noise.
 */
export const ddim: Sampler<DDIMOptions> = (denoise, x, sigmas, options = {}) =>
  runSampler(denoise, x, sigmas, options, async (step) => {
    const { eta = 0, noiseScale = 1, clip } = options;
    const { x, sigma, next } = step;
    const { down, up } = ancestralSplit(sigma, next, eta);
    const guess = await step.denoise(x, sigma);
    const denoised = clip ? clip(guess) : guess;
    const kept = down / sigma;
    const clean = linear([kept, x], [-kept, guess], [1, denoised]);
    return { denoised, x: eta > 0 ? linear([1, clean], [noiseScale * up, step.normal()]) : clean };
  });

/** Euler's method to a lower level, and noise up to the next: DDIM with eta 1. */
export const eulerAncestral: Sampler<AncestralOptions> = (denoise, x, sigmas, options) =>
  ddim(denoise, x, sigmas, { eta: 1, ...options });

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
      return { denoised, x: linear([1, mean], [perAlpha * deviation, noise]) };
    }
    const deviations = floatsOf(learnedDeviation(variance.value(), variance.learned, sigma, next));
    return { denoised, x: linear([1, mean], [perAlpha, mapElements(noise, (z, i) => z * deviations[i]!)]) };
  });

export interface InversionOptions extends SampleOptions {
  /** What the network predicts. Default the noise. */
  readonly parameterization?: Parameterization;
  /** Applied to the guess of the clean sample. */
  readonly clip?: (denoised: Tensor) => Tensor;
}

/**
 * DDIM run backwards over rising levels, from a clean sample (sigma 0) to its noise, the network being asked at the
 * level a step leads to (Hertz et al. and Mokady et al. 2022). For variance-preserving networks.
 */
export const ddimInversion: Sampler<InversionOptions> = (denoise, x, sigmas, options = {}) =>
  runSampler(denoise, x, sigmas, options, async ({ x, sigma, next, denoise }) => {
    const { parameterization = epsilonPrediction, clip } = options;
    const asNext = linear([Math.sqrt((1 + next ** 2) / (1 + sigma ** 2)), x]);
    const prediction = toPrediction(parameterization, asNext, await denoise(asNext, next), next);
    const [ofX, ofPrediction] = noiseWeights(parameterization, sigma);
    const noise = linear([ofX, x], [ofPrediction, prediction]);
    const guess = linear([1, x], [-sigma, noise]);
    const denoised = clip ? clip(guess) : guess;
    return { denoised, x: linear([1, denoised], [next, noise]) };
  });
