/** The loops of the reference library's own scheduler tests, driven through the real samplers. */

import type { Network, SampleOptions, Scheduler } from "../../src/diffusion/index.ts";
import { finalSample, toDenoised, weightedSum } from "../../src/diffusion/index.ts";
import { type NoiseSource, type Tensor, tensor } from "../../src/tensor/index.ts";

const f32 = Math.fround;

export type Shape = readonly [4, 3, 8, 8] | readonly [4, 3, 8];
export const PICTURE: Shape = [4, 3, 8, 8];
export const SEQUENCE: Shape = [4, 3, 8];

/** The samples that the published numbers start from: 0 ... n - 1, batch last, over n. */
export function deterministic(shape: Shape = PICTURE, reverse = false): Tensor {
  const size = shape.reduce((n, d) => n * d, 1);
  const row = size / 4;
  const values = Float32Array.from({ length: size }, (_, i) => {
    const index = (i % row) * 4 + Math.floor(i / row);
    return (reverse ? size - 1 - index : index) / size;
  });
  return tensor(values, { shape });
}

/** m(x, t) = x t / (t + 1), in f32. */
export const dummyModel: Network = async (x, t) => {
  const [top, bottom] = [f32(t), f32(f32(t) + 1)];
  const values = (await x.data()) as Float32Array;
  return tensor(
    Float32Array.from(values, (v) => f32(v * top) / bottom),
    { shape: x.shape },
  );
};

/** The dummy model with 2 deter - 1 as predicted variance. */
export const dummyWithVariance: Network = async (x, t) => {
  const mean = await dummyModel(x, t);
  const variance = weightedSum(
    [2, deterministic()],
    [-1, tensor(new Float32Array(768).fill(1), { shape: PICTURE })],
  );
  return mean.concat(variance, 1);
};

export async function sums(x: Tensor): Promise<{ sum: number; mean: number }> {
  const values = await x.toArray();
  const sum = values.reduce((total, v) => total + Math.abs(v), 0);
  return { sum, mean: sum / values.length };
}

export interface LoopOptions extends SampleOptions {
  readonly shape?: Shape;
  /** The sample starts noised, at the step with this index. */
  readonly noiseAt?: number;
  readonly model?: Network;
  /** The sampler uses the clean sample of an inner stage, not the slope there. */
  readonly innerDenoised?: boolean;
}

function startOf(scheduler: Scheduler, x: Tensor, { noiseAt, shape }: LoopOptions): Tensor {
  return noiseAt === undefined ? x : scheduler.addNoise(x, deterministic(shape, true), noiseAt);
}

/** x = deter; x = step(m(x, t), t, x). */
export function loopA(scheduler: Scheduler, options: LoopOptions = {}): Promise<Tensor> {
  const { shape, noiseAt, model = dummyModel, ...rest } = options;
  const x = startOf(scheduler, deterministic(shape), options);
  return finalSample(scheduler.sample(model, x, { ...rest, start: noiseAt ?? 0 }));
}

/** x = deter * initialScale; x = step(m(scale(x), t), t, x): the loop of real sampling. */
export function loopC(scheduler: Scheduler, options: LoopOptions = {}): Promise<Tensor> {
  const { shape, noiseAt, model = dummyModel, ...rest } = options;
  const x = startOf(scheduler, scheduler.initial(deterministic(shape)), options);
  return finalSample(scheduler.sample(model, x, { ...rest, start: noiseAt ?? 0 }));
}

/** As C, but it is the scaled x that the step receives, also between the stages of one step. */
export async function loopB(scheduler: Scheduler, options: LoopOptions = {}): Promise<Tensor> {
  if (scheduler.space !== "ve") return loopA(scheduler, options);
  const { shape, noiseAt = 0, innerDenoised = false, ...rest } = options;
  const scaled = (x: Tensor, sigma: number): Tensor => weightedSum([1 / Math.sqrt(sigma ** 2 + 1), x]);
  const { sigmas, parameterization, timestepAt } = scheduler;
  let inside = false;
  const run = scheduler.run(
    async (x, sigma) => {
      const given = inside ? scaled(x, sigma) : x;
      inside = true;
      const prediction = await dummyModel(given, timestepAt(sigma));
      const denoised = toDenoised(parameterization, given, prediction, sigma);
      return innerDenoised ? denoised : weightedSum([1, x], [-1, given], [1, denoised]);
    },
    scaled(startOf(scheduler, scheduler.initial(deterministic(shape)), options), sigmas[noiseAt]!),
    { ...rest, start: noiseAt },
  );
  let replaced: Tensor | undefined;
  for (;;) {
    const { done, value } = replaced ? await run.next(replaced) : await run.next();
    if (done) return value;
    inside = false;
    replaced = value.step < value.steps - 1 ? scaled(value.x, value.sigmaNext) : value.x;
  }
}

/** A source of zeros, for steps without their noise. */
export const silence: NoiseSource = {
  mode: "torch-cpu",
  normal: (shape) => new Float32Array(typeof shape === "number" ? shape : shape.reduce((n, d) => n * d, 1)),
  uniform: () => new Float32Array(0),
  state: () => ({ mode: "philox", seed: "0", draws: 0 }),
};
