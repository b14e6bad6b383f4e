/** Features of published encoders. */

import { gather, type LabelledPictures } from "../../data/picture-set.ts";
import type { VisionTransformer } from "../../networks/index.ts";
import { constant, fromHost, jit, type Tensor } from "../../tensor/index.ts";

/** Mean and deviation of ImageNet's colours in [0, 1], which MAE was trained with. */
const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

/** The class token behind the last norm, for pictures in [-1, 1] of the encoder's size: [N, D] flat. */
export async function maeFeatures(
  model: VisionTransformer,
  pictures: LabelledPictures,
  batch = 16,
): Promise<Float32Array> {
  const { count, channels, size } = pictures;
  const { dim } = model.config;
  const of = (values: readonly number[]): Tensor => constant("f32", [1, 3, 1, 1], values);
  const run = jit((x: Tensor) => model.features(x.add(1).mul(0.5).sub(of(MEAN)).div(of(DEVIATION))));
  const out = new Float32Array(count * dim);
  try {
    for (let from = 0; from < count; from += batch) {
      const n = Math.min(batch, count - from);
      const values = gather(
        pictures,
        Array.from({ length: n }, (_, i) => from + i),
      );
      const features = await run(fromHost("f32", [n, channels, size, size], values));
      out.set((await features.data()) as Float32Array, from * dim);
    }
  } finally {
    await run.close();
  }
  return out;
}
