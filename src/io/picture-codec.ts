/** Pictures from files and to PNG: any bit depth and number of channels, with limits against bombs. */
import sharp from "#sharp";
import { ArgumentError, FormatError } from "../errors.ts";
import type { Picture } from "./picture.ts";
import { openPictureFile, type PictureFile } from "./picture-file.ts";

export type { Picture } from "./picture.ts";
export { pictureMetadata } from "./picture-file.ts";

/**
 * What becomes of colours: `rgb`, `gray` (ITU-R 601) and `rgba` convert; `as-is` keeps the file's channels, for depth;
 * `labels` does too and takes a palette's indices instead of its colours, for masks.
 */
export type ColourMode = "rgb" | "gray" | "rgba" | "as-is" | "labels";

/** Width and height in pixels. */
export interface PictureSize {
  readonly width: number;
  readonly height: number;
}

/** Options of `probePicture` and `decodePicture`. */
export interface DecodeOptions {
  /** Default `rgb`. */
  readonly colour?: ColourMode;
  /**
   * `file`: as deep as the file, 16-bit numbers and floats of any unit included, which `as-is` and `labels` always are.
   * Default `byte`: 16 bits are scaled, floats up to 1 are shares of 255, other numbers must be within 0 to 255.
   */
  readonly depth?: "byte" | "file";
  /** What lies behind transparent pixels when they are dropped, 0 to 255; `none`: they keep their own colours. Default white. */
  readonly background?: readonly [r: number, g: number, b: number] | "none";
  /** Scaled (Lanczos) and cut at the edges to this size; not with `as-is` and `labels`. Default: as it is. */
  readonly size?: PictureSize;
  /** Most pixels a picture may have before it is decoded. Default 100 million. */
  readonly maxPixels?: number;
  /** Page of a file with many (TIFF stacks). Default: a file with several pages is refused. */
  readonly page?: number;
  /** Named in errors: a path, or where the bytes come from. */
  readonly name?: string;
}

/** Pixels above which a picture is not decoded, unless told otherwise. */
export const MAX_PIXELS = 100_000_000;

async function openWithin(bytes: Uint8Array, options: DecodeOptions): Promise<PictureFile> {
  const { name = "picture", maxPixels = MAX_PIXELS } = options;
  const file = await openPictureFile(bytes, name);
  const { width, height } = file;
  if (!(width > 0 && height > 0)) throw new FormatError(`${name}: a picture of ${width}x${height} pixels`);
  if (width * height > maxPixels)
    throw new FormatError(
      `${name}: ${width}x${height} is ${width * height} pixels, more than the limit of ${maxPixels}`,
    );
  return file;
}

/** How many pages and pixels a file has, without decoding it. @throws FormatError when it is no picture. */
export async function probePicture(
  bytes: Uint8Array,
  options: DecodeOptions = {},
): Promise<{ width: number; height: number; pages: number; format: string; indexed: boolean }> {
  const { width, height, pages, format, indexed } = await openWithin(bytes, options);
  return { width, height, pages, format, indexed };
}

/**
 * Decodes PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF …, turned upright, CMYK as RGB. @throws FormatError for what is truncated,
 * mislabelled, animated, beyond the limits, or does not fit into bytes when these are wanted.
 */
export async function decodePicture(bytes: Uint8Array, options: DecodeOptions = {}): Promise<Picture> {
  const { colour = "rgb", depth = "byte", background = [255, 255, 255], page, name = "picture" } = options;
  const file = await openWithin(bytes, options);
  const { pages, format } = file;
  if (pages > 1 && page === undefined)
    throw new FormatError(`${name}: the ${format} file has ${pages} pages or frames; say which (page)`);
  if (page !== undefined && !(Number.isSafeInteger(page) && page >= 0 && page < pages))
    throw new ArgumentError(`${name}: page ${page} of a file with ${pages}`);
  const stored = await file.decode(page ?? 0, colour === "labels").catch((cause) => {
    if (cause instanceof FormatError) throw cause;
    throw new FormatError(`${name}: the ${format} picture is damaged (${(cause as Error).message})`, {
      cause,
    });
  });
  if (colour === "as-is" || colour === "labels") return stored;
  const converted = inColours(depth === "byte" ? inBytes(stored, name) : stored, colour, background);
  return options.size ? resized(converted, options.size) : converted;
}

/** Values of a picture in 8 bits. @throws FormatError for numbers that have no place there */
function inBytes(picture: Picture, name: string): Picture {
  const { data } = picture;
  if (data instanceof Uint8Array) return picture;
  if (data instanceof Uint16Array) return { ...picture, data: Uint8Array.from(data, (v) => v >> 8) };
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of data) {
    if (!Number.isFinite(v)) throw new FormatError(`${name}: a picture with the value ${v}`);
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  if (low < 0 || high > 255)
    throw new FormatError(
      `${name}: values from ${low} to ${high}; expected floats up to 1, or numbers from 0 to 255`,
    );
  const scale = high <= 1 ? 255 : 1;
  return { ...picture, data: Uint8Array.from(data, (v) => Math.round(v * scale)) };
}

