/** Pictures in memory, as batches that are a pure function of the step. */
import { join } from "#node";
import { ArgumentError, FormatError, NonFiniteError, ShapeError } from "../errors.ts";
import type { Picture } from "../io/index.ts";
import { fromHost, type Tensor } from "../tensor/index.ts";
import { resizePicture } from "./augment/geometry.ts";
import { type Augmentation, toFloatPicture } from "./augment/sample.ts";
import { type Dataset, readAll, subset } from "./dataset.ts";
import { readJson } from "./files.ts";
import { listPictures, namesIn, openClassFolders, readPictureFile } from "./folders.ts";
import { openCifarBinary, openCifarSheet } from "./formats/cifar.ts";
import { openIdxPictures } from "./formats/idx.ts";
import type { Draw } from "./random-draws.ts";

/** Pictures of one size in [-1, 1], or latents; with labels where there are any. */
export interface LabelledPictures {
  readonly count: number;
  readonly size: number;
  readonly channels: number;
  /** [count, C, S, S] */
  readonly values: Float32Array;
  readonly labels: Int32Array | undefined;
  /** Names of the classes. */
  readonly classes: readonly string[];
}

/** A set whose pictures all have labels. */
export type Labelled = LabelledPictures & { readonly labels: Int32Array };

/** A picture of any depth with one label per pixel, and the volume that it is a slice of. */
export interface SegmentedPicture {
  readonly name: string;
  readonly image: Picture;
  readonly labels: Int32Array; // [H, W]
  readonly volume?: string;
}

/** Part of a data set. */
export type Split = "train" | "val" | "test";
/** Part of a data set that has two. */
export type Half = "train" | "test";

/** The rows of some pictures: [N, C, S, S]. */
export function gather(
  { size, channels, values }: LabelledPictures,
  indices: ArrayLike<number>,
): Float32Array {
  const plane = channels * size * size;
  const out = new Float32Array(indices.length * plane);
  for (let i = 0; i < indices.length; i++)
    out.set(values.subarray(indices[i]! * plane, (indices[i]! + 1) * plane), i * plane);
  return out;
}

/** Consecutive pictures. */
export function slicePictures(pictures: LabelledPictures, from: number, to: number): LabelledPictures {
  const plane = pictures.channels * pictures.size ** 2;
  const last = Math.min(to, pictures.count);
  return {
    ...pictures,
    count: last - from,
    values: pictures.values.slice(from * plane, last * plane),
    labels: pictures.labels?.slice(from, last),
  };
}

/** Pictures as a tensor [N, C, S, S]. */
export const tensorOf = ({ count, channels, size, values }: LabelledPictures): Tensor =>
  fromHost("f32", [count, channels, size, size], values);

/**
 * Rows of pictures [N, C, S, S], each changed by an augmentation with the draws of its number in the batch. Only what moves
 * pixels fits, since these values are not in [0, 1].
 */
export async function augmentedRows(
  rows: Float32Array,
  { size, channels }: Pick<LabelledPictures, "size" | "channels">,
  step: Augmentation,
  drawOf: (i: number) => Draw,
): Promise<Float32Array> {
  const [pixels, plane] = [size * size, channels * size * size];
  const out = new Float32Array(rows.length);
  for (let i = 0; i * plane < rows.length; i++) {
    const own = rows.subarray(i * plane, (i + 1) * plane);
    const data = own.map((_, at) => own[(at % channels) * pixels + Math.floor(at / channels)]!); // [S, S, C]
    const { image } = await step({ image: { width: size, height: size, channels, data } }, drawOf(i));
    image.data.forEach((value, at) => {
      out[i * plane + (at % channels) * pixels + Math.floor(at / channels)] = value;
    });
  }
  return out;
}

/** How pictures of a folder become those of a set. */
export interface PictureRules {
  readonly size: number;
  readonly channels: number;
  /** Pixels lie in [-1, 1]; latents anywhere. */
  readonly domain: "pixels" | "latents";
}

/**
 * Throws `ShapeError` for pictures of another size, `NonFiniteError` for NaN and infinities. Returns a warning for
 * pixels outside [-1, 1] by more than 0.001.
 */
