/** What all samplers share: the denoiser they call, the steps they yield, the loop that runs them. */
import { AbortError, ArgumentError, DTypeError, ShapeError } from "../errors.ts";
import { fnv1a32, isFloat, type NoiseSource, type Tensor, tensor } from "../tensor/index.ts";
import { drained } from "../work.ts";
import { type BrownianPath, brownianPath } from "./brownian.ts";
import { assertFinite } from "./weighted-sum.ts";

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

/** Options of `noiseOfSteps` and `runSampler`. */
export interface SampleOptions {
  /** Noise source of stochastic samplers. */
  readonly noise?: NoiseSource;
  /** Ends the loop with an `AbortError` before the next step, or the next call of the denoiser. */
  readonly signal?: AbortSignal;
  /**
   * Noise that does not depend on the number of steps, for samplers of stochastic differential equations. By default
   * the path of `noise` where that is addressed; torch's generators give fresh noise at every step.
   */
  readonly path?: BrownianPath;
  /** Index of the first step in the noise stream, for runs that are split into parts. Default 0. */
  readonly firstStep?: number;
}

/**
 * From x at `sigmas[0]` down to the last of `sigmas`, one yield per step; returns the final sample. A tensor given to
 * `next(x)` replaces the sample before the next step, which is how inpainting and test loops intervene.
 *
 * Throws `ArgumentError` for a schedule that is none, `NonFiniteError` naming the step where a NaN appeared.
 */
export type Sampler<Options extends SampleOptions = SampleOptions> = (
  denoise: Denoise,
  x: Tensor,
  sigmas: readonly number[],
  options?: Options,
) => AsyncGenerator<SampleStep, Tensor, Tensor | undefined>;

/** The noise of one step. */
export interface StepNoise {
  /** Standard normals of x's shape; `draw` numbers the draws of one step. */
  readonly normal: (draw?: number) => Tensor;
  /** Standard normals for the noise added between two levels: the Brownian path's, where there is one. */
  readonly increment: (from: number, to: number, draw?: number) => Tensor;
}

/** Where a step begins, and what it may draw. */
export interface StepStart extends StepNoise {
  readonly x: Tensor;
  readonly sigma: number;
  readonly next: number;
  readonly step: number;
  readonly steps: number;
}

/** The inputs of one step of a sampler. */
export interface Step extends StepStart {
  /** The denoiser, evaluated and checked. */
  readonly denoise: (x: Tensor, sigma: number) => Promise<Tensor>;
}

/** What a step computes: the sample at `next`, and the clean sample as it was guessed. */
export interface StepResult {
  readonly x: Tensor;
  readonly denoised: Tensor;
}

/** Random-stream ids of the samplers' noise, by draw; the initial noise uses id 0. */
const NOISE_PURPOSES = [0, 1, 2].map((draw) => fnv1a32(`sampler/${draw}`));

/** @throws ArgumentError unless the levels are those of at least one step */
export function checkSchedule(sigmas: readonly number[]): void {
  if (sigmas.length < 2) {
    throw new ArgumentError(`sampling needs at least one step, that is two noise levels; got [${sigmas}]`);
  }
  sigmas.forEach((sigma, i) => {
    const inner = i > 0 && i < sigmas.length - 1;
    if (!Number.isFinite(sigma) || sigma < 0 || (inner && sigma === 0)) {
      const expected = inner ? "positive" : "non-negative";
      throw new ArgumentError(
        `noise level ${i} of ${sigmas.length} must be finite and ${expected}, got ${sigma}`,
      );
    }
  });
}

function checkSample(x: Tensor, shape: readonly number[], where: string): void {
  if (!isFloat(x.dtype)) throw new DTypeError(`a sample is of floats, got ${x.dtype}, in ${where}`);
  if (x.shape.join() !== shape.join()) {
    throw new ShapeError(`expected a sample of shape [${shape}], got [${x.shape}], in ${where}`);
  }
}

const throwIfAborted = (signal: AbortSignal | undefined): void => {
  if (signal?.aborted) throw new AbortError();
};

/** The noise of each step of a run over samples of a shape. */
export function noiseOfSteps(options: SampleOptions, shape: readonly number[]): (step: number) => StepNoise {
  const { noise, firstStep = 0 } = options;
  const path = options.path ?? (noise?.mode === "philox" ? brownianPath(noise) : undefined);
  return (step) => {
    const normal = (draw = 0): Tensor => {
      if (!noise) throw new ArgumentError(`this sampler draws noise: give it a source as options.noise`);
      const values = noise.normal(shape, { purpose: NOISE_PURPOSES[draw]!, step: firstStep + step });
      return tensor(values, { shape });
    };
    return { normal, increment: (from, to, draw) => path?.normal(from, to, shape) ?? normal(draw) };
  };
}

/** The loop of every sampler: checks, noise, cancelling, yields. `take` computes one step. */
export async function* runSampler(
  denoise: Denoise,
  x: Tensor,
  sigmas: readonly number[],
  options: SampleOptions = {},
  take: (step: Step) => Promise<StepResult>,
): AsyncGenerator<SampleStep, Tensor, Tensor | undefined> {
  checkSchedule(sigmas);
  const { signal } = options;
  const noiseOf = noiseOfSteps(options, x.shape);
  const steps = sigmas.length - 1;
  const { shape } = x;
  for (let step = 0; step < steps; step++) {
    const sigma = sigmas[step]!;
    const next = sigmas[step + 1]!;
    const where = `step ${step + 1} of ${steps} (sigma ${sigma} to ${next})`;
    throwIfAborted(signal);
    checkSample(x, shape, where);
    const result = await take({
      x: await x.eval(),
      sigma,
      next,
      step,
      steps,
      ...noiseOf(step),
      denoise: async (at, level) => {
        throwIfAborted(signal);
        const denoised = await (await denoise(at, level)).eval();
        checkSample(denoised, shape, `the denoiser's result at ${where}`);
        assertFinite(denoised, "the denoised sample", where);
        return denoised;
      },
    });
    assertFinite(await result.x.eval(), "the sample", where);
    x = (yield { step, steps, sigma, sigmaNext: next, ...result }) ?? result.x;
  }
  return x;
}

/** Runs a sampler to its end. */
export const finalSample = (run: AsyncGenerator<SampleStep, Tensor, Tensor | undefined>): Promise<Tensor> =>
  drained(run);
