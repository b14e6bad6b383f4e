/** Tensors from numbers and arrays. */
import { ArgumentError, DTypeError, ShapeError } from "../../errors.ts";
import type { FileSlice } from "../aval.ts";
import { DTYPES, type DType, type HostArray, hostArray, isInteger, sizeOf } from "../dtype.ts";
import { assertTensorFits } from "../memory.ts";
import { type LeafKind, Node, Tensor, type TensorLike } from "../tensor.ts";

/** Nested arrays of numbers, as written by hand. */
export type NestedNumbers = number | boolean | readonly NestedNumbers[];

function checkShape(shape: readonly number[]): void {
  for (const d of shape) {
    if (!Number.isSafeInteger(d) || d < 0)
      throw new ShapeError(`a shape needs non-negative integers, got [${shape.join(", ")}]`);
  }
}

/**
 * A leaf over a host array, which is not copied: a later write to the array changes the tensor, and is a mistake. The
 * library never writes into it, not even when the tensor is donated.
 */
export function fromHost(
  dtype: DType,
  shape: readonly number[],
  data: HostArray,
  leaf: LeafKind = "data",
): Tensor {
  return leafOver(dtype, shape, data, leaf, true);
}

/** `fromHost` for an array that the caller gives up: when the tensor is donated, other values are written into it. */
export function adopt(dtype: DType, shape: readonly number[], data: HostArray): Tensor {
  return leafOver(dtype, shape, data, "data", false);
}

function leafOver(
  dtype: DType,
  shape: readonly number[],
  data: HostArray,
  leaf: LeafKind,
  shared: boolean,
): Tensor {
  checkShape(shape);
  if (!(data instanceof DTYPES[dtype].array)) {
    throw new ArgumentError(
      `fromHost: ${dtype} needs a ${DTYPES[dtype].array.name}, got ${data?.constructor?.name}`,
    );
  }
  if (data.length !== sizeOf(shape)) {
    throw new ShapeError(
      `fromHost: shape [${shape.join(", ")}] needs ${sizeOf(shape)} elements, got ${data.length}`,
    );
  }
  const node = new Node(undefined, [], undefined, [{ shape: [...shape], dtype }], leaf);
  node.values[0] = shared ? { host: data, shared } : { host: data };
  return new Tensor(node);
}

/**
 * A leaf whose value lies in a file, which must stay as it is. It is read when it is asked for; where it is a constant
 * of a compiled function, the runtime maps the file and no copy of it is ever held. Node only.
 */
export function fromFile(dtype: DType, shape: readonly number[], file: FileSlice): Tensor {
  checkShape(shape);
  if (!Number.isSafeInteger(file.offset) || file.offset < 0)
    throw new ArgumentError(`fromFile: the offset must be a non-negative integer, got ${file.offset}`);
  const node = new Node(undefined, [], undefined, [{ shape: [...shape], dtype }], "data");
  node.values[0] = { file };
  return new Tensor(node);
}

/** A placeholder that a trace feeds. */
export function input(shape: readonly number[], dtype: DType): Tensor {
  checkShape(shape);
  return new Tensor(new Node(undefined, [], undefined, [{ shape: [...shape], dtype }], "input"));
}

function shapeOfNested(values: NestedNumbers): number[] {
  const shape: number[] = [];
  for (let v = values; Array.isArray(v); v = v[0] as NestedNumbers) {
    shape.push(v.length);
    if (v.length === 0) break;
  }
  return shape;
}

const nameOf = (value: unknown): string =>
  value === null || value === undefined
    ? String(value)
    : typeof value === "string"
      ? JSON.stringify(value)
      : typeof value;

function flattenNested(values: NestedNumbers, shape: readonly number[], axis: number, out: number[]): void {
  if (axis === shape.length) {
    if (Array.isArray(values))
      throw new ShapeError("tensor: nested arrays are deeper in some places than in others");
    if (typeof values !== "number" && typeof values !== "boolean")
      throw new ArgumentError(
        `tensor: expected numbers or booleans, got ${nameOf(values)} as element ${out.length}`,
      );
    out.push(Number(values));
    return;
  }
  if (!Array.isArray(values) || values.length !== shape[axis]) {
    throw new ShapeError(`tensor: ragged nested arrays: expected ${shape[axis]} entries on axis ${axis}`);
  }
  for (const v of values) flattenNested(v, shape, axis + 1, out);
}

/**
 * A tensor from nested arrays, or from a flat typed array with a shape. The dtype is f32 unless told otherwise
 * (bool for booleans, the array's own for typed arrays other than `Uint16Array`). A typed array of the tensor's own type is
 * not copied: a later write to it changes the tensor. Throws `ArgumentError` for what is no number, `ShapeError` for
 * ragged arrays.
 */
