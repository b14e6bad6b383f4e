/** Training of a network on synthetic pairs and real pictures without a truth, with a helper beside it. Resumable at every step. */
import { ArgumentError } from "../../errors.ts";
import type { Restorer } from "../../networks/index.ts";
import { adam, constantDecay, type FurtherUpdate, type Loss, type TrainState } from "../../nn/index.ts";
import { createNoise, fromHost, makeKey, type Tensor, tensor } from "../../tensor/index.ts";
import {
  type CropSource,
  diffusionBatch,
  type PhaseSettings,
  rateOf,
  restorationBatches,
  runPhase,
  type TrainingRun,
} from "../../training/index.ts";
import type { Work } from "../../work.ts";
import {
  type AlphaSchedule,
  alphaAt,
  checkJoint,
  checkJointBatch,
  gammaLevels,
  gammas,
  type JointBatch,
  type JointOptions,
  jointLoss,
  type TimestepRange,
} from "./method.ts";
import type { NoiseGuesser } from "./model.ts";

/** Everything that decides a training, apart from the pictures and the networks. */
export interface JointSettings extends PhaseSettings, JointOptions {
  /** Side of the crops in pixels. */
  readonly crop: number;
  readonly seed: number;
  readonly timesteps: TimestepRange;
  readonly alpha: AlphaSchedule;
  /** Learning rate of the helper over that of the network. */
  readonly helperRate: number;
  /** EMA decay; absent: none. */
  readonly ema?: number | undefined;
}

/** What is learned from: clean crops with their degraded twins, real ones (`degraded` alone is seen), other clean ones. */
export interface JointSources {
  readonly synthetic: CropSource;
  readonly real: CropSource;
  readonly reference?: CropSource | undefined;
}

/** Draws of the real crops and of the coins are none of those of the synthetic ones. */
const SEEDS = { real: 1_000_003, reference: 2_000_003 } as const;

const flags = (values: Float32Array): Tensor =>
  tensor(
    Array.from(values, (u) => u < 0.5),
    { dtype: "bool" },
  );

/** Batches of both domains with the random parts of the step: a pure function of the step. */
export function jointBatches(
  { synthetic, real, reference }: JointSources,
  settings: JointSettings,
): (step: number) => Promise<JointBatch> {
  const { batch, crop, seed, timesteps, alpha } = settings;
  const of = (source: CropSource, shift: number) =>
    restorationBatches(source, { batch, crop, seed: seed + shift });
  const [pairs, bad] = [of(synthetic, 0), of(real, SEEDS.real)];
  const others = settings.mode === 2 && reference ? of(reference, SEEDS.reference) : undefined;
  const source = createNoise("philox", seed);
  const levels = gammaLevels(gammas(), timesteps);
  return async (step) => {
    const [pair, { degraded }, other] = await Promise.all([pairs(step), bad(step), others?.(step)]);
    const { clean } = pair;
    const { timestep: gamma, level, noise } = diffusionBatch(clean.shape, { source, step, levels });
    const coins = (purpose: string): Tensor =>
      flags(source.uniform([batch, 1], { sample: 0, step, purpose }));
    return {
      ...{ clean, synthetic: pair.degraded, real: degraded, reference: other?.clean },
      ...{ gamma, level, noise },
      coins: { good: coins("coins"), worse: coins("other coins") },
      keys: { good: makeKey(seed, { sample: 0, step }), worse: makeKey(seed, { sample: 1, step }) },
      alpha: fromHost("f32", [], Float32Array.of(alphaAt(step, alpha))),
    };
  };
}

/** A network and what helps to train it, which is thrown away afterwards. */
export interface Pair<H extends object> {
  readonly restorer: Restorer;
  readonly helper?: H | undefined;
}

/** A way to train a network on both domains. */
export interface Way<H extends object> {
  readonly helper?: H | undefined;
  readonly loss: Loss<Pair<H>, JointBatch>;
  /** Updates of the helper alone in the same step. */
  readonly further?: readonly Omit<FurtherUpdate<Pair<H>, JointBatch>, "optimizer" | "frozen">[] | undefined;
  /** What the loss leaves as it is: the helper (which learns from `further` alone, or not at all), or the network. */
  readonly held?: "helper" | "restorer" | undefined;
}

/** The paper's way: one loss and one Adam for both. */
export const noiseDaWay = (
  diffusion: NoiseGuesser | undefined,
  options: JointOptions,
): Way<NoiseGuesser> => ({
  helper: options.mode === 0 ? undefined : diffusion,
  loss: ({ restorer, helper }, batch) => jointLoss({ restorer, diffusion: helper }, batch, options),
});

