/** Overlap and boundary distance of masks. Counts are integers, so volumes and shards add up exactly. */
import { ArgumentError, ShapeError } from "../errors.ts";

import { quantile } from "./bootstrap.ts";
/** Pixels of one class: where prediction and truth agree on it, and where only one has it. */
export interface OverlapCounts {
  readonly both: number;
  readonly predictedOnly: number;
  readonly truthOnly: number;
}

/**
 * Counts of every class over label maps of one size. @throws ShapeError for different sizes, ArgumentError for a label
 * outside 0 .. classes - 1.
 */
export function overlapCounts(
  predicted: ArrayLike<number>,
  truth: ArrayLike<number>,
  classes: number,
): OverlapCounts[] {
  if (predicted.length !== truth.length)
    throw new ShapeError(`overlapCounts: ${predicted.length} predicted pixels and ${truth.length} true ones`);
  const counts = Array.from({ length: classes }, () => ({ both: 0, predictedOnly: 0, truthOnly: 0 }));
  for (let i = 0; i < truth.length; i++) {
    const [p, t] = [counts[predicted[i]!], counts[truth[i]!]];
    if (!p || !t)
      throw new ArgumentError(
        `overlapCounts: pixel ${i} has labels ${predicted[i]} and ${truth[i]}, expected 0 to ${classes - 1}`,
      );
    if (p === t) p.both++;
    else {
      p.predictedOnly++;
      t.truthOnly++;
    }
  }
  return counts;
}

/** Counts of several parts of one whole, such as the slices of a volume. */
export const addCounts = (parts: readonly OverlapCounts[]): OverlapCounts =>
  parts.reduce(
    (sum, part) => ({
      both: sum.both + part.both,
      predictedOnly: sum.predictedOnly + part.predictedOnly,
      truthOnly: sum.truthOnly + part.truthOnly,
    }),
    { both: 0, predictedOnly: 0, truthOnly: 0 },
  );

/** 2 |A and B| / (|A| + |B|); 1 when neither has a pixel. */
export function dice({ both, predictedOnly, truthOnly }: OverlapCounts): number {
  const sum = 2 * both + predictedOnly + truthOnly;
  return sum === 0 ? 1 : (2 * both) / sum;
}

/** |A and B| / |A or B|; 1 when neither has a pixel. */
export function iou({ both, predictedOnly, truthOnly }: OverlapCounts): number {
  const union = both + predictedOnly + truthOnly;
  return union === 0 ? 1 : both / union;
}

/** Mask pixels that touch the background or the border of the picture, by their four neighbours. */
function boundary(mask: ArrayLike<number | boolean>, width: number, height: number): Uint8Array {
  const edge = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      if (!mask[at]) continue;
      const inside = x > 0 && y > 0 && x + 1 < width && y + 1 < height;
      if (!(inside && mask[at - 1] && mask[at + 1] && mask[at - width] && mask[at + width])) edge[at] = 1;
    }
  }
  return edge;
}

/** Squared distance transform of one line, in place (Felzenszwalb and Huttenlocher, 2012, algorithm DT(f)). */
function transformLine(line: Float64Array, spacing: number): void {
  const f = line.slice();
  const parabolas: number[] = [];
  const starts: number[] = [];
  const weight = spacing * spacing;
  for (let q = 0; q < f.length; q++) {
    if (f[q] === Number.POSITIVE_INFINITY) continue;
    let start = Number.NEGATIVE_INFINITY;
    while (parabolas.length > 0) {
      const p = parabolas.at(-1)!;
      start = (f[q]! + weight * q * q - f[p]! - weight * p * p) / (2 * weight * (q - p));
      if (start > starts.at(-1)!) break;
      parabolas.pop();
      starts.pop();
      start = Number.NEGATIVE_INFINITY;
    }
    parabolas.push(q);
    starts.push(start);
  }
  if (parabolas.length === 0) return;
  for (let q = 0, k = 0; q < f.length; q++) {
    while (k + 1 < starts.length && starts[k + 1]! < q) k++;
    const p = parabolas[k]!;
    line[q] = weight * (q - p) ** 2 + f[p]!;
  }
}

/** Distance of every pixel to the nearest set pixel; infinite without one. `spacing` is the size of a pixel [x, y]. */
export function distanceTransform(
  mask: ArrayLike<number | boolean>,
  width: number,
  height: number,
  spacing: readonly [x: number, y: number] = [1, 1],
): Float64Array {
  if (mask.length !== width * height)
    throw new ShapeError(`distanceTransform: ${mask.length} pixels are not ${width}x${height}`);
  const squared = Float64Array.from({ length: mask.length }, (_, i) =>
    mask[i] ? 0 : Number.POSITIVE_INFINITY,
  );
  for (let y = 0; y < height; y++) transformLine(squared.subarray(y * width, (y + 1) * width), spacing[0]);
  const column = new Float64Array(height);
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) column[y] = squared[y * width + x]!;
    transformLine(column, spacing[1]);
    for (let y = 0; y < height; y++) squared[y * width + x] = column[y]!;
  }
  return squared.map(Math.sqrt);
}

/**
 * Hausdorff distance of the masks' boundaries at a percentile (100 is the classic maximum, 95 the usual robust one),
 * the larger of the two directions. 0 when both are empty, infinite when one is.
 */
export function hausdorff(
  a: ArrayLike<number | boolean>,
  b: ArrayLike<number | boolean>,
  width: number,
  height: number,
  options: { percentile?: number; spacing?: readonly [x: number, y: number] } = {},
): number {
  const { percentile = 95, spacing } = options;
  if (a.length !== b.length) throw new ShapeError(`hausdorff: masks of ${a.length} and ${b.length} pixels`);
  const edges = [boundary(a, width, height), boundary(b, width, height)] as const;
  const sizes = edges.map((edge) => edge.reduce((sum, x) => sum + x, 0));
  if (sizes[0] === 0 && sizes[1] === 0) return 0;
  if (sizes[0] === 0 || sizes[1] === 0) return Number.POSITIVE_INFINITY;
  const directed = (from: Uint8Array, to: Uint8Array): number => {
    const distances = distanceTransform(to, width, height, spacing).filter((_, i) => from[i]);
    return quantile(distances.sort(), percentile / 100);
  };
  return Math.max(directed(edges[0], edges[1]), directed(edges[1], edges[0]));
}
