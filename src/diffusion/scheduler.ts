/** A sampler with all that belongs to it: levels, timesteps, parameterisation, coordinates. */
import { ArgumentError } from "../errors.ts";
import type { Tensor } from "../tensor/index.ts";
import {
  mapDenoised,
  type Network,
  networkDenoiser,
  type Parameterization,
  splitVariance,
} from "./parameterization.ts";
import type { Denoise, SampleOptions, Sampler, SampleStep } from "./sample.ts";
import type { Variance } from "./samplers/ddpm.ts";
import { weightedSum } from "./weighted-sum.ts";

/**
 * Coordinates of the model's samples:
 * - `vp`: variance-preserving, (x0 + sigma noise) / sqrt(1 + sigma^2)
 * - `ve`: variance-exploding, x0 + sigma noise
 * - `flow`: (1 - sigma) x0 + sigma noise, with flow times sigma as levels; the sampler works on these samples
 * - `flow-ratio`: the same samples with sigma / (1 - sigma) as levels, for samplers that need x0 + level * noise
 */
export type Space = "vp" | "ve" | "flow" | "flow-ratio";

/** What a scheduler is made of. */
export interface SchedulerParts {
  readonly name: string;
  readonly sampler: Sampler<
    SampleOptions & { readonly variance?: Variance; readonly before?: readonly number[] }
  >;
  readonly space: Space;
  /** Noise levels, one more than steps. */
  readonly sigmas: readonly number[];
  /** What the network is told at each of the steps. */
  readonly timesteps: readonly number[];
  /** The timestep of any level. */
  readonly timestepAt: (sigma: number) => number;
  readonly parameterization: Parameterization;
  /** Factor that makes unit noise a sample at the first level, in the model's coordinates. */
  readonly initialScale: number;
  /** Applied to each guess of the clean sample before the sampler sees it. */
  readonly clip?: (denoised: Tensor) => Tensor;
  /**
   * The network predicts a variance in the second half of its channels: in what form, or that the sampler ignores it.
   */
  readonly learnedVariance?: "range" | "log" | "ignored";
}

/** A network as a denoiser. */
export interface NetworkDenoise {
  (x: Tensor, sigma: number): Promise<Tensor>;
  /** The variance that the network predicted last, if it learned one. */
  readonly variance?: () => Tensor;
}

/** Options of `createScheduler`. */
export interface RunOptions extends SampleOptions {
  /** Index of the level to start from. Default 0. */
  readonly start?: number;
  /** The variance of the last prediction: that of `denoiser(network)`, where the network learned one. */
  readonly variance?: () => Tensor;
}

type Run = AsyncGenerator<SampleStep, Tensor, Tensor | undefined>;

/** Takes and returns the model's samples; the steps in between use the sampler's coordinates. */
export interface Scheduler extends SchedulerParts {
  /** The sample that a run starts with, of unit noise. */
  initial(noise: Tensor): Tensor;
  /** A clean sample with noise of the level at this index, in the model's coordinates. */
  addNoise(clean: Tensor, noise: Tensor, index: number): Tensor;
  /** The network as a denoiser in the sampler's coordinates. */
  denoiser(network: Network): NetworkDenoise;
  /** Runs the sampler with such a denoiser, from a sample at level `start`; returns the model's clean sample. */
  run(denoise: Denoise, x: Tensor, options?: RunOptions): Run;
  /** `run` with the denoiser of a network. */
  sample(network: Network, x: Tensor, options?: RunOptions): Run;
}

const perAlpha = (sigma: number): number => 1 / Math.sqrt(1 + sigma * sigma);

/** What a space does at a level. */
interface Coordinates {
  /** Factor from the sampler's sample to the model's. */
  readonly scale: (level: number) => number;
  /** Weights of the clean sample and of the noise in the model's sample. */
  readonly weights: (level: number) => readonly [clean: number, noise: number];
}

const COORDINATES: Record<Space, Coordinates> = {
  vp: { scale: perAlpha, weights: (sigma) => [perAlpha(sigma), perAlpha(sigma) * sigma] },
  ve: { scale: () => 1, weights: (sigma) => [1, sigma] },
  flow: { scale: () => 1, weights: (sigma) => [1 - sigma, sigma] },
  "flow-ratio": {
    scale: (ratio) => 1 / (1 + ratio),
    weights: (ratio) => [1 / (1 + ratio), (1 / (1 + ratio)) * ratio],
  },
};

/** A scheduler of its parts. */
export function createScheduler(parts: SchedulerParts): Scheduler {
  const { sampler, space, sigmas, timestepAt, parameterization, initialScale, clip, learnedVariance } = parts;
  const { scale, weights } = COORDINATES[space];

  function denoiser(network: Network): NetworkDenoise {
    const options = { parameterization, timestep: timestepAt };
    if (!learnedVariance) return networkDenoiser(network, options);
    const split = splitVariance(network);
    return Object.assign(networkDenoiser(split.network, options), { variance: split.variance });
  }

  async function* run(denoise: Denoise, x: Tensor, options: RunOptions = {}): Run {
    const { start = 0, variance, ...rest } = options;
    if (!(Number.isInteger(start) && start >= 0 && start < sigmas.length - 1)) {
      throw new ArgumentError(`expected a start in 0 ... ${sigmas.length - 2}, got ${start}`);
    }
    const learned = learnedVariance !== "ignored" ? learnedVariance : undefined;
    if (learned && !variance)
      throw new ArgumentError("expected options.variance: this scheduler uses a learned one");
    const steps = sampler(
      clip ? mapDenoised(denoise, clip) : denoise,
      weightedSum([1 / scale(sigmas[start]!), await x.eval()]),
      sigmas.slice(start),
      {
        ...rest,
        before: sigmas.slice(0, start),
        ...(learned && variance && { variance: { learned, value: variance } }),
      },
    );
    return weightedSum([scale(sigmas.at(-1)!), yield* steps]);
  }

  return {
    ...parts,
    denoiser,
    run,
    sample(network, x, options) {
      const denoise = denoiser(network);
      return run(denoise, x, { ...(denoise.variance && { variance: denoise.variance }), ...options });
    },
    initial: (noise) => weightedSum([initialScale, noise]),
    addNoise(clean, noise, index) {
      const [ofClean, ofNoise] = weights(sigmas[index]!);
      return weightedSum([ofClean, clean], [ofNoise, noise]);
    },
  };
}

/** Timesteps of levels: those of the schedule exactly, others by the given function. */
export function timestepLookup(
  sigmas: readonly number[],
  timesteps: readonly number[],
  between: (sigma: number) => number,
): (sigma: number) => number {
  const known = new Map<number, number>();
  timesteps.forEach((t, i) => {
    if (!known.has(sigmas[i]!)) known.set(sigmas[i]!, t);
  });
  return (sigma) => known.get(sigma) ?? between(sigma);
}
