/** Operations that move elements without computing: reshape, transpose, broadcast, concat, split. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { sizeOf } from "../dtype.ts";
import type { Op, Tensor } from "../tensor.ts";
import { unblocked } from "./block-form.ts";
import { blockedConcat } from "./blocked.ts";
import { zerosLike } from "./create.ts";
import { apply, apply1, broadcastShapes, needSameDType, normalizeAxis } from "./op.ts";

const reshapeOp: Op<{ shape: readonly number[] }> = {
  name: "reshape",
  infer: ([x], { shape }) => {
    if (sizeOf(shape) !== sizeOf(x!.shape)) {
      throw new ShapeError(
        `cannot hold ${sizeOf(x!.shape)} elements in [${shape.join(", ")}] (${sizeOf(shape)})`,
      );
    }
    return [{ shape, dtype: x!.dtype }];
  },
  lower: (g, [x], { shape }) => [g.reshape(x!, shape)],
  vjp: ([ct], [x]) => [ct && reshape(ct, x!.shape)],
};

const transposeOp: Op<{ perm: readonly number[] }> = {
  name: "transpose",
  infer: ([x], { perm }) => {
    if (
      perm.length !== x!.shape.length ||
      new Set(perm).size !== perm.length ||
      perm.some((p) => !(p in x!.shape))
    ) {
      throw new ArgumentError(`[${perm.join(", ")}] is not a permutation of ${x!.shape.length} axes`);
    }
    return [{ shape: perm.map((p) => x!.shape[p]!), dtype: x!.dtype }];
  },
  lower: (g, [x], { perm }) => [g.transpose(x!, perm)],
  vjp: ([ct], _, __, { perm }) => [
    ct &&
      transpose(
        ct,
        perm.map((_, i) => perm.indexOf(i)),
      ),
  ],
};

const broadcastOp: Op<{ shape: readonly number[] }> = {
  name: "broadcastTo",
  infer: ([x], { shape }) => {
    const joint = broadcastShapes(x!.shape, shape);
    if (joint.length !== shape.length || joint.some((d, i) => d !== shape[i])) {
      throw new ShapeError(`cannot broadcast to [${shape.join(", ")}]`);
    }
    return [{ shape, dtype: x!.dtype }];
  },
  lower: (g, [x], { shape }) => [g.op("Expand", [x!, g.ints(shape)])],
  vjp: ([ct], [x]) => [ct?.sumTo(x!.shape)],
};

const concatOp: Op<{ axis: number }> = {
  name: "concat",
  infer: (inputs, { axis }) => {
    needSameDType(inputs);
    const [first] = inputs;
    for (const x of inputs) {
      if (
        x.shape.length !== first!.shape.length ||
        x.shape.some((d, i) => i !== axis && d !== first!.shape[i])
      ) {
        throw new ShapeError(`shapes differ on an axis other than ${axis}`);
      }
    }
    const total = inputs.reduce((n, x) => n + x.shape[axis]!, 0);
    return [{ shape: first!.shape.map((d, i) => (i === axis ? total : d)), dtype: first!.dtype }];
  },
  lower: (g, inputs, { axis }, { inputs: avals, outputs: [y] }) => {
    const blocked = axis === 1 ? blockedConcat(g, inputs, avals) : undefined;
    return [blocked === undefined ? g.op("Concat", inputs, { axis }) : unblocked(g, blocked, y!.shape)];
  },
  vjp: ([ct], inputs, _, { axis }) => {
    let start = 0;
    return inputs.map((x) => {
      const size = x.shape[axis]!;
      start += size;
      return ct?.sliceAxis(axis, start - size, start);
    });
  },
};

const splitOp: Op<{ axis: number; sizes: readonly number[] }> = {
  name: "split",
  infer: ([x], { axis, sizes }) =>
    sizes.map((size) => ({ shape: x!.shape.map((d, i) => (i === axis ? size : d)), dtype: x!.dtype })),
  lower: (g, [x], { axis, sizes }) => g.node("Split", [x!, g.ints(sizes)], { axis }, sizes.length),
  vjp: (cts, _, outputs, { axis }) => {
    const [first, ...rest] = cts.map((ct, i) => ct ?? zerosLike(outputs[i]!));
    return [concat(first!, rest, axis)];
  },
};

/** The same elements in another shape. One entry may be -1: whatever remains. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  const known = shape.reduce((n, d) => (d === -1 ? n : n * d), 1);
  const full = shape.map((d) => (d === -1 ? x.size / known : d));
  if (shape.filter((d) => d === -1).length > 1 || full.some((d) => !Number.isInteger(d) || d < 0)) {
    throw new ShapeError(`reshape: cannot put ${x} into [${shape.join(", ")}]`);
  }
  return full.length === x.rank && full.every((d, i) => d === x.shape[i])
    ? x
    : apply1(reshapeOp, [x], { shape: full });
}

/** Reorders axes; without a permutation, reverses them. */
export function transpose(x: Tensor, perm?: readonly number[]): Tensor {
  const order = perm?.map((p) => normalizeAxis(p, x.rank)) ?? x.shape.map((_, i) => x.rank - 1 - i);
  return order.length === x.rank && order.every((p, i) => p === i)
    ? x
    : apply1(transposeOp, [x], { perm: order });
}

