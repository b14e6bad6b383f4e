/** Matching of unordered sets: assignment, slots, clusters. */
import { ArgumentError, ShapeError } from "../errors.ts";

/**
 * Rows to columns at the least total cost (Kuhn-Munkres with potentials, O(rows² columns)). Returns the column of every
 * row, or -1 where there are more rows than columns. @throws ArgumentError for a cost that is not finite.
 */
export function assignment(cost: readonly (readonly number[])[]): number[] {
  const [rows, columns] = [cost.length, cost[0]?.length ?? 0];
  for (const [i, row] of cost.entries()) {
    if (row.length !== columns)
      throw new ShapeError(`assignment: row ${i} has ${row.length} costs, expected ${columns}`);
    const bad = row.findIndex((c) => !Number.isFinite(c));
    if (bad >= 0) throw new ArgumentError(`assignment: cost [${i}, ${bad}] is ${row[bad]}`);
  }
  if (columns === 0) return new Array(rows).fill(-1);
  if (rows > columns) {
    const rowOf = assignment(Array.from({ length: columns }, (_, j) => cost.map((row) => row[j]!)));
    const columnOf: number[] = new Array(rows).fill(-1);
    rowOf.forEach((row, column) => {
      columnOf[row] = column;
    });
    return columnOf;
  }
  // Column 0 is a sentinel; `rowAt[j]` is the row (1-based) that holds column j.
  const rowAt = new Int32Array(columns + 1);
  const rowPotential = new Float64Array(rows + 1);
  const columnPotential = new Float64Array(columns + 1);
  for (let row = 1; row <= rows; row++) {
    const slack = new Float64Array(columns + 1).fill(Number.POSITIVE_INFINITY);
    const previous = new Int32Array(columns + 1);
    const visited = new Uint8Array(columns + 1);
    let at = 0;
    rowAt[0] = row;
    while (rowAt[at] !== 0) {
      visited[at] = 1;
      const current = rowAt[at]!;
      let [next, delta] = [0, Number.POSITIVE_INFINITY];
      for (let j = 1; j <= columns; j++) {
        if (visited[j]) continue;
        const reduced = cost[current - 1]![j - 1]! - rowPotential[current]! - columnPotential[j]!;
        if (reduced < slack[j]!) {
          slack[j] = reduced;
          previous[j] = at;
        }
        if (slack[j]! < delta) [next, delta] = [j, slack[j]!];
      }
      for (let j = 0; j <= columns; j++) {
        if (visited[j]) {
          rowPotential[rowAt[j]!]! += delta;
          columnPotential[j]! -= delta;
        } else slack[j]! -= delta;
      }
      at = next;
    }
    for (; at !== 0; at = previous[at]!) rowAt[at] = rowAt[previous[at]!]!;
  }
  const columnOf: number[] = new Array(rows).fill(-1);
  for (let j = 1; j <= columns; j++) if (rowAt[j]! > 0) columnOf[rowAt[j]! - 1] = j - 1;
  return columnOf;
}

/** Overlap of two masks of the same size: |A and B| / |A or B|; 1 when both are empty. */
export function maskIou(a: ArrayLike<number | boolean>, b: ArrayLike<number | boolean>): number {
  if (a.length !== b.length) throw new ShapeError(`maskIou: masks of ${a.length} and ${b.length} pixels`);
  let [both, either] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    if (a[i] && b[i]) both++;
    if (a[i] || b[i]) either++;
  }
  return either === 0 ? 1 : both / either;
}

/** Slots matched one to one to the true masks for the most overlap, and the mean IoU over the true masks. */
export function matchSlots(
  slots: readonly ArrayLike<number | boolean>[],
  truth: readonly ArrayLike<number | boolean>[],
): { slotOf: number[]; iou: number[]; meanIou: number } {
  if (truth.length === 0) throw new ArgumentError("matchSlots: no true masks");
  const overlap = truth.map((mask) => slots.map((slot) => maskIou(slot, mask)));
  const slotOf = assignment(overlap.map((row) => row.map((iou) => -iou)));
  const iou = slotOf.map((slot, i) => (slot < 0 ? 0 : overlap[i]![slot]!));
  return { slotOf, iou, meanIou: iou.reduce((sum, x) => sum + x, 0) / iou.length };
}

const pairs = (n: number): number => (n * (n - 1)) / 2;

/** Adjusted Rand index of two labellings (Hubert and Arabie, 1985): 1 same clusters, 0 chance. */
export function adjustedRandIndex(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new ShapeError(`adjustedRandIndex: ${a.length} and ${b.length} labels`);
  const counts = [new Map<string, number>(), new Map<string, number>(), new Map<string, number>()] as const;
  for (let i = 0; i < a.length; i++) {
    [`${a[i]},${b[i]}`, `${a[i]}`, `${b[i]}`].forEach((key, k) => {
      counts[k]!.set(key, (counts[k]!.get(key) ?? 0) + 1);
    });
  }
  const [both, inA, inB] = counts.map((map) => [...map.values()].reduce((sum, n) => sum + pairs(n), 0)) as [
    number,
    number,
    number,
  ];
  const expected = (inA * inB) / Math.max(1, pairs(a.length));
  const most = (inA + inB) / 2;
  return most === expected ? 1 : (both - expected) / (most - expected);
}
