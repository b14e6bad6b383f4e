/** Element types, their sizes, and the typed arrays that hold them on the host. */

/** Element type of a tensor. `f16` and `bf16` are stored as 16-bit patterns in a `Uint16Array`. */
export type DType = "f32" | "f64" | "f16" | "bf16" | "i8" | "u8" | "i32" | "u32" | "i64" | "u64" | "bool";

/** Host storage of a tensor, row-major. `bool` is one byte per element, 0 or 1. */
export type HostArray =
  | Float32Array
  | Float64Array
  | Uint16Array
  | Int8Array
  | Uint8Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

interface HostArrayConstructor {
  new (length: number): HostArray;
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): HostArray;
  readonly BYTES_PER_ELEMENT: number;
}

/** What is known of an element type. */
export interface DTypeInfo {
  /** Bytes per element. */
  readonly bytes: number;
  readonly array: HostArrayConstructor;
  /** Value of `TensorProto.DataType` in ONNX. */
  readonly onnx: number;
  /** Name in the JavaScript API of ONNX Runtime; bf16 has none and is widened on the host. */
  readonly ort: string | undefined;
  readonly kind: "float" | "int" | "bool";
}

/** Element types by name. */
export const DTYPES: Readonly<Record<DType, DTypeInfo>> = {
  f32: { bytes: 4, array: Float32Array, onnx: 1, ort: "float32", kind: "float" },
  f64: { bytes: 8, array: Float64Array, onnx: 11, ort: "float64", kind: "float" },
  f16: { bytes: 2, array: Uint16Array, onnx: 10, ort: "float16", kind: "float" },
  bf16: { bytes: 2, array: Uint16Array, onnx: 16, ort: undefined, kind: "float" },
  i8: { bytes: 1, array: Int8Array, onnx: 3, ort: "int8", kind: "int" },
  u8: { bytes: 1, array: Uint8Array, onnx: 2, ort: "uint8", kind: "int" },
  i32: { bytes: 4, array: Int32Array, onnx: 6, ort: "int32", kind: "int" },
  u32: { bytes: 4, array: Uint32Array, onnx: 12, ort: "uint32", kind: "int" },
  i64: { bytes: 8, array: BigInt64Array, onnx: 7, ort: "int64", kind: "int" },
  u64: { bytes: 8, array: BigUint64Array, onnx: 13, ort: "uint64", kind: "int" },
  bool: { bytes: 1, array: Uint8Array, onnx: 9, ort: "bool", kind: "bool" },
};

/** Whether elements of this type are floats: f16, bf16, f32, f64. */
export const isFloat = (dtype: DType): boolean => DTYPES[dtype].kind === "float";
/** Whether elements of this type are whole numbers; bool is none. */
export const isInteger = (dtype: DType): boolean => DTYPES[dtype].kind === "int";

/** Number of elements of a shape; 1 for a scalar `[]`. */
export const sizeOf = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);

/** Bytes that a tensor of this shape and type takes. */
export const bytesOf = (shape: readonly number[], dtype: DType): number =>
  sizeOf(shape) * DTYPES[dtype].bytes;

const f32Scratch = new Float32Array(1);
const u32Scratch = new Uint32Array(f32Scratch.buffer);

/** IEEE binary16 bits to a number. */
export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Nearest IEEE binary16 bits, ties to even, overflow to infinity. */
export function numberToF16(value: number): number {
  f32Scratch[0] = value;
  const bits = u32Scratch[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // NaN
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // rounds to 65536 or more
  if (magnitude < 0x38800000) {
    // Subnormal half: multiples of 2^-24; adding 0.5 leaves exactly those bits, rounded to even, in the float's tail.
    f32Scratch[0] = Math.abs(value) + 0.5;
    return sign | (u32Scratch[0]! - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** bfloat16 bits to a number (exact). */
export function bf16ToNumber(bits: number): number {
  u32Scratch[0] = bits << 16;
  return f32Scratch[0]!;
}

/** Nearest bfloat16 bits, ties to even. */
export function numberToBf16(value: number): number {
  f32Scratch[0] = value;
  const bits = u32Scratch[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40; // NaN stays NaN
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** One element as a number (64-bit integers must be safe integers to be exact). */
export function elementToNumber(dtype: DType, value: number | bigint): number {
  if (typeof value === "bigint") return Number(value);
  if (dtype === "f16") return f16ToNumber(value);
  return dtype === "bf16" ? bf16ToNumber(value) : value;
}

/** One number as an element of the dtype's array. Integers truncate towards zero. */
export function numberToElement(dtype: DType, value: number): number | bigint {
  switch (dtype) {
    case "f16":
      return numberToF16(value);
    case "bf16":
      return numberToBf16(value);
    case "i64":
    case "u64":
      return BigInt(Math.trunc(value));
    case "bool":
      return value ? 1 : 0;
    default:
      return value;
  }
}

/** New host array of a dtype with the given values. */
export function hostArray(dtype: DType, values: ArrayLike<number | bigint>): HostArray {
  const out = new DTYPES[dtype].array(values.length);
  for (let i = 0; i < values.length; i++) {
    out[i] = numberToElement(dtype, Number(values[i])) as never;
  }
  return out;
}

const widening = new Map<DType, Float32Array>();

/** The number of every 16-bit pattern: whole models are widened by looking up. */
function wideningTable(dtype: "f16" | "bf16"): Float32Array {
  let table = widening.get(dtype);
  if (!table) {
    const toNumber = dtype === "f16" ? f16ToNumber : bf16ToNumber;
    table = Float32Array.from({ length: 2 ** 16 }, (_, bits) => toNumber(bits));
    widening.set(dtype, table);
  }
  return table;
}

/** The same values in another dtype. Returns the array itself when nothing changes. */
export function convertHost(data: HostArray, from: DType, to: DType): HostArray {
  if (from === to) return data;
  const out = new DTYPES[to].array(data.length);
  if ((from === "f16" || from === "bf16") && to === "f32") {
    const table = wideningTable(from);
    for (let i = 0; i < data.length; i++) out[i] = table[data[i] as number]!;
    return out;
  }
  for (let i = 0; i < data.length; i++) {
    const value = elementToNumber(from, data[i]!);
    out[i] = numberToElement(to, value) as never;
  }
  return out;
}