/** Repeats axes of size 1 (and adds leading axes) up to a shape. */
export function broadcastTo(x: Tensor, shape: readonly number[]): Tensor {
  const same = x.rank === shape.length && x.shape.every((d, i) => d === shape[i]);
  return same ? x : apply1(broadcastOp, [x], { shape: [...shape] });
}

/** A new axis of size 1 before the given one (negative: counted from the end of the result). */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis(axis, x.rank + 1);
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/** Drops one axis of size 1, or all of them. */
export function squeeze(x: Tensor, axis?: number): Tensor {
  if (axis === undefined)
    return reshape(
      x,
      x.shape.filter((d) => d !== 1),
    );
  const at = normalizeAxis(axis, x.rank);
  if (x.shape[at] !== 1) throw new ShapeError(`squeeze: axis ${axis} of ${x} has size ${x.shape[at]}, not 1`);
  return reshape(
    x,
    x.shape.filter((_, i) => i !== at),
  );
}

/** Merges the axes from `start` to `end` (included) into one. */
export function flattenAxes(x: Tensor, start = 0, end = -1): Tensor {
  const [a, b] = [normalizeAxis(start, x.rank), normalizeAxis(end, x.rank)];
  return reshape(x, [...x.shape.slice(0, a), sizeOf(x.shape.slice(a, b + 1)), ...x.shape.slice(b + 1)]);
}

/** Joins tensors along an axis. */
export function concat(first: Tensor, others: Tensor | readonly Tensor[], axis = 0): Tensor {
  const list = [first, ...(Array.isArray(others) ? (others as Tensor[]) : [others as Tensor])];
  return list.length === 1 ? first : apply1(concatOp, list, { axis: normalizeAxis(axis, first.rank) });
}

/** Joins tensors along a new axis. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const [first, ...rest] = tensors.map((t) => unsqueeze(t, axis));
  if (!first) throw new ArgumentError("stack: expected at least one tensor");
  return concat(first, rest, normalizeAxis(axis, first.rank));
}

/** Pieces along an axis: of equal size when `parts` is a number, else of the given sizes. */
export function split(x: Tensor, parts: number | readonly number[], axis = 0): Tensor[] {
  const at = normalizeAxis(axis, x.rank);
  const size = x.shape[at]!;
  const sizes = typeof parts === "number" ? Array.from({ length: parts }, () => size / parts) : parts;
  if (sizes.reduce((a, b) => a + b, 0) !== size || sizes.some((s) => !Number.isInteger(s))) {
    throw new ShapeError(`split: axis ${axis} of ${x} does not split into [${sizes.join(", ")}]`);
  }
  return sizes.length === 1 ? [x] : apply(splitOp, [x], { axis: at, sizes: [...sizes] });
}

/** Operations that change shapes alone, by name. */
export const shapeOps = {
  reshape: reshapeOp,
  transpose: transposeOp,
  broadcastTo: broadcastOp,
  concat: concatOp,
  split: splitOp,
};
