/** Fashion-MNIST (or pictures in its format) in memory, and batches of it. */
import {
  checkLabels,
  gather,
  type Half,
  type Labelled,
  type LabelledPictures,
  readFashion,
} from "../../data/index.ts";
import { fromHost, type Tensor } from "../../tensor/index.ts";
import { MINIATURE } from "./model.ts";

/** One half of a data set in the layout of MNIST from a folder: 28x28, grey, ten classes. Throws as `readFashion` does. */
export async function readPictures(folder: string, half: Half): Promise<Labelled> {
  const { sampleSize: size, inChannels: channels, classes } = MINIATURE;
  const pictures = await readFashion(folder, half, { size, channels });
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

/** The mean picture of every class, `count` times in turn: what a generator without any variety would draw. */
export function classMeans(pictures: Labelled, count: number): LabelledPictures {
  const { values, labels, size, channels } = pictures;
  const plane = channels * size * size;
  const classes = [...new Set(labels)].sort((a, b) => a - b);
  const means = classes.map((label) => {
    const mean = new Float32Array(plane);
    const own = labels.reduce((n, other) => n + Number(other === label), 0);
    for (let i = 0; i < labels.length; i++) {
      if (labels[i] !== label) continue;
      for (let k = 0; k < plane; k++) mean[k]! += values[i * plane + k]! / own;
    }
    return mean;
  });
  const drawn = new Float32Array(count * plane);
  for (let i = 0; i < count; i++) drawn.set(means[i % means.length]!, i * plane);
  const asked = Int32Array.from({ length: count }, (_, i) => classes[i % classes.length]!);
  return { ...pictures, count, values: drawn, labels: asked };
}
