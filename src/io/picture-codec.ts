/** Pictures as they lie in files: any bit depth and number of channels, with limits against bombs. Sharp decodes. */
import sharp, { type Metadata, type Sharp } from "sharp";
import { ArgumentError, FormatError } from "../errors.ts";
import { disguiseHint, MAGIC_BYTES } from "./disguise.ts";

/** Pixels row by row, channels interleaved. The array's type is the depth: bytes, 16-bit or floats. // [H, W, C] */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8Array | Uint16Array | Float32Array;
}

/** What becomes of colours: `rgb` and `gray` convert; `as-is` keeps the file's channels and depth, for labels and depth. */
export type ColourMode = "rgb" | "gray" | "rgba" | "as-is";

/** Width and height in pixels. */
export interface PictureSize {
  readonly width: number;
  readonly height: number;
}

export interface DecodeOptions {
  /** Default `rgb`. */
  readonly colour?: ColourMode;
  /** What lies behind transparent pixels when they are dropped, 0 to 255; `none`: they keep their own colours. Default white. */
  readonly background?: readonly [r: number, g: number, b: number] | "none";
  /** Scaled (Lanczos) and cut at the edges to this size; not with `as-is`. Default: as it is. */
  readonly size?: PictureSize;
  /** Most pixels a picture may have before it is decoded. Default 100 million. */
  readonly maxPixels?: number;
  /** Page of a file with many (TIFF stacks). Default: a file with several pages is refused. */
  readonly page?: number;
  /** Named in errors: a path, or where the bytes come from. */
  readonly name?: string;
}

export const MAX_PIXELS = 100_000_000;

function channelsOf(colour: ColourMode, image: Sharp, background: DecodeOptions["background"]): Sharp {
  const opaque = (): Sharp => {
    if (background === "none") return image.removeAlpha();
    const [r, g, b] = background ?? [255, 255, 255];
    return image.flatten({ background: { r, g, b } });
  };
  if (colour === "rgb") return opaque().toColourspace("srgb");
  if (colour === "gray") return opaque().toColourspace("b-w");
  if (colour === "rgba") return image.toColourspace("srgb").ensureAlpha();
  throw new ArgumentError(
    `decodePicture: colour must be rgb, gray, rgba or as-is, got ${JSON.stringify(colour)}`,
  );
}

/** What a picture's header says. @throws FormatError when it is none */
export async function pictureMetadata(bytes: Uint8Array, name: string): Promise<Metadata> {
  try {
    return await sharp(bytes, { limitInputPixels: false }).metadata();
  } catch (cause) {
    const hint = disguiseHint(bytes.subarray(0, MAGIC_BYTES));
    throw new FormatError(`${name}: not a picture that can be read (${(cause as Error).message})${hint}`, {
      cause,
    });
  }
}

/** How many pages and pixels a file has, without decoding it. @throws FormatError when it is no picture. */
export async function probePicture(
  bytes: Uint8Array,
  options: DecodeOptions = {},
): Promise<{ width: number; height: number; pages: number; format: string }> {
  const { name = "picture", maxPixels = MAX_PIXELS } = options;
  const meta = await pictureMetadata(bytes, name);
  const { width, height, pages = 1, pageHeight = height, format = "" } = meta;
  if (!(width > 0 && height > 0)) throw new FormatError(`${name}: a picture of ${width}x${height} pixels`);
  if (width * height > maxPixels)
    throw new FormatError(
      `${name}: ${width}x${height} is ${width * height} pixels, more than the limit of ${maxPixels}`,
    );
  return { width, height: pageHeight, pages, format };
}

/**
 * Decodes PNG, JPEG, WebP, TIFF, GIF, AVIF …; turned as its EXIF says, CMYK and palettes converted, 16-bit depth kept
 * with `as-is`. @throws FormatError for what is truncated, mislabelled, animated, or beyond the limits.
 */
export async function decodePicture(bytes: Uint8Array, options: DecodeOptions = {}): Promise<Picture> {
  const { colour = "rgb", background, size, page, name = "picture" } = options;
  const { pages, format } = await probePicture(bytes, options);
  if (pages > 1 && page === undefined)
    throw new FormatError(
      `${name}: the ${format} file has ${pages} pages or frames; say which with \`page\``,
    );
  if (page !== undefined && !(Number.isSafeInteger(page) && page >= 0 && page < pages))
    throw new ArgumentError(`${name}: page ${page} of a file with ${pages}`);
  try {
    const image = sharp(bytes, { limitInputPixels: false, failOn: "truncated", page: page ?? 0 });
    if (colour === "as-is") return await rawPixels(image);
    const converted = channelsOf(colour, image.autoOrient(), background);
    const scaled = size ? converted.resize({ ...size, fit: "cover", kernel: "lanczos3" }) : converted;
    const { data, info } = await scaled.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    const { width, height, channels } = info;
    return { width, height, channels, data: bytesOf(data) };
  } catch (cause) {
    throw new FormatError(`${name}: the ${format} picture is damaged (${(cause as Error).message})`, {
      cause,
    });
  }
}

/** The file's own channels and depth, neither turned nor converted, except that palettes become colours. */
async function rawPixels(image: Sharp): Promise<Picture> {
  const { depth, space, channels: fileChannels } = await image.metadata();
  const wide = depth === "ushort" || space === "grey16" || space === "rgb16";
  const float = depth === "float" || depth === "double";
  const kept = wide
    ? image.toColourspace(fileChannels < 3 ? "grey16" : "rgb16")
    : fileChannels === 1
      ? image.toColourspace("b-w")
      : image;
  const { data, info } = await (float ? image : kept)
    .raw({ depth: float ? "float" : wide ? "ushort" : "uchar" })
    .toBuffer({ resolveWithObject: true });
  const { width, height } = info;
  // Sharp gives 8-bit gray with transparency as colours.
  const grayAlpha = fileChannels === 2 && info.channels === 4;
  const channels = grayAlpha ? 2 : info.channels;
  const whole = (
    grayAlpha ? bytesOf(data).filter((_, i) => i % 4 === 0 || i % 4 === 3) : bytesOf(data).slice()
  ).buffer;
  const pixels = float ? new Float32Array(whole) : wide ? new Uint16Array(whole) : new Uint8Array(whole);
  return { width, height, channels, data: pixels };
}

const bytesOf = (buffer: Buffer): Uint8Array =>
  new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);

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
