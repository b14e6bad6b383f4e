/**
 * Values of picture files, whatever program wrote them: sharp decodes what people look at, geotiff the TIFFs of instruments
 * (signed, 32 and 64 bits, floats of any width), fast-png the indices of palettes. All are turned upright.
 */
import { decode as decodePng } from "fast-png";
import { fromArrayBuffer, type GeoTIFFImage } from "geotiff";
import sharp, { type Metadata } from "sharp";
import { ArgumentError, FormatError } from "../errors.ts";
import { bmpHeader, decodeBmp } from "./bmp.ts";
import { disguiseHint, MAGIC_BYTES } from "./disguise.ts";
import type { Picture } from "./picture.ts";

/** What is known of a file before its pixels are decoded. */
export interface PictureFile {
  /** Of a page as it is stored, before it is turned upright. */
  readonly width: number;
  readonly height: number;
  readonly pages: number;
  readonly format: string;
  /** Whether pixels are indices of a palette. */
  readonly indexed: boolean;
  /** Values of a page. `indices`: those of the palette, where there is one, instead of its colours. */
  decode(page: number, indices: boolean): Promise<Picture>;
}

const starts = (bytes: Uint8Array, text: string): boolean =>
  [...text].every((letter, i) => bytes[i] === letter.charCodeAt(0));

const isTiff = (bytes: Uint8Array): boolean =>
  ["II*\0", "MM\0*", "II+\0", "MM\0+"].some((magic) => starts(bytes, magic));

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

/** Reads a file's header. @throws FormatError when it is no picture */
export async function openPictureFile(bytes: Uint8Array, name: string): Promise<PictureFile> {
  if (starts(bytes, "BM")) return bmpFile(bytes, name);
  const deep = isTiff(bytes) ? await deepTiff(bytes) : undefined;
  return deep ?? sharpFile(bytes, name);
}

const bytesOf = (buffer: Buffer): Uint8Array =>
  new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);

async function sharpFile(bytes: Uint8Array, name: string): Promise<PictureFile> {
  const meta = await pictureMetadata(bytes, name);
  const { width, height, pages = 1, pageHeight = height, format = "", isPalette = false } = meta;
  const indexed = isPalette && format === "png";
  return {
    width,
    height: pageHeight,
    pages,
    format,
    indexed,
    decode: async (page, indices) => (indexed && indices ? pngIndices(bytes) : sharpPixels(bytes, page)),
  };
}

/** The file's own channels in 8 or 16 bits; colours of palettes; CMYK and the like as RGB. */
async function sharpPixels(bytes: Uint8Array, page: number): Promise<Picture> {
  const file = sharp(bytes, { limitInputPixels: false, failOn: "truncated", page });
  const { depth, space, channels: fileChannels } = await file.metadata();
  const image = file.autoOrient();
  const wide = depth === "ushort" || space === "grey16" || space === "rgb16";
  const gray = fileChannels < 3;
  const kept = wide
    ? image.toColourspace(gray ? "grey16" : "rgb16")
    : fileChannels === 1
      ? image.toColourspace("b-w")
      : image.toColourspace("srgb");
  const { data, info } = await kept
    .raw({ depth: wide ? "ushort" : "uchar" })
    .toBuffer({ resolveWithObject: true });
  const { width, height } = info;
  // Sharp gives 8-bit gray with transparency as colours.
  const grayAlpha = fileChannels === 2 && info.channels === 4;
  const values = grayAlpha ? bytesOf(data).filter((_, i) => i % 4 === 0 || i % 4 === 3) : bytesOf(data);
  const own = values.slice().buffer;
  return {
    width,
    height,
    channels: grayAlpha ? 2 : info.channels,
    data: wide ? new Uint16Array(own) : new Uint8Array(own),
  };
}

