/** A plain writer of TIFF files, so that readers can be tested with every type, byte order and orientation. */

export const TIFF_TYPES = ["u8", "i8", "u16", "i16", "u32", "i32", "f16", "f32", "f64"] as const;
export type TiffType = (typeof TIFF_TYPES)[number];

/** Bytes of a value, and TIFF's SampleFormat: unsigned, signed, float. */
const LAYOUT: Record<TiffType, readonly [bytes: number, format: number]> = {
  u8: [1, 1],
  i8: [1, 2],
  u16: [2, 1],
  i16: [2, 2],
  u32: [4, 1],
  i32: [4, 2],
  f16: [2, 3],
  f32: [4, 3],
  f64: [8, 3],
};

/** Half precision bits of 0, ±1, ±2 … ±1024 and halves of them: what the tests write. */
function halfBits(value: number): number {
  if (value === 0) return 0;
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  const fraction = Math.abs(value) / 2 ** exponent - 1;
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | Math.round(fraction * 1024);
}

function put(view: DataView, at: number, type: TiffType, value: number, little: boolean): void {
  const setters: Record<TiffType, () => void> = {
    u8: () => view.setUint8(at, value),
    i8: () => view.setInt8(at, value),
    u16: () => view.setUint16(at, value, little),
    i16: () => view.setInt16(at, value, little),
    u32: () => view.setUint32(at, value, little),
    i32: () => view.setInt32(at, value, little),
    f16: () => view.setUint16(at, halfBits(value), little),
    f32: () => view.setFloat32(at, value, little),
    f64: () => view.setFloat64(at, value, little),
  };
  setters[type]();
}

export interface TiffSource {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly type: TiffType;
  /** Row by row, channels interleaved. */
  readonly values: readonly number[];
  readonly littleEndian?: boolean;
  /** 1 to 8. */
  readonly orientation?: number;
}

/** One uncompressed strip behind one directory. */
export function tiffBytes(source: TiffSource): Uint8Array {
  const { width, height, channels, type, values, littleEndian = true, orientation = 1 } = source;
  const [bytes, format] = LAYOUT[type];
  const SHORT = 3;
  const LONG = 4;
  const bits = bytes * 8;
  const entries: [tag: number, kind: number, values: readonly number[]][] = [
    [256, LONG, [width]],
    [257, LONG, [height]],
    [258, SHORT, Array(channels).fill(bits)],
    [259, SHORT, [1]],
    [262, SHORT, [channels === 3 ? 2 : 1]],
    [273, LONG, [0]], // filled in below
    [274, SHORT, [orientation]],
    [277, SHORT, [channels]],
    [278, LONG, [height]],
    [279, LONG, [values.length * bytes]],
    [339, SHORT, Array(channels).fill(format)],
  ];
  const directory = 8;
  const extra = directory + 2 + 12 * entries.length + 4;
  const data = extra + 2 * 2 * 3; // room for the lists of three shorts
  const view = new DataView(new ArrayBuffer(data + values.length * bytes));
  view.setUint16(0, littleEndian ? 0x4949 : 0x4d4d);
  view.setUint16(2, 42, littleEndian);
  view.setUint32(4, directory, littleEndian);
  view.setUint16(directory, entries.length, littleEndian);
  let free = extra;
  for (const [i, [tag, kind, list]] of entries.entries()) {
    const at = directory + 2 + 12 * i;
    const given = tag === 273 ? [data] : list;
    view.setUint16(at, tag, littleEndian);
    view.setUint16(at + 2, kind, littleEndian);
    view.setUint32(at + 4, given.length, littleEndian);
    const far = kind === SHORT && given.length > 2;
    if (far) view.setUint32(at + 8, free, littleEndian);
    for (const [k, value] of given.entries()) {
      if (kind === LONG) view.setUint32(at + 8, value, littleEndian);
      else view.setUint16((far ? free : at + 8) + 2 * k, value, littleEndian);
    }
    if (far) free += 2 * given.length;
  }
  for (const [i, value] of values.entries()) put(view, data + i * bytes, type, value, littleEndian);
  return new Uint8Array(view.buffer);
}