export function tensor(
  values: NestedNumbers | HostArray,
  options: { shape?: readonly number[]; dtype?: DType } = {},
): Tensor {
  if (ArrayBuffer.isView(values)) {
    const dtype = options.dtype ?? dtypeOfArray(values);
    const data = values instanceof DTYPES[dtype].array ? values : hostArray(dtype, values);
    return fromHost(dtype, options.shape ?? [values.length], data);
  }
  const shape = shapeOfNested(values);
  const flat: number[] = [];
  flattenNested(values, shape, 0, flat);
  let first: NestedNumbers | undefined = values;
  while (Array.isArray(first)) first = first[0];
  const dtype = options.dtype ?? (typeof first === "boolean" ? "bool" : "f32");
  return adopt(dtype, options.shape ?? shape, hostArray(dtype, flat));
}

function dtypeOfArray(array: HostArray): DType {
  const found = (Object.keys(DTYPES) as DType[]).find(
    (d) => d !== "f16" && d !== "bf16" && array instanceof DTYPES[d].array,
  );
  if (!found)
    throw new ArgumentError(`tensor: a ${array.constructor.name} needs an explicit dtype (f16 or bf16)`);
  return found;
}

/** A number in a formula: embedded in compiled graphs as a constant. */
export function literal(value: number, dtype: DType = "f32"): Tensor {
  if (typeof value !== "number") throw new ArgumentError(`expected a number, got ${nameOf(value)}`);
  return fromHost(dtype, [], hostArray(dtype, [value]), "literal");
}

/** A constant array in a formula: embedded in compiled graphs, so keep it small. */
export function constant(dtype: DType, shape: readonly number[], values: ArrayLike<number>): Tensor {
  return fromHost(dtype, shape, hostArray(dtype, values), "literal");
}

/** The tensor itself, or a number as a scalar of the given dtype. Throws `DTypeError` for a fraction among integers. */
export function asTensor(x: TensorLike, dtype: DType): Tensor {
  if (x instanceof Tensor) return x;
  if (typeof x !== "number")
    throw new ArgumentError(`expected a tensor or a number, got ${x === null ? "null" : typeof x}`);
  if (isInteger(dtype) && !Number.isInteger(x))
    throw new DTypeError(`${x} does not go with a tensor of ${dtype}: cast the tensor first`);
  return literal(x, dtype);
}

/** All elements equal. Takes no memory until a value is needed. */
export function full(shape: readonly number[], value: number, dtype: DType = "f32"): Tensor {
  checkShape(shape);
  assertTensorFits(shape, dtype);
  return literal(value, dtype).broadcastTo(shape);
}
/** All elements 0. */
export function zeros(shape: readonly number[], dtype: DType = "f32"): Tensor {
  return full(shape, 0, dtype);
}
/** All elements 1. */
export function ones(shape: readonly number[], dtype: DType = "f32"): Tensor {
  return full(shape, 1, dtype);
}
/** Zeros of the shape and dtype of a tensor. */
export function zerosLike(x: Tensor): Tensor {
  return full(x.shape, 0, x.dtype);
}
/** Ones of the shape and dtype of a tensor. */
export function onesLike(x: Tensor): Tensor {
  return full(x.shape, 1, x.dtype);
}

/** `start, start + step, …` below `stop`. */
export function arange(start: number, stop: number, step = 1, dtype: DType = "i64"): Tensor {
  const count = Math.max(0, Math.ceil((stop - start) / step));
  if (!Number.isFinite(count))
    throw new ArgumentError(
      `arange: expected finite bounds and a non-zero step, got ${start}, ${stop}, ${step}`,
    );
  assertTensorFits([count], dtype);
  return constant(
    dtype,
    [count],
    Array.from({ length: count }, (_, i) => start + i * step),
  );
}

/** `count` evenly spaced numbers from `start` to `stop`, both included. */
export function linspace(start: number, stop: number, count: number, dtype: DType = "f32"): Tensor {
  return constant(
    dtype,
    [count],
    Array.from({ length: count }, (_, i) => start + (i * (stop - start)) / Math.max(1, count - 1)),
  );
}

/** Identity matrix. */
export function eye(n: number, dtype: DType = "f32"): Tensor {
  assertTensorFits([n, n], dtype);
  const data = new DTYPES[dtype].array(n * n);
  for (let i = 0; i < n; i++) data[i * n + i] = hostArray(dtype, [1])[0] as never;
  return fromHost(dtype, [n, n], data, "literal");
}

/** Lower-triangular mask: `true` where column <= row + diagonal. The causal mask is `tril(T, T)`. */
export function tril(rows: number, columns: number, diagonal = 0): Tensor {
  assertTensorFits([rows, columns], "bool");
  return constant(
    "bool",
    [rows, columns],
    Array.from({ length: rows * columns }, (_, i) =>
      i % columns <= Math.floor(i / columns) + diagonal ? 1 : 0,
    ),
  );
}
