/** Training of encoder and denoiser together. Resumable at every step. */
import { ArgumentError, NonFiniteError } from "../../errors.ts";
import { adam, constantDecay, type LearningRate, type TrainState } from "../../nn/index.ts";
import type { Seed, Tensor } from "../../tensor/index.ts";
import { type PhaseResult, type PhaseSettings, runPhase, type TrainingRun } from "../../training/index.ts";
import type { Work } from "../../work.ts";
import { type BatchSettings, type DecompSet, decompBatches, meanImage } from "./data.ts";
import { decompLoss, type LossOptions } from "./method.ts";
import { type DecompConfig, type DecompUNet, initDecomp, withMeanImage } from "./model.ts";

/** Everything that decides a training, apart from the data and the model. */
export interface TrainSettings extends PhaseSettings, BatchSettings, LossOptions {
  readonly batch: number;
  /** EMA decay. */
  readonly ema: number;
  /** Share of the steps at the end over which the learning rate falls to 5 %. 0, as published: it does not fall. */
  readonly fall: number;
}

/** Adam at 1e-3 without warm-up, decay and clipping as published; batch 32, and an EMA. */
export const training = (
  given: { readonly steps: number; readonly seed: Seed } & Partial<TrainSettings>,
): TrainSettings => ({
  ...{ batch: 32, learningRate: 1e-3, warmup: 0, schedule: "constant", clip: 0, fall: 0.3 },
  ...{ ema: 0.999, dropLatents: 0, downweight: false, orthogonality: 0 },
  ...given,
});

/** What is left of the learning rate at the end of its fall. */
const LAST = 0.05;

/** The rate: constant, then linear down over the last share of the steps. */
export const fallingRate = ({ learningRate, steps, fall }: TrainSettings): LearningRate => {
  if (fall === 0) return learningRate;
  const from = Math.floor(steps * (1 - fall));
  const span = Math.max(1, steps - from);
  return (step: Tensor) =>
    step
      .cast("f32")
      .sub(from)
      .div(span)
      .clip(0, 1)
      .mul(LAST - 1)
      .add(1)
      .mul(learningRate);
};

/** A fresh model for some pictures, whose mean it keeps. */
export const freshDecomp = (config: DecompConfig, set: DecompSet, seed: Seed): DecompUNet =>
  withMeanImage(initDecomp(config, seed), meanImage(set));

/** @throws ArgumentError for another size and pictures outside [0, 1], NonFiniteError */
export function checkSet({ pictures, title }: DecompSet, { size }: Pick<DecompConfig, "size">): void {
  if (pictures.size !== size || pictures.channels !== 3)
    throw new ArgumentError(
      `Decomp: ${title} has pictures [${pictures.channels}, ${pictures.size}, ${pictures.size}], expected [3, ${size}, ${size}]`,
    );
  for (const [i, v] of pictures.values.entries()) {
    if (!Number.isFinite(v)) throw new NonFiniteError(`Decomp: ${title} holds ${v} at element ${i}`);
    if (v < -1e-3 || v > 1 + 1e-3)
      throw new ArgumentError(`Decomp: ${title} holds ${v} at element ${i}, expected values in [0, 1]`);
  }
}

/** What a training needs. */
export interface TrainInputs extends TrainingRun<DecompUNet> {
  readonly model: DecompUNet;
  readonly set: DecompSet;
  readonly settings: TrainSettings;
}

const kept = ({ model, ema }: TrainState<DecompUNet>): DecompUNet => ema ?? model;

/** Trains; `final` is the model to keep, the EMA. @throws as `runPhase` and `checkSet` do */
export async function* trainDecomp(inputs: TrainInputs): Work<PhaseResult<DecompUNet>> {
  const { stage, model, set, settings, folder, saveEvery, lookEvery, look, threads, signal } = inputs;
  const { ema, dropLatents, batch } = settings;
  checkSet(set, model.config);
  if (!(ema >= 0 && ema < 1)) throw new ArgumentError(`Decomp: expected an EMA decay in [0, 1), got ${ema}`);
  if (!(dropLatents >= 0 && dropLatents < 1))
    throw new ArgumentError(`Decomp: expected a share of dropped latents in [0, 1), got ${dropLatents}`);
  if (model.config.guided !== dropLatents > 0)
    throw new ArgumentError(
      `Decomp: a model is guided exactly when latents are dropped in training; this one is ${model.config.guided ? "" : "not "}guided, the share is ${dropLatents}`,
    );
  if (model.config.encoder.norm === "batch" && batch === 1)
    throw new ArgumentError("Decomp: a batch norm learns nothing from a batch of 1");
  return yield* runPhase({
    stage,
    settings: { ...settings, config: model.config } as PhaseSettings,
    model,
    loss: decompLoss(settings),
    batch: decompBatches(model.config, set, settings),
    optimizer: adam({ learningRate: fallingRate(settings) }),
    ema: constantDecay(ema),
    ...(look && { look: (state: TrainState<DecompUNet>) => look(kept(state)) }),
    validateEvery: lookEvery,
    folder,
    saveEvery,
    threads,
    signal,
  });
}
