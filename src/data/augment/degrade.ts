/** Augmentations that change values and leave pixels where they are; labels are untouched. */
import sharp from "#sharp";
import { ArgumentError } from "../../errors.ts";
import type { Draw } from "../random-draws.ts";
import { resizePicture } from "./geometry.ts";
import { type Augmentation, type FloatPicture, withPicture } from "./sample.ts";

/** Values from low to high, drawn evenly. */
export type Range = readonly [low: number, high: number];

/** An augmentation from a change of the picture alone; values end in [0, 1] unless `clip` is false. */
export const onPicture =
  (
    change: (image: FloatPicture, draw: Draw) => FloatPicture | Promise<FloatPicture>,
    clip = true,
  ): Augmentation =>
  async (sample, draw) => {
    const image = await change(sample.image, draw);
    if (clip)
      for (let i = 0; i < image.data.length; i++) image.data[i] = Math.min(1, Math.max(0, image.data[i]!));
    return withPicture(sample, image);
  };

const changed = (image: FloatPicture, value: (x: number, at: number) => number): FloatPicture => ({
  ...image,
  data: image.data.map(value),
});

/** ITU-R 601 brightness of a pixel. */
const luma = (data: Float32Array, at: number): number =>
  0.299 * data[at]! + 0.587 * data[at + 1]! + 0.114 * data[at + 2]!;

/** How far colours are changed. */
export interface ColourRange {
  /** Largest change either way: brightness is added, contrast and saturation multiply. Default 0. */
  readonly brightness?: number;
  readonly contrast?: number;
  readonly saturation?: number;
  /** Largest turn of the hue either way, as a share of the circle. Default 0. */
  readonly hue?: number;
}

/** Random brightness, contrast, saturation and hue, in this order. */
export const colourJitter = ({
  brightness = 0,
  contrast = 0,
  saturation = 0,
  hue = 0,
}: ColourRange): Augmentation =>
  onPicture((image, draw) => {
    const around = (reach: number): number => draw.uniform(-reach, reach);
    const [add, gain, vivid, turn] = [
      around(brightness),
      1 + around(contrast),
      1 + around(saturation),
      around(hue),
    ];
    const mean = image.data.reduce((sum, x) => sum + x, 0) / image.data.length;
    const lit = changed(image, (x) => (x - mean) * gain + mean + add);
    return image.channels < 3 ? lit : turnColours(lit, vivid, 2 * Math.PI * turn);
  });

/** Saturation and hue as a scaling and a turn of the colour plane of YIQ. */
function turnColours(image: FloatPicture, saturation: number, angle: number): FloatPicture {
  const [cos, sin] = [Math.cos(angle) * saturation, Math.sin(angle) * saturation];
  const data = image.data.slice();
  for (let at = 0; at < data.length; at += image.channels) {
    const [r, g, b] = [data[at]!, data[at + 1]!, data[at + 2]!];
    const y = luma(data, at);
    const [i, q] = [0.596 * r - 0.274 * g - 0.322 * b, 0.211 * r - 0.523 * g + 0.312 * b];
    const [ti, tq] = [cos * i - sin * q, sin * i + cos * q];
    data[at] = y + 0.956 * ti + 0.621 * tq;
    data[at + 1] = y - 0.272 * ti - 0.647 * tq;
    data[at + 2] = y - 1.106 * ti + 1.703 * tq;
  }
  return { ...image, data };
}

/** The picture without colours, with its channels kept. */
export const grayscale = (): Augmentation =>
  onPicture((image) => {
    const { channels, data } = image;
    if (channels < 3) return { ...image, data: data.slice() };
    return changed(image, (x, at) => (at % channels < 3 ? luma(data, at - (at % channels)) : x));
  });

/** x to the power of a random gamma. */
export const gammaJitter = ([low, high]: Range): Augmentation =>
  onPicture((image, draw) => {
    const gamma = draw.uniform(low, high);
    return changed(image, (x) => x ** gamma);
  });

/**
 * White Gaussian noise of a random standard deviation, values in [0, 1] taken as the scale. Values that leave [0, 1] are cut
 * off as files have them, or kept with `clip` false, as denoisers are usually trained.
 */
export const gaussianNoise = ([low, high]: Range, { clip = true } = {}): Augmentation =>
  onPicture((image, draw) => {
    const sigma = draw.uniform(low, high);
    return changed(image, (x) => x + sigma * draw.normal());
  }, clip);

/** Noise whose variance grows with the signal, as photons make it: `peak` photons at white. */
export const shotNoise = ([low, high]: Range): Augmentation =>
  onPicture((image, draw) => {
    const peak = draw.uniform(low, high);
    return changed(image, (x) => x + Math.sqrt(Math.max(0, x) / peak) * draw.normal());
  });

/** Sum over shifted copies: a sparse kernel of [dx, dy, weight], borders repeated. */
function filter(
  image: FloatPicture,
  kernel: readonly (readonly [dx: number, dy: number, weight: number])[],
): FloatPicture {
  const { width, height, channels, data } = image;
  const out = new Float32Array(data.length);
  for (const [dx, dy, weight] of kernel) {
    for (let y = 0; y < height; y++) {
      const row = Math.min(height - 1, Math.max(0, y + dy)) * width;
      for (let x = 0; x < width; x++) {
        const from = (row + Math.min(width - 1, Math.max(0, x + dx))) * channels;
        const to = (y * width + x) * channels;
        for (let c = 0; c < channels; c++) out[to + c]! += weight * data[from + c]!;
      }
    }
  }
  return { ...image, data: out };
}

