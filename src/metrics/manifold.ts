/**
 * Fidelity and diversity by nearest neighbours: precision and recall (Kynkäänniemi et al., 2019), density and coverage
 * (Naeem et al., 2020). Memory is O(N), time O(N² D).
 */
import { ArgumentError, ShapeError } from "../errors.ts";
import type { SampleTable } from "./sample-table.ts";

/** Precision, recall, density and coverage. */
export interface ManifoldScores {
  /** Share of generated samples inside the real manifold, and of real samples inside the generated one. */
  readonly precision: number;
  readonly recall: number;
  /** How many real balls hold a generated sample, over k; may exceed 1. */
  readonly density: number;
  /** Share of real samples whose ball holds a generated one. */
  readonly coverage: number;
}

function squaredDistance(a: Float64Array, i: number, b: Float64Array, j: number, width: number): number {
  let sum = 0;
  for (let k = 0; k < width; k++) sum += (a[i * width + k]! - b[j * width + k]!) ** 2;
  return sum;
}

/** Squared distance of every row to its k-th nearest other row. */
function kthNeighbour(rows: Float64Array, width: number, k: number): Float64Array {
  const n = rows.length / width;
  const radii = new Float64Array(n);
  const distances = new Float64Array(n - 1);
  for (let i = 0; i < n; i++) {
    for (let j = 0, at = 0; j < n; j++) {
      if (j !== i) distances[at++] = squaredDistance(rows, i, rows, j, width);
    }
    radii[i] = distances.sort()[k - 1]!;
  }
  return radii;
}

/** All four scores. @throws ArgumentError unless both sets have more than k samples. */
export function manifoldScores(real: SampleTable, generated: SampleTable, k = 5): ManifoldScores {
  const { width } = real;
  if (generated.width !== width)
    throw new ShapeError(`manifoldScores: features of width ${width} and ${generated.width}`);
  const [n, m] = [real.size, generated.size];
  if (!(Number.isSafeInteger(k) && k >= 1 && n > k && m > k))
    throw new ArgumentError(
      `manifoldScores: k = ${k} neighbours need more samples than k, got ${n} and ${m}`,
    );
  const [r, g] = [real.values(), generated.values()];
  const [realRadii, generatedRadii] = [kthNeighbour(r, width, k), kthNeighbour(g, width, k)];
  const insideReal = new Uint8Array(m);
  let [recalled, balls, covered] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    let [recall, nearest] = [false, Number.POSITIVE_INFINITY];
    for (let j = 0; j < m; j++) {
      const distance = squaredDistance(r, i, g, j, width);
      nearest = Math.min(nearest, distance);
      recall ||= distance <= generatedRadii[j]!;
      if (distance <= realRadii[i]!) {
        balls++;
        insideReal[j] = 1;
      }
    }
    if (recall) recalled++;
    if (nearest <= realRadii[i]!) covered++;
  }
  return {
    precision: insideReal.reduce((sum, x) => sum + x, 0) / m,
    recall: recalled / n,
    density: balls / (k * m),
    coverage: covered / n,
  };
}
