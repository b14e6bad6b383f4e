/** NumPy arrays: `.npy` and the `.npz` archives of them. Object arrays are pickles and are refused. */
import { FormatError } from "../../errors.ts";
import { readBytes } from "../files.ts";
import { unzip } from "./zip.ts";

/** An array of a `.npy` file. */
export interface NumpyArray {
  readonly shape: readonly number[];
  /** NumPy's name of the element type, such as `<f4`. */
  readonly dtype: string;
  /** Row-major. Half floats come as their bits. */
  readonly data:
    | Uint8Array
    | Int8Array
    | Uint16Array
    | Int16Array
    | Uint32Array
    | Int32Array
    | BigUint64Array
    | BigInt64Array
    | Float32Array
    | Float64Array;
}

const TYPES = {
  u1: Uint8Array,
  b1: Uint8Array,
  i1: Int8Array,
  u2: Uint16Array,
  f2: Uint16Array,
  i2: Int16Array,
  u4: Uint32Array,
  i4: Int32Array,
  u8: BigUint64Array,
  i8: BigInt64Array,
  f4: Float32Array,
  f8: Float64Array,
} as const;

/** One key of the header, which is a Python literal: `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`. */
function headerField(header: string, pattern: RegExp, name: string): string {
  const found = pattern.exec(header)?.[1];
  if (found === undefined)
    throw new FormatError(`${name}: the .npy header is malformed: ${header.slice(0, 80)}`);
  return found;
}

/** The array in a `.npy` file's bytes. @throws FormatError for another format, object arrays, or a wrong length. */
export function decodeNpy(bytes: Uint8Array, name = "npy data"): NumpyArray {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || bytes[0] !== 0x93 || new TextDecoder().decode(bytes.subarray(1, 6)) !== "NUMPY")
    throw new FormatError(`${name}: does not begin with the .npy magic`);
  const long = bytes[6]! >= 2;
  const start = (long ? 12 : 10) + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder().decode(bytes.subarray(long ? 12 : 10, start));
  const dtype = headerField(header, /'descr':\s*'([^']+)'/, name);
  const fortran = headerField(header, /'fortran_order':\s*(True|False)/, name) === "True";
  const shape = headerField(header, /'shape':\s*\(([^)]*)\)/, name)
    .split(",")
    .map((s) => s.trim())
    .filter((s) => s !== "")
    .map((s) => Number(s.replace(/L$/, "")));
  const type = TYPES[dtype.slice(1) as keyof typeof TYPES];
  if (!type || !shape.every((d) => Number.isSafeInteger(d) && d >= 0))
    throw new FormatError(`${name}: arrays of ${dtype} with shape (${shape.join(", ")}) are not supported`);
  const width = type.BYTES_PER_ELEMENT;
  const expected = shape.reduce((product, d) => product * d, width);
  if (bytes.length - start !== expected)
    throw new FormatError(
      `${name}: shape (${shape.join(", ")}) takes ${expected} bytes, ${bytes.length - start} follow`,
    );
  const body = new Uint8Array(bytes.subarray(start));
  if (dtype.startsWith(">"))
    for (let at = 0; at < body.length; at += width) body.subarray(at, at + width).reverse();
  const data = new type(body.buffer);
  return { shape, dtype, data: fortran ? rowMajor(data, shape) : data };
}

/** Column-major values in row-major order. */
function rowMajor<A extends NumpyArray["data"]>(data: A, shape: readonly number[]): A {
  const out = data.slice() as A;
  const strides = shape.map((_, i) => shape.slice(0, i).reduce((product, d) => product * d, 1));
  for (let at = 0; at < data.length; at++) {
    let [rest, from] = [at, 0];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += (rest % shape[axis]!) * strides[axis]!;
      rest = Math.floor(rest / shape[axis]!);
    }
    out[at] = data[from]!;
  }
  return out;
}

/** The array of a `.npy` file. */
export const readNpy = async (path: string): Promise<NumpyArray> => decodeNpy(await readBytes(path), path);

/** The arrays of a `.npz` file by name. */
export async function readNpz(path: string): Promise<Map<string, NumpyArray>> {
  const entries = unzip(await readBytes(path), path);
  return new Map(
    [...entries].map(([name, bytes]) => [name.replace(/\.npy$/, ""), decodeNpy(bytes, `${path}/${name}`)]),
  );
}
