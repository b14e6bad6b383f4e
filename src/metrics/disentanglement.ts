/** Disentanglement of latents: mutual information gap (Chen et al., 2018) and mean correlation coefficient. */
import { ArgumentError, ShapeError } from "../errors.ts";
import { assignment } from "./matching.ts";
import type { SampleTable } from "./sample-table.ts";

const column = (values: Float64Array, width: number, j: number): Float64Array =>
  Float64Array.from({ length: values.length / width }, (_, i) => values[i * width + j]!);

/** Columns of latents and factors of the same samples. */
function columns(name: string, latents: SampleTable, factors: SampleTable): [Float64Array[], Float64Array[]] {
  if (latents.size !== factors.size || latents.size < 2)
    throw new ShapeError(`${name}: ${latents.size} samples of latents and ${factors.size} of factors`);
  return [latents, factors].map((table) => {
    const values = table.values();
    return Array.from({ length: table.width }, (_, j) => column(values, table.width, j));
  }) as [Float64Array[], Float64Array[]];
}

/** Values as bin numbers: `bins` of equal width from the least to the greatest. */
function histogramBins(values: Float64Array, bins: number): Int32Array {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const x of values) [low, high] = [Math.min(low, x), Math.max(high, x)];
  const scale = high > low ? bins / (high - low) : 0;
  return Int32Array.from(values, (x) => Math.min(bins - 1, Math.floor((x - low) * scale)));
}

function entropy(counts: Iterable<number>, n: number): number {
  let sum = 0;
  for (const count of counts) sum -= (count / n) * Math.log(count / n);
  return sum;
}

function countsOf(keys: Iterable<number>): Map<number, number> {
  const counts = new Map<number, number>();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts;
}

/** Mutual information of two discrete variables, in nats. */
export function mutualInformation(a: Int32Array, b: Int32Array): number {
  const n = a.length;
  const width = b.reduce((most, x) => Math.max(most, x), 0) + 1;
  const joint = a.map((x, i) => x * width + b[i]!);
  return (
    entropy(countsOf(a).values(), n) + entropy(countsOf(b).values(), n) - entropy(countsOf(joint).values(), n)
  );
}

/**
 * MIG: for every factor the gap between the two latents that tell most about it, over the factor's entropy; mean over
 * the factors. Latents are cut in `bins` of equal width; factors hold non-negative integers.
 */
export function mutualInformationGap(latents: SampleTable, factors: SampleTable, bins = 20): number {
  const [zs, vs] = columns("mutualInformationGap", latents, factors);
  if (zs.length < 2) throw new ArgumentError("mutualInformationGap: a gap needs at least 2 latents");
  const binned = zs.map((z) => histogramBins(z, bins));
  const gaps = vs.map((v, k) => {
    const bad = v.findIndex((x) => !(Number.isSafeInteger(x) && x >= 0));
    if (bad >= 0)
      throw new ArgumentError(
        `mutualInformationGap: factor ${k} of sample ${bad} is ${v[bad]}, expected an index`,
      );
    const labels = Int32Array.from(v);
    const h = entropy(countsOf(labels).values(), labels.length);
    if (h === 0) throw new ArgumentError(`mutualInformationGap: factor ${k} is constant`);
    const [first, second] = binned.map((z) => mutualInformation(z, labels)).sort((a, b) => b - a);
    return (first! - second!) / h;
  });
  return gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
}

/** Pearson correlation; 0 when either side is constant. */
export function correlation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const n = a.length;
  const mean = (x: ArrayLike<number>): number => Array.from(x).reduce((sum, value) => sum + value, 0) / n;
  const [ma, mb] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const [x, y] = [a[i]! - ma, b[i]! - mb];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : 0;
}

/** MCC: mean |correlation| of factors and latents, matched one to one for the greatest sum. */
export function meanCorrelationCoefficient(latents: SampleTable, factors: SampleTable): number {
  const [zs, vs] = columns("meanCorrelationCoefficient", latents, factors);
  const strength = vs.map((v) => zs.map((z) => Math.abs(correlation(v, z))));
  const latentOf = assignment(strength.map((row) => row.map((x) => -x)));
  return latentOf.reduce((sum, z, k) => sum + (z < 0 ? 0 : strength[k]![z]!), 0) / vs.length;
}
