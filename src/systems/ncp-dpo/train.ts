/** Training of a LoRA on pairs. Resumable at every step; the U-Net itself is neither changed nor saved. */
import { trainingSchedule } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import type { UNet2DConditionModel } from "../../networks/index.ts";
import { adamW, loraParameters } from "../../nn/index.ts";
import { latentCodec, ownSize, type PipelineComponents } from "../../pipelines/index.ts";
import type { Seed, Tensor } from "../../tensor/index.ts";
import {
  type PhaseResult,
  type PhaseSettings,
  rateOf,
  runPhase,
  type TrainingRun,
} from "../../training/index.ts";
import type { Work } from "../../work.ts";
import { type Course, pairBatches, promptEncoder } from "./batches.ts";
import { type PairBatch, type PreferenceOptions, preferenceLoss, type Space } from "./method.ts";
import {
  type AdapterOptions,
  adapted,
  type NetworkOptions,
  networksOf,
  type PairCondition,
  randomTwin,
  unetOf,
} from "./model.ts";
import type { PreferencePair } from "./pairs.ts";

/** Everything that decides a training, apart from the model and the pairs. */
export interface TrainSettings
  extends PhaseSettings,
    PreferenceOptions,
    AdapterOptions,
    Omit<NetworkOptions, "prediction"> {
  readonly seed: Seed;
  readonly course: Course;
  readonly flip: boolean;
  /** Slices that a batch is computed in, one after the other. */
  readonly accumulate: number;
}

/**
 * Beta and learning rate of each space, for models as small as ours: errors of features are 1e3 to 1e5 times smaller than those
 * of the noise. The published beta of 2,500 is for features of Stable Diffusion's size.
 */
const OF_SPACE = {
  latent: { beta: 2000, learningRate: 1e-4 },
  ncp: { beta: 4e6, learningRate: 3e-4 },
  both: { beta: 2000, learningRate: 1e-4 },
} as const satisfies Record<Space, object>;

/** Settings with their defaults; the published rank of 64 is for Stable Diffusion. */
export const training = (
  given: { readonly steps: number; readonly seed: Seed } & Partial<TrainSettings>,
): TrainSettings => ({
  ...{ batch: 12, warmup: 20, schedule: "constant", clip: 1 },
  ...{ space: "ncp", loss: "dpo", lambda: 1, kappa: 1, pooled: false },
  ...{ rank: 8, alpha: given.rank ?? 8, tap: "down", encoder: "reference", balanced: false },
  ...{ course: "t-1", recompute: false, flip: true, accumulate: 1 },
  ...OF_SPACE[given.space ?? "ncp"],
  ...given,
});

/** The adapters, all that is trained. */
export type Adapters = Readonly<Record<string, Tensor>>;

/** What comes with every batch. */
interface Fixed {
  readonly policy: UNet2DConditionModel;
  readonly twin?: UNet2DConditionModel;
}

type Batch = PairBatch<PairCondition> & Fixed;

/** What a training needs. */
export interface TrainInputs extends Omit<TrainingRun<Adapters>, "look"> {
  /** Shows the adapters after a step; it keeps nothing of them but copies. */
  readonly look?: (adapters: Adapters, step: number) => Work<void>;
  readonly components: PipelineComponents;
  readonly pairs: readonly PreferencePair[];
  readonly settings: TrainSettings;
}

/** @throws ArgumentError for settings that cannot be */
export function checkSettings({ beta, lambda, kappa, batch, accumulate, loss }: TrainSettings): void {
  for (const [name, value] of Object.entries({ beta, lambda, kappa }))
    if (!(Number.isFinite(value) && value >= 0))
      throw new ArgumentError(`${name}: expected 0 or more, got ${value}`);
  if (beta === 0 && loss !== "sft" && loss !== "orpo")
    throw new ArgumentError("beta: expected a number above 0, got 0");
  if (batch % accumulate !== 0)
    throw new ArgumentError(`a batch of ${batch} pairs does not split into ${accumulate} slices`);
}

const lossOf =
  (settings: TrainSettings, prediction: NetworkOptions["prediction"]) =>
  (adapters: Adapters, { policy, twin, ...batch }: Batch) =>
    preferenceLoss(networksOf(policy, adapters, { ...settings, prediction }, twin), settings, batch);

/** The LoRA that a training begins with: it changes nothing. */
export const freshPolicy = (components: PipelineComponents, settings: AdapterOptions): UNet2DConditionModel =>
  adapted(unetOf(components), settings);

/** Trains; `final` are the adapters, for `freshPolicy`. @throws ArgumentError, FormatError, and as `runPhase` does */
export async function* trainPreferences(inputs: TrainInputs): Work<PhaseResult<Adapters>> {
  const { components, pairs, settings, stage, folder, saveEvery, lookEvery, look, threads, signal } = inputs;
  checkSettings(settings);
  const { space, encoder, seed } = settings;
  const policy = freshPolicy(components, settings);
  const schedule = trainingSchedule(components.scheduler);
  const size = ownSize(components);
  const codec = latentCodec(components, signal);
  const prompts = promptEncoder(components, [size.height, size.width]);
  const random = encoder === "random" && space !== "latent";
  const constants: Fixed = { policy, ...(random && { twin: randomTwin(components, seed) }) };
  const { batch, course, flip } = settings;
  const batches = pairBatches({
    ...{ pairs, schedule, codec, prompts, size: [size.height, size.width], batch, course, flip, seed },
  });
  try {
    return yield* runPhase<Adapters, Batch, PairBatch<PairCondition>>({
      stage,
      settings,
      model: loraParameters(policy),
      loss: lossOf(settings, schedule.prediction),
      constants,
      batch: batches,
      optimizer: adamW({
        learningRate: rateOf(settings),
        weightDecay: 0.01,
        eps: space === "latent" ? 1e-8 : 1e-12, // errors of features, and their gradients, are that small
      }),
      accumulate: settings.accumulate,
      ...(look && { look: ({ model }, step) => look(model, step) }),
      ...{ validateEvery: lookEvery, folder, saveEvery, threads, signal },
    });
  } finally {
    await Promise.all([codec.close(), prompts.close()]);
  }
}
