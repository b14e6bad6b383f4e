/**
 * BMP files, uncompressed, of 1 to 32 bits: what segmentation sets of microscopy still come in. (The packages for it that were
 * tried read palettes wrongly.) After the BITMAPINFOHEADER of the Windows API.
 */
import { FormatError } from "../errors.ts";
import type { Picture } from "./picture.ts";

const FILE_HEADER = 14;
/** Values of biCompression: none, and masks that say where the colours' bits are. */
const NONE = 0;
const BIT_FIELDS = 3;
const ALPHA_BIT_FIELDS = 6;

interface Header {
  readonly width: number;
  readonly height: number;
  /** Rows begin at the bottom unless the height is negative. */
  readonly topDown: boolean;
  readonly bits: number;
  readonly compression: number;
  /** Where the pixels and the palette begin, and the palette's length. */
  readonly pixels: number;
  readonly palette: number;
  readonly colours: number;
}

/** @throws FormatError for what is too short or of an old kind */
export function bmpHeader(bytes: Uint8Array, name: string): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < FILE_HEADER + 40) throw new FormatError(`${name}: a BMP file of ${bytes.length} bytes`);
  const size = view.getUint32(14, true);
  if (size < 40)
    throw new FormatError(`${name}: a BMP file with a header of ${size} bytes; expected 40 or more`);
  const height = view.getInt32(22, true);
  const bits = view.getUint16(28, true);
  const compression = view.getUint32(30, true);
  const masks =
    size === 40 && compression === BIT_FIELDS ? 12 : size === 40 && compression === ALPHA_BIT_FIELDS ? 16 : 0;
  return {
    width: view.getInt32(18, true),
    height: Math.abs(height),
    topDown: height < 0,
    bits,
    compression,
    pixels: view.getUint32(10, true),
    palette: FILE_HEADER + size + masks,
    colours: bits > 8 ? 0 : view.getUint32(46, true) || 2 ** bits,
  };
}

/** A reader of the bits under a mask, stretched to 0 to 255. */
function channel(mask: number): (value: number) => number {
  if (mask === 0) return () => 0;
  const shift = 31 - Math.clz32(mask & -mask);
  const most = mask >>> shift;
  return (value) => Math.round((((value & mask) >>> shift) * 255) / most);
}

const RGB555 = [0x7c00, 0x03e0, 0x001f] as const;
const RGB888 = [0xff0000, 0xff00, 0xff] as const;

/**
 * Pixels: one channel when all colours are gray, else three; the fourth byte is padding in most files and left out.
 * @throws FormatError for compressed and damaged files
 */
export function decodeBmp(bytes: Uint8Array, name: string): Picture {
  const { width, height, topDown, bits, compression, pixels, palette, colours } = bmpHeader(bytes, name);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const masked = compression === BIT_FIELDS || compression === ALPHA_BIT_FIELDS;
  if (compression !== NONE && !masked)
    throw new FormatError(
      `${name}: a compressed BMP file (kind ${compression}); expected one without compression`,
    );
  if (![1, 4, 8, 16, 24, 32].includes(bits))
    throw new FormatError(`${name}: a BMP file of ${bits} bits a pixel`);
  const rowBytes = Math.ceil((width * bits) / 32) * 4;
  if (bytes.length < pixels + rowBytes * height || bytes.length < palette + 4 * colours)
    throw new FormatError(`${name}: a BMP file of ${bytes.length} bytes, cut off before its end`);
  const given = [0, 4, 8].map((at) => view.getUint32(FILE_HEADER + 40 + at, true)); // the masks follow 40 bytes of header
  const [red, green, blue] = (masked ? given : bits === 16 ? RGB555 : RGB888).map(channel);
  const rgb = new Uint8Array(3 * width * height);
  const put = (at: number, r: number, g: number, b: number): void => rgb.set([r, g, b], at);
  for (let y = 0; y < height; y++) {
    const row = pixels + rowBytes * (topDown ? y : height - 1 - y);
    for (let x = 0; x < width; x++) {
      const to = 3 * (y * width + x);
      if (bits <= 8) {
        const bit = x * bits;
        const index = (bytes[row + (bit >> 3)]! >> (8 - bits - (bit & 7))) & (2 ** bits - 1);
        const entry = palette + 4 * Math.min(index, colours - 1);
        put(to, bytes[entry + 2]!, bytes[entry + 1]!, bytes[entry]!);
      } else if (bits === 24) {
        const at = row + 3 * x;
        put(to, bytes[at + 2]!, bytes[at + 1]!, bytes[at]!);
      } else {
        const value = bits === 16 ? view.getUint16(row + 2 * x, true) : view.getUint32(row + 4 * x, true);
        put(to, red!(value), green!(value), blue!(value));
      }
    }
  }
  const gray = rgb.every((v, i) => v === rgb[i - (i % 3)]);
  return gray
    ? { width, height, channels: 1, data: rgb.filter((_, i) => i % 3 === 0) }
    : { width, height, channels: 3, data: rgb };
}