/** What a training needs. */
export interface JointTraining<H extends object> extends TrainingRun<Restorer> {
  readonly net: Restorer;
  readonly sources: JointSources;
  readonly settings: JointSettings;
  readonly way: Way<H>;
  /** Plain data that decides the way beside the settings: a run that goes on must have the same. */
  readonly waySettings?: object | undefined;
  /** Numbers of the network to keep, for curves. */
  readonly validate?: ((net: Restorer) => Promise<Record<string, number>>) | undefined;
}

/** What came of a training: the network to keep, and its helper. */
export interface JointResult<H> {
  readonly restorer: Restorer;
  readonly helper: H | undefined;
}

const ofHelper = (key: string): boolean => key.startsWith("helper.");
const ofRestorer = (key: string): boolean => key.startsWith("restorer.");

/** Trains a network and its helper. @throws as `runPhase` and `checkTraining` do */
export async function* trainJoint<H extends object>(training: JointTraining<H>): Work<JointResult<H>> {
  const { net, sources, settings, way, waySettings, validate, look, lookEvery, ...run } = training;
  checkTraining(run.stage, net, sources, settings, way.helper);
  const next = jointBatches(sources, settings);
  const kept = ({ model, ema }: TrainState<Pair<H>>): Restorer => (ema ?? model).restorer;
  const { helper, loss, further, held } = way;
  const optimizer = () =>
    adam({
      learningRate: rateOf(settings),
      ...(helper && held !== "helper" && { groups: [{ match: ofHelper, rateScale: settings.helperRate }] }),
    });
  const helperOptimizer = () =>
    adam({
      learningRate: rateOf({ ...settings, learningRate: settings.learningRate * settings.helperRate }),
    });
  const { final } = yield* runPhase<Pair<H>, JointBatch>({
    ...run,
    settings: { ...settings, ...(waySettings && { way: waySettings }) } as PhaseSettings,
    model: { restorer: net, ...(helper && { helper }) },
    loss,
    optimizer: optimizer(),
    ...(helper && held && { frozen: held === "helper" ? ofHelper : ofRestorer }),
    ...(further && {
      further: further.map((update) => ({ ...update, optimizer: helperOptimizer(), frozen: ofRestorer })),
    }),
    batch: async (step) => {
      const batch = await next(step);
      if (step === 0) checkJointBatch(batch, settings);
      return batch;
    },
    ...(settings.ema !== undefined && { ema: constantDecay(settings.ema) }),
    ...(validate && { validate: (state: TrainState<Pair<H>>) => validate(kept(state)) }),
    ...(look && { look: (state: TrainState<Pair<H>>) => look(kept(state)) }),
    validateEvery: lookEvery,
  });
  return { restorer: final.restorer, helper: final.helper };
}

/** @throws ArgumentError for settings that cannot be, sources that are empty, and networks that do not fit */
function checkTraining(
  stage: string,
  net: Restorer,
  { synthetic, real, reference }: JointSources,
  settings: JointSettings,
  helper: object | undefined,
): void {
  const { crop, mode = 1, helperRate, ema } = settings;
  checkJoint(settings);
  alphaAt(0, settings.alpha);
  gammaLevels(gammas(), settings.timesteps);
  if (net.channels !== 3)
    throw new ArgumentError(`${stage}: expected a network of 3 channels, got ${net.channels}`);
  const factor = Math.max(net.sizeFactor, (helper as Partial<NoiseGuesser> | undefined)?.sizeFactor ?? 1);
  if (!Number.isInteger(crop) || crop < 1 || crop % factor !== 0)
    throw new ArgumentError(`${stage}: the crop must be a multiple of ${factor}, got ${crop}`);
  for (const [name, source] of Object.entries({ synthetic, real }))
    if (source.length === 0) throw new ArgumentError(`${stage}: there are no ${name} pictures`);
  if (mode === 2 && !reference?.length)
    throw new ArgumentError(`${stage}: mode 2 needs other clean pictures (reference), got none`);
  if (!(helperRate >= 0) || !Number.isFinite(helperRate))
    throw new ArgumentError(`${stage}: expected a helper's rate of 0 or more, got ${helperRate}`);
  if (ema !== undefined && !(ema >= 0 && ema < 1))
    throw new ArgumentError(`${stage}: expected an EMA decay in [0, 1), got ${ema}`);
}
