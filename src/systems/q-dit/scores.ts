/** Measures of what quantisation does to a DiT: errors of single predictions, and of pictures. */
import { ArgumentError } from "../../errors.ts";
import { psnr } from "../../metrics/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { signalToNoiseDecibels } from "../../nn/index.ts";
import { mean } from "../../study/index.ts";
import { fromHost, jit, type Tensor } from "../../tensor/index.ts";
import type { Trajectory } from "./trajectories.ts";
import { predictedNoise } from "./use.ts";

/** Signal-to-noise ratio of a model's predictions on a trajectory of the full-precision one: decibels for each step. */
export async function predictionErrors(
  model: DiTTransformer2DModel,
  { steps, labels }: Trajectory,
  threads?: number,
): Promise<number[]> {
  const { sampleSize: size, inChannels: channels } = model.config;
  const count = labels.length;
  const y = fromHost("i32", [count], labels);
  const predict = jit(predictedNoise(model), threads ? { threads } : {});
  const errors: number[] = [];
  try {
    for (const { x, timestep, prediction } of steps) {
      const t = fromHost("f32", [count], new Float32Array(count).fill(timestep));
      const said = await predict(fromHost("f32", [count, channels, size, size], x), t, y);
      errors.push(signalToNoiseDecibels(prediction, (await said.data()) as Float32Array));
    }
  } finally {
    await predict.close();
  }
  return errors;
}

/** Means over slices of the steps, from the noisiest on. Throws `ArgumentError` for more slices than steps. */
export function bySlices(values: readonly number[], slices: number): number[] {
  if (!Number.isInteger(slices) || slices < 1 || slices > values.length)
    throw new ArgumentError(`slices: expected 1 to ${values.length}, got ${slices}`);
  const edge = (i: number): number => Math.round((i * values.length) / slices);
  return Array.from({ length: slices }, (_, i) => mean(values.slice(edge(i), edge(i + 1))));
}

/** Peak signal-to-noise ratio of all pictures in [-1, 1] together against others, in decibels; infinite for the same. */
export async function pictureRatio(reference: Float32Array, pictures: Float32Array): Promise<number> {
  const asOne = (values: Float32Array): Tensor => fromHost("f32", [1, 1, 1, values.length], values);
  return Number((await psnr(asOne(reference), asOne(pictures), 2).toArray())[0]);
}
