/** Pre-training without labels, and fine-tuning for class-conditional generation. Resumable at every step. */
import { checkPictures, type LabelledPictures } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { adamW, constantDecay, mapParameters, parameters, type TrainState } from "../../nn/index.ts";
import { jit, type Seed, type Tensor } from "../../tensor/index.ts";
import {
  type PhaseResult,
  type PhaseSettings,
  rateOf,
  runPhase,
  type TrainingRun,
} from "../../training/index.ts";
import type { Work } from "../../work.ts";
import { type BatchSettings, umdBatches } from "./data.ts";
import { type Batch, type Mixture, mixedLoss, tunedMixture } from "./method.ts";
import { initUMD, type UMD, type UMDConfig } from "./model.ts";

/** Everything that decides a training, apart from the data and the model. */
export interface TrainSettings extends PhaseSettings, BatchSettings {
  readonly batch: number;
  readonly weightDecay: number;
  readonly beta2: number;
  /** EMA decay; absent: no EMA. */
  readonly ema?: number;
}

type Length = Pick<TrainSettings, "steps" | "batch" | "seed"> & Partial<TrainSettings>;

const PUBLISHED = { schedule: "cosine", clip: 1 } as const;

/** Pre-training as published: 1.5e-4 B / 256, warm-up over 5 %, AdamW (0.9, 0.95), decay 0.05, no labels, no EMA. */
export const pretraining = (mixture: Mixture, given: Length): TrainSettings => ({
  ...PUBLISHED,
  mixture,
  learningRate: (1.5e-4 * given.batch) / 256,
  warmup: Math.ceil(0.05 * given.steps),
  weightDecay: 0.05,
  beta2: 0.95,
  augment: { flip: true, crop: [0.8, 1] },
  ...given,
});

/** Fine-tuning as published, for a model that was pre-trained with this mixture. */
export const finetuning = (mixture: Mixture, given: Length): TrainSettings => ({
  ...PUBLISHED,
  mixture: tunedMixture(mixture),
  learningRate: (1.5e-4 * given.batch) / 256,
  warmup: Math.ceil(0.04 * given.steps),
  weightDecay: 0,
  beta2: 0.999,
  augment: { flip: true, crop: [0.95, 1] },
  dropLabels: 0.1,
  ema: 1 - (1e-4 * given.batch) / 256,
  ...given,
});

/** EMA decay of short trainings: the weights at the start fade within a tenth of the steps. */
export const shortEma = (steps: number): number => Math.max(0, Math.min(0.995, 1 - 10 / steps));

/** What a training needs. */
export interface TrainInputs extends TrainingRun<UMD> {
  readonly model: UMD;
  readonly pictures: LabelledPictures;
  readonly settings: TrainSettings;
  /** Pictures that training does not see; the terms of the loss on them become curves. */
  readonly heldOut?: LabelledPictures | undefined;
}

/** Class tokens, the mask token and biases are not decayed; scales of norms and positions are. */
const undecayed = (key: string): boolean => key === "cls" || key === "mask_token" || key.endsWith("bias");

const kept = ({ model, ema }: TrainState<UMD>): UMD => ema ?? model;

/** The terms of the loss on held-out pictures: the same pictures, noise and masks every time. */
function validation({ model, heldOut, settings, threads }: TrainInputs) {
  const { dropLabels: _, ...unlabelled } = settings;
  const rules = {
    ...unlabelled,
    batch: Math.min(4 * settings.batch, heldOut!.count),
    augment: { flip: false },
  };
  const batch = umdBatches(model.config, heldOut!, rules)(0);
  const terms = (net: UMD, given: Batch) => mixedLoss(settings.mixture)(net, given).metrics;
  const run = jit(terms, threads === undefined ? {} : { threads });
  return {
    close: () => run.close(),
    async validate(state: TrainState<UMD>): Promise<Record<string, number>> {
      const found: Record<string, number> = {};
      for (const [name, t] of Object.entries<Tensor>(await run(kept(state), await batch)))
        found[`held-out ${name}`] = await t.item();
      return found;
    },
  };
}

/** Trains; `final` is the model to keep. @throws as `runPhase` does, and NonFiniteError for pictures that are not finite */
export async function* trainUMD(inputs: TrainInputs): Work<PhaseResult<UMD>> {
  const { stage, model, pictures, settings, heldOut, folder, saveEvery, lookEvery, look, threads, signal } =
    inputs;
  const { mixture, beta2, weightDecay, ema } = settings;
  if (ema !== undefined && !(ema >= 0 && ema < 1))
    throw new ArgumentError(`UMD: expected an EMA decay in [0, 1), got ${ema}`);
  checkPictures(pictures, model.config);
  const held = heldOut && validation(inputs);
  try {
    return yield* runPhase({
      stage,
      settings: { ...settings, config: model.config } as PhaseSettings,
      model,
      loss: mixedLoss(mixture),
      batch: umdBatches(model.config, pictures, settings),
      optimizer: adamW({
        learningRate: rateOf(settings),
        beta2,
        weightDecay,
        groups: [{ match: undecayed, weightDecay: 0 }],
      }),
      ...(ema !== undefined && { ema: constantDecay(ema) }),
      ...(held && { validate: held.validate }),
      ...(look && { look: (state: TrainState<UMD>) => look(kept(state)) }),
      validateEvery: lookEvery,
      folder,
      saveEvery,
      threads,
      signal,
    });
  } finally {
    await held?.close();
  }
}

/** The model with a fresh table of labels and its trunk; all else is kept. */
export function withLabels(model: UMD, classes: number, seed: Seed): UMD {
  if (!Number.isInteger(classes) || classes < 1)
    throw new ArgumentError(`UMD: expected a number of classes, got ${classes}`);
  const config: UMDConfig = { ...model.config, classes };
  const known = parameters(model);
  return mapParameters(initUMD(config, seed), (fresh, key) =>
    key.startsWith("label_") ? fresh : (known.get(key) ?? fresh),
  );
}
