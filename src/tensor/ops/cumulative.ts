/** Running sums and products along an axis, and products of all elements. */
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Op, Tensor } from "../tensor.ts";
import { logicalAnd, where } from "./arithmetic.ts";
import { cast } from "./cast.ts";
import { ones } from "./create.ts";
import { apply1, normalizeAxis } from "./op.ts";
import { concat } from "./shape.ts";
import { select, sliceAxis } from "./slice.ts";

/** What a running sum is recorded with. */
export interface CumsumAttrs {
  readonly axis: number;
  readonly reverse: boolean;
  readonly exclusive: boolean;
}

const cumsumOp: Op<CumsumAttrs> = {
  name: "cumsum",
  infer: ([x]) => [x!],
  lower: (g, [x], { axis, reverse, exclusive }) => [
    g.op("CumSum", [x!, g.scalar("i64", axis)], {
      reverse: reverse ? 1 : 0,
      exclusive: exclusive ? 1 : 0,
    }),
  ],
  vjp: ([ct], _, __, attrs) => [ct && apply1(cumsumOp, [ct], { ...attrs, reverse: !attrs.reverse })],
};

/** Running products by doubling (Hillis and Steele 1986): each pass is freed by the next. */
function doubling(g: GraphBuilder, x: string, shape: readonly number[], axis: number): string {
  const size = shape[axis]!;
  let y = x;
  for (let shift = 1; shift < size; shift *= 2) {
    const part = (from: number, to: number): string => g.slice(y, [axis], [from], [to], [1]);
    const tail = g.op("Mul", [part(shift, size), part(0, size - shift)]);
    y = g.op("Concat", [part(0, shift), tail], { axis });
  }
  return y === x ? g.op("Identity", [x]) : y;
}

/**
 * The slope of the products in an element is their weighted sum from there on, divided by the element. The first zero has
 * the products without it instead; behind it all slopes are zero. (Of two zeros in one row, the mixed second derivative is
 * taken for zero.)
 */
const cumprodOp: Op<{ axis: number }> = {
  name: "cumprod",
  infer: ([x]) => [x!],
  lower: (g, [x], { axis }, { inputs: [aval] }) => [doubling(g, x!, aval!.shape, axis)],
  vjp: ([ct], [x], [y], { axis }) => {
    if (!ct) return [];
    const onwards = (v: Tensor): Tensor => cumsum(v, axis, { reverse: true });
    const zero = x!.equal(0);
    const before = cumsum(cast(zero, ct.dtype), axis, { exclusive: true });
    const first = logicalAnd(zero, before.equal(0));
    const without = cumprod(where(first, 1, x!), axis);
    const slope = onwards(ct.mul(y!)).div(where(zero, 1, x!));
    return [where(first, onwards(ct.mul(without)), slope)];
  },
};

/** Options of `cumsum` and `cumprod`. */
export interface CumulativeOptions {
  /** Without the element itself: the first result is 0 (of products 1). Default false. */
  readonly exclusive?: boolean;
}

/** Running sums along an axis; with `reverse` from its end. */
export function cumsum(
  x: Tensor,
  axis: number,
  { exclusive = false, reverse = false }: CumulativeOptions & { readonly reverse?: boolean } = {},
): Tensor {
  return apply1(cumsumOp, [x], { axis: normalizeAxis(axis, x.rank), reverse, exclusive });
}

/**
 * Running products along an axis. With `exclusive`, of 1 - alpha, they are the transmittance along a ray. The backward
 * pass keeps the elements and their products, nothing in between.
 */
export function cumprod(x: Tensor, axis: number, { exclusive = false }: CumulativeOptions = {}): Tensor {
  const at = normalizeAxis(axis, x.rank);
  if (!exclusive) return apply1(cumprodOp, [x], { axis: at });
  const size = x.shape[at]!;
  const first = ones(
    x.shape.map((d, i) => (i === at ? Math.min(1, size) : d)),
    x.dtype,
  );
  return apply1(cumprodOp, [concat(first, sliceAxis(x, at, 0, Math.max(0, size - 1)), at)], { axis: at });
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

export const cumulativeOps = { cumsum: cumsumOp, cumprod: cumprodOp };