/** Indices of a PNG with a palette, of 1 to 8 bits each. // [H, W, 1] */
function pngIndices(bytes: Uint8Array): Picture {
  const { width, height, depth, data } = decodePng(bytes);
  const perByte = 8 / depth;
  const rowBytes = Math.ceil(width / perByte);
  const indices = Uint8Array.from({ length: width * height }, (_, i) => {
    const [row, column] = [Math.floor(i / width), i % width];
    const byte = data[row * rowBytes + Math.floor(column / perByte)]!;
    return (byte >> (8 - depth * ((column % perByte) + 1))) & (2 ** depth - 1);
  });
  return { width, height, channels: 1, data: indices };
}

function bmpFile(bytes: Uint8Array, name: string): PictureFile {
  const { width, height } = bmpHeader(bytes, name);
  return {
    ...{ width, height, pages: 1, format: "bmp", indexed: false },
    decode: async () => decodeBmp(bytes, name),
  };
}

/** Values of TIFF's SampleFormat and PhotometricInterpretation. */
const UNSIGNED = 1;
const PALETTE = 3;

/** A TIFF file with samples that sharp cannot give as they are; undefined for others, and for what geotiff cannot read. */
async function deepTiff(bytes: Uint8Array): Promise<PictureFile | undefined> {
  try {
    const { buffer, byteOffset, byteLength } = bytes;
    const tiff = await fromArrayBuffer(buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer);
    const image = await tiff.getImage(0);
    const indexed = (await tag(image, "PhotometricInterpretation")) === PALETTE;
    const isUsual = image.getSampleFormat() === UNSIGNED && image.getBitsPerSample() <= 16;
    const pages = await tiff.getImageCount();
    const [width, height] = [image.getWidth(), image.getHeight()];
    const decode = async (page: number): Promise<Picture> => tiffPixels(await tiff.getImage(page));
    if (!isUsual) return { width, height, pages, format: "tiff", indexed: false, decode };
    if (!indexed) return undefined;
    const colours = (page: number): Promise<Picture> => sharpPixels(bytes, page);
    return {
      width,
      height,
      pages,
      format: "tiff",
      indexed,
      decode: (page, indices) => (indices ? decode(page) : colours(page)),
    };
  } catch {
    return undefined; // sharp says what is wrong with it
  }
}

const tag = (image: GeoTIFFImage, name: "PhotometricInterpretation" | "Orientation"): Promise<unknown> =>
  image.fileDirectory.loadValue(name);

async function tiffPixels(image: GeoTIFFImage): Promise<Picture> {
  const values = (await image.readRasters({ interleave: true })) as ArrayLike<number>;
  const data =
    values instanceof Uint8Array || values instanceof Uint16Array ? values : Float32Array.from(values);
  const stored = {
    width: image.getWidth(),
    height: image.getHeight(),
    channels: image.getSamplesPerPixel(),
    data,
  };
  return upright(stored, Number((await tag(image, "Orientation")) ?? 1));
}

/** A picture turned and mirrored as EXIF's and TIFF's orientation 1 to 8 says. @throws ArgumentError for other numbers */
export function upright(picture: Picture, orientation: number): Picture {
  if (orientation === 1) return picture;
  if (!(Number.isInteger(orientation) && orientation >= 1 && orientation <= 8))
    throw new ArgumentError(`orientation: expected 1 to 8, got ${orientation}`);
  const { width: w, height: h, channels, data } = picture;
  const [width, height] = orientation > 4 ? [h, w] : [w, h];
  const out = data.slice();
  // Where the pixel at (x, y) of the upright picture is stored.
  const from = (x: number, y: number): readonly [x: number, y: number] => {
    switch (orientation) {
      case 2:
        return [w - 1 - x, y];
      case 3:
        return [w - 1 - x, h - 1 - y];
      case 4:
        return [x, h - 1 - y];
      case 5:
        return [y, x];
      case 6:
        return [y, h - 1 - x];
      case 7:
        return [w - 1 - y, h - 1 - x];
      default:
        return [w - 1 - y, x];
    }
  };
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const [column, row] = from(x, y);
      for (let c = 0; c < channels; c++)
        out[(y * width + x) * channels + c] = data[(row * w + column) * channels + c]!;
    }
  return { width, height, channels, data: out };
}
