/**
 * A sampler with all that belongs to it: levels, timesteps, parameterisation, coordinates. What the reference library
 * calls a scheduler.
 */
import { ArgumentError } from "../errors.ts";
import type { Tensor } from "../tensor/index.ts";
import { linear } from "./linear.ts";
import {
  mapDenoised,
  type Network,
  networkDenoiser,
  type Parameterization,
  splitVariance,
} from "./parameterization.ts";
import type { Denoise, SampleOptions, Sampler, SampleStep } from "./sample.ts";
import type { Variance } from "./samplers/ancestral.ts";

/**
 * Coordinates of the model's samples: variance-preserving, x0 + sigma * noise, or (1 - sigma) x0 + sigma * noise; the
 * last with levels as flow times ("flow"), or as noise over signal ("flow-ratio"), where every sampler is right.
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
   * Levels that the steps reach where they are not the next step's (a quirk of the reference library when the steps do
   * not divide the training timesteps): the sample is then taken to be at the next level as it is. Only for samplers
   * without memory.
   */
  readonly arrivals?: readonly number[];
  /** The network predicts a variance in a second half of its channels; whether the sampler uses it. */
  readonly learnedVariance?: "range" | "log" | "ignored";
}

export interface RunOptions extends SampleOptions {
  /** Index of the level to start from. Default 0. */
  readonly start?: number;
}

type Run = AsyncGenerator<SampleStep, Tensor, Tensor | undefined>;

/** Samples as the model has them go in and come out; the steps in between are in the sampler's coordinates. */
export interface Scheduler extends SchedulerParts {
  /** The sample that a run starts with, of unit noise. */
  initial(noise: Tensor): Tensor;
  /** A clean sample at the level with this index, of the model's coordinates. */
  addNoise(clean: Tensor, noise: Tensor, index: number): Tensor;
  /** The network as a denoiser in the sampler's coordinates. A learned variance is taken from the first one made. */
  denoiser(network: Network): Denoise;
  /** Runs the sampler with such a denoiser, from a sample at level `start`; returns the model's clean sample. */
  run(denoise: Denoise, x: Tensor, options?: RunOptions): Run;
  /** `run` with the denoiser of a network. */
  sample(network: Network, x: Tensor, options?: RunOptions): Run;
}

/** Factor from the sampler's x0 + sigma * noise to the model's sample. */
const SIGNAL: Record<Space, (sigma: number) => number> = {
  vp: (sigma) => 1 / Math.sqrt(1 + sigma * sigma),
  ve: () => 1,
  flow: () => 1,
  "flow-ratio": (ratio) => 1 / (1 + ratio),
};

/** A scheduler of its parts. */
export function createScheduler(parts: SchedulerParts): Scheduler {
  const { sampler, space, sigmas, timestepAt, parameterization, initialScale, clip, arrivals } = parts;
  const signal = SIGNAL[space];
  let variance: (() => Tensor) | undefined;

  const toSampler = (x: Tensor, sigma: number): Tensor => linear([1 / signal(sigma), x]);
  const toModel = (x: Tensor, sigma: number): Tensor => linear([signal(sigma), x]);

  function denoiser(network: Network): Denoise {
    if (!parts.learnedVariance) return networkDenoiser(network, { parameterization, timestep: timestepAt });
    const split = splitVariance(network);
    variance ??= split.variance;
    return networkDenoiser(split.network, { parameterization, timestep: timestepAt });
  }

  async function* run(denoise: Denoise, x: Tensor, options: RunOptions = {}): Run {
    const { start = 0, ...rest } = options;
    if (!(Number.isInteger(start) && start >= 0 && start < sigmas.length - 1)) {
      throw new ArgumentError(`expected a start in 0 ... ${sigmas.length - 2}, got ${start}`);
    }
    const passed = { ...rest, before: sigmas.slice(0, start) };
    const clipped = clip ? mapDenoised(denoise, clip) : denoise;
    const learned = parts.learnedVariance;
    const all =
      learned && learned !== "ignored" && variance
        ? { ...passed, variance: { learned, value: variance } }
        : passed;
    const first = toSampler(await x.eval(), sigmas[start]!);
    const steps = arrivals
      ? runApart(clipped, first, start, all)
      : sampler(clipped, first, sigmas.slice(start), all);
    return toModel(yield* steps, (arrivals ?? sigmas)[sigmas.length - (arrivals ? 2 : 1)]!);
  }

  /** One run of the sampler per step, each ending at its own level. */
  async function* runApart(denoise: Denoise, x: Tensor, start: number, options: SampleOptions): Run {
    const steps = sigmas.length - 1 - start;
    for (let i = start; ; i++) {
      const step = sampler(denoise, x, [sigmas[i]!, arrivals![i]!], { ...options, firstStep: i - start });
      const { value } = await step.next();
      const replaced = yield { ...(value as SampleStep), step: i - start, steps };
      x = replaced ?? (value as SampleStep).x;
      if (i === sigmas.length - 2) return x;
      x = toSampler(toModel(await x.eval(), arrivals![i]!), sigmas[i + 1]!);
    }
  }

  return {
    ...parts,
    denoiser,
    run,
    sample: (network, x, options) => run(denoiser(network), x, options),
    initial: (noise) => linear([initialScale, noise]),
    addNoise(clean, noise, index) {
      const sigma = sigmas[index]!;
      if (space === "flow") return linear([1 - sigma, clean], [sigma, noise]);
      return linear([signal(sigma), clean], [signal(sigma) * sigma, noise]);
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
