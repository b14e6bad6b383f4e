/** DDIM (Song et al. 2021), its split of a step into a deterministic one and fresh noise, and its inversion. */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { epsilonPrediction, noiseWeights, type Parameterization, toPrediction } from "../parameterization.ts";
import { samplerOf } from "../rule.ts";
import type { SampleOptions } from "../sample.ts";
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

/** Options of samplers with fresh noise. */
export interface AncestralOptions extends SampleOptions {
  /** 1: as much new noise as the posterior has; 0: none. */
  readonly eta?: number;
  /** Deviation of the new noise. Default 1. */
  readonly noiseScale?: number;
}

/** Options of `ddim`. */
export interface DDIMOptions extends AncestralOptions {
  /**
   * Applied to the guess of the clean sample, but not to the noise that the step keeps (as diffusers
   * does); to apply it to both, wrap the denoiser with `mapDenoised`.
   */
  readonly clip?: (denoised: Tensor) => Tensor;
}

/** What DDIM makes a step of. */
export interface DDIMStage {
  readonly x: Tensor;
  /** The network's guess of the clean sample, by which the step keeps its noise. */
  readonly guess: Tensor;
  /** What the step ends on: the guess, clipped perhaps. Default the guess. */
  readonly denoised?: Tensor;
  /** Above 0. */
  readonly sigma: number;
  /** 0 or more; above `sigma` the step inverts. */
  readonly next: number;
  /** Share of the posterior's noise, 0 or more. Default 0. */
  readonly eta?: number;
  /** Standard normals of the shape of x, and their factor (default 1). Needed when eta is above 0. */
  readonly noise?: Tensor | undefined;
  readonly noiseScale?: number;
}

/** The sample at `next` (Song et al. 2021, eq. 12). Throws `ArgumentError` for eta above 0 without noise. */
export function ddimStep(stage: DDIMStage): Tensor {
  const { x, guess, denoised = guess, sigma, next, eta = 0, noise, noiseScale = 1 } = stage;
  const { down, up } = ancestralSplit(sigma, next, eta);
  const kept = down / sigma;
  const clean = weightedSum([kept, x], [-kept, guess], [1, denoised]);
  if (eta === 0) return clean;
  if (!noise) throw new ArgumentError(`ddimStep: eta ${eta} needs noise`);
  return weightedSum([1, clean], [noiseScale * up, noise]);
}

/**
 * DDIM (Song et al. 2021, eq. 12), deterministic for eta 0, the default, and for eta 1 the ancestral sampler of DDPM.
 * Over rising levels it inverts: from a clean sample to its noise.
 */
export const ddim = samplerOf<DDIMOptions, undefined>(function* ({ x, sigma, next, normal }, options) {
  const { eta = 0, noiseScale = 1, clip } = options;
  const guess = yield { x, sigma };
  const denoised = clip ? clip(guess) : guess;
  const noise = eta > 0 ? normal() : undefined;
  return { denoised, x: ddimStep({ x, guess, denoised, sigma, next, eta, noise, noiseScale }) };
});

/** Options of `ddimInversion`. */
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
export const ddimInversion = samplerOf<InversionOptions, undefined>(function* ({ x, sigma, next }, options) {
  const { parameterization = epsilonPrediction, clip } = options;
  const asNext = weightedSum([Math.sqrt((1 + next ** 2) / (1 + sigma ** 2)), x]);
  const answer = yield { x: asNext, sigma: next };
  const prediction = toPrediction(parameterization, asNext, answer, next);
  const [ofX, ofPrediction] = noiseWeights(parameterization, sigma);
  const noise = weightedSum([ofX, x], [ofPrediction, prediction]);
  const guess = weightedSum([1, x], [-sigma, noise]);
  const denoised = clip ? clip(guess) : guess;
  return { denoised, x: weightedSum([1, denoised], [next, noise]) };
});
