/**
 * Linear probes in closed form: ridge regression onto the classes, by which features are judged without training
 * (as few-shot evaluation of vision transformers does).
 */
import { CholeskyDecomposition, Matrix } from "ml-matrix";
import { ArgumentError, NonFiniteError, ShapeError } from "../errors.ts";
import { fillPermutation, type Seed } from "../tensor/index.ts";

/** Rows of numbers with a label each. */
export interface LabelledFeatures {
  /** Row-major. // [N, width] */
  readonly rows: Float32Array | Float64Array;
  readonly width: number;
  readonly labels: ArrayLike<number>;
}

/** Options of `ridgeProbe`. */
export interface RidgeOptions {
  readonly classes: number;
  /** Weight of the squared coefficients. */
  readonly lambda: number;
}

/** Class by row. */
export type Probe = (rows: Float32Array | Float64Array) => Int32Array;

/** The feature that stands for the bias: so large that it is hardly penalised. */
const BIAS = 100;

function checkFeatures({ rows, width, labels }: LabelledFeatures, classes: number): number {
  const count = rows.length / width;
  if (!Number.isInteger(count) || count !== labels.length)
    throw new ShapeError(`ridgeProbe: ${rows.length} numbers are no ${labels.length} rows of ${width}`);
  if (count < 2) throw new ArgumentError(`ridgeProbe: needs at least 2 samples, got ${count}`);
  const bad = rows.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    throw new NonFiniteError(
      `ridgeProbe: feature ${bad % width} of sample ${Math.floor(bad / width)} is ${rows[bad]}`,
    );
  for (let i = 0; i < count; i++)
    if (!Number.isInteger(labels[i]) || labels[i]! < 0 || labels[i]! >= classes)
      throw new ArgumentError(`ridgeProbe: expected labels in 0 ... ${classes - 1}, got ${labels[i]}`);
  return count;
}

/** Mean and deviation of every column, by which support and query alike are standardised. */
function standardizer({ rows, width }: LabelledFeatures, count: number) {
  const mean = new Float64Array(width);
  const deviation = new Float64Array(width);
  rows.forEach((value, at) => {
    mean[at % width]! += value / count;
  });
  rows.forEach((value, at) => {
    deviation[at % width]! += (value - mean[at % width]!) ** 2 / count;
  });
  const scale = deviation.map((variance) => 1 / (Math.sqrt(variance) + 1e-5));
  /** Standardised rows with the bias behind them. // [N, width + 1] */
  return (given: Float32Array | Float64Array): Float64Array => {
    const n = given.length / width;
    const out = new Float64Array(n * (width + 1));
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < width; j++)
        out[i * (width + 1) + j] = (given[i * width + j]! - mean[j]!) * scale[j]!;
      out[i * (width + 1) + width] = BIAS;
    }
    return out;
  };
}

/** Products of all rows with each other. // [n, n] of rows [n, d] */
function gram(x: Float64Array, n: number, d: number): Float64Array {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const a = x.subarray(i * d, (i + 1) * d);
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = 0, at = j * d; k < d; k++, at++) sum += a[k]! * x[at]!;
      out[i * n + j] = sum;
      out[j * n + i] = sum;
    }
  }
  return out;
}

function transposed(x: Float64Array, n: number, d: number): Float64Array {
  const out = new Float64Array(n * d);
  for (let i = 0; i < n; i++) for (let j = 0; j < d; j++) out[j * n + i] = x[i * d + j]!;
  return out;
}

/** (A + lambda I)^-1 B for a symmetric A [n, n]. */
function solve(a: Float64Array, n: number, lambda: number, b: Matrix): Matrix {
  const regular = Matrix.from1DArray(n, n, a);
  for (let i = 0; i < n; i++) regular.set(i, i, regular.get(i, i) + lambda);
  return new CholeskyDecomposition(regular).solve(b);
}

/**
 * Ridge regressions of one support for many lambdas: what does not depend on lambda is computed once. With fewer
 * samples than columns the system of samples is solved instead of that of columns.
 */
function ridges(support: LabelledFeatures, classes: number): (lambda: number) => Probe {
  const n = checkFeatures(support, classes);
  const standardize = standardizer(support, n);
  const d = support.width + 1;
  const x = standardize(support.rows); // [n, d]
  const targets = Matrix.from1DArray(
    n,
    classes,
    Array.from({ length: n * classes }, (_, at) =>
      support.labels[Math.floor(at / classes)] === at % classes ? 1 : -1,
    ),
  );
  const few = n < d;
  const columns = transposed(x, n, d); // [d, n]
  const products = few ? gram(x, n, d) : gram(columns, d, n);
  const columnMatrix = Matrix.from1DArray(d, n, columns);
  const right = few ? targets : columnMatrix.mmul(targets);
  return (lambda) => {
    if (!(lambda > 0)) throw new ArgumentError(`ridgeProbe: expected a positive lambda, got ${lambda}`);
    const solved = solve(products, few ? n : d, lambda, right);
    const weights = few ? columnMatrix.mmul(solved) : solved; // [d, classes]
    return (rows) => {
      if (rows.length % support.width !== 0)
        throw new ShapeError(`ridgeProbe: ${rows.length} numbers are no rows of ${support.width}`);
      const count = rows.length / support.width;
      const scores = Matrix.from1DArray(count, d, standardize(rows)).mmul(weights);
      return Int32Array.from({ length: count }, (_, i) => scores.maxRowIndex(i)[1]!);
    };
  };
}

