/** Pictures with label maps as SDSeg sees them: sized, normalised, checked. */

import {
  type Dataset,
  type FloatPicture,
  mapDataset,
  resizeLabels,
  resizePicture,
  toFloatPicture,
} from "../../data/index.ts";
import type { SegmentedPicture } from "../../data/picture-set.ts";
import { FormatError, NonFiniteError, ShapeError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { fromHost, type Tensor } from "../../tensor/index.ts";
import type { SDSegConfig } from "./config.ts";

/** What a dataset gives. */
export type LabelledPicture = SegmentedPicture;

/** What the networks take. */
export interface Sample {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  /** Values in [-1, 1]. // [C, H, W] */
  readonly image: Float32Array;
  readonly labels: Int32Array; // [H, W]
  readonly volume?: string;
}

/** Weights of red, green and blue in brightness (ITU-R 601). */
const LUMA = [0.299, 0.587, 0.114] as const;

/** Channels interleaved to planes of the wanted number: gray is repeated, colours become brightness, alpha is dropped. */
function planes({ data, channels, width, height }: FloatPicture, wanted: 1 | 3): Float32Array {
  const size = width * height;
  const out = new Float32Array(wanted * size);
  const colours = channels >= 3;
  for (let i = 0; i < size; i++) {
    const at = i * channels;
    if (wanted === 1)
      out[i] = colours ? LUMA[0] * data[at]! + LUMA[1] * data[at + 1]! + LUMA[2] * data[at + 2]! : data[at]!;
    else for (let c = 0; c < 3; c++) out[c * size + i] = data[at + (colours ? c : 0)]!;
  }
  return out;
}

/** Deviation of a standardised picture. */
const DEVIATION = 0.4;

/** Values to [-1, 1] in place: from [0, 1], or to mean 0 and deviation 0.4 and cut off. A constant picture becomes 0. */
function normalise(values: Float32Array, how: SDSegConfig["normalise"]): Float32Array {
  if (how === "range") {
    for (let i = 0; i < values.length; i++) values[i] = 2 * values[i]! - 1;
    return values;
  }
  let [sum, squares] = [0, 0];
  for (const v of values) sum += v;
  const mean = sum / values.length;
  for (const v of values) squares += (v - mean) ** 2;
  const scale = squares > 0 ? DEVIATION / Math.sqrt(squares / values.length) : 0;
  for (let i = 0; i < values.length; i++) values[i] = Math.max(-1, Math.min(1, (values[i]! - mean) * scale));
  return values;
}

/** A picture as the vision encoder takes it. @throws NonFiniteError for NaN and infinities // [C, H, W] */
export function imageValues(
  picture: Picture,
  config: Pick<SDSegConfig, "imageChannels" | "normalise">,
  name = "picture",
): Float32Array {
  const float = toFloatPicture(picture);
  const bad = float.data.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0) throw new NonFiniteError(`${name}: value ${float.data[bad]} at element ${bad}`);
  return normalise(planes(float, config.imageChannels), config.normalise);
}

const sized = (size: number, scale: number): number => Math.max(1, Math.round(size * scale));

export interface SampleOptions {
  readonly config: Pick<SDSegConfig, "imageChannels" | "normalise" | "classes">;
  /** Size of what the model sees over that of the file. Default 1. */
  readonly scale?: number;
}

/** A labelled picture as a sample. @throws FormatError for labels that the model has no class for */
export function toSample(source: LabelledPicture, { config, scale = 1 }: SampleOptions): Sample {
  const { name, volume } = source;
  if (source.labels.length !== source.image.width * source.image.height)
    throw new ShapeError(
      `${name}: ${source.labels.length} labels for a picture of ${source.image.width}x${source.image.height}`,
    );
  const wrong = source.labels.find((label) => !(label >= 0 && label < config.classes));
  if (wrong !== undefined)
    throw new FormatError(`${name}: label ${wrong}, the model has classes 0 to ${config.classes - 1}`);
  const [width, height] = [sized(source.image.width, scale), sized(source.image.height, scale)];
  const same = width === source.image.width && height === source.image.height;
  const image = same ? source.image : resizePicture(toFloatPicture(source.image), width, height);
  const labels = same ? source.labels : resizeLabels(source.labels, source.image, width, height);
  const values = imageValues(image, config, name);
  return { name, width, height, image: values, labels, ...(volume !== undefined && { volume }) };
}

/** All pictures of a dataset as samples. */
export const samplesOf = (source: Dataset<LabelledPicture>, options: SampleOptions): Dataset<Sample> =>
  mapDataset(source, (picture) => toSample(picture, options));

/** Foreground +1, background -1, in as many channels as the autoencoder has. // [C, H, W] */
export function maskValues(labels: Int32Array, channels: number, label?: number): Float32Array {
  const out = new Float32Array(channels * labels.length);
  for (let i = 0; i < labels.length; i++) {
    // Class 0 of a multi-class model is drawn as everything that is not background.
    const inside = label === undefined || label === 0 ? labels[i]! > 0 : labels[i] === label;
    for (let c = 0; c < channels; c++) out[c * labels.length + i] = inside ? 1 : -1;
  }
  return out;
}

/** Equally sized arrays one after the other. // [N, C, H, W] */
export function stack(
  parts: readonly Float32Array[],
  shape: readonly [c: number, h: number, w: number],
): Tensor {
  const size = shape[0] * shape[1] * shape[2];
  const values = new Float32Array(parts.length * size);
  parts.forEach((part, i) => {
    if (part.length !== size)
      throw new ShapeError(`stack: part ${i} has ${part.length} values, expected ${size}`);
    values.set(part, i * size);
  });
  return fromHost("f32", [parts.length, ...shape], values);
}

/** The square in the middle of a sample; a smaller sample stays as it is. */
export function centreOf(sample: Sample, side: number): Sample {
  const { width, height, image, labels } = sample;
  const [w, h] = [Math.min(side, width), Math.min(side, height)];
  const [left, top] = [(width - w) >> 1, (height - h) >> 1];
  const cut = <A extends Float32Array | Int32Array>(values: A, out: A): A => {
    const planes = values.length / (width * height);
    for (let p = 0; p < planes; p++)
      for (let y = 0; y < h; y++) {
        const from = (p * height + top + y) * width + left;
        out.set(values.subarray(from, from + w), (p * h + y) * w);
      }
    return out;
  };
  const channels = image.length / labels.length;
  return {
    ...sample,
    width: w,
    height: h,
    image: cut(image, new Float32Array(channels * w * h)),
    labels: cut(labels, new Int32Array(w * h)),
  };
}