/** Gaussian blur of a standard deviation in pixels; 0 leaves the picture as it is. */
export function blurPicture(image: FloatPicture, sigma: number): FloatPicture {
  if (sigma < 1e-3) return { ...image, data: image.data.slice() };
  const reach = Math.ceil(3 * sigma);
  const raw = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-0.5 * ((i - reach) / sigma) ** 2));
  const sum = raw.reduce((a, b) => a + b, 0);
  const across = filter(
    image,
    raw.map((w, i) => [i - reach, 0, w / sum] as const),
  );
  return filter(
    across,
    raw.map((w, i) => [0, i - reach, w / sum] as const),
  );
}

/** Gaussian blur of a random standard deviation, in pixels. */
export const gaussianBlur = ([low, high]: Range): Augmentation =>
  onPicture((image, draw) => blurPicture(image, draw.uniform(low, high)));

/** Blur along a line of a random direction and length, in pixels. */
export const motionBlur = ([low, high]: Range): Augmentation =>
  onPicture((image, draw) => {
    const [length, angle] = [draw.uniform(low, high), draw.uniform(0, Math.PI)];
    const count = Math.max(1, Math.round(length));
    const kernel = Array.from({ length: count }, (_, i) => {
      const along = i - (count - 1) / 2;
      return [Math.round(along * Math.cos(angle)), Math.round(along * Math.sin(angle)), 1 / count] as const;
    });
    return filter(image, kernel);
  });

/** Smaller by a random factor and back: the detail that a low resolution loses. */
export const downUp = ([low, high]: Range): Augmentation => {
  if (!(low > 0 && high <= 1))
    throw new ArgumentError(`downUp: factors must be in (0, 1], got [${low}, ${high}]`);
  return onPicture((image, draw) => {
    const factor = draw.uniform(low, high);
    const [w, h] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * factor)));
    return resizePicture(resizePicture(image, w!, h!), image.width, image.height);
  });
};

/** A JPEG round trip at a random quality, 1 to 100. */
export const jpeg = ([low, high]: Range): Augmentation =>
  onPicture(async (image, draw) => {
    const { width, height, channels } = image;
    if (channels !== 1 && channels !== 3) throw new ArgumentError(`jpeg: 1 or 3 channels, got ${channels}`);
    const quality = Math.round(draw.uniform(low, high));
    const bytes = Uint8Array.from(image.data, (x) => Math.round(Math.min(1, Math.max(0, x)) * 255));
    const encoded = await sharp(bytes, { raw: { width, height, channels } }).jpeg({ quality }).toBuffer();
    const back = sharp(encoded).toColourspace(channels === 1 ? "b-w" : "srgb");
    const decoded = await back.raw().toBuffer();
    return { ...image, data: Float32Array.from(decoded, (x) => x / 255) };
  });

/** How rain falls. */
export interface RainRange {
  /** Streaks per 100 x 100 pixels. Default [20, 60]. */
  readonly density?: Range;
  /** Length of a streak in pixels. Default [8, 24]. */
  readonly length?: Range;
  /** Lean from the vertical either way, in degrees. Default 20. */
  readonly lean?: number;
  /** How much a streak brightens. Default [0.15, 0.5]. */
  readonly strength?: Range;
}

/** Streaks of one direction, added to the picture: a simple model of rain. */
export const rain = (options: RainRange = {}): Augmentation =>
  onPicture((image, draw) => {
    const { density = [20, 60], length = [8, 24], lean = 20, strength = [0.15, 0.5] } = options;
    const { width, height, channels } = image;
    const data = image.data.slice();
    const angle = (draw.uniform(-lean, lean) * Math.PI) / 180;
    const count = Math.round((draw.uniform(...density) * width * height) / 1e4);
    for (let streak = 0; streak < count; streak++) {
      const [x0, y0] = [draw.uniform(0, width), draw.uniform(-0.1, 1) * height];
      const [steps, gain] = [Math.round(draw.uniform(...length)), draw.uniform(...strength)];
      for (let k = 0; k < steps; k++) {
        const [x, y] = [Math.floor(x0 + k * Math.sin(angle)), Math.floor(y0 + k * Math.cos(angle))];
        if (x < 0 || y < 0 || x >= width || y >= height) continue;
        for (let c = 0; c < Math.min(3, channels); c++) data[(y * width + x) * channels + c]! += gain;
      }
    }
    return { ...image, data };
  });

/** A rectangle of random place and size filled with the picture's mean; sides as shares of the picture's. */
export const cutOut = ([low, high]: Range): Augmentation =>
  onPicture((image, draw) => {
    const { width, height, channels } = image;
    const [w, h] = [
      Math.round(draw.uniform(low, high) * width),
      Math.round(draw.uniform(low, high) * height),
    ];
    const [left, top] = [draw.integer(width - w + 1), draw.integer(height - h + 1)];
    const mean = image.data.reduce((sum, x) => sum + x, 0) / image.data.length;
    const data = image.data.slice();
    for (let y = top; y < top + h; y++)
      data.fill(mean, (y * width + left) * channels, (y * width + left + w) * channels);
    return { ...image, data };
  });
