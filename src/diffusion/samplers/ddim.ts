/** DDIM (Song et al. 2021), its split of a step into a deterministic one and fresh noise, and its inversion. */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { epsilonPrediction, noiseWeights, type Parameterization, toPrediction } from "../parameterization.ts";
import { runSampler, type SampleOptions, type Sampler } from "../sample.ts";
import { weightedSum } from "../weighted-sum.ts";

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
   * Applied to the guess of the clean sample, but not to the noise that the step keeps (as diffusers
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
    const clean = weightedSum([kept, x], [-kept, guess], [1, denoised]);
    return { denoised, x: eta > 0 ? weightedSum([1, clean], [noiseScale * up, step.normal()]) : clean };
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
    const asNext = weightedSum([Math.sqrt((1 + next ** 2) / (1 + sigma ** 2)), x]);
    const prediction = toPrediction(parameterization, asNext, await denoise(asNext, next), next);
    const [ofX, ofPrediction] = noiseWeights(parameterization, sigma);
    const noise = weightedSum([ofX, x], [ofPrediction, prediction]);
    const guess = weightedSum([1, x], [-sigma, noise]);
    const denoised = clip ? clip(guess) : guess;
    return { denoised, x: weightedSum([1, denoised], [next, noise]) };
  });
