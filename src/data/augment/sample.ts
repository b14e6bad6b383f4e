/** What augmentations work on: a picture of floats with, where there is one, its label map; both move together. */
import { ShapeError } from "../../errors.ts";
import type { Picture } from "../../io/picture-codec.ts";
import type { Seed } from "../../tensor/index.ts";
import { type Dataset, mapDataset } from "../dataset.ts";
import { createDraw, type Draw } from "../random-draws.ts";

/** Pixels in [0, 1]. // [H, W, C] */
export interface FloatPicture {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Float32Array;
}

/** A picture with what lies over it: a mask, labels. */
export interface AugmentSample {
  readonly image: FloatPicture;
  /** One label per pixel. // [H, W] */
  readonly labels?: Int32Array;
}

/** A random change of a sample. What it draws depends on `draw` alone. */
export type Augmentation = <S extends AugmentSample>(sample: S, draw: Draw) => S | Promise<S>;

/** A picture of any depth with values in [0, 1]. */
export function toFloatPicture(picture: Picture): FloatPicture {
  const { data, ...size } = picture;
  if (data instanceof Float32Array) return { ...size, data };
  const scale = data instanceof Uint8Array ? 1 / 255 : 1 / 65535;
  return { ...size, data: Float32Array.from(data, (x) => x * scale) };
}

/** Several augmentations, one after the other. */
export const inOrder = (...steps: readonly Augmentation[]): Augmentation =>
  async function all<S extends AugmentSample>(sample: S, draw: Draw): Promise<S> {
    let current = sample;
    for (const step of steps) current = await step(current, draw);
    return current;
  };

/** An augmentation that happens with probability p. */
export const sometimes = (p: number, step: Augmentation): Augmentation =>
  async function maybe<S extends AugmentSample>(sample: S, draw: Draw): Promise<S> {
    return draw.chance(p) ? step(sample, draw) : sample;
  };

/** All samples augmented, each with draws of its own by (seed, index, epoch). */
export const augmented = <S extends { readonly image: Picture; readonly labels?: Int32Array }>(
  source: Dataset<S>,
  step: Augmentation,
  seed: Seed,
): Dataset<Omit<S, "image"> & { readonly image: FloatPicture }> =>
  mapDataset(source, async (sample, index, epoch) => {
    const { width, height } = sample.image;
    if (sample.labels && sample.labels.length !== width * height)
      throw new ShapeError(`augmented: ${sample.labels.length} labels for ${width}x${height} pixels`);
    return step({ ...sample, image: toFloatPicture(sample.image) }, createDraw(seed, index, epoch));
  });

/** The sample with another picture and, if it has labels, another label map. */
export function withPicture<S extends AugmentSample>(sample: S, image: FloatPicture, labels?: Int32Array): S {
  return labels ? { ...sample, image, labels } : { ...sample, image };
}
