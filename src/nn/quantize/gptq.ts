/**
 * GPTQ (Frantar et al. 2023): rounds the weights of a row one by one, each time moving the rest so that they make up for
 * the error on the inputs that the layer really gets. In double precision.
 */
import { CalibrationError, ShapeError } from "../../errors.ts";
import {
  decode,
  emptyMatrix,
  encode,
  fitStep,
  type QuantizedMatrix,
  type Step,
  type WeightGrid,
} from "./grid.ts";

/** Options of `cholesky` and `gptq`. */
export interface GptqOptions {
  /**
   * Columns in their order, with ranges from what the weights have become when their group begins, as released; or first
   * those of the largest inputs, whose errors all others can then make up for, with ranges from the original weights.
   * Default "largest-first".
   */
  readonly order?: "columns" | "largest-first";
  /** Share of the mean of the diagonal that is added to it. Default 0.01. */
  readonly damping?: number;
  /** How often the damping is multiplied by 10 when the factorisation fails. Default 3. */
  readonly retries?: number;
}

/** Lower Cholesky factor of a symmetric matrix [n, n], or undefined when it is not positive definite. */
export function cholesky(matrix: Float64Array, n: number): Float64Array | undefined {
  const lower = new Float64Array(n * n);
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      let sum = matrix[i * n + j]!;
      for (let k = 0, a = i * n, b = j * n; k < j; k++) sum -= lower[a++]! * lower[b++]!;
      if (i > j) lower[i * n + j] = sum / lower[j * n + j]!;
      else if (sum > 0 && Number.isFinite(sum)) lower[j * n + j] = Math.sqrt(sum);
      else return undefined;
    }
  }
  return lower;
}

/** Inverse of the matrix whose lower Cholesky factor is given. */
function inverseOf(lower: Float64Array, n: number): Float64Array {
  const inverse = new Float64Array(n * n); // of the factor, row by row
  for (let j = 0; j < n; j++) {
    inverse[j * n + j] = 1 / lower[j * n + j]!;
    for (let i = j + 1; i < n; i++) {
      let sum = 0;
      for (let k = j; k < i; k++) sum -= lower[i * n + k]! * inverse[k * n + j]!;
      inverse[i * n + j] = sum / lower[i * n + i]!;
    }
  }
  const out = new Float64Array(n * n);
  for (let k = 0; k < n; k++) {
    for (let i = 0; i <= k; i++) {
      const x = inverse[k * n + i]!;
      for (let j = 0; j <= i; j++) out[i * n + j]! += x * inverse[k * n + j]!;
    }
  }
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) out[i * n + j] = out[j * n + i]!;
  return out;
}

/** Upper Cholesky factor of the inverse of a damped Hessian, row-major. */
function inverseFactor(hessian: Float64Array, n: number, options: GptqOptions, what: string): Float64Array {
  const { damping = 0.01, retries = 3 } = options;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += hessian[i * n + i]! / n;
  for (let attempt = 0, share = damping; attempt <= retries; attempt++, share *= 10) {
    const damped = hessian.slice();
    for (let i = 0; i < n; i++) damped[i * n + i]! += share * mean;
    const lower = cholesky(damped, n);
    const factor = lower && cholesky(inverseOf(lower, n), n);
    if (!factor) continue;
    const upper = new Float64Array(n * n);
    for (let i = 0; i < n; i++) for (let j = i; j < n; j++) upper[i * n + j] = factor[j * n + i]!;
    return upper;
  }
  throw new CalibrationError(
    `${what}: the second moments of the inputs are not positive definite, even with ${damping} to ${damping * 10 ** retries} of their mean added; calibrate with more and more varied samples`,
  );
}

/** The order in which columns are rounded. */
function columnOrder(
  hessian: Float64Array,
  n: number,
  order: GptqOptions["order"] = "largest-first",
): number[] {
  const columns = Array.from({ length: n }, (_, i) => i);
  const size = (i: number): number => hessian[i * n + i]!;
  return order === "columns" ? columns : columns.sort((a, b) => size(b) - size(a) || a - b);
}

const permuted = (matrix: Float64Array, order: readonly number[]): Float64Array =>
  matrix.map((_, at) => {
    const n = order.length;
    return matrix[order[Math.floor(at / n)]! * n + order[at % n]!]!;
  });

/**
 * Rounds a matrix [rows, columns] for inputs whose second moments are `hessian` [columns, columns] (of any scale). Inputs
 * that are always 0 get weight 0. Throws `CalibrationError` when the Hessian cannot be factorised, `ShapeError` when it
 * is of another size, and as `quantizeMatrix`.
 */
export function gptq(
  values: Float32Array,
  rows: number,
  columns: number,
  hessian: Float64Array,
  grid: WeightGrid,
  options: GptqOptions = {},
  what = "gptq",
): QuantizedMatrix {
  const out = emptyMatrix(values, rows, columns, grid, what);
  if (hessian.length !== columns * columns)
    throw new ShapeError(
      `${what}: expected a Hessian [${columns}, ${columns}], got ${hessian.length} values`,
    );
  const h = hessian.slice();
  const dead = Array.from({ length: columns }, (_, i) => h[i * columns + i] === 0);
  for (const [i, isDead] of dead.entries()) if (isDead) h[i * columns + i] = 1;
  const order = columnOrder(h, columns, options.order);
  const upper = inverseFactor(permuted(h, order), columns, options, what);
  const shared = grid.granularity === "tensor" ? fitStep(values, grid) : undefined;
  const { group } = out;
  const groups = columns / group;
  const inOrder = options.order === "columns";

  for (let r = 0; r < rows; r++) {
    const original = Float64Array.from(values.subarray(r * columns, (r + 1) * columns), (w, i) =>
      dead[i] ? 0 : w,
    );
    const row = Float64Array.from(order, (i) => original[i]!);
    const steps: Step[] = [];
    for (const [at, i] of order.entries()) {
      const g = Math.floor(i / group);
      if (!steps[g]) {
        const seen = inOrder ? row.subarray(at, at + group) : original.subarray(g * group, (g + 1) * group);
        const { scale, zero } = (steps[g] = shared ?? fitStep(seen, grid));
        out.scales[r * groups + g] = scale;
        out.zeros[r * groups + g] = zero;
      }
      const step = steps[g]!;
      const code = encode(row[at]!, step, grid.bits);
      out.codes[r * columns + i] = code;
      const error = (row[at]! - decode(code, step)) / upper[at * columns + at]!;
      for (let j = at + 1; j < columns; j++) row[j]! -= error * upper[at * columns + j]!;
    }
  }
  return out;
}
