/**
 * Values of picture files, whatever program wrote them: sharp decodes nearly all, `tiff` floats and signed numbers in TIFF and
 * the indices of its palettes, fast-png those of PNG's. All are turned upright.
 */
import { decode as decodePng } from "fast-png";
import { decode as decodeTiff, pageCount, type TiffIfd } from "tiff";
import sharp, { type Metadata, type Sharp } from "#sharp";
import { disguiseHint, MAGIC_BYTES } from "../disguise.ts";
import { ArgumentError, FormatError } from "../errors.ts";
import { f16ToNumber } from "../tensor/dtype.ts";
import { bmpHeader, decodeBmp } from "./bmp.ts";
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

const isTiff = (bytes: Uint8Array): boolean => ["II*\0", "MM\0*"].some((magic) => starts(bytes, magic));

/** What a picture's header says. @throws FormatError when it is none */
export async function pictureMetadata(bytes: Uint8Array, name: string): Promise<Metadata> {
  try {
    return await sharp(bytes, { limitInputPixels: false }).metadata();
  } catch (cause) {
    const size = pngSize(bytes);
    if (size?.includes(0)) throw new FormatError(`${name}: a picture of ${size.join("x")} pixels`, { cause });
    const reason = (cause as Error).message.replace("Input buffer", "the file").replace(/:\s*$/, "");
    const hint = disguiseHint(bytes.subarray(0, MAGIC_BYTES));
    const other = / image$/.test(hint) ? "" : hint; // a damaged PNG is no other thing than was expected
    throw new FormatError(`${name}: not a picture that can be read (${reason})${other}`, { cause });
  }
}

/** Width and height in the header of a PNG, which sharp does not tell when there is none. */
function pngSize(bytes: Uint8Array): readonly [width: number, height: number] | undefined {
  if (!starts(bytes, "\x89PNG") || bytes.length < 24) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return [view.getUint32(16), view.getUint32(20)];
}

