/** Fashion-MNIST (or pictures in its format) in memory, and batches of it. */
import {
  checkLabels,
  gather,
  type Half,
  type Labelled,
  readFashion,
  slicePictures,
} from "../../data/index.ts";
import { fromHost, type Tensor } from "../../tensor/index.ts";
import { MINIATURE } from "./model.ts";

/** One half of a data set in the layout of MNIST from a folder: 28x28, grey, ten classes. Throws as `readFashion` does. */
export async function readPictures(folder: string, half: Half, limit?: number): Promise<Labelled> {
  const { sampleSize: size, inChannels: channels, classes } = MINIATURE;
  const pictures = slicePictures(
    await readFashion(folder, half, { size, channels }),
    0,
    limit ?? Number.POSITIVE_INFINITY,
  );
  const labels = pictures.labels ?? new Int32Array(0); // this format always has labels
  checkLabels(labels, classes);
  return { ...pictures, labels };
}

/** Pictures and labels by index: x [N, C, S, S], labels [N] (i32). */
export function batchOf(pictures: Labelled, indices: ArrayLike<number>): { x: Tensor; labels: Tensor } {
  const { channels, size, labels } = pictures;
  const count = indices.length;
  return {
    x: fromHost("f32", [count, channels, size, size], gather(pictures, indices)),
    labels: fromHost(
      "i32",
      [count],
      Int32Array.from(indices, (i) => labels[i]!),
    ),
  };
}
