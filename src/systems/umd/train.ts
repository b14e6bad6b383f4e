/** Pre-training without labels, and fine-tuning for class-conditional generation. Resumable at every step. */

import { checkPictures, type LabelledPictures } from "../../data/picture-set.ts";
import { ArgumentError } from "../../errors.ts";
import {
  adamW,
  constantDecay,
  cosineDecay,
  mapParameters,
  parameters,
  type TrainEvent,
  type TrainState,
  train,
  warmup,
} from "../../nn/index.ts";
import type { Seed } from "../../tensor/index.ts";
import { type Augmentation, umdBatches } from "./batches.ts";
import type { UMDConfig } from "./config.ts";
import { initUMD, type UMD } from "./model.ts";
import { type Mixture, umdLoss } from "./objective.ts";

/** Everything that decides a training, apart from the data and the model. */
export interface TrainSettings {
  readonly mixture: Mixture;
  readonly steps: number;
  readonly batch: number;
  readonly learningRate: number;
  readonly warmup: number;
  readonly weightDecay: number;
  readonly beta2: number;
  readonly seed: Seed;
  readonly augment: Augmentation;
  /** Share of labels that are dropped; absent: no labels. */
  readonly dropLabels?: number;
  /** Decay of the averaged weights; absent: no average. */
  readonly ema?: number;
}

type Length = Pick<TrainSettings, "steps" | "batch" | "seed"> & Partial<TrainSettings>;

/** Pre-training as published: 1.5e-4 B / 256, warm-up over 5 %, AdamW (0.9, 0.95), decay 0.05, no labels, no average. */
export const pretraining = (mixture: Mixture, given: Length): TrainSettings => ({
  mixture,
  learningRate: (1.5e-4 * given.batch) / 256,
  warmup: Math.ceil(0.05 * given.steps),
  weightDecay: 0.05,
  beta2: 0.95,
  augment: { flip: true, crop: [0.8, 1] },
  ...given,
});

/** Fine-tuning as published: nothing of the noised pictures is hidden, 5 % stay clean where pre-training had clean ones. */
export const finetuning = ({ cleanShare }: Mixture, given: Length): TrainSettings => ({
  mixture: { cleanShare: cleanShare > 0 ? 0.05 : 0, noisedMask: 0, cleanMask: 0.75 },
  learningRate: (1.5e-4 * given.batch) / 256,
  warmup: Math.ceil(0.04 * given.steps),
  weightDecay: 0,
  beta2: 0.999,
  augment: { flip: true, crop: [0.95, 1] },
  dropLabels: 0.1,
  ema: 1 - (1e-4 * given.batch) / 256,
  ...given,
});

export interface TrainInputs {
  readonly model: UMD;
  readonly pictures: LabelledPictures;
  readonly settings: TrainSettings;
  readonly directory?: string;
  readonly saveEvery?: number;
  /** Threads of the compiled step. Default: as `sessionThreads` says. */
  readonly threads?: number;
  readonly signal?: AbortSignal;
  /** Called with the model to keep, every so many steps and after the last one. */
  readonly look?: { readonly every: number; see(model: UMD): Promise<void> };
}

/** Class tokens, the mask token and biases are not decayed; scales of norms and positions are. */
const undecayed = (path: string): boolean => path === "cls" || path === "maskToken" || path.endsWith("bias");

/** Trains. Throws as `train` does, and `NonFiniteError` for pictures that are not finite. */
export function trainUMD(inputs: TrainInputs): AsyncGenerator<TrainEvent<UMD>, TrainState<UMD>> {
  const { model, pictures, settings, directory, saveEvery, threads, signal, look } = inputs;
  const { mixture, steps, batch, learningRate, warmup: rise, weightDecay, beta2, seed, ema } = settings;
  if (ema !== undefined && !(ema >= 0 && ema < 1))
    throw new ArgumentError(`UMD: expected a decay of the average in [0, 1), got ${ema}`);
  checkPictures(pictures, model.config);
  return train({
    model,
    loss: umdLoss(mixture),
    batch: umdBatches(model.config, pictures, settings),
    steps,
    optimizer: adamW({
      learningRate: warmup(rise, cosineDecay(learningRate, steps)),
      beta2,
      weightDecay,
      groups: [{ match: undecayed, weightDecay: 0 }],
    }),
    clipNorm: 1,
    ...(ema !== undefined && { ema: constantDecay(ema) }),
    settings: { ...settings, seed: String(seed), config: model.config, batch },
    ...(directory && { directory }),
    ...(saveEvery && { saveEvery }),
    ...(threads && { jit: { threads } }),
    ...(signal && { signal }),
    ...(look && {
      validateEvery: look.every,
      validate: async (state) => {
        await look.see(trainedModel(state));
        return {};
      },
    }),
  });
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

/** The model to keep: the average, where there is one. */
export const trainedModel = ({ model, ema }: TrainState<UMD>): UMD => ema ?? model;
