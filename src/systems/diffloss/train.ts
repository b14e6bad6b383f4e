/** Training of the prior, and of networks with or without its loss. Resumable at every step. */
import { diffusionLoss, epsilonObjective, sampleLosses } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import { constantDecay, frozen } from "../../nn/index.ts";
import { createNoise, jit, type Tensor, valueAndGrad } from "../../tensor/index.ts";
import {
  alphaBarLevels,
  type CropSource,
  diffusionBatch,
  type FurtherLoss,
  PIXEL_LOSSES,
  type PhaseResult,
  type PhaseSettings,
  type PixelLoss,
  type RestorationBatch,
  runPhase,
} from "../../training/index.ts";
import type { Work } from "../../work.ts";
import { type PriorBatch, priorBatches } from "./data.ts";
import {
  checkRange,
  checkWeights,
  type Controls,
  diffLoss,
  distances,
  type SharedNoise,
  type TimestepRange,
  type Weights,
} from "./method.ts";
import { type PriorNetwork, priorAlphaBars } from "./model.ts";

export interface PriorSettings extends PhaseSettings {
  readonly crop: number;
  readonly seed: number;
  /** EMA decay. */
  readonly ema: number;
}

/** Bands of timesteps whose mean squared error of the noise says how good a prior is. */
export const BANDS = [
  [0, 49],
  [50, 199],
  [200, 499],
  [500, 999],
] as const;
export const bandName = ([least, most]: TimestepRange): string => `t ${least} to ${most}`;

/** Loss of the noise, as all of it is trained. */
const noiseLoss = (prior: PriorNetwork, batch: PriorBatch): Tensor =>
  diffusionLoss((x, t) => prior.predict(x, t), { ...batch, condition: undefined }, { objective: epsilonObjective });

/**
 * Mean squared error of the guessed noise in every band of timesteps, on clean crops [N, 3, S, S] in [-1, 1]; one noise
 * for every crop, the same at every call.
 */
export async function priorErrors(
  prior: PriorNetwork,
  clean: Tensor,
  { seed = 0, threads }: { readonly seed?: number; readonly threads?: number | undefined } = {},
): Promise<Record<string, number>> {
  const alphaBars = priorAlphaBars(prior.config);
  const source = createNoise("philox", seed);
  const run = jit(
    (batch: PriorBatch) =>
      sampleLosses((x, t) => prior.predict(x, t), { ...batch, condition: undefined }, { objective: epsilonObjective }).mean(),
    threads === undefined ? {} : { threads },
  );
  const found: Record<string, number> = {};
  try {
    for (const [step, band] of BANDS.entries()) {
      const levels = alphaBarLevels(alphaBars, between(band));
      const draws = diffusionBatch(clean.shape, { source, step, levels, stratified: true });
      found[bandName(band)] = await (await run({ x0: clean, ...draws })).item();
    }
  } finally {
    await run.close();
  }
  return found;
}

/** Every timestep of a range as often. */
const between =
  ([least, most]: TimestepRange) =>
  (u: number): number =>
    Math.min(most, least + Math.floor(u * (most - least + 1)));