/** Reads a file's header. @throws FormatError when it is no picture */
export async function openPictureFile(bytes: Uint8Array, name: string): Promise<PictureFile> {
  if (starts(bytes, "BM")) return bmpFile(bytes, name);
  const special = isTiff(bytes) ? specialTiff(bytes, name) : undefined;
  return special ?? sharpFile(bytes, name);
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

/** Depths of 32 bits, which become floats, exact up to 24 bits. */
const DEEP = { int: Int32Array, uint: Uint32Array } as const;

/** The file's own channels and depth; colours of palettes; CMYK and the like as RGB. */
async function sharpPixels(bytes: Uint8Array, page: number): Promise<Picture> {
  const file = sharp(bytes, { limitInputPixels: false, failOn: "truncated", page });
  const { depth, space, channels: fileChannels } = await file.metadata();
  const image = file.autoOrient();
  if (depth in DEEP) return deepPixels(image, depth as keyof typeof DEEP, fileChannels);
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

async function deepPixels(image: Sharp, depth: keyof typeof DEEP, channels: number): Promise<Picture> {
  const { data, info } = await image.raw({ depth }).toBuffer({ resolveWithObject: true });
  const values = new DEEP[depth](bytesOf(data).slice().buffer);
  const { width, height, channels: given } = info; // sharp may give gray as colours
  const own = Float32Array.from(
    { length: width * height * channels },
    (_, i) => values[Math.floor(i / channels) * given + (i % channels)]!,
  );
  return { width, height, channels, data: own };
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
const SIGNED = 2;
const FLOATS = 3;
const PALETTE = 3;

/** A TIFF file of floats or signed numbers, which sharp cuts off, or with a palette; undefined for others, and damaged ones. */
function specialTiff(bytes: Uint8Array, name: string): PictureFile | undefined {
  let pages: TiffIfd[];
  try {
    pages = decodeTiff(bytes, { ignoreImageData: true });
  } catch {
    return undefined; // sharp says what is wrong with it
  }
  for (const [i, page] of pages.entries())
    checkWhole(page, bytes.length, `${name}${i > 0 ? `, page ${i}` : ""}`);
  const [first] = pages as [TiffIfd];
  const indexed = first.type === PALETTE;
  const { sampleFormat, bitsPerSample } = first;
  const deep = sampleFormat === FLOATS || (sampleFormat === SIGNED && bitsPerSample <= 16);
  if (!indexed && !deep) return undefined;
  const plain = withoutOrientation(bytes); // the package refuses any other than 1
  const pixels = (page: number): Picture =>
    tiffPixels(decodeTiff(plain, { pages: [page] })[0]!, pages[page]!.orientation || 1); // 0: no tag
  return {
    width: first.width,
    height: first.height,
    pages: pageCount(bytes),
    format: "tiff",
    indexed,
    decode: async (page, indices) => (deep || indices ? pixels(page) : sharpPixels(bytes, page)),
  };
}

/** Parts of a page beyond the end of the file, which sharp reads as zeros. @throws FormatError */
function checkWhole(page: TiffIfd, length: number, name: string): void {
  const parts: readonly [offsets: unknown, sizes: unknown][] = [
    [page.get("StripOffsets"), page.get("StripByteCounts")],
    [page.get("TileOffsets"), page.get("TileByteCounts")],
  ];
  const list = (value: unknown): readonly number[] =>
    typeof value === "number" ? [value] : ((value ?? []) as readonly number[]);
  for (const [offsets, sizes] of parts) {
    const ends = list(offsets).map((offset, i) => offset + (list(sizes)[i] ?? 0));
    const end = ends.reduce((a, b) => Math.max(a, b), 0);
    if (end > length)
      throw new FormatError(`${name}: the TIFF file is cut off: its pixels end at byte ${end} of ${length}`, {
        cause: new Error("cut off"),
      });
  }
}

const ORIENTATION = 274;

/** A copy whose directories say that the picture is upright. The file was parsed before, so its structure is sound. */
function withoutOrientation(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes); // a Buffer's own `slice` would be a view
  const view = new DataView(copy.buffer);
  const little = copy[0] === 0x49;
  const seen = new Set<number>();
  for (let at = view.getUint32(4, little); at > 0 && !seen.has(at); ) {
    seen.add(at);
    const entries = view.getUint16(at, little);
    for (let entry = at + 2; entry < at + 2 + 12 * entries; entry += 12)
      if (view.getUint16(entry, little) === ORIENTATION) view.setUint16(entry + 8, 1, little);
    at = view.getUint32(at + 2 + 12 * entries, little);
  }
  return copy;
}

function tiffPixels(page: TiffIfd, orientation: number): Picture {
  const { width, height, samplesPerPixel } = page;
  return upright({ width, height, channels: samplesPerPixel, data: tiffValues(page) }, orientation);
}

/** Samples as what they are: the package gives the bits of signed numbers and of half precision. */
function tiffValues({ sampleFormat, bitsPerSample, data }: TiffIfd): Picture["data"] {
  if (sampleFormat === FLOATS && bitsPerSample === 16) return Float32Array.from(data, f16ToNumber);
  if (sampleFormat === SIGNED) {
    const Signed = bitsPerSample === 8 ? Int8Array : Int16Array;
    return Float32Array.from(new Signed(data.buffer as ArrayBuffer, data.byteOffset, data.length));
  }
  return data instanceof Uint8Array || data instanceof Uint16Array ? data : Float32Array.from(data);
}

/** A picture turned and mirrored as EXIF's and TIFF's orientation 1 to 8 says. @throws ArgumentError for other numbers */
export function upright(picture: Picture, orientation: number): Picture {
  if (orientation === 1) return picture;
  if (!(Number.isInteger(orientation) && orientation >= 1 && orientation <= 8))
    throw new ArgumentError(`orientation: expected 1 to 8, got ${orientation}`);
  const { width: w, height: h, channels, data } = picture;
  const [width, height] = orientation > 4 ? [h, w] : [w, h];
  const out = data instanceof Uint8Array ? Uint8Array.from(data) : data.slice(); // a Buffer's would be a view
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
