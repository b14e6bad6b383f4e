/**
 * Uniform quantisation of matrices on the host: x ≈ scale (code - zero), codes unsigned. One scale for the whole matrix,
 * for each row (output channel), or for each group of consecutive input channels of a row.
 */
import { ArgumentError, NonFiniteError } from "../../errors.ts";

/** What shares a scale: all values, the values of a row, or this many consecutive values of a row. */
export type Granularity = "tensor" | "row" | number;

/** How values become codes. */
export interface Grid {
  /** 2 to 8. */
  readonly bits: number;
  readonly granularity: Granularity;
  /** Scales from the largest magnitude, with the zero in the middle; else from minimum and maximum. */
  readonly symmetric: boolean;
}

export interface WeightGrid extends Grid {
  /** Whether ranges are shrunk to where the error of rounding is least. Default false. */
  readonly shrink?: boolean;
}

/** A matrix in codes. */
export interface QuantizedMatrix {
  readonly rows: number;
  readonly columns: number;
  readonly bits: number;
  /** Values that share a scale; divides `columns`. */
  readonly group: number;
  readonly codes: Uint8Array; // [rows, columns]
  readonly scales: Float32Array; // [rows, columns / group]
  readonly zeros: Uint8Array; // [rows, columns / group]
}

/** Scale and zero of one group. */
export interface Step {
  readonly scale: number;
  readonly zero: number;
}

/** Least range of a group, so that a constant one has a scale. */
const LEAST_RANGE = 1e-5;

const levels = (bits: number): number => 2 ** bits - 1;

/** Halves to even, as torch and ONNX round. */
export function roundEven(x: number): number {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

/** Scale and zero for values between two bounds. The range is extended to hold 0, which is then exact. */
export function stepOf(low: number, high: number, { bits, symmetric }: Omit<Grid, "granularity">): Step {
  if (symmetric) {
    const range = Math.max(Math.abs(low), Math.abs(high), LEAST_RANGE);
    return { scale: Math.fround(range / (2 ** (bits - 1) - 1)), zero: 2 ** (bits - 1) };
  }
  const [from, to] = [Math.min(low, 0), Math.max(high, 0)];
  const scale = Math.fround(Math.max(to - from, LEAST_RANGE) / levels(bits));
  return { scale, zero: Math.min(Math.max(roundEven(-from / scale), 0), levels(bits)) };
}

/** The code nearest to a value. */
export const encode = (x: number, { scale, zero }: Step, bits: number): number =>
  Math.min(Math.max(roundEven(x / scale) + zero, 0), levels(bits));

/** The value behind a code. */
export const decode = (code: number, { scale, zero }: Step): number => scale * (code - zero);

/** Shrink factors that are tried, and the power of the error that counts (as in the authors' search). */
const [SHRINKS, SHRINK_STEP, ERROR_POWER] = [100, 0.001, 2.4];

/** Scale and zero of a group of values, by its range or by the shrunk range of least error. */
export function fitStep(values: Float64Array | Float32Array, grid: Omit<WeightGrid, "granularity">): Step {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const x of values) {
    if (x < low) low = x;
    if (x > high) high = x;
  }
  const whole = stepOf(low, high, grid);
  if (!grid.shrink) return whole;
  let best = whole;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < SHRINKS; i++) {
    const factor = 1 - i * SHRINK_STEP;
    const step = stepOf(low * factor, high * factor, grid);
    let error = 0;
    for (const x of values) error += Math.abs(decode(encode(x, step, grid.bits), step) - x) ** ERROR_POWER;
    if (error < least) [best, least] = [step, error];
  }
  return best;
}

/** Values in a row that share a scale. Throws `ArgumentError` when groups do not divide the row, naming `what`. */
export function groupSize(granularity: Granularity, columns: number, what = "quantize"): number {
  if (granularity === "tensor" || granularity === "row") return columns;
  if (!Number.isInteger(granularity) || granularity < 1)
    throw new ArgumentError(`${what}: expected a group size of a positive integer, got ${granularity}`);
  if (columns % granularity !== 0)
    throw new ArgumentError(
      `${what}: groups of ${granularity} do not divide ${columns} input channels; ${possibleGroups(columns)}`,
    );
  return granularity;
}

/** Which group sizes there are: those that can be packed; where there are none, that the layer is to be left out. */
function possibleGroups(n: number): string {
  const all = Array.from({ length: Math.min(n, 512) }, (_, i) => i + 1).filter((d) => n % d === 0);
  const packable = all.filter((d) => d % 16 === 0);
  if (packable.length > 0) return `possible are ${packable.join(", ")}`;
  return `none that divides them is a multiple of 16, which packing needs: exclude the layer (without packing: ${all.join(", ")})`;
}

/** Throws `ArgumentError` unless the bits are 2 to 8. */
export function checkBits(bits: number, what: string): void {
  if (!Number.isInteger(bits) || bits < 2 || bits > 8)
    throw new ArgumentError(`${what}: expected 2 to 8 bits, got ${bits}`);
}

/** Throws `NonFiniteError`, naming the matrix, unless all values are finite. */
export function checkFinite(values: ArrayLike<number>, columns: number, what: string): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i]))
      throw new NonFiniteError(
        `${what}: the value at row ${Math.floor(i / columns)}, column ${i % columns} is ${values[i]}`,
      );
  }
}

/** An empty matrix to be filled with codes. Checks the grid and the values. */
export function emptyMatrix(
  values: ArrayLike<number>,
  rows: number,
  columns: number,
  grid: WeightGrid,
  what: string,
): QuantizedMatrix {
  checkBits(grid.bits, what);
  checkFinite(values, columns, what);
  const group = groupSize(grid.granularity, columns, what);
  const groups = columns / group;
  return {
    rows,
    columns,
    bits: grid.bits,
    group,
    codes: new Uint8Array(rows * columns),
    scales: new Float32Array(rows * groups),
    zeros: new Uint8Array(rows * groups),
  };
}

/**
 * Rounds a matrix [rows, columns] to nearest. Throws `ArgumentError` for groups that do not divide the columns or other
 * than 2 to 8 bits, `NonFiniteError` for NaN and infinity; messages name `what`.
 */
export function quantizeMatrix(
  values: Float32Array,
  rows: number,
  columns: number,
  grid: WeightGrid,
  what = "quantizeMatrix",
): QuantizedMatrix {
  const out = emptyMatrix(values, rows, columns, grid, what);
  const { group } = out;
  const shared = grid.granularity === "tensor" ? fitStep(values, grid) : undefined;
  for (let at = 0, u = 0; at < values.length; at += group, u++) {
    const slice = values.subarray(at, at + group);
    const step = shared ?? fitStep(slice, grid);
    out.scales[u] = step.scale;
    out.zeros[u] = step.zero;
    for (let i = 0; i < group; i++) out.codes[at + i] = encode(slice[i]!, step, grid.bits);
  }
  return out;
}

/** The matrix behind the codes. // [rows, columns] */
export function dequantizeMatrix({ codes, scales, zeros, group }: QuantizedMatrix): Float32Array {
  const out = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    const u = Math.floor(i / group);
    out[i] = scales[u]! * (codes[i]! - zeros[u]!);
  }
  return out;
}