export interface PriorTraining {
  readonly stage: string;
  readonly prior: PriorNetwork;
  readonly source: CropSource;
  readonly settings: PriorSettings;
  /** Clean crops [N, 3, S, S] in [-1, 1] for the curves of the bands. */
  readonly heldOut?: Tensor | undefined;
  readonly look?: ((prior: PriorNetwork) => Work<void>) | undefined;
  readonly lookEvery?: number | undefined;
  readonly folder?: string | undefined;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Trains a prior on clean pictures; `final` is the average. @throws as `runPhase` does */
export async function* trainPrior(training: PriorTraining): Work<PhaseResult<PriorNetwork>> {
  const { prior, source, settings, heldOut, look, lookEvery, threads, ...rest } = training;
  const { crop, ema } = settings;
  if (crop % prior.sizeFactor !== 0 || crop < prior.sizeFactor)
    throw new ArgumentError(`${rest.stage}: the crop must be a multiple of the prior's ${prior.sizeFactor}, got ${crop}`);
  return yield* runPhase<PriorNetwork, PriorBatch>({
    ...rest,
    settings,
    model: prior,
    loss: noiseLoss,
    batch: priorBatches(source, priorAlphaBars(prior.config), settings),
    ema: constantDecay(ema),
    ...(heldOut && {
      validate: async ({ model, ema: average }) => priorErrors(average ?? model, heldOut, { threads }),
    }),
    ...(look && { look: ({ model, ema: average }) => look(average ?? model) }),
    validateEvery: lookEvery,
    threads,
  });
}

export interface DiffLossOptions extends Controls {
  readonly weights: Weights;
  /** Timesteps that noise is drawn for. Default: all. */
  readonly range?: TimestepRange | undefined;
  /** Timesteps spread evenly over each batch; published: drawn one by one. Default false. */
  readonly stratified?: boolean;
  readonly seed: number;
}

/** The random parts of a step: a function of the seed and the step. */
function sharedNoise(
  prior: PriorNetwork,
  { range = [0, prior.timesteps - 1], stratified = false, seed }: Omit<DiffLossOptions, "weights">,
): (step: number, shape: readonly number[]) => SharedNoise {
  checkRange(range, prior.timesteps);
  const source = createNoise("philox", seed);
  const levels = alphaBarLevels(priorAlphaBars(prior.config), between(range));
  return (step, shape) => {
    const { timestep: t, level, noise } = diffusionBatch(shape, { source, step, levels, stratified });
    return { t, level, noise };
  };
}

type Extra = SharedNoise & { readonly prior: PriorNetwork };

/** DiffLoss as a further loss of any training of a restoring network. @throws ArgumentError for impossible options */
export function diffLossOf(prior: PriorNetwork, options: DiffLossOptions): FurtherLoss<Extra> {
  checkWeights(options.weights);
  const drawn = sharedNoise(prior, options);
  const held = frozen(prior);
  return {
    // The prior travels with the batch: it is neither trained nor part of the compiled step.
    extra: (step, shape) => ({ prior: held, ...drawn(step, shape) }),
    loss: (z, x, { prior: net, ...shared }) => diffLoss(net, [z, x], shared, options.weights, options),
  };
}

/** How strongly each term pulls at the restored pictures: the norm of its gradient there, averaged over batches. */
export interface Pulls {
  readonly pixel: number;
  readonly natural: number;
  readonly semantic: number;
}

/** Measures the pulls on batches of restored pictures and their truth, [N, 3, S, S] in [0, 1]. */
export async function pullsOf(
  prior: PriorNetwork,
  restore: (degraded: Tensor) => Tensor,
  batches: readonly RestorationBatch[],
  options: Omit<DiffLossOptions, "weights"> & { readonly pixel: PixelLoss; readonly threads?: number | undefined },
): Promise<Pulls> {
  const drawn = sharedNoise(prior, options);
  const run = jit(
    ({ degraded, clean, ...shared }: RestorationBatch & SharedNoise) => {
      const x = clean.mul(2).sub(1);
      const z = restore(degraded).mul(2).sub(1).stopGradient();
      const norm = (loss: (z: Tensor) => Tensor): Tensor => valueAndGrad(loss)(z)[1].square().sum().sqrt();
      return {
        pixel: norm((v) => PIXEL_LOSSES[options.pixel](v, x)),
        natural: norm((v) => distances(prior, v, x, shared).natural),
        semantic: norm((v) => distances(prior, v, x, shared).semantic),
      };
    },
    options.threads === undefined ? {} : { threads: options.threads },
  );
  const sums = { pixel: 0, natural: 0, semantic: 0 };
  try {
    for (const [step, batch] of batches.entries()) {
      const found = await run({ ...batch, ...drawn(step, batch.clean.shape) });
      for (const name of ["pixel", "natural", "semantic"] as const)
        sums[name] += (await found[name].item()) / batches.length;
    }
  } finally {
    await run.close();
  }
  return sums;
}

/**
 * Weights at which both terms together pull `strength` times as much as the pixels, half each. The published ones belong to
 * another model and to features of another scale. @throws ArgumentError where a term does not pull at all
 */
export function calibrated({ pixel, natural, semantic }: Pulls, strength: number): Weights {
  for (const [name, value] of Object.entries({ pixel, natural, semantic }))
    if (!(value > 0) || !Number.isFinite(value))
      throw new ArgumentError(`DiffLoss: nothing to calibrate: the pull of the ${name} term is ${value}`);
  return { natural: (strength * pixel) / natural / 2, semantic: (strength * pixel) / semantic / 2 };
}

