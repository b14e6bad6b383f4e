/** Drawing with a small DiT, in floats, simulated or packed: DDIM on the schedule that it was trained on. */
import { checkLabels, type Labelled } from "../../data/index.ts";
import { type DrawingStep, drawSamples, type Scheduler, schedulerFromConfig } from "../../diffusion/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { createNoise, fromHost, type Tensor } from "../../tensor/index.ts";
import { told } from "../../work.ts";

/** Number of timesteps of the schedule. */
export const TIMESTEPS = 1000;

/** DDIM without fresh noise (eta 0), its steps counted back from the last timestep. */
export const ddimScheduler = (steps: number): Scheduler =>
  schedulerFromConfig(
    {
      _class_name: "DDIMScheduler",
      num_train_timesteps: TIMESTEPS,
      beta_schedule: "linear",
      beta_start: 1e-4,
      beta_end: 0.02,
      clip_sample: false,
      set_alpha_to_one: true,
      timestep_spacing: "trailing",
    },
    { steps },
  );

/** What the model says of the noise, without the variance that it may have learned beside it. */
export const predictedNoise =
  (model: DiTTransformer2DModel) =>
  (x: Tensor, t: Tensor, labels: Tensor): Tensor =>
    model.call(x, t, labels).sliceAxis(1, 0, model.config.inChannels);

/** Options of `draw`. */
export interface DrawOptions {
  readonly count: number;
  readonly steps: number;
  readonly seed: number;
  /** 1: none, the default. */
  readonly guidance?: number;
  /** Samples at once. Default 100. */
  readonly batch?: number;
  /** Labels by sample; default: all classes in turn. */
  readonly label?: (sample: number) => number;
  /** Of so many steps. Default: DDIM on the schedule of the small models. */
  readonly scheduler?: ((steps: number) => Scheduler) | undefined;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A step of a batch; its condition are the labels, [N]. */
export type DrawStep = DrawingStep<Tensor>;

export interface Drawn extends Labelled {
  /** Mean time of a step of a batch, without the first, which compiles; 0 for a single step. */
  readonly stepMilliseconds: number;
}

const clip = (v: number): number => Math.min(1, Math.max(-1, v));

/**
 * Draws pictures, clipped to [-1, 1] as a picture file clips them. Sample i is the same whatever the batch. Throws as
 * `drawSamples`, and `ArgumentError` for labels that the model does not have.
 */
export async function* draw(
  model: DiTTransformer2DModel,
  options: DrawOptions,
): AsyncGenerator<DrawStep, Drawn> {
  const { count, steps, seed, guidance = 1, batch, threads, signal } = options;
  const { sampleSize: size, inChannels: channels, classes } = model.config;
  // All classes in turn; of more classes than samples, some from all over the list.
  const stride = Math.max(1, Math.floor(classes / Math.max(1, count)));
  const label = options.label ?? ((i: number) => (i * stride) % classes);
  const labels = Int32Array.from({ length: count }, (_, i) => label(i));
  checkLabels(labels, classes);
  const tensorOf = (values: Int32Array): Tensor => fromHost("i32", [values.length], values);
  const drawing = drawSamples<Tensor>(predictedNoise(model), {
    scheduler: (options.scheduler ?? ddimScheduler)(steps),
    ...{ count, shape: [channels, size, size], guidance, threads, signal },
    noise: createNoise("philox", seed),
    condition: (first, n) => tensorOf(labels.slice(first, first + n)),
    negative: (_, n) => tensorOf(new Int32Array(n).fill(model.nullClass)),
    ...(batch !== undefined && { batch }),
  });
  let [elapsed, timed] = [0, 0];
  const values = yield* told<DrawStep, Float32Array, DrawStep>(drawing, (event) => {
    if (event.step > 0) {
      elapsed += event.call.milliseconds;
      timed++;
    }
    return event;
  });
  const names = Array.from({ length: classes }, (_, i) => String(i));
  return {
    ...{ count, size, channels, values: values.map(clip), labels, classes: names },
    stepMilliseconds: timed > 0 ? elapsed / timed : 0,
  };
}
