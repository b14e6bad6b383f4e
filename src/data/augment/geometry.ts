/** Augmentations that move pixels: the label map moves along, by nearest neighbour. */
import { ArgumentError } from "../../errors.ts";
import type { Draw } from "../random-draws.ts";
import { type Augmentation, type AugmentSample, type FloatPicture, withPicture } from "./sample.ts";

/** A part of an array of `channels` values per pixel, repeating the nearest pixel outside. */
function window<A extends Float32Array | Int32Array>(
  source: A,
  make: (length: number) => A,
  size: { width: number; height: number; channels: number },
  [left, top, width, height]: readonly [number, number, number, number],
): A {
  const { channels } = size;
  const out = make(width * height * channels);
  for (let y = 0; y < height; y++) {
    const row = Math.min(size.height - 1, Math.max(0, top + y)) * size.width;
    for (let x = 0; x < width; x++) {
      const from = (row + Math.min(size.width - 1, Math.max(0, left + x))) * channels;
      for (let c = 0; c < channels; c++) out[(y * width + x) * channels + c] = source[from + c]!;
    }
  }
  return out;
}

/** Cuts a rectangle of the picture and its labels. */
function cut<S extends AugmentSample>(sample: S, box: readonly [number, number, number, number]): S {
  const { image, labels } = sample;
  const [, , width, height] = box;
  const data = window(image.data, (n) => new Float32Array(n), image, box);
  const cutLabels = labels && window(labels, (n) => new Int32Array(n), { ...image, channels: 1 }, box);
  return withPicture(sample, { ...image, width, height, data }, cutLabels);
}

function checkSize(name: string, width: number, height: number): void {
  if (!(Number.isSafeInteger(width) && Number.isSafeInteger(height) && width > 0 && height > 0))
    throw new ArgumentError(`${name}: the size must be positive integers, got ${width}x${height}`);
}

/** A rectangle at a random place; a smaller picture is extended by its border pixels. */
export function randomCrop(width: number, height = width): Augmentation {
  checkSize("randomCrop", width, height);
  return (sample, draw) => {
    const left = offset(sample.image.width - width, draw);
    const top = offset(sample.image.height - height, draw);
    return cut(sample, [left, top, width, height]);
  };
}

/** A uniform start in what is to spare; centred where something is missing. */
const offset = (spare: number, draw: Draw): number => {
  const at = draw.integer(Math.max(1, spare + 1));
  return spare >= 0 ? at : Math.ceil(spare / 2);
};

/**
 * A random part of the picture at the size of the whole (Szegedy et al. 2015): its share of the area and the logarithm of
 * its aspect ratio are uniform; no side is longer than the picture's. @throws ArgumentError unless 0 < low <= high <= 1
 */
export function randomResizedCrop(
  [low, high]: readonly [low: number, high: number],
  aspect: readonly [low: number, high: number] = [3 / 4, 4 / 3],
): Augmentation {
  if (!(low > 0 && low <= high && high <= 1))
    throw new ArgumentError(`randomResizedCrop: shares of the area are in (0, 1], got [${low}, ${high}]`);
  return (sample, draw) => {
    const { image } = sample;
    const area = draw.uniform(low, high) * image.width * image.height;
    const ratio = Math.exp(draw.uniform(Math.log(aspect[0]), Math.log(aspect[1])));
    const side = (length: number, most: number): number => Math.min(most, Math.max(1, Math.round(length)));
    const width = side(Math.sqrt(area * ratio), image.width);
    const height = side(Math.sqrt(area / ratio), image.height);
    const [left, top] = [offset(image.width - width, draw), offset(image.height - height, draw)];
    return resizedSample(cut(sample, [left, top, width, height]), image.width, image.height);
  };
}

/** The rectangle in the middle. */
export function centreCrop(width: number, height = width): Augmentation {
  checkSize("centreCrop", width, height);
  return (sample) => {
    const { image } = sample;
    const box = [
      Math.floor((image.width - width) / 2),
      Math.floor((image.height - height) / 2),
      width,
      height,
    ] as const;
    return cut(sample, box);
  };
}

/** A picture whose pixel (x, y) is the source's at `from(x, y)`, labels alike. */
function rearranged<S extends AugmentSample>(
  sample: S,
  width: number,
  height: number,
  from: (x: number, y: number) => number,
): S {
  const { image, labels } = sample;
  const { channels } = image;
  const data = new Float32Array(width * height * channels);
  const moved = labels && new Int32Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [to, source] = [y * width + x, from(x, y)];
      for (let c = 0; c < channels; c++) data[to * channels + c] = image.data[source * channels + c]!;
      if (moved) moved[to] = labels[source]!;
    }
  }
  return withPicture(sample, { width, height, channels, data }, moved);
}

/** Left-right and, if asked, up-down flips, each with probability p. */
export const randomFlip =
  ({ p = 0.5, vertical = false }: { p?: number; vertical?: boolean } = {}): Augmentation =>
  (sample, draw) => {
    const { width: w, height: h } = sample.image;
    const [mirrored, upsideDown] = [draw.chance(p), vertical && draw.chance(p)];
    if (!mirrored && !upsideDown) return sample;
    return rearranged(sample, w, h, (x, y) => (upsideDown ? h - 1 - y : y) * w + (mirrored ? w - 1 - x : x));
  };