/**
 * A classifier by ridge regression: columns standardised by the support, targets 1 for the class and -1 for the others.
 * Throws `ArgumentError` for labels outside the classes, `NonFiniteError` naming a feature that is not finite.
 */
export const ridgeProbe = (support: LabelledFeatures, { classes, lambda }: RidgeOptions): Probe =>
  ridges(support, classes)(lambda);

/** Share of rows that a probe labels right. */
export function probeAccuracy(probe: Probe, { rows, labels }: LabelledFeatures): number {
  const found = probe(rows);
  return found.reduce((right, label, i) => right + (label === labels[i] ? 1 : 0), 0) / found.length;
}

const rowsAt = ({ rows, width, labels }: LabelledFeatures, indices: readonly number[]): LabelledFeatures => {
  const out = new Float64Array(indices.length * width);
  for (const [i, index] of indices.entries())
    out.set(rows.subarray(index * width, (index + 1) * width), i * width);
  return { rows: out, width, labels: indices.map((i) => labels[i]!) };
};

/** Samples of each class, chosen by the seed. Throws `ArgumentError` for a class with fewer. */
export function fewShot(
  all: LabelledFeatures,
  { classes, shots, seed }: { classes: number; shots: number; seed: Seed },
): LabelledFeatures {
  const order = fillPermutation(new Int32Array(all.labels.length), {
    seed,
    sample: 0,
    purpose: "shots",
    step: 0,
  });
  const chosen: number[] = [];
  const taken = new Int32Array(classes);
  for (const i of order) {
    const label = all.labels[i]!;
    if (taken[label]! >= shots) continue;
    taken[label]!++;
    chosen.push(i);
  }
  const short = taken.findIndex((n) => n < shots);
  if (short >= 0)
    throw new ArgumentError(`fewShot: class ${short} has ${taken[short]} samples, ${shots} were asked for`);
  return rowsAt(all, chosen);
}

/** Options of `crossValidated` and `chooseLambda`. */
export interface LambdaOptions {
  readonly classes: number;
  readonly grid: readonly number[];
  /** Default 5. */
  readonly folds?: number;
  readonly seed: Seed;
}

/** The lambda of a grid with the best mean accuracy over folds of the support, and that accuracy; no query is looked at. */
export function crossValidated(
  support: LabelledFeatures,
  { classes, grid, folds = 5, seed }: LambdaOptions,
): { readonly lambda: number; readonly accuracy: number } {
  const n = support.labels.length;
  if (grid.length === 0) throw new ArgumentError("chooseLambda: the grid is empty");
  if (!(Number.isInteger(folds) && folds >= 2 && folds <= n))
    throw new ArgumentError(`chooseLambda: ${folds} folds of ${n} samples`);
  const order = [...fillPermutation(new Int32Array(n), { seed, sample: 0, purpose: "folds", step: 0 })];
  const scores = new Float64Array(grid.length);
  for (let fold = 0; fold < folds; fold++) {
    const held = rowsAt(
      support,
      order.filter((_, k) => k % folds === fold),
    );
    const at = ridges(
      rowsAt(
        support,
        order.filter((_, k) => k % folds !== fold),
      ),
      classes,
    );
    for (const [k, lambda] of grid.entries()) scores[k]! += probeAccuracy(at(lambda), held);
  }
  const best = Math.max(...scores);
  return { lambda: grid[scores.indexOf(best)]!, accuracy: best / folds };
}

/** The lambda that `crossValidated` finds. */
export const chooseLambda = (support: LabelledFeatures, options: LambdaOptions): number =>
  crossValidated(support, options).lambda;

/** Weights of the ridge that probes try on their support. */
export const LAMBDAS = [1, 10, 100, 1024, 10_000] as const;

/** Settings of a probe. */
export interface ProbeSettings {
  /** Samples of each class; "all": the whole support. */
  readonly shots: readonly (number | "all")[];
  readonly seed: Seed;
}

/** "100-shot", "all". */
export const shotsName = (shots: number | "all"): string => (shots === "all" ? "all" : `${shots}-shot`);

/** Accuracies by shots: on the query, and over folds of the support. */
export interface ProbeResult {
  readonly accuracies: Readonly<Record<string, number>>;
  readonly folds: Readonly<Record<string, number>>;
}

/** A ridge on few or all of the support; its lambda is chosen on the support. */
export function ridgeProbes(
  support: LabelledFeatures,
  query: LabelledFeatures,
  { shots, seed, classes }: ProbeSettings & { readonly classes: number },
): ProbeResult {
  const [accuracies, folds]: Record<string, number>[] = [{}, {}];
  for (const n of shots) {
    const chosen = n === "all" ? support : fewShot(support, { classes, shots: n, seed });
    const { lambda, accuracy } = crossValidated(chosen, { classes, grid: LAMBDAS, seed });
    folds![shotsName(n)] = accuracy;
    accuracies![shotsName(n)] = probeAccuracy(ridgeProbe(chosen, { classes, lambda }), query);
  }
  return { accuracies: accuracies!, folds: folds! };
}
