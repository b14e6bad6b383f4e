/** Reading and writing at computed positions. */
import { ArgumentError, DTypeError, ShapeError } from "../../errors.ts";
import type { Aval } from "../aval.ts";
import { DTYPES, type DType, sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { type Op, Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { arange, constant, zeros, zerosLike } from "./create.ts";
import { apply1, needSameDType, normalizeAxis } from "./op.ts";
import { reshape, transpose, unsqueeze } from "./shape.ts";

function needIndices(x: Aval): void {
  if (x.dtype !== "i64" && x.dtype !== "i32")
    throw new DTypeError(`indices must be i64 or i32, got ${x.dtype}`);
}

const gatherOp: Op<{ axis: number }> = {
  name: "gather",
  infer: ([x, indices], { axis }) => {
    needIndices(indices!);
    return [
      {
        shape: [...x!.shape.slice(0, axis), ...indices!.shape, ...x!.shape.slice(axis + 1)],
        dtype: x!.dtype,
      },
    ];
  },
  lower: (g, inputs, { axis }) => [g.op("Gather", inputs, { axis })],
  vjp: ([ct], [x, indices], _, { axis }) => {
    if (!ct) return [];
    // Bring the gathered axes to the front, where scatterND adds whole rows.
    const k = indices!.rank;
    const front = [
      ...Array.from({ length: k }, (_, i) => axis + i),
      ...ct.shape.map((_, i) => i).filter((i) => i < axis || i >= axis + k),
    ];
    const others = x!.shape.map((_, i) => i).filter((i) => i !== axis);
    const rows = zeros([x!.shape[axis]!, ...others.map((i) => x!.shape[i]!)], ct.dtype);
    const added = scatterND(rows, unsqueeze(indices!, -1), transpose(ct, front), "add");
    return [
      transpose(
        added,
        x!.shape.map((_, i) => (i === axis ? 0 : i < axis ? i + 1 : i)),
      ),
    ];
  },
};

const gatherElementsOp: Op<{ axis: number }> = {
  name: "gatherElements",
  infer: ([x, indices], { axis }) => {
    needIndices(indices!);
    if (
      indices!.shape.length !== x!.shape.length ||
      indices!.shape.some((d, i) => i !== axis && d > x!.shape[i]!)
    ) {
      throw new ShapeError("indices need the shape of the data, except along the axis");
    }
    return [{ shape: indices!.shape, dtype: x!.dtype }];
  },
  lower: (g, inputs, { axis }) => [g.op("GatherElements", inputs, { axis })],
  vjp: ([ct], [x, indices], _, { axis }) => [ct && scatterElements(zerosLike(x!), indices!, ct, axis, "add")],
};

/** How written values meet what is there: they replace it, add to it, or the larger or smaller one stays. */
export type Reduction = "none" | "add" | "max" | "min";

/**
 * Gradients of "max" and "min": the elements that made it into the result share its cotangent evenly. `spread` brings a
 * tensor like the result to the updates, `collect` adds one like the updates up.
 */
function shared(
  ct: Tensor,
  [x, updates, y]: readonly [Tensor, Tensor, Tensor],
  spread: (t: Tensor) => Tensor,
  collect: (into: Tensor, t: Tensor) => Tensor,
): [Tensor, undefined, Tensor] {
  const stayed = cast(x.equal(y), ct.dtype);
  const won = cast(updates.equal(spread(y)), ct.dtype);
  const share = ct.div(collect(stayed, won));
  return [share.mul(stayed), undefined, spread(share).mul(won)];
}

const scatterElementsOp: Op<{ axis: number; reduction: Reduction }> = {
  name: "scatterElements",
  infer: ([x, indices, updates]) => {
    needIndices(indices!);
    needSameDType([x!, updates!]);
    if (indices!.shape.join() !== updates!.shape.join())
      throw new ShapeError("indices and updates need the same shape");
    return [x!];
  },
  lower: (g, [x, indices, updates], { axis, reduction }, { inputs: [xa] }) => [
    inF32(g, xa!.dtype, reduction, x!, updates!, (a, b) =>
      g.op("ScatterElements", [a, indices!, b], { axis, reduction }),
    ),
  ],
  vjp: ([ct], [x, indices, updates], [y], { axis, reduction }) => {
    if (!ct) return [];
    const spread = (t: Tensor): Tensor => gatherElements(t, indices!, axis);
    if (reduction === "max" || reduction === "min")
      return shared(ct, [x!, updates!, y!], spread, (t, u) => scatterElements(t, indices!, u, axis, "add"));
    const picked = spread(ct);
    return [
      reduction === "add" ? ct : scatterElements(ct, indices!, zerosLike(picked), axis, "none"),
      undefined,
      picked,
    ];
  },
};

const gatherNDOp: Op<object> = {
  name: "gatherND",
  infer: ([x, indices]) => {
    needIndices(indices!);
    const depth = indices!.shape.at(-1) ?? 0;
    if (indices!.shape.length < 1 || depth > x!.shape.length)
      throw new ShapeError("the last axis of indices must be at most the rank of the data");
    return [{ shape: [...indices!.shape.slice(0, -1), ...x!.shape.slice(depth)], dtype: x!.dtype }];
  },
  lower: (g, [x, indices], _, { inputs: [, ia] }) => [g.op("GatherND", [x!, toI64(g, indices!, ia!.dtype)])],
  vjp: ([ct], [x, indices]) => [ct && scatterND(zerosLike(x!), indices!, ct, "add")],
};

/** The *ND operators of ONNX take i64 only. */
const toI64 = (g: GraphBuilder, name: string, dtype: DType): string =>
  dtype === "i64" ? name : g.op("Cast", [name], { to: DTYPES.i64.onnx });

/** The kernels add no half-precision numbers: those are widened, added and rounded once. */
function inF32(
  g: GraphBuilder,
  dtype: DType,
  reduction: Reduction,
  x: string,
  updates: string,
  scatter: (x: string, updates: string) => string,
): string {
  if (dtype !== "f16" || reduction === "none") return scatter(x, updates);
  const cast = (name: string, to: DType): string => g.op("Cast", [name], { to: DTYPES[to].onnx });
  return cast(scatter(cast(x, "f32"), cast(updates, "f32")), "f16");
}

/**
 * ScatterND adds in the order in which its threads arrive, so the bits differ from run to run; ScatterElements adds in
 * the order of the indices. It takes one index per element: multi-indices become flat ones, spread over the rows.
 */
function addInOrder(
  g: GraphBuilder,
  x: string,
  indices: string,
  updates: string,
  shape: readonly number[],
  indexShape: readonly number[],
): string {
  const depth = indexShape.at(-1)!;
  const [lead, row] = [shape.slice(0, depth), sizeOf(shape.slice(depth))];
  const count = sizeOf(indexShape.slice(0, -1));
  const strides = lead.map((_, i) => sizeOf(lead.slice(i + 1)));
  const positive = g.op("Mod", [g.reshape(indices, [count, depth]), g.ints(lead)]); // negative ones count from the end
  const flat = depth === 1 ? positive : g.sum(g.op("Mul", [positive, g.ints(strides)]), [1], true); // [count, 1]
  const spread = row === 1 ? flat : g.op("Expand", [flat, g.ints([count, row])]);
  const rows = g.reshape(x, [sizeOf(lead), row]);
  const added = g.op("ScatterElements", [rows, spread, g.reshape(updates, [count, row])], {
    axis: 0,
    reduction: "add",
  });
  return g.reshape(added, shape);
}

const scatterNDOp: Op<{ reduction: Reduction }> = {
  name: "scatterND",
  infer: ([x, indices, updates]) => {
    needIndices(indices!);
    needSameDType([x!, updates!]);
    const expected = [...indices!.shape.slice(0, -1), ...x!.shape.slice(indices!.shape.at(-1))];
    if (expected.join() !== updates!.shape.join())
      throw new ShapeError(`updates need shape [${expected.join(", ")}]`);
    return [x!];
  },
  lower: (g, [x, indices, updates], { reduction }, { inputs: [xa, ia] }) => {
    const at = toI64(g, indices!, ia!.dtype);
    return [
      inF32(g, xa!.dtype, reduction, x!, updates!, (a, b) =>
        reduction === "add" && g.contrib
          ? addInOrder(g, a, at, b, xa!.shape, ia!.shape)
          : g.op("ScatterND", [a, at, b], { reduction }),
      ),
    ];
  },
  vjp: ([ct], [x, indices, updates], [y], { reduction }) => {
    if (!ct) return [];
    if (reduction === "max" || reduction === "min")
      return shared(
        ct,
        [x!, updates!, y!],
        (t) => gatherND(t, indices!),
        (t, u) => scatterND(t, indices!, u, "add"),
      );
    const picked = gatherND(ct, indices!);
    return [reduction === "add" ? ct : scatterND(ct, indices!, zerosLike(picked), "none"), undefined, picked];
  },
};

/** Elements (or rows) of an axis at the given indices: `x[…, indices, …]`. Negative indices count from the end. */
export function gather(x: Tensor, indices: Tensor | readonly number[], axis = 0): Tensor {
  const list =
    indices instanceof Tensor ? indices : indexList(indices, x.shape[normalizeAxis(axis, x.rank)]!);
  return apply1(gatherOp, [x, list], { axis: normalizeAxis(axis, x.rank) });
}

function indexList(indices: readonly number[], size: number): Tensor {
  for (const i of indices) {
    if (!Number.isInteger(i) || i < -size || i >= size)
      throw new ArgumentError(`gather: index ${i} is outside an axis of size ${size}`);
  }
  return constant("i64", [indices.length], indices);
}

/** One element per index along an axis (NumPy `take_along_axis`). */
export function gatherElements(x: Tensor, indices: Tensor, axis: number): Tensor {
  return apply1(gatherElementsOp, [x, indices], { axis: normalizeAxis(axis, x.rank) });
}
/**
 * `x` with `updates` written at one index per element along an axis. With "add", "max" and "min" repeated indices meet in
 * turn; of equal largest or smallest elements each has its share of the gradient.
 */
export function scatterElements(
  x: Tensor,
  indices: Tensor,
  updates: Tensor,
  axis: number,
  reduction: Reduction = "none",
): Tensor {
  return apply1(scatterElementsOp, [x, indices, updates], { axis: normalizeAxis(axis, x.rank), reduction });
}
/** Elements or sub-tensors at multi-dimensional indices (last axis of `indices`). */
export function gatherND(x: Tensor, indices: Tensor): Tensor {
  return apply1(gatherNDOp, [x, indices], {});
}
/** `x` with `updates` written (added, or the larger or smaller one kept) at multi-dimensional indices. */
export function scatterND(
  x: Tensor,
  indices: Tensor,
  updates: Tensor,
  reduction: Reduction = "none",
): Tensor {
  return apply1(scatterNDOp, [x, indices, updates], { reduction });
}
/** Adds rows of `updates` [n, …] to rows of `x` at `indices` [n]; repeated indices add up. */
export function scatterAdd(x: Tensor, indices: Tensor, updates: Tensor): Tensor {
  return scatterND(x, unsqueeze(indices, -1), updates, "add");
}
/** 1 at the index, 0 elsewhere, on a new last axis of size `classes`. Indices outside give zeros. */
export function oneHot(indices: Tensor, classes: number, dtype: DType = "f32"): Tensor {
  const grid = reshape(arange(0, classes, 1, indices.dtype), [...indices.shape.map(() => 1), classes]);
  return cast(unsqueeze(indices, -1).equal(grid), dtype);
}

/** Operations that pick elements, by name. */
export const indexingOps = {
  gather: gatherOp,
  gatherElements: gatherElementsOp,
  scatterElements: scatterElementsOp,
  gatherND: gatherNDOp,
  scatterND: scatterNDOp,
};