/** A turn by 0, 90, 180 or 270 degrees. */
export const randomQuarterTurn = (): Augmentation => (sample, draw) => {
  const { width: w, height: h } = sample.image;
  const turns = draw.integer(4);
  if (turns === 0) return sample;
  if (turns === 2) return rearranged(sample, w, h, (x, y) => (h - 1 - y) * w + (w - 1 - x));
  return rearranged(sample, h, w, (x, y) => (turns === 1 ? (h - 1 - x) * w + y : x * w + (w - 1 - y)));
};

/** How far a picture is turned, moved and scaled. */
export interface AffineRange {
  /** Largest turn either way, in degrees. Default 0. */
  readonly degrees?: number;
  /** Range of the magnification. Default [1, 1]. */
  readonly scale?: readonly [low: number, high: number];
  /** Largest shift either way, as a share of the side. Default 0. */
  readonly shift?: number;
}

/** Turn, magnification and shift about the centre; bilinear, borders repeated. */
export const randomAffine =
  ({ degrees = 0, scale = [1, 1], shift = 0 }: AffineRange): Augmentation =>
  (sample, draw) => {
    const { image, labels } = sample;
    const { width: w, height: h, channels } = image;
    const angle = (draw.uniform(-degrees, degrees) * Math.PI) / 180;
    const factor = draw.uniform(scale[0], scale[1]);
    const [dx, dy] = [draw.uniform(-shift, shift) * w, draw.uniform(-shift, shift) * h];
    const [cos, sin] = [Math.cos(angle) / factor, Math.sin(angle) / factor];
    const data = new Float32Array(image.data.length);
    const moved = labels && new Int32Array(labels.length);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const [u, v] = [x - (w - 1) / 2 - dx, y - (h - 1) / 2 - dy];
        const [sx, sy] = [cos * u + sin * v + (w - 1) / 2, -sin * u + cos * v + (h - 1) / 2];
        const to = y * w + x;
        for (let c = 0; c < channels; c++) data[to * channels + c] = bilinear(image, sx, sy, c);
        if (moved) moved[to] = labels[clamp(Math.round(sy), h) * w + clamp(Math.round(sx), w)]!;
      }
    }
    return withPicture(sample, { ...image, data }, moved);
  };

const clamp = (i: number, n: number): number => Math.min(n - 1, Math.max(0, i));

function bilinear({ data, width, height, channels }: FloatPicture, x: number, y: number, c: number): number {
  const [x0, y0] = [Math.floor(x), Math.floor(y)];
  const [fx, fy] = [x - x0, y - y0];
  const at = (i: number, j: number): number =>
    data[(clamp(j, height) * width + clamp(i, width)) * channels + c]!;
  const top = at(x0, y0) * (1 - fx) + at(x0 + 1, y0) * fx;
  const bottom = at(x0, y0 + 1) * (1 - fx) + at(x0 + 1, y0 + 1) * fx;
  return top * (1 - fy) + bottom * fy;
}

/** Weights of one output pixel over the inputs: a triangle as wide as the reduction, so that nothing aliases. */
function resampleWeights(from: number, to: number): { start: number; weights: number[] }[] {
  const ratio = from / to;
  const reach = Math.max(1, ratio);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * ratio - 0.5;
    const start = Math.ceil(centre - reach);
    const count = Math.floor(centre + reach) - start + 1;
    const raw = Array.from({ length: count }, (_, k) =>
      Math.max(0, 1 - Math.abs(start + k - centre) / reach),
    );
    const sum = raw.reduce((a, b) => a + b, 0);
    return { start, weights: raw.map((w) => w / sum) };
  });
}

/** A picture of another size: bilinear, antialiased when it shrinks. */
export function resizePicture(image: FloatPicture, width: number, height: number): FloatPicture {
  checkSize("resizePicture", width, height);
  const { channels } = image;
  const [columns, rows] = [resampleWeights(image.width, width), resampleWeights(image.height, height)];
  const wide = new Float32Array(width * image.height * channels);
  for (let y = 0; y < image.height; y++) {
    for (const [x, { start, weights }] of columns.entries()) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (const [k, weight] of weights.entries())
          sum += weight * image.data[(y * image.width + clamp(start + k, image.width)) * channels + c]!;
        wide[(y * width + x) * channels + c] = sum;
      }
    }
  }
  const data = new Float32Array(width * height * channels);
  const row = width * channels;
  for (const [y, { start, weights }] of rows.entries()) {
    for (const [k, weight] of weights.entries()) {
      const from = clamp(start + k, image.height) * row;
      for (let i = 0; i < row; i++) data[y * row + i]! += weight * wide[from + i]!;
    }
  }
  return { width, height, channels, data };
}

/** Labels of another size, by nearest neighbour. */
export function resizeLabels(
  labels: Int32Array,
  from: { readonly width: number; readonly height: number },
  width: number,
  height: number,
): Int32Array {
  return Int32Array.from({ length: width * height }, (_, i) => {
    const x = Math.floor((((i % width) + 0.5) * from.width) / width);
    const y = Math.floor(((Math.floor(i / width) + 0.5) * from.height) / height);
    return labels[y * from.width + x]!;
  });
}

/** Picture and labels at another size. */
function resizedSample<S extends AugmentSample>(sample: S, width: number, height: number): S {
  const { image, labels } = sample;
  return withPicture(
    sample,
    resizePicture(image, width, height),
    labels && resizeLabels(labels, image, width, height),
  );
}

/** Every sample at one size. */
export const resizeTo =
  (width: number, height = width): Augmentation =>
  (sample) =>
    resizedSample(sample, width, height);
