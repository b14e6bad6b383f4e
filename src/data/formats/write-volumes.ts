/** Volumes as files of the geometry of the file that they were made from: NIfTI with its header, TIFF of several pages. */

import { readHeader } from "nifti-reader-js";
import { deflateSync, gunzipSync } from "#node";
import { ArgumentError, FormatError } from "../../errors.ts";
import { latin1Bytes, latin1Text } from "../../io/latin1.ts";

/** Values of one slice or page. // [H, W] */
export interface WrittenSlice {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array | Float32Array;
}

/** Most characters of a description in NIfTI, and the kinds of values that are written. */
const DESCRIPTION = 80;
const [UINT8, FLOAT32] = [2, 16];

const isGzip = (bytes: Uint8Array): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b;
const plain = (bytes: Uint8Array): Uint8Array => (isGzip(bytes) ? gunzipSync(bytes) : bytes);

/** Where NIfTI-1 and NIfTI-2 keep what is changed, and how long their headers are. */
const LAYOUTS = {
  348: { header: 352, datatype: 70, bits: 72, wide: false, offset: 108, slope: 112, shown: 124, text: 148 },
  540: { header: 544, datatype: 12, bits: 14, wide: true, offset: 168, slope: 176, shown: 192, text: 240 },
} as const;

function layoutOf(bytes: Uint8Array, name: string) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const little of [true, false]) {
    const layout = bytes.length >= 348 && LAYOUTS[view.getInt32(0, little) as keyof typeof LAYOUTS];
    if (layout && bytes.length >= layout.header) return { ...layout, little };
  }
  throw new FormatError(`${name}: is no NIfTI file`);
}

/**
 * A NIfTI file with the header of another one (sizes, spacing, both transforms, units), other voxels and a description of
 * up to 80 ASCII characters. @throws FormatError for a source that is none, ArgumentError for slices of other sizes
 */
export function niftiLike(
  source: Uint8Array,
  slices: readonly WrittenSlice[],
  description: string,
  name = "NIfTI data",
): Uint8Array {
  const from = plain(source);
  const layout = layoutOf(from, name);
  const { little } = layout;
  const { dims } = readHeader(Uint8Array.from(from).buffer)!; // a Buffer's own `slice` would be a view
  const [width, height, ...rest] = dims.slice(1, dims[0]! + 1);
  const count = rest.reduce((product, d) => product * d, 1);
  const float = slices[0]?.data instanceof Float32Array;
  if (slices.length !== count || slices.some((s) => s.width !== width || s.height !== height))
    throw new ArgumentError(`${name}: expected ${count} slices of ${width}x${height}, got ${slices.length}`);
  const bytesPer = float ? 4 : 1;
  const out = new Uint8Array(layout.header + width! * height! * count * bytesPer);
  out.set(from.subarray(0, layout.header - 4)); // the last four say that no extension follows
  const view = new DataView(out.buffer);
  view.setInt16(layout.datatype, float ? FLOAT32 : UINT8, little);
  view.setInt16(layout.bits, 8 * bytesPer, little);
  const real = (at: number, value: number): void =>
    layout.wide ? view.setFloat64(at, value, little) : view.setFloat32(at, value, little);
  if (layout.wide) view.setBigInt64(layout.offset, BigInt(layout.header), little);
  else real(layout.offset, layout.header);
  const step = layout.wide ? 8 : 4;
  real(layout.slope, 1);
  real(layout.slope + step, 0);
  real(layout.shown, 0); // the range that viewers show: theirs to choose
  real(layout.shown + step, 0);
  out.fill(0, layout.text, layout.text + DESCRIPTION);
  out.set(latin1Bytes(description).subarray(0, DESCRIPTION), layout.text);
  let at = layout.header;
  for (const { data } of slices)
    for (const value of data) {
      if (float) view.setFloat32(at, value, little);
      else out[at] = value;
      at += bytesPer;
    }
  return out;
}

/** The description in a NIfTI file's header. @throws FormatError when it is none, or is cut off */
export function niftiDescription(bytes: Uint8Array, name = "NIfTI data"): string {
  let from: Uint8Array;
  try {
    from = plain(bytes);
  } catch (cause) {
    throw new FormatError(`${name}: the gzip data is damaged`, { cause });
  }
  const { text } = layoutOf(from, name);
  return latin1Text(from.subarray(text, text + DESCRIPTION)).replace(/\0.*$/s, "");
}

const [SHORT, LONG, ASCII] = [3, 4, 2];
type Tag = readonly [tag: number, kind: number, count: number, value: number];

/** A TIFF file of gray pages of 8 bits or floats, compressed without loss, with a description in the first. */
export function tiffStack(slices: readonly WrittenSlice[], description: string): Uint8Array {
  const text = latin1Bytes(`${description}\0`);
  const strips = slices.map(({ data }) => deflateSync(new Uint8Array(littleEndian(data))));
  const head = 8 + text.length + (text.length % 2);
  const entries = (page: number): number => (page === 0 ? 11 : 10);
  const sizeOf = (page: number): number =>
    2 + 12 * entries(page) + 4 + strips[page]!.length + (strips[page]!.length % 2);
  const starts = [head];
  for (const page of slices.keys()) starts.push(starts[page]! + sizeOf(page));
  const out = new Uint8Array(starts.at(-1)!);
  const view = new DataView(out.buffer);
  out.set([0x49, 0x49, 42, 0]);
  view.setUint32(4, head, true);
  out.set(text, 8);
  for (const [page, { width, height, data }] of slices.entries()) {
    const float = data instanceof Float32Array;
    const at = starts[page]!;
    const pixels = at + 2 + 12 * entries(page) + 4;
    const tags: Tag[] = [
      [256, LONG, 1, width],
      [257, LONG, 1, height],
      [258, SHORT, 1, float ? 32 : 8],
      [259, SHORT, 1, 8], // deflate
      [262, SHORT, 1, 1], // 0 is black
      ...(page === 0 ? [[270, ASCII, text.length, 8] as const] : []),
      [273, LONG, 1, pixels],
      [277, SHORT, 1, 1],
      [278, LONG, 1, height],
      [279, LONG, 1, strips[page]!.length],
      [339, SHORT, 1, float ? 3 : 1],
    ];
    view.setUint16(at, tags.length, true);
    for (const [i, [tag, kind, count, value]] of tags.entries()) {
      view.setUint16(at + 2 + 12 * i, tag, true);
      view.setUint16(at + 4 + 12 * i, kind, true);
      view.setUint32(at + 6 + 12 * i, count, true);
      view.setUint32(at + 10 + 12 * i, value, true);
    }
    view.setUint32(pixels - 4, page + 1 < slices.length ? starts[page + 1]! : 0, true);
    out.set(strips[page]!, pixels);
  }
  return out;
}

function littleEndian(data: Uint8Array | Float32Array): ArrayBuffer {
  if (data instanceof Uint8Array) return Uint8Array.from(data).buffer;
  const view = new DataView(new ArrayBuffer(4 * data.length));
  for (const [i, value] of data.entries()) view.setFloat32(4 * i, value, true);
  return view.buffer;
}

/** The description that `tiffStack` writes; undefined in other TIFF files. */
export function tiffDescription(bytes: Uint8Array): string | undefined {
  if (bytes.length < 8 || !["II*\0"].includes(latin1Text(bytes.subarray(0, 4)))) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = bytes.subarray(8, Math.min(view.getUint32(4, true), bytes.length));
  return latin1Text(text).replace(/\0.*$/s, "");
}
