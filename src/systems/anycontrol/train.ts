/** Training of what steers a frozen base. Resumable at every step. */
import type { Dataset, ShapeSample } from "../../data/index.ts";
import type { LossWeight } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import { adamW, type TrainState } from "../../nn/index.ts";
import { minimum } from "../../tensor/index.ts";
import {
  type PhaseResult,
  type PhaseSettings,
  rateOf,
  runPhase,
  type TrainingRun,
} from "../../training/index.ts";
import type { Work } from "../../work.ts";
import { type Arm, batchSettings } from "./arms.ts";
import { type Base, TEXT_LENGTH } from "./base.ts";
import { anyControlBatches } from "./data.ts";
import { anyControlLoss, type Batch, type Steering } from "./method.ts";
import { freshSteerer, kept, type Steerer, type SteererConfig, type SteeringModel } from "./model.ts";
import { TYPES } from "./types.ts";

/** Everything that decides a training, apart from the base and the scenes. */
export interface TrainSettings extends PhaseSettings {
  readonly seed: number;
}

/** AdamW with the decay of torch, as published; the rate is that of a small model that trains from nothing. */
export const training = (
  given: Pick<TrainSettings, "steps" | "seed"> & Partial<TrainSettings>,
): TrainSettings => ({
  ...{
    batch: 16,
    learningRate: 1e-3,
    warmup: Math.min(100, Math.ceil(given.steps / 5)),
    schedule: "cosine",
    clip: 1,
  },
  ...given,
});

/** What a network of an arm is, for a base. */
export const configOf = (base: Base, arm: Arm): SteererConfig => ({
  kind: arm.kind,
  unet: base.unetConfig,
  size: base.size,
  types: arm.types ?? TYPES,
  vocabulary: base.vocabulary,
  textLength: TEXT_LENGTH,
  ...(arm.ablation && { ablation: arm.ablation }),
});

/** Weights of the loss at high noise are at most this. */
const MOST = 100;

/**
 * Errors of the clean sample in place of those of the noise, up to a bound: where conditions decide what is where, errors of the
 * noise are so small that a short training would learn nothing else before.
 */
const WEIGHT: LossWeight = (_, { alpha, sigma }) => minimum(sigma.div(alpha).square(), MOST);

/** What a training needs. */
export interface TrainInputs extends TrainingRun<Steerer> {
  readonly base: Base;
  readonly arm: Arm;
  readonly scenes: Dataset<ShapeSample>;
  readonly settings: TrainSettings;
  /** What to begin with. Default: copies of the base, and fresh weights. */
  readonly start?: SteeringModel | undefined;
}

/** A configuration as text, whatever the order of its keys. */
const canonical = (config: SteererConfig): string =>
  JSON.stringify(Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1)));

/** Trains; the base stays as it is. @throws as `runPhase` does, and ArgumentError for another network to begin with */
export async function* trainSteerer(inputs: TrainInputs): Work<SteeringModel> {
  const { stage, base, arm, scenes, settings, start, folder, saveEvery, lookEvery, look, threads, signal } =
    inputs;
  const config = configOf(base, arm);
  if (start && canonical(start.config) !== canonical(config))
    throw new ArgumentError(`${stage}: the model to begin with is another network than the one to train`);
  const pairs = batchSettings(arm, settings);
  const result: PhaseResult<Steerer> = yield* runPhase<Steerer, Batch>({
    stage,
    settings: { ...settings, ...pairs, config } as PhaseSettings,
    model: start?.net ?? freshSteerer(config, base.unet, settings.seed),
    loss: (net, batch) => anyControlLoss(base.objective, WEIGHT)(net as Steering, batch),
    batch: anyControlBatches(base, scenes, pairs),
    optimizer: adamW({ learningRate: rateOf(settings), weightDecay: 0.01 }),
    ...(look && { look: ({ model }: TrainState<Steerer>) => look(model) }),
    validateEvery: lookEvery,
    folder,
    saveEvery,
    threads,
    signal,
  });
  return kept(result.final, config);
}
