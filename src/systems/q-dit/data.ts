/** Fashion-MNIST in memory, as batches that are a pure function of the step. */
import { openIdxPictures, picturesToTensor, readAll } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { fromHost, type Tensor } from "../../tensor/index.ts";

/** Labelled grey pictures of one size, values in [-1, 1]. */
export interface LabelledPictures {
  readonly count: number;
  readonly size: number;
  /** [count, 1, size, size] */
  readonly values: Float32Array;
  readonly labels: Int32Array;
}

/** Reads one half of a data set in the layout of MNIST from a folder. Throws as `openIdxPictures` does. */
export async function readPictures(folder: string, half: "train" | "t10k"): Promise<LabelledPictures> {
  const set = await openIdxPictures(
    `${folder}/${half}-images-idx3-ubyte.gz`,
    `${folder}/${half}-labels-idx1-ubyte.gz`,
  );
  if (set.length === 0) throw new ArgumentError(`${folder}: there are no pictures`);
  const samples = await readAll(set);
  const values = (await picturesToTensor(samples.map((s) => s.image)).data()) as Float32Array;
  return {
    count: samples.length,
    size: samples[0]!.image.width,
    values,
    labels: Int32Array.from(samples, (s) => s.label),
  };
}

/** Pictures and labels by index: x [N, 1, H, W], labels [N] (i32). */
export function gather(
  pictures: LabelledPictures,
  indices: ArrayLike<number>,
): { x: Tensor; labels: Tensor } {
  const { size, values, labels } = pictures;
  const plane = size * size;
  const x = new Float32Array(indices.length * plane);
  const picked = new Int32Array(indices.length);
  for (let i = 0; i < indices.length; i++) {
    x.set(values.subarray(indices[i]! * plane, (indices[i]! + 1) * plane), i * plane);
    picked[i] = labels[indices[i]!]!;
  }
  return {
    x: fromHost("f32", [indices.length, 1, size, size], x),
    labels: fromHost("i32", [indices.length], picked),
  };
}
