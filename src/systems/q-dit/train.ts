/** Training of the full-precision miniature: noise prediction on 1000 linear steps, labels dropped for guidance. */
import {
  alphasCumprod,
  betas,
  type DiffusionBatch,
  diffusionLoss,
  epsilonObjective,
  levelOfAlphaBar,
  minSnrWeight,
} from "../../diffusion/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { adamW, constantDecay, cosineDecay, type TrainEvent, train, warmup } from "../../nn/index.ts";
import { createNoise, fromHost, type Tensor } from "../../tensor/index.ts";
import { batchIndices, gather, type LabelledPictures } from "./data.ts";
import { newMiniature } from "./model.ts";

export const TIMESTEPS = 1000;

export interface TrainOptions {
  readonly pictures: LabelledPictures;
  /** Where to begin. Default: a fresh miniature. */
  readonly model?: DiTTransformer2DModel;
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
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

const alphaBars = alphasCumprod(betas({ timesteps: TIMESTEPS }));

const loss = (model: DiTTransformer2DModel, batch: DiffusionBatch<Tensor>): Tensor =>
  diffusionLoss((x, t, labels) => model.call(x, t, labels), batch, {
    objective: epsilonObjective,
    weight: minSnrWeight(5),
  });

/** Trains a miniature; the model to keep is the average (`state.ema`). Resumes a run in `directory`. */
export function trainMiniature(
  options: TrainOptions,
): AsyncGenerator<TrainEvent<DiTTransformer2DModel>, unknown> {
  const {
    pictures,
    steps,
    batch: size,
    seed,
    learningRate,
    dropLabels,
    directory,
    saveEvery,
    signal,
  } = options;
  const model = options.model ?? newMiniature(seed);
  const { nullClass } = model;
  const noise = createNoise("philox", seed);
  const indices = batchIndices(pictures.count, size, seed);

  const batch = (step: number): DiffusionBatch<Tensor> => {
    const { x, labels } = gather(pictures, indices(step));
    const at = (purpose: string) => ({ sample: 0, purpose, step });
    const t = Int32Array.from(noise.uniform([size, 1], at("timestep")), (u) => Math.floor(u * TIMESTEPS));
    const dropped = noise.uniform([size, 1], at("drop"));
    const given = labels.value!.host as Int32Array;
    return {
      x0: x,
      noise: fromHost("f32", x.shape, noise.normal(x.shape, at("noise"))),
      level: levelOfAlphaBar(
        fromHost(
          "f32",
          [size],
          Float32Array.from(t, (i) => alphaBars[i]!),
        ),
      ),
      timestep: fromHost("f32", [size], Float32Array.from(t)),
      condition: fromHost(
        "i32",
        [size],
        given.map((label, i) => (dropped[i]! < dropLabels ? nullClass : label)),
      ),
    };
  };

  return train({
    model,
    loss,
    batch,
    steps,
    optimizer: adamW({ learningRate: warmup(100, cosineDecay(learningRate, steps, learningRate / 50)) }),
    clipNorm: 1,
    ema: constantDecay(0.995),
    settings: { steps, batch: size, seed, learningRate, dropLabels },
    ...(directory && { directory }),
    ...(saveEvery && { saveEvery }),
    ...(options.threads && { jit: { threads: options.threads } }),
    ...(signal && { signal }),
  });
}