export function checkPictures(pictures: LabelledPictures, rules: PictureRules): string | undefined {
  const { size, channels, values, count } = pictures;
  if (count === 0) throw new ArgumentError("there are no pictures");
  if (size !== rules.size || channels !== rules.channels)
    throw new ShapeError(
      `expected pictures [${rules.channels}, ${rules.size}, ${rules.size}], got [${channels}, ${size}, ${size}]`,
    );
  const plane = channels * size * size;
  let beyond = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value))
      throw new NonFiniteError(`picture ${Math.floor(i / plane)} holds ${value} at element ${i % plane}`);
    if (Math.abs(value) > 1.001) beyond++;
  }
  return rules.domain === "pixels" && beyond > 0
    ? `${beyond} of ${values.length} pixels lie outside [-1, 1]`
    : undefined;
}

/** Throws `ArgumentError` unless every label is one of 0 ... classes - 1. */
export function checkLabels(labels: ArrayLike<number>, classes: number): void {
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i]!;
    if (!Number.isInteger(label) || label < 0 || label >= classes)
      throw new ArgumentError(`expected labels in 0 ... ${classes - 1}, got ${label} for picture ${i}`);
  }
}

/** The middle square of a picture at another size, its colours made gray or repeated: planes in [-1, 1]. // [C, S, S] */
export function planesOf(
  picture: Picture,
  { size, channels }: Pick<PictureRules, "size" | "channels">,
): Float32Array {
  const float = toFloatPicture(picture);
  const side = Math.min(float.width, float.height);
  const [left, top] = [Math.floor((float.width - side) / 2), Math.floor((float.height - side) / 2)];
  const square = new Float32Array(side * side * float.channels);
  for (let y = 0; y < side; y++) {
    const from = ((top + y) * float.width + left) * float.channels;
    square.set(float.data.subarray(from, from + side * float.channels), y * side * float.channels);
  }
  const fitted = { width: side, height: side, channels: float.channels, data: square };
  const { data } = side === size ? fitted : resizePicture(fitted, size, size);
  const out = new Float32Array(channels * size * size);
  const given = float.channels;
  for (let i = 0; i < size * size; i++) {
    for (let c = 0; c < channels; c++) {
      const value =
        channels === 1 && given >= 3
          ? 0.299 * data[i * given]! + 0.587 * data[i * given + 1]! + 0.114 * data[i * given + 2]!
          : data[i * given + (given >= 3 ? c : 0)]!;
      out[c * size * size + i] = Math.min(1, Math.max(-1, 2 * value - 1));
    }
  }
  return out;
}

async function collect(
  source: Dataset<{ image: Picture; label?: number }>,
  rules: Pick<PictureRules, "size" | "channels">,
  classes: readonly string[],
): Promise<LabelledPictures> {
  const samples = await readAll(source);
  if (samples.length === 0) throw new ArgumentError("there are no pictures");
  const plane = rules.channels * rules.size ** 2;
  const values = new Float32Array(samples.length * plane);
  for (const [i, { image }] of samples.entries()) values.set(planesOf(image, rules), i * plane);
  const labels = samples.every(({ label }) => label !== undefined)
    ? Int32Array.from(samples, ({ label }) => label!)
    : undefined;
  return { count: samples.length, size: rules.size, channels: rules.channels, values, labels, classes };
}

const FASHION = "t-shirt trouser pullover dress coat sandal shirt sneaker bag boot".split(" ");
const CIFAR = "airplane automobile bird cat deer dog frog horse ship truck".split(" ");

/** Fashion-MNIST (or a set in the layout of MNIST) from its folder. */
export async function readFashion(
  folder: string,
  half: Half,
  rules: Pick<PictureRules, "size" | "channels">,
): Promise<LabelledPictures> {
  const start = half === "train" ? "train" : "t10k";
  const names = await namesIn(folder);
  const [images, labels] = ["images-idx3", "labels-idx1"].map((part) => {
    const wanted = `${start}-${part}-ubyte`;
    const found = names.find((name) => name === `${wanted}.gz` || name === wanted);
    if (found === undefined)
      throw new ArgumentError(
        `${folder}: expected ${wanted}.gz, as Fashion-MNIST and its like have it; found ${names.slice(0, 5).join(", ") || "nothing"}`,
      );
    return join(folder, found);
  }) as [string, string];
  const source = await openIdxPictures(images, labels);
  return collect(source, rules, FASHION);
}

const CIFAR_SHEETS = {
  train: { sheets: [0, 1, 2, 3], key: "train_first4000" },
  test: { sheets: [50], key: "test_first1000" },
} as const;

