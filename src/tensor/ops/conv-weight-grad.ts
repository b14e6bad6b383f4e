/** How the weight gradient of a convolution becomes matrix products. */

import { type DType, hostArray, sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { ConvGeometry, WeightGrad } from "./conv-geometry.ts";
import { blockedWeightGrad } from "./conv-weight-blocked.ts";

/** Matrix P with x P taking element `from(j)` of each row to place j. Products with it are exact. */
export function permutation(
  g: GraphBuilder,
  size: number,
  from: (to: number) => number,
  dtype: DType,
): string {
  const values = new Array<number>(size * size).fill(0);
  for (let j = 0; j < size; j++) values[from(j) * size + j] = 1;
  return g.constant(dtype, [size, size], hostArray(dtype, values));
}

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
 * dw[k, c, o] = sum over n, p of dy[n, k, p] x[n, c, stride p + dilation o]: matrix products with the input shifted by
 * the kernel offset o. On large maps the products stay batched over n and are summed afterwards; on small ones n joins
 * p in the inner dimension. One big im2col (k² copies of the input at once) is slower, and a big-kernel Conv much more.
 */
export function lowerWeightGrad(g: GraphBuilder, of: WeightGrad): string {
  const { x, attrs, xa, da } = of;
  const { kernel, groups, padding } = attrs;
  const merged = groups === 1 && sizeOf(da.shape.slice(2)) < 256;
  const [k, c] = [da.shape[1]!, xa.shape[1]! / groups];
  const shape = [k, c, ...kernel];
  const offsetsFirst = (products: string): string => {
    const rows = g.reshape(products, [sizeOf(kernel), k * c]);
    return g.reshape(transposeNarrow(g, rows, sizeOf(kernel), xa.dtype), shape);
  };
  const blocked = blockedWeightGrad(g, of);
  if (blocked !== undefined) return offsetsFirst(blocked);
  if (shiftsSeparate(of)) return offsetsFirst(separateShifts(g, of, merged));
  const padded = padding.flat().some((p) => p !== 0)
    ? g.op("Pad", [x, g.ints([0, 0, ...padding.map((p) => p[0]), 0, 0, ...padding.map((p) => p[1])])], {
        mode: "constant",
      })
    : x;
  const out = da.shape.slice(2);
  const spatial = xa.shape.slice(2).map((d, i) => d + padding[i]![0] + padding[i]![1]);
  const views = { shifts: [...offsets(kernel)], spatial, out };
  const ready = { ...of, x: padded };
  return merged
    ? g.reshape(mergedProduct(g, ready, views), shape)
    : offsetsFirst(batchedProducts(g, ready, views));
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

function batchedProducts(g: GraphBuilder, { x, dy, attrs, xa, da }: WeightGrad, views: Views): string {
  const { groups } = attrs;
  const n = xa.shape[0]!;
  const [c, k] = [xa.shape[1]! / groups, da.shape[1]! / groups];
  const points = sizeOf(views.out);
  const sums = views.shifts.map((shift) => {
    const columns = shiftedView(g, x, shift, attrs, views);
    const [a, b] = [g.reshape(dy, [n, groups, k, points]), g.reshape(columns, [n, groups, c, points])];
    return g.sum(timesTransposed(g, a, b, xa.dtype, 4), [0], true); // [1, G, K/G, C/G]
  });
  return sums.length === 1 ? sums[0]! : g.op("Concat", sums, { axis: 0 });
}

/** Whether `separateShifts` applies: two-dimensional, no stride, and each column of the kernel meets the input. */
function shiftsSeparate({ attrs: { kernel, stride, dilation, padding }, xa, da }: WeightGrad): boolean {
  if (kernel.length !== 2 || kernel.some((d) => d === 1) || stride.some((d) => d !== 1)) return false;
  const [width, outWidth, left] = [xa.shape[3]!, da.shape[3]!, padding[1]![0]];
  return left <= outWidth && dilation[1]! * (kernel[1]! - 1) - left <= width;
}

/**
 * Without a stride, an offset is a shift of the cotangent along its rows and one of the input along its columns. The
 * row shifts stacked are the left operand [K R, ...] of one product per column shift: R + S copies instead of R S, and
 * the runtime packs each right operand once for R times as many rows. Gives [R, S, K, C].
 */
function separateShifts(g: GraphBuilder, of: WeightGrad, merged: boolean): string {
  const { attrs, xa, da } = of;
  const [rows, columns] = attrs.kernel as [number, number];
  const [k, c] = [da.shape[1]!, xa.shape[1]! / attrs.groups];
  const times = merged ? mergedShifts(g, of) : batchedShifts(g, of);
  const products = Array.from({ length: columns }, (_, i) => g.reshape(times(i), [1, k, rows, c]));
  return g.transpose(g.op("Concat", products, { axis: 0 }), [2, 0, 1, 3]);
}

/** Pads of the input's rows and columns that leave what meets the cotangent at one column of the kernel. */
function columnPads(
  { padding, dilation }: ConvGeometry,
  column: number,
  width: number,
  outWidth: number,
): { before: [number, number]; after: [number, number] } {
  const [[above, below], [left]] = padding as [readonly [number, number], readonly [number, number]];
  const start = column * dilation[1]! - left; // negative pads crop
  return { before: [above, -start], after: [below, start + outWidth - width] };
}

/** Of a column of the kernel, the product [K R, C] summed over images. */
type ColumnProduct = (column: number) => string;

function batchedShifts(g: GraphBuilder, { x, dy, attrs, xa, da }: WeightGrad): ColumnProduct {
  const { kernel, groups, dilation } = attrs;
  const [n, channels, , width] = xa.shape as [number, number, number, number];
  const [, k, outHeight, outWidth] = da.shape as [number, number, number, number];
  const [rows, reach] = [kernel[0]!, dilation[0]! * (kernel[0]! - 1)];
  const points = (outHeight + reach) * outWidth;
  // Row r of the stack is the cotangent behind r rows of zeros: end to end, with equal gaps, they are one Concat.
  const zeros = g.op("Expand", [g.scalar(xa.dtype, 0), g.ints([n, k, (reach + dilation[0]!) * outWidth])]);
  const flat = g.reshape(dy, [n, k, outHeight * outWidth]);
  const pieces = Array.from({ length: 2 * rows - 1 }, (_, i) => (i % 2 ? zeros : flat));
  const stack = g.reshape(g.op("Concat", pieces, { axis: 2 }), [n, groups, (k / groups) * rows, points]);
  return (column) => {
    const { before, after } = columnPads(attrs, column, width, outWidth);
    const shifted = g.op("Pad", [x, g.ints([0, 0, ...before, 0, 0, ...after])], { mode: "constant" });
    const view = g.reshape(shifted, [n, groups, channels / groups, points]);
    return g.sum(timesTransposed(g, stack, view, xa.dtype, 4), [0], true);
  };
}

function mergedShifts(g: GraphBuilder, { x, dy, attrs, xa, da }: WeightGrad): ColumnProduct {
  const { kernel, dilation } = attrs;
  const [n, c, height, width] = xa.shape as [number, number, number, number];
  const [, k, outHeight, outWidth] = da.shape as [number, number, number, number];
  const reach = dilation[0]! * (kernel[0]! - 1);
  const points = n * (outHeight + reach) * outWidth;
  const swapped = g.transpose(dy, [1, 0, 2, 3]);
  const stack = Array.from({ length: kernel[0]! }, (_, row) => {
    const above = row * dilation[0]!;
    const pads = g.ints([0, 0, above, 0, 0, 0, reach - above, 0]);
    return g.reshape(g.op("Pad", [swapped, pads], { mode: "constant" }), [k, 1, points]);
  });
  const left = g.reshape(g.op("Concat", stack, { axis: 1 }), [k * kernel[0]!, points]);
  const lastChannels = g.transpose(g.reshape(x, [n, c, height * width]), [0, 2, 1]); // their copies are long runs
  const pixels = g.reshape(lastChannels, [n, height, width, c]);
  return (column) => {
    const { before, after } = columnPads(attrs, column, width, outWidth);
    const shifted = g.op("Pad", [pixels, g.ints([0, ...before, 0, 0, ...after, 0])], { mode: "constant" });
    return g.op("MatMul", [left, g.reshape(shifted, [points, c])]);
  };
}

function mergedProduct(g: GraphBuilder, { x, dy, attrs, xa, da }: WeightGrad, views: Views): string {
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