/** The value of white at a picture's depth. */
const whiteOf = (data: Picture["data"]): number =>
  data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65535 : 1;

/** Brightness of a colour by ITU-R 601. Whole numbers are rounded as in Pillow, to the bit in 8 bits. */
const luma = (r: number, g: number, b: number, whole: boolean): number =>
  whole
    ? Math.floor((r * 19595 + g * 38470 + b * 7471 + 0x8000) / 0x10000)
    : 0.299 * r + 0.587 * g + 0.114 * b;

/** Channels as wanted, at the picture's own depth; transparent pixels over the background unless alpha is kept. */
function inColours(
  picture: Picture,
  colour: "rgb" | "gray" | "rgba",
  background: DecodeOptions["background"],
): Picture {
  if (colour !== "rgb" && colour !== "gray" && colour !== "rgba")
    throw new ArgumentError(
      `decodePicture: colour must be rgb, gray, rgba, as-is or labels, got ${JSON.stringify(colour)}`,
    );
  const { width, height, channels, data } = picture;
  const wanted = { gray: 1, rgb: 3, rgba: 4 }[colour];
  if (channels === wanted) return picture;
  const hasAlpha = channels === 2 || channels >= 4;
  const isGray = channels < 3;
  const white = whiteOf(data);
  const whole = !(data instanceof Float32Array);
  const behind = Array.isArray(background) ? background.map((v) => (v / 255) * white) : undefined;
  const out = new (data.constructor as new (length: number) => Picture["data"])(width * height * wanted);
  const [pixel, rounded] = [[0, 0, 0], (v: number): number => (whole ? Math.round(v) : v)];
  for (let i = 0; i < width * height; i++) {
    const at = i * channels;
    const alpha = hasAlpha ? data[at + (isGray ? 1 : 3)]! / white : 1;
    for (let c = 0; c < 3; c++) {
      const value = data[at + (isGray ? 0 : c)]!;
      const flat = behind && alpha < 1 && colour !== "rgba";
      pixel[c] = flat ? rounded(alpha * value + (1 - alpha) * behind[c]!) : value;
    }
    const [r, g, b] = pixel as [number, number, number];
    if (wanted === 1) out[i] = r === g && g === b ? r : luma(r, g, b, whole);
    else for (let c = 0; c < 3; c++) out[i * wanted + c] = pixel[c]!;
    if (wanted === 4) out[4 * i + 3] = hasAlpha ? data[at + (isGray ? 1 : 3)]! : white;
  }
  return { width, height, channels: wanted, data: out };
}

async function resized(picture: Picture, size: PictureSize): Promise<Picture> {
  const { data, channels } = picture;
  const depth = data instanceof Uint8Array ? "uchar" : data instanceof Uint16Array ? "ushort" : "float";
  const space = depth === "ushort" ? (channels < 3 ? "grey16" : "rgb16") : channels < 3 ? "b-w" : "srgb";
  const raw = { width: picture.width, height: picture.height, channels: channels as 1 | 3 | 4 };
  const image = sharp(data, { raw }).resize({ ...size, fit: "cover", kernel: "lanczos3" });
  const scaled = depth === "float" ? image : image.toColourspace(space);
  const { data: out, info } = await scaled.raw({ depth }).toBuffer({ resolveWithObject: true });
  const own = out.buffer.slice(out.byteOffset, out.byteOffset + out.byteLength);
  const Values = { uchar: Uint8Array, ushort: Uint16Array, float: Float32Array }[depth];
  return { width: info.width, height: info.height, channels: info.channels, data: new Values(own) };
}

/** PNG bytes of a picture of 8 or 16 bits with 1 to 4 channels. The same picture gives the same bytes. */
export async function encodePicture(picture: Picture): Promise<Uint8Array> {
  const { width, height, channels, data } = picture;
  if (data instanceof Float32Array)
    throw new ArgumentError("encodePicture: PNG holds 8 or 16 bits, got floats");
  if (data.length !== width * height * channels || channels < 1 || channels > 4)
    throw new ArgumentError(`encodePicture: ${data.length} values are not ${width}x${height}x${channels}`);
  const raw = { width, height, channels: channels as 1 | 2 | 3 | 4 };
  const image = sharp(data, { raw });
  const depth =
    data instanceof Uint16Array ? (channels < 3 ? "grey16" : "rgb16") : channels < 3 ? "b-w" : "srgb";
  return image.toColourspace(depth).png().toBuffer();
}
