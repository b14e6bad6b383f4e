/** Training of the prior, and of networks with or without its loss. Resumable at every step. */
import { diffusionLoss, epsilonObjective, sampleLosses } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import { constantDecay, frozen, lossOf } from "../../nn/index.ts";
import { createNoise, jit, type Tensor, valueAndGrad } from "../../tensor/index.ts";
import {
  alphaBarLevels,
  type CropSource,
  diffusionBatch,
  type FurtherLoss,
  type PhaseResult,
  type PhaseSettings,
  PIXEL_LOSSES,
  type PixelLoss,
  type RestorationBatch,
  runPhase,
} from "../../training/index.ts";
import type { Work } from "../../work.ts";
import { type PriorBatch, priorBatches } from "./data.ts";
import {
  type Controls,
  checkRange,
  checkWeights,
  diffLoss,
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
/** Such as "t 0 to 49". */
export const bandName = ([least, most]: TimestepRange): string => `t ${least} to ${most}`;

/** Loss of the noise, as all of it is trained. */
const noiseLoss = (prior: PriorNetwork, batch: PriorBatch): Tensor =>
  diffusionLoss(
    (x, t) => prior.predict(x, t),
    { ...batch, condition: undefined },
    { objective: epsilonObjective },
  );

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
      sampleLosses(
        (x, t) => prior.predict(x, t),
        { ...batch, condition: undefined },
        { objective: epsilonObjective },
      ).mean(),
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

/** What the training of a prior needs. */
export interface PriorTraining {
  readonly stage: string;
  readonly prior: PriorNetwork;
  readonly source: CropSource;
  readonly settings: PriorSettings;
  /** Clean crops [N, 3, S, S] in [-1, 1] for the curves of the bands. */
  readonly heldOut?: Tensor | undefined;
  /** Shows the prior in the making. */
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
    throw new ArgumentError(
      `${rest.stage}: the crop must be a multiple of the prior's ${prior.sizeFactor}, got ${crop}`,
    );
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

/** What the loss needs beside the pictures: draws that all networks share, and the frozen prior. */
export type Extra = SharedNoise & { readonly prior: PriorNetwork };

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

/** How strongly a loss pulls at restored pictures: the norm of its gradient there, averaged over batches in [0, 1]. */
export async function pullOf<E>(
  { extra, loss }: FurtherLoss<E>,
  restore: (degraded: Tensor) => Tensor,
  batches: readonly RestorationBatch[],
  { threads }: { readonly threads?: number | undefined } = {},
): Promise<number> {
  const run = jit(
    ({ degraded, clean }: RestorationBatch, given: E) => {
      const z = restore(degraded).mul(2).sub(1).stopGradient();
      const [, gradient] = valueAndGrad((v: Tensor) => lossOf(loss(v, clean.mul(2).sub(1), given)))(z);
      return gradient.square().sum().sqrt();
    },
    threads === undefined ? {} : { threads },
  );
  let sum = 0;
  try {
    for (const [step, batch] of batches.entries())
      sum += await (await run(batch, extra(step, batch.clean.shape))).item();
  } finally {
    await run.close();
  }
  return sum / batches.length;
}

/** The loss of the pixels as one whose pull can be measured. */
export const pixelTerm = (pixel: PixelLoss): FurtherLoss<Record<string, never>> => ({
  extra: () => ({}),
  loss: (z, x) => ({ loss: PIXEL_LOSSES[pixel](z, x) }),
});

/**
 * The weight at which a loss pulls `strength` times as much as the pixels: published weights belong to another model and to
 * features of another scale. @throws ArgumentError where it does not pull at all
 */
export function calibrated(pixel: number, pull: number, strength: number): number {
  for (const [name, value] of Object.entries({ "the pixels": pixel, "the further loss": pull }))
    if (!(value > 0) || !Number.isFinite(value))
      throw new ArgumentError(`DiffLoss: nothing to calibrate: the pull of ${name} is ${value}`);
  return (strength * pixel) / pull;
}

/** Weights at which both terms of DiffLoss pull alike, and together `strength` times as much as the pixels. */
export async function calibratedWeights(
  prior: PriorNetwork,
  restore: (degraded: Tensor) => Tensor,
  batches: readonly RestorationBatch[],
  options: Omit<DiffLossOptions, "weights"> & {
    readonly pixel: PixelLoss;
    readonly strength: number;
    readonly threads?: number | undefined;
  },
): Promise<Weights> {
  const pull = (loss: FurtherLoss<unknown>): Promise<number> => pullOf(loss, restore, batches, options);
  const term = (weights: Weights) =>
    pull(diffLossOf(prior, { ...options, weights, detachPrior: false }) as FurtherLoss<unknown>);
  const pixels = await pull(pixelTerm(options.pixel) as FurtherLoss<unknown>);
  const [natural, semantic] = [
    await term({ natural: 1, semantic: 0 }),
    await term({ natural: 0, semantic: 1 }),
  ];
  const half = options.strength / 2;
  return { natural: calibrated(pixels, natural, half), semantic: calibrated(pixels, semantic, half) };
}
