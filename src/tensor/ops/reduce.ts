/** Reductions, scans, sorting. */
import { ArgumentError } from "../../errors.ts";
import type { Aval } from "../aval.ts";
import type { Op, Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { zeros } from "./create.ts";
import { scatterElements } from "./indexing.ts";
import { apply, apply1, needFloat, normalizeAxes, normalizeAxis, notDifferentiable } from "./op.ts";
import { broadcastTo, concat, reshape } from "./shape.ts";
import { select, sliceAxis } from "./slice.ts";

export interface ReduceAttrs {
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}

function reducedShape(shape: readonly number[], { axes, keepDims }: ReduceAttrs): number[] {
  return keepDims
    ? shape.map((d, i) => (axes.includes(i) ? 1 : d))
    : shape.filter((_, i) => !axes.includes(i));
}

/** A reduced tensor (or its cotangent) with its axes back as size 1. */
function restoreAxes(y: Tensor, x: Tensor, { axes }: ReduceAttrs): Tensor {
  return reshape(
    y,
    x.shape.map((d, i) => (axes.includes(i) ? 1 : d)),
  );
}

function reduction(name: string, onnx: string, vjp: Op<ReduceAttrs>["vjp"]): Op<ReduceAttrs> {
  return {
    name,
    infer: ([x], attrs) => {
      if (x!.dtype === "bool") throw new ArgumentError("expected numbers, got bool; cast first");
      if (name !== "sum" && attrs.axes.some((a) => x!.shape[a] === 0))
        throw new ArgumentError("nothing to reduce: an axis is empty");
      return [{ shape: reducedShape(x!.shape, attrs), dtype: x!.dtype }];
    },
    lower: (g, [x], { axes, keepDims }) => [g.op(onnx, [x!, g.ints(axes)], { keepdims: keepDims ? 1 : 0 })],
    vjp,
  };
}

const sumOp = reduction("sum", "ReduceSum", ([ct], [x], _, attrs) => [
  ct && broadcastTo(restoreAxes(ct, x!, attrs), x!.shape),
]);

/** Elements equal to the extreme share its gradient evenly. */
const extremeVjp: Op<ReduceAttrs>["vjp"] = ([ct], [x], [y], attrs) => {
  if (!ct) return [];
  const hit = cast(x!.equal(restoreAxes(y!, x!, attrs)), ct.dtype);
  return [hit.mul(restoreAxes(ct, x!, attrs).div(hit.sum(attrs.axes, true)))];
};
const maxOp = reduction("max", "ReduceMax", extremeVjp);
const minOp = reduction("min", "ReduceMin", extremeVjp);

export interface ArgAttrs {
  readonly axis: number;
  readonly keepDims: boolean;
}

function argReduction(name: string, onnx: string): Op<ArgAttrs> {
  return {
    name,
    infer: ([x], { axis, keepDims }) => {
      if (x!.shape[axis] === 0) throw new ArgumentError("nothing to reduce: the axis is empty");
      return [{ shape: reducedShape(x!.shape, { axes: [axis], keepDims }), dtype: "i64" }];
    },
    lower: (g, [x], { axis, keepDims }) => [g.op(onnx, [x!], { axis, keepdims: keepDims ? 1 : 0 })],
    vjp: notDifferentiable,
  };
}
const argmaxOp = argReduction("argmax", "ArgMax");
const argminOp = argReduction("argmin", "ArgMin");

const cumsumOp: Op<{ axis: number; reverse: boolean }> = {
  name: "cumsum",
  infer: ([x]) => [x!],
  lower: (g, [x], { axis, reverse }) => [
    g.op("CumSum", [x!, g.scalar("i64", axis)], { reverse: reverse ? 1 : 0 }),
  ],
  vjp: ([ct], _, __, { axis, reverse }) => [ct && apply1(cumsumOp, [ct], { axis, reverse: !reverse })],
};

const topKOp: Op<{ k: number; axis: number; largest: boolean }> = {
  name: "topK",
  infer: ([x], { k, axis }) => {
    const size = x!.shape[axis]!;
    if (!Number.isInteger(k) || k < 0 || k > size) throw new ArgumentError(`k = ${k} is outside 0..${size}`);
    const shape = x!.shape.map((d, i) => (i === axis ? k : d));
    return [{ shape, dtype: x!.dtype }, { shape, dtype: "i64" } as Aval];
  },
  lower: (g, [x], { k, axis, largest }) =>
    g.node("TopK", [x!, g.ints([k])], { axis, largest: largest ? 1 : 0, sorted: 1 }, 2),
  vjp: ([ct], [x], [, indices], { axis }) => [
    ct && scatterElements(zeros(x!.shape, ct.dtype), indices!, ct, axis, "add"),
  ],
};

const softmaxOp: Op<{ axis: number }> = {
  name: "softmax",
  infer: ([x]) => {
    needFloat(x!);
    return [x!];
  },
  lower: (g, [x], { axis }) => [g.op("Softmax", [x!], { axis })],
  vjp: ([ct], _, [y], { axis }) => {
    if (!ct) return [];
    const weighted = ct.mul(y!);
    return [weighted.sub(y!.mul(weighted.sum(axis, true)))];
  },
};

const logSoftmaxOp: Op<{ axis: number }> = {
  name: "logSoftmax",
  infer: softmaxOp.infer,
  lower: (g, [x], { axis }) => [g.op("LogSoftmax", [x!], { axis })],
  vjp: ([ct], _, [y], { axis }) => [ct?.sub(y!.exp().mul(ct.sum(axis, true)))],
};

type Axes = number | readonly number[];

function reduce(op: Op<ReduceAttrs>, x: Tensor, axes: Axes | undefined, keepDims: boolean): Tensor {
  const list = normalizeAxes(axes, x.rank);
  return list.length === 0 ? x : apply1(op, [x], { axes: list, keepDims });
}

/** Sum over axes (all of them unless named). */
export function sum(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return reduce(sumOp, x, axes, keepDims);
}
/** Arithmetic mean over axes. */
export function mean(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  const count = normalizeAxes(axes, x.rank).reduce((n, a) => n * x.shape[a]!, 1);
  if (count === 0) throw new ArgumentError(`mean: nothing to average in ${x}`);
  return sum(x, axes, keepDims).mul(1 / count);
}
/** Variance over axes; `correction` 0 divides by n, 1 by n - 1. */
export function variance(x: Tensor, axes?: Axes, keepDims = false, correction = 0): Tensor {
  const count = normalizeAxes(axes, x.rank).reduce((n, a) => n * x.shape[a]!, 1);
  if (count <= correction)
    throw new ArgumentError(`variance: expected more than ${correction} elements, got ${count}`);
  return sum(x.sub(mean(x, axes, true)).square(), axes, keepDims).mul(1 / (count - correction));
}
export function max(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return reduce(maxOp, x, axes, keepDims);
}
export function min(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return reduce(minOp, x, axes, keepDims);
}
/** Index of the (first) largest element, as i64. */
export function argmax(x: Tensor, axis: number, keepDims = false): Tensor {
  return apply1(argmaxOp, [x], { axis: normalizeAxis(axis, x.rank), keepDims });
}
/** Index of the (first) smallest element, as i64. */
export function argmin(x: Tensor, axis: number, keepDims = false): Tensor {
  return apply1(argminOp, [x], { axis: normalizeAxis(axis, x.rank), keepDims });
}
/** Euclidean norm over axes. Its gradient at zero is not finite; see `eps`, added below the root. */
export function norm(x: Tensor, axes?: Axes, keepDims = false, eps = 0): Tensor {
  return sum(x.square(), axes, keepDims).add(eps).sqrt();
}
/** Running sums along an axis. */
export function cumsum(x: Tensor, axis: number): Tensor {
  return apply1(cumsumOp, [x], { axis: normalizeAxis(axis, x.rank), reverse: false });
}
/** The `k` largest (or smallest) elements along an axis, in order, and their indices. */
export function topK(x: Tensor, k: number, axis = -1, largest = true): [values: Tensor, indices: Tensor] {
  return apply(topKOp, [x], { k, axis: normalizeAxis(axis, x.rank), largest }) as [Tensor, Tensor];
}
/** Elements in ascending (or descending) order along an axis, and their indices. */
export function sort(x: Tensor, axis = -1, descending = false): [values: Tensor, indices: Tensor] {
  return topK(x, x.shape[normalizeAxis(axis, x.rank)]!, axis, descending);
}
/** log(sum(exp(x))), without overflow. */
export function logSumExp(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  const peak = max(x, axes, true).stopGradient();
  const out = sum(x.sub(peak).exp(), axes, true).log().add(peak);
  return keepDims
    ? out
    : reshape(out, reducedShape(x.shape, { axes: normalizeAxes(axes, x.rank), keepDims }));
}
export function softmax(x: Tensor, axis = -1): Tensor {
  return apply1(softmaxOp, [x], { axis: normalizeAxis(axis, x.rank) });
}
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return apply1(logSoftmaxOp, [x], { axis: normalizeAxis(axis, x.rank) });
}

