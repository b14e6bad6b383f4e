/** Sums and maxima over groups of rows, and places in sorted rows. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import type { Tensor } from "../tensor.ts";
import { logicalAnd, minimum, where } from "./arithmetic.ts";
import { full, zeros } from "./create.ts";
import { gatherElements, scatterND } from "./indexing.ts";
import { broadcastTo, unsqueeze } from "./shape.ts";

function checkSegments(what: string, x: Tensor, ids: Tensor, segments: number): void {
  if (!(Number.isInteger(segments) && segments >= 1))
    throw new ArgumentError(`${what}: expected a positive number of segments, got ${segments}`);
  if (ids.rank !== 1 || x.rank < 1 || ids.shape[0] !== x.shape[0])
    throw new ShapeError(`${what}: expected rows [n, …] with their segments [n], got ${x} and ${ids}`);
}

/** Sums [segments, …] of the rows of x [n, …] by their segment, ids [n] from 0 to segments - 1 in any order. Empty ones are 0. */
export function segmentSum(x: Tensor, ids: Tensor, segments: number): Tensor {
  checkSegments("segmentSum", x, ids, segments);
  return scatterND(zeros([segments, ...x.shape.slice(1)], x.dtype), unsqueeze(ids, -1), x, "add");
}

/**
 * Largest elements [segments, …] of the rows of x [n, …] by their segment, ids [n] from 0 to segments - 1 in any order. Empty
 * ones are `empty`, below which nothing counts; default minus infinity.
 */
export function segmentMax(
  x: Tensor,
  ids: Tensor,
  segments: number,
  empty = Number.NEGATIVE_INFINITY,
): Tensor {
  checkSegments("segmentMax", x, ids, segments);
  return scatterND(full([segments, ...x.shape.slice(1)], empty, x.dtype), unsqueeze(ids, -1), x, "max");
}

/**
 * Where values [..., m] belong in ascending rows [..., n]: how many elements of the row are smaller ("left", default), or
 * smaller or equal ("right"), as i64 [..., m] from 0 to n. One row of rank 1 serves all values. By bisection. With
 * cumulated weights and uniform numbers it samples from a histogram.
 */
export function searchsorted(sorted: Tensor, values: Tensor, side: "left" | "right" = "left"): Tensor {
  if (side !== "left" && side !== "right")
    throw new ArgumentError(`searchsorted: side is "left" or "right", got ${JSON.stringify(side)}`);
  const lead = values.shape.slice(0, -1);
  const n = sorted.shape.at(-1);
  const fits = sorted.rank === 1 || sorted.shape.slice(0, -1).join() === lead.join();
  if (values.rank < 1 || !n || !fits)
    throw new ShapeError(
      `searchsorted: expected rows [..., n] and values [..., m], got ${sorted} and ${values}`,
    );
  const rows = broadcastTo(sorted, [...lead, n]);
  let count = full(values.shape, 0, "i64");
  for (let step = 2 ** Math.floor(Math.log2(n)); step >= 1; step /= 2) {
    const more = count.add(step);
    const last = gatherElements(rows, minimum(more, n).sub(1), rows.rank - 1);
    const before = side === "left" ? last.less(values) : last.lessEqual(values);
    count = where(logicalAnd(more.lessEqual(n), before), more, count);
  }
  return count;
}
