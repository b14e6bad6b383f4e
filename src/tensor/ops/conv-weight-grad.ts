/** How the weight gradient of a convolution becomes matrix products. */
import { type DType, sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Aval } from "../tensor.ts";
import { type ConvGeometry, permutation, type WeightGradAttrs } from "./conv.ts";

/** All offsets inside a kernel, row-major. */
function* offsets(kernel: readonly number[]): Generator<number[]> {
  for (let i = 0; i < sizeOf(kernel); i++) {
    let rest = i;
    yield kernel.map((_, axis) => {
      const inner = sizeOf(kernel.slice(axis + 1));
      const at = Math.floor(rest / inner);
      rest %= inner;
      return at;
    });
  }
}

/**
 * dw[k, c, o] = sum over n, p of dy[n, k, p] x[n, c, stride p + dilation o]: one matrix product per kernel offset o
 * with the input shifted by it. On large maps the products stay batched over n and are summed afterwards; on small ones
 * n joins p in the inner dimension, and all offsets share one product. Both stand at 60-75 % of the GEMM peak on two
 * cores, where one big im2col (k² copies of the input at once) reaches 30-45 % and a big-kernel Conv 20 %.
 */
export function lowerWeightGrad(
  g: GraphBuilder,
  x: string,
  dy: string,
  attrs: WeightGradAttrs,
  xa: Aval,
  da: Aval,
): string {
  const { kernel, groups, padding } = attrs;
  const merged = groups === 1 && sizeOf(da.shape.slice(2)) < 256;
  const padded = padding.flat().some((p) => p !== 0)
    ? g.op("Pad", [x, g.ints([0, 0, ...padding.map((p) => p[0]), 0, 0, ...padding.map((p) => p[1])])], {
        mode: "constant",
      })
    : x;
  const out = da.shape.slice(2);
  const spatial = xa.shape.slice(2).map((d, i) => d + padding[i]![0] + padding[i]![1]);
  const views = { shifts: [...offsets(kernel)], spatial, out };
  const [k, c] = [da.shape[1]!, xa.shape[1]! / groups];
  if (merged) return g.reshape(mergedProduct(g, padded, dy, attrs, views, xa, da), [k, c, ...kernel]);
  const perOffset = g.reshape(batchedProducts(g, padded, dy, attrs, views, xa, da), [sizeOf(kernel), k * c]);
  return g.reshape(transposeNarrow(g, perOffset, sizeOf(kernel), xa.dtype), [k, c, ...kernel]);
}

/** [few, many] to [many, few]. As a product with the identity it runs at three times the speed of Transpose. */
function transposeNarrow(g: GraphBuilder, x: string, few: number, dtype: DType): string {
  if (!g.contrib || dtype !== "f32") return g.transpose(x, [1, 0]);
  return g.contribOp("FusedMatMul", [x, permutation(g, few, (i) => i, dtype)], { transA: 1 });
}

interface Views {
  readonly shifts: readonly number[][];
  /** Spatial shape of the padded input, and of the convolution's result. */
  readonly spatial: readonly number[];
  readonly out: readonly number[];
}

/** The part of the padded input that meets the result at one kernel offset. */
function shiftedView(
  g: GraphBuilder,
  x: string,
  shift: readonly number[],
  { dilation, stride }: ConvGeometry,
  { spatial, out }: Views,
): string {
  const starts = shift.map((o, i) => o * dilation[i]!);
  const ends = starts.map((s, i) => s + (out[i]! - 1) * stride[i]! + 1);
  const whole = starts.every((s, i) => s === 0 && stride[i] === 1 && out[i] === spatial[i]);
  return whole
    ? x
    : g.slice(
        x,
        shift.map((_, i) => i + 2),
        starts,
        ends,
        stride,
      );
}

/** a bᵀ over the last two axes. */
function timesTransposed(g: GraphBuilder, a: string, b: string, dtype: DType, rank: number): string {
  if (g.contrib && dtype === "f32") return g.contribOp("FusedMatMul", [a, b], { transB: 1 });
  const perm = Array.from({ length: rank }, (_, i) =>
    i === rank - 1 ? rank - 2 : i === rank - 2 ? rank - 1 : i,
  );
  return g.op("MatMul", [a, g.transpose(b, perm)]);
}

function batchedProducts(
  g: GraphBuilder,
  x: string,
  dy: string,
  attrs: WeightGradAttrs,
  views: Views,
  xa: Aval,
  da: Aval,
): string {
  const { groups } = attrs;
  const n = xa.shape[0]!;
  const [c, k] = [xa.shape[1]! / groups, da.shape[1]! / groups];
  const halfShifts =
    views.out.length === 2 && attrs.stride.every((s) => s === 1) && attrs.kernel.every((s) => s > 1);
  const sums = views.shifts.map((shift) => {
    const [rows, columns, points] = halfShifts
      ? shiftedHalves(g, x, dy, shift, attrs, views)
      : [dy, shiftedView(g, x, shift, attrs, views), sizeOf(views.out)];
    const [a, b] = [g.reshape(rows, [n, groups, k, points]), g.reshape(columns, [n, groups, c, points])];
    return g.sum(timesTransposed(g, a, b, xa.dtype, 4), [0], true); // [1, G, K/G, C/G]
  });
  return sums.length === 1 ? sums[0]! : g.op("Concat", sums, { axis: 0 });
}

/**
 * Both operands of one offset, with the work shared between offsets: the input is shifted along its columns only and
 * the cotangent, widened by zero rows, along its rows. Three and three copies for a 3x3 kernel instead of nine.
 */
function shiftedHalves(
  g: GraphBuilder,
  x: string,
  dy: string,
  [row, column]: readonly number[],
  { dilation }: ConvGeometry,
  { spatial, out }: Views,
): [rows: string, columns: string, points: number] {
  const [height, width] = spatial as [number, number];
  const [above, left] = [row! * dilation[0]!, column! * dilation[1]!];
  const below = height - out[0]! - above;
  const rows = g.op("Pad", [dy, g.ints([0, 0, above, 0, 0, 0, below, 0])], { mode: "constant" });
  const columns = left === 0 && width === out[1] ? x : g.slice(x, [3], [left], [left + out[1]!], [1]);
  return [rows, columns, height * out[1]!];
}

function mergedProduct(
  g: GraphBuilder,
  x: string,
  dy: string,
  attrs: WeightGradAttrs,
  views: Views,
  xa: Aval,
  da: Aval,
): string {
  const [n, c, k, points] = [xa.shape[0]!, xa.shape[1]!, da.shape[1]!, sizeOf(views.out)];
  const swap = [1, 0, ...views.out.map((_, i) => i + 2)];
  const rows = g.reshape(g.transpose(dy, swap), [k, n * points]);
  const swapped = g.transpose(x, swap);
  const shifted = views.shifts.map((shift) =>
    g.reshape(shiftedView(g, swapped, shift, attrs, views), [c, 1, n * points]),
  );
  const columns = shifted.length === 1 ? shifted[0]! : g.op("Concat", shifted, { axis: 1 });
  return timesTransposed(g, rows, g.reshape(columns, [c * shifted.length, n * points]), xa.dtype, 2); // [K, C kk]
}