/** Sums a tensor down to a shape that it was broadcast from. */
export function sumTo(x: Tensor, shape: readonly number[]): Tensor {
  const lead = x.rank - shape.length;
  const axes = x.shape.flatMap((d, i) => (i < lead || (shape[i - lead] === 1 && d !== 1) ? [i] : []));
  return axes.length === 0 ? x : reshape(sum(x, axes), shape);
}

/** Product of all elements along an axis, by halving; its gradient is exact where elements are zero. */
export function prod(x: Tensor, axis: number, keepDims = false): Tensor {
  const at = normalizeAxis(axis, x.rank);
  let y = x;
  while (y.shape[at]! > 1) {
    const half = y.shape[at]! >> 1;
    const product = sliceAxis(y, at, 0, half).mul(sliceAxis(y, at, half, 2 * half));
    y = y.shape[at]! % 2 ? concat(product, sliceAxis(y, at, 2 * half), at) : product;
  }
  return keepDims ? y : select(y, at, 0);
}

/** Running product along an axis, by doubling (Hillis and Steele 1986). Transmittance along a ray is one. */
export function cumprod(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis(axis, x.rank);
  const size = x.shape[at]!;
  let y = x;
  for (let shift = 1; shift < size; shift *= 2) {
    const tail = sliceAxis(y, at, shift).mul(sliceAxis(y, at, 0, size - shift));
    y = concat(sliceAxis(y, at, 0, shift), tail, at);
  }
  return y;
}

export const reduceOps = {
  sum: sumOp,
  max: maxOp,
  min: minOp,
  argmax: argmaxOp,
  argmin: argminOp,
  cumsum: cumsumOp,
  topK: topKOp,
  softmax: softmaxOp,
  logSoftmax: logSoftmaxOp,
};
