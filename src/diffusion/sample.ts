/** What all samplers share: the denoiser they call, the steps they yield, the loop that runs them. */
import type { NoiseSource, Tensor } from "../tensor/index.ts";

/**
 * The guess of the clean sample from the noisy one, `x = x0 + sigma * noise` (or, for flow models,
 * `x = (1 - sigma) * x0 + sigma * noise`); x is [N, ...], the result has its shape.
 */
export type Denoise = (x: Tensor, sigma: number) => Tensor | Promise<Tensor>;

/** What a sampler yields after each step. */
export interface SampleStep {
  /** 0-based index of the step that was taken, and how many there are. */
  readonly step: number;
  readonly steps: number;
  /** Noise level the step began at, and the one it reached. */
  readonly sigma: number;
  readonly sigmaNext: number;
  /** The sample at `sigmaNext`. */
  readonly x: Tensor;
  /** The clean sample as guessed during the step. */
  readonly denoised: Tensor;
}

export interface SampleOptions {
  /** Where stochastic samplers draw from. */
  readonly noise?: NoiseSource;
  /** Ends the loop with an `AbortError` before the next step. */
  readonly signal?: AbortSignal;
}

/**
 * From x at `sigmas[0]` down to the last of `sigmas`, one yield per step; returns the final sample. A tensor given to
 * `next(x)` replaces the sample before the next step, which is how inpainting and test loops intervene.
 */
export type Sampler = (
  denoise: Denoise,
  x: Tensor,
  sigmas: readonly number[],
  options?: SampleOptions,
) => AsyncGenerator<SampleStep, Tensor, Tensor | undefined>;