/** CIFAR-10: its binary batches, or sheets of 1000 pictures as PNG with their `labels.json`. */
export async function readCifar(
  folder: string,
  half: Half,
  rules: Pick<PictureRules, "size" | "channels">,
): Promise<LabelledPictures> {
  const names = await namesIn(folder);
  const binary = names.filter((name) =>
    (half === "train" ? /^data_batch_\d\.bin$/ : /^test_batch\.bin$/).test(name),
  );
  if (binary.length > 0)
    return collect(await openCifarBinary(binary.sort().map((name) => join(folder, name))), rules, CIFAR);
  const file = join(folder, "labels.json");
  const { sheets, key } = CIFAR_SHEETS[half];
  const labels = ((await readJson(file)) as Record<string, readonly number[]>)[key];
  if (!Array.isArray(labels)) throw new FormatError(`${file}: no labels "${key}"`);
  const each = labels.length / sheets.length;
  const parts: LabelledPictures[] = [];
  for (const [k, sheet] of sheets.entries()) {
    const path = join(folder, `cifar10_batch_${sheet}.png`);
    parts.push(
      await collect(await openCifarSheet(path, labels.slice(k * each, (k + 1) * each)), rules, CIFAR),
    );
  }
  return joinPictures(parts);
}

/** Several sets of one size as one. */
export function joinPictures(parts: readonly LabelledPictures[]): LabelledPictures {
  const [first] = parts;
  if (!first) throw new ArgumentError("there are no pictures");
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const plane = first.channels * first.size ** 2;
  const values = new Float32Array(count * plane);
  let at = 0;
  for (const part of parts) {
    values.set(part.values, at);
    at += part.values.length;
  }
  const labelled = parts.every((part) => part.labels);
  const labels = labelled ? Int32Array.from(parts.flatMap((part) => [...part.labels!])) : undefined;
  return { ...first, count, values, labels };
}

/** The mean picture of each class, with its label, over and over. */
export function classMeans({ values, labels, classes, ...rest }: Labelled, count: number): LabelledPictures {
  const plane = values.length / labels.length;
  const means = classes.map((_, label) => {
    const sum = new Float64Array(plane);
    let n = 0;
    labels.forEach((own, i) => {
      if (own !== label) return;
      for (let k = 0; k < plane; k++) sum[k]! += values[i * plane + k]!;
      n++;
    });
    return sum.map((v) => v / n);
  });
  const drawn = Int32Array.from({ length: count }, (_, i) => i % classes.length);
  const pictures = new Float32Array(count * plane);
  drawn.forEach((label, i) => {
    pictures.set(means[label]!, i * plane);
  });
  return { ...rest, classes, count, values: pictures, labels: drawn };
}

/** Share of a folder that is kept for tests. */
const EVERY = 6;

/** Any folder of pictures: one folder per class, or without labels. Every sixth picture is for testing. */
export async function readFolder(
  folder: string,
  half: Half,
  rules: Pick<PictureRules, "size" | "channels">,
): Promise<LabelledPictures> {
  const paths = await listPictures(folder);
  const indices = paths.map((_, i) => i).filter((i) => (i % EVERY === EVERY - 1) === (half === "test"));
  if (indices.length === 0)
    throw new ArgumentError(`${folder}: ${paths.length} pictures leave none for ${half}`);
  const loose = paths.some((path) => !path.slice(folder.length + 1).includes("/"));
  if (!loose) {
    const source = await openClassFolders(folder);
    return collect(subset(source, indices), rules, source.classes);
  }
  const read = async (i: number): Promise<{ image: Picture }> => ({
    image: await readPictureFile(paths[i]!),
  });
  return collect({ length: indices.length, get: (k) => read(indices[k]!) }, rules, []);
}

/** Any folder of pictures: Fashion-MNIST, CIFAR-10 or a folder of files, as its names say. @throws ArgumentError if unreadable */
export async function readPictures(
  folder: string,
  half: Half,
  rules: Pick<PictureRules, "size" | "channels">,
): Promise<LabelledPictures> {
  const names = await namesIn(folder);
  const has = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  if (has(/-idx3-ubyte/)) return readFashion(folder, half, rules);
  const isCifar = has(/^(cifar10_batch_\d+\.png|data_batch_\d\.bin)$/);
  return (isCifar ? readCifar : readFolder)(folder, half, rules);
}
