/** Pictures made of pictures and of numbers: grids, strips, overlays, heat maps, depth. All are 8-bit RGB. */
import { interpolateTurbo, interpolateViridis, schemeTableau10 } from "d3-scale-chromatic";
import { ArgumentError, ShapeError } from "../errors.ts";
import type { Picture } from "../io/picture-codec.ts";

/** Red, green and blue in 0 to 255. */
export type Rgb = readonly [r: number, g: number, b: number];

/** An 8-bit RGB picture. // [H, W, 3] */
export interface RgbPicture extends Picture {
  readonly data: Uint8Array;
}

/** `#1f77b4` or `rgb(31, 119, 180)` as bytes. */
export function parseColour(text: string): Rgb {
  const hex = /^#([0-9a-f]{6})$/i.exec(text)?.[1];
  if (hex) return [0, 2, 4].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)) as unknown as Rgb;
  const parts = /^rgb\((\d+), *(\d+), *(\d+)\)$/.exec(text)?.slice(1).map(Number);
  if (!parts) throw new ArgumentError(`parseColour: "${text}" is neither #rrggbb nor rgb(r, g, b)`);
  return parts as unknown as Rgb;
}

/** Ten colours that can be told apart, for labels 1, 2, …; label 0 has none. */
export const LABEL_COLOURS: readonly Rgb[] = schemeTableau10.map(parseColour);

/** Any picture as 8-bit RGB: gray is repeated, transparency left out, 16 bits shortened, floats taken as [0, 1]. */
export function toRgb(picture: Picture): RgbPicture {
  const { width, height, channels, data } = picture;
  const scale = data instanceof Uint8Array ? 1 : data instanceof Uint16Array ? 1 / 257 : 255;
  const out = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      const value = data[i * channels + (channels < 3 ? 0 : c)]! * scale;
      out[3 * i + c] = Math.min(255, Math.max(0, Math.round(value)));
    }
  }
  return { width, height, channels: 3, data: out };
}

function blank(width: number, height: number, colour: Rgb): RgbPicture {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) data[i] = colour[i % 3]!;
  return { width, height, channels: 3, data };
}

/** Copies a picture into a larger one, every pixel as a block of `scale`. */
function paste(target: RgbPicture, source: RgbPicture, left: number, top: number, scale: number): void {
  for (let y = 0; y < source.height * scale; y++) {
    for (let x = 0; x < source.width * scale; x++) {
      const from = 3 * (Math.floor(y / scale) * source.width + Math.floor(x / scale));
      const to = 3 * ((top + y) * target.width + left + x);
      for (let c = 0; c < 3; c++) target.data[to + c] = source.data[from + c]!;
    }
  }
}

/** How pictures lie in a grid. */
export interface GridLayout {
  /** Pictures per row. Default: as square as possible. */
  readonly columns?: number;
  /** Every pixel becomes a block of this size. Default 1. */
  readonly scale?: number;
  /** Pixels between pictures. Default 2. */
  readonly gap?: number;
  /** Default white. */
  readonly background?: Rgb;
}

/** Pictures in rows, each in a cell of the largest one's size. @throws ArgumentError without pictures. */
export function grid(pictures: readonly Picture[], layout: GridLayout = {}): RgbPicture {
  if (pictures.length === 0) throw new ArgumentError("grid: no pictures");
  const {
    columns = Math.ceil(Math.sqrt(pictures.length)),
    scale = 1,
    gap = 2,
    background = [255, 255, 255],
  } = layout;
  if (!(Number.isSafeInteger(columns) && columns > 0 && Number.isSafeInteger(scale) && scale > 0))
    throw new ArgumentError(`grid: columns and scale must be positive integers, got ${columns} and ${scale}`);
  const cell = {
    width: Math.max(...pictures.map((p) => p.width)) * scale,
    height: Math.max(...pictures.map((p) => p.height)) * scale,
  };
  const rows = Math.ceil(pictures.length / columns);
  const out = blank(gap + columns * (cell.width + gap), gap + rows * (cell.height + gap), background);
  for (const [i, picture] of pictures.entries()) {
    const left = gap + (i % columns) * (cell.width + gap);
    const top = gap + Math.floor(i / columns) * (cell.height + gap);
    paste(out, toRgb(picture), left, top, scale);
  }
  return out;
}

/** Labels as colours over a picture; label 0 stays clear, labels beyond ten begin again. */
export function overlay(
  picture: Picture,
  labels: ArrayLike<number>,
  { opacity = 0.45, colours = LABEL_COLOURS }: { opacity?: number; colours?: readonly Rgb[] } = {},
): RgbPicture {
  const out = toRgb(picture);
  if (labels.length !== out.width * out.height)
    throw new ShapeError(`overlay: ${labels.length} labels for ${out.width}x${out.height} pixels`);
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i]!;
    if (label <= 0) continue;
    const colour = colours[(label - 1) % colours.length]!;
    for (let c = 0; c < 3; c++)
      out.data[3 * i + c] = Math.round(out.data[3 * i + c]! * (1 - opacity) + colour[c]! * opacity);
  }
  return out;
}

/** Options of `heatMap`. */
export interface HeatMapOptions {
  readonly width: number;
  readonly height: number;
  /** Values at the ends of the scale. Default: the least and the greatest finite value. */
  readonly range?: readonly [low: number, high: number];
  readonly map?: "viridis" | "turbo";
  /** Colour of what is not finite, such as missing depth. Default mid gray. */
  readonly missing?: Rgb;
}

/** Numbers as colours. @throws ShapeError when they do not fill the picture. */
export function heatMap(values: ArrayLike<number>, options: HeatMapOptions): RgbPicture {
  const { width, height, map = "viridis", missing = [128, 128, 128] } = options;
  if (values.length !== width * height)
    throw new ShapeError(`heatMap: ${values.length} values for ${width}x${height} pixels`);
  const colourOf = (map === "turbo" ? interpolateTurbo : interpolateViridis) as (t: number) => string;
  const table = Array.from({ length: 256 }, (_, i) => parseColour(colourOf(i / 255)));
  const [low, high] = options.range ?? finiteRange(values);
  const out = blank(width, height, missing);
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i]!)) continue;
    const t = high > low ? (values[i]! - low) / (high - low) : 0;
    out.data.set(table[Math.min(255, Math.max(0, Math.round(t * 255)))]!, 3 * i);
  }
  return out;
}

function finiteRange(values: ArrayLike<number>): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i]!)) continue;
    low = Math.min(low, values[i]!);
    high = Math.max(high, values[i]!);
  }
  return [low, high];
}

/** Depth as colours, near is warm: even steps of 1 / depth; zero, negative and missing depth stay gray. */
export const depthPicture = (depth: ArrayLike<number>, width: number, height: number): RgbPicture =>
  heatMap(
    Float64Array.from(depth, (d) => (d > 0 ? 1 / d : Number.NaN)),
    { width, height, map: "turbo" },
  );
