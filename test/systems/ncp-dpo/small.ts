/** A small U-Net with text, and batches of pairs for it, without files. */
import { type TrainingSchedule, trainingSchedule } from "../../../src/diffusion/index.ts";
import { createUNet2DCondition, type UNet2DConditionModel } from "../../../src/networks/index.ts";
import { createRng } from "../../../src/nn/index.ts";
import { type Course, stepNumbers } from "../../../src/systems/ncp-dpo/batches.ts";
import type { PairBatch } from "../../../src/systems/ncp-dpo/method.ts";
import { adapted, type PairCondition } from "../../../src/systems/ncp-dpo/model.ts";
import { createNoise, fromHost, type Tensor } from "../../../src/tensor/index.ts";

export const schedule = (prediction = "epsilon"): TrainingSchedule =>
  trainingSchedule({
    ...{ _class_name: "DDIMScheduler", num_train_timesteps: 1000, beta_schedule: "scaled_linear" },
    ...{ beta_start: 0.00085, beta_end: 0.012, prediction_type: prediction },
  });

export const smallUNet = (): UNet2DConditionModel =>
  createUNet2DCondition(createRng(3), {
    ...{ inChannels: 4, outChannels: 4, groups: 4, layers: 1, channels: [8, 16], contextDim: 12, headDim: 4 },
    downBlocks: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    upBlocks: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  });

export const smallPolicy = (rank = 4): UNet2DConditionModel =>
  adapted(smallUNet(), { rank, alpha: rank, seed: 5 });

/** Pairs at given timesteps. `x0` may be given; else winners and losers are random. */
export function pairsAt(
  t: readonly number[],
  options: {
    readonly course?: Course;
    readonly levels?: TrainingSchedule;
    readonly x0?: Tensor;
    readonly later?: number;
  } = {},
): PairBatch<PairCondition> {
  const { course = "t-1", levels = schedule() } = options;
  const source = createNoise("philox", 11);
  const n = t.length;
  const drawn = (purpose: string, shape: readonly number[]): Float32Array =>
    source.normal(shape, { purpose, step: 0 });
  const twice = (values: Float32Array): Float32Array => {
    const width = values.length / n;
    return Float32Array.from({ length: 2 * values.length }, (_, i) => {
      const [row, at] = [Math.floor(i / width), i % width];
      return values[(row >> 1) * width + at]!;
    });
  };
  const shape = [4, 8, 8];
  const shared = (purpose: string): Tensor =>
    fromHost("f32", [2 * n, ...shape], twice(drawn(purpose, [n, ...shape])));
  const later = t.map((at) => options.later ?? (course === "0" ? -1 : Math.max(0, at - 1)));
  const numbers = (of: (i: number) => number): Tensor =>
    fromHost(
      "f32",
      [2 * n],
      Float32Array.from({ length: 2 * n }, (_, i) => of(i >> 1)),
    );
  const steps = t.map((at, i) => stepNumbers(levels, at, later[i]!, course));
  return {
    x0: options.x0 ?? fromHost("f32", [2 * n, ...shape], drawn("x0", [2 * n, ...shape])),
    noise: shared("noise"),
    z: shared("z"),
    level: { alpha: numbers((i) => levels.alphas[t[i]!]!), sigma: numbers((i) => levels.sigmas[t[i]!]!) },
    t: numbers((i) => levels.timesteps[t[i]!]!),
    later: numbers((i) => levels.timesteps[Math.max(0, later[i]!)]!),
    step: {
      stretch: numbers((i) => steps[i]!.stretch),
      gain: numbers((i) => steps[i]!.gain),
      spread: numbers((i) => steps[i]!.spread),
    },
    condition: { context: fromHost("f32", [2 * n, 5, 12], twice(drawn("context", [n, 5, 12]))) },
  };
}
