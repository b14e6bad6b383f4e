/** Training of the full-precision miniature: noise prediction on 1000 linear steps, labels dropped for guidance. */
import type { Labelled } from "../../data/index.ts";
import {
  alphasCumprod,
  betas,
  type DiffusionBatch,
  diffusionLoss,
  dropCondition,
  epsilonObjective,
  minSnrWeight,
} from "../../diffusion/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { constantDecay } from "../../nn/index.ts";
import { createNoise, full, type Tensor } from "../../tensor/index.ts";
import {
  alphaBarLevels,
  diffusionBatch,
  epochIndices,
  type PhaseResult,
  runPhase,
} from "../../training/index.ts";
import type { Work } from "../../work.ts";
import { batchOf } from "./data.ts";
import { newMiniature } from "./model.ts";
import { TIMESTEPS } from "./use.ts";

/** Options of `trainMiniature`. */
export interface TrainOptions {
  readonly pictures: Labelled;
  /** Where to begin. Default: a fresh miniature. */
  readonly model?: DiTTransformer2DModel | undefined;
  readonly steps: number;
  readonly batch: number;
  readonly seed: number;
  /** Peak of the learning rate. */
  readonly learningRate: number;
  /** Share of labels that are dropped. */
  readonly dropLabels: number;
  readonly directory?: string;
  readonly saveEvery?: number;
  /** Threads of the compiled step. Default: as `sessionThreads` says. */
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

const levels = alphaBarLevels(alphasCumprod(betas({ timesteps: TIMESTEPS })));

const loss = (model: DiTTransformer2DModel, batch: DiffusionBatch<Tensor>): Tensor =>
  diffusionLoss((x, t, labels) => model.call(x, t, labels), batch, {
    objective: epsilonObjective,
    weight: minSnrWeight(5),
  });

/** Trains a miniature; the model to keep (`final`) is the average. Goes on in `directory` where it was stopped. */
export function trainMiniature(options: TrainOptions): Work<PhaseResult<DiTTransformer2DModel>> {
  const { pictures, steps, batch: size, seed, learningRate, dropLabels, directory, signal } = options;
  const model = options.model ?? newMiniature(seed);
  const source = createNoise("philox", seed);
  const indices = epochIndices(pictures.count, size, seed);
  const none = full([1], model.nullClass, "i32");

  const batch = (step: number): DiffusionBatch<Tensor> => {
    const { x, labels } = batchOf(pictures, indices(step));
    const { dropped, ...draws } = diffusionBatch(x.shape, { source, step, levels, dropRate: dropLabels });
    return { x0: x, condition: dropCondition(labels, none, dropped!), ...draws };
  };

  return runPhase({
    stage: "train",
    settings: {
      ...{ steps, batch: size, seed, learningRate, dropLabels },
      ...{ warmup: 100, schedule: "cosine", lastRate: learningRate / 50, clip: 1 },
    },
    model,
    loss,
    batch,
    ema: constantDecay(0.995),
    folder: directory,
    saveEvery: options.saveEvery,
    threads: options.threads,
    signal,
  });
}
