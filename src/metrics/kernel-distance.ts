/** Kernel inception distance (Binkowski et al., 2018): unbiased MMD² with a cubic polynomial kernel. */
import { ArgumentError, ShapeError } from "../errors.ts";
import { fillPermutation, type Seed } from "../tensor/index.ts";
import type { SampleTable } from "./sample-table.ts";

/** Options of `kernelDistance`. */
export interface KernelDistanceOptions {
  /** Number of subsets and their size. Default 100 subsets of at most 1000. */
  readonly subsets?: number;
  readonly subsetSize?: number;
  readonly seed?: Seed;
}

/** (x·y / D + 1)³ summed over all pairs, and over the pairs of a row with itself. */
function kernelSums(a: Float64Array, b: Float64Array, width: number): { total: number; diagonal: number } {
  let [total, diagonal] = [0, 0];
  for (let i = 0; i < a.length; i += width) {
    for (let j = 0; j < b.length; j += width) {
      let dot = 0;
      for (let k = 0; k < width; k++) dot += a[i + k]! * b[j + k]!;
      const value = (dot / width + 1) ** 3;
      total += value;
      if (i === j) diagonal += value;
    }
  }
  return { total, diagonal };
}

/** Unbiased estimate of MMD² between two sets of m rows each. */
export function polynomialMmd(a: Float64Array, b: Float64Array, width: number): number {
  const m = a.length / width;
  if (a.length !== b.length || !Number.isInteger(m))
    throw new ShapeError(`polynomialMmd: expected two sets of equally many rows of ${width}`);
  if (m < 2) throw new ArgumentError(`polynomialMmd: needs at least 2 rows, got ${m}`);
  const [aa, bb, ab] = [kernelSums(a, a, width), kernelSums(b, b, width), kernelSums(a, b, width)];
  return (aa.total - aa.diagonal + bb.total - bb.diagonal) / (m * (m - 1)) - (2 * ab.total) / (m * m);
}

/** KID: mean and standard deviation over random subsets. @throws ShapeError for features of different widths. */
export function kernelDistance(
  real: SampleTable,
  generated: SampleTable,
  options: KernelDistanceOptions = {},
): { mean: number; std: number; subsetSize: number } {
  const { width } = real;
  if (generated.width !== width)
    throw new ShapeError(`kernelDistance: features of width ${width} and ${generated.width}`);
  const { subsets = 100, subsetSize = 1000, seed = 0 } = options;
  const size = Math.min(subsetSize, real.size, generated.size);
  if (!(size >= 2 && subsets >= 1))
    throw new ArgumentError(`kernelDistance: needs 2 samples and 1 subset, got ${size} and ${subsets}`);
  const sets = [real.values(), generated.values()];
  const draw = (set: number, sample: number): Float64Array => {
    const order = new Int32Array(sets[set]!.length / width);
    fillPermutation(order, { seed, sample, purpose: set, step: 0 });
    const rows = new Float64Array(size * width);
    for (let i = 0; i < size; i++)
      rows.set(sets[set]!.subarray(order[i]! * width, (order[i]! + 1) * width), i * width);
    return rows;
  };
  const found = Array.from({ length: subsets }, (_, s) => polynomialMmd(draw(0, s), draw(1, s), width));
  const mean = found.reduce((sum, x) => sum + x, 0) / subsets;
  const std = Math.sqrt(found.reduce((sum, x) => sum + (x - mean) ** 2, 0) / subsets);
  return { mean, std, subsetSize: size };
}
