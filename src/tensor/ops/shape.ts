/** Operations that move elements without computing: reshape, transpose, broadcast, concat, slice, pad, flip. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { sizeOf } from "../dtype.ts";
import type { Tensor } from "../tensor.ts";
import { zeros } from "./create.ts";
import { apply1, broadcastShapes, needSameDType, normalizeAxis, type Op } from "./op.ts";
import { sumTo } from "./reduce.ts";

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
  vjp: ([ct], [x]) => [ct && sumTo(ct, x!.shape)],
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
  lower: (g, inputs, { axis }) => [g.op("Concat", inputs, { axis })],
  vjp: ([ct], inputs, _, { axis }) => {
    let start = 0;
    return inputs.map((x) => {
      const size = x.shape[axis]!;
      start += size;
      return ct && sliceAxis(ct, axis, start - size, start);
    });
  },
};

export interface SliceAttrs {
  readonly axes: readonly number[];
  readonly starts: readonly number[];
  /** Exclusive; for negative steps -1 means "to the first element included". */
  readonly ends: readonly number[];
  readonly steps: readonly number[];
}

const sliceLength = (start: number, end: number, step: number): number =>
  Math.max(0, Math.ceil((end - start) / step));

const sliceOp: Op<SliceAttrs> = {
  name: "slice",
  infer: ([x], { axes, starts, ends, steps }) => {
    const shape = [...x!.shape];
    axes.forEach((axis, i) => {
      const size = x!.shape[axis]!;
      const length = sliceLength(starts[i]!, ends[i]!, steps[i]!);
      const last = starts[i]! + (length - 1) * steps[i]!;
      if (length > 0 && (starts[i]! < 0 || starts[i]! >= size || last < 0 || last >= size)) {
        throw new ArgumentError(
          `slice ${starts[i]}:${ends[i]}:${steps[i]} is outside axis ${axis} of size ${size}`,
        );
      }
      shape[axis] = length;
    });
    return [{ shape, dtype: x!.dtype }];
  },
  lower: (g, [x], { axes, starts, ends, steps }) => {
    const stop = ends.map((e, i) => (steps[i]! < 0 && e < 0 ? -(2 ** 31) : e));
    return [g.slice(x!, axes, starts, stop, steps)];
  },
  vjp: ([ct], [x], _, attrs) => [ct && unslice(ct, x!.shape, attrs)],
};

/** Puts a slice back into zeros: dilate and flip along each axis, then pad. */
function unslice(ct: Tensor, shape: readonly number[], { axes, starts, steps }: SliceAttrs): Tensor {
  const pads = shape.map((): [number, number] => [0, 0]);
  let out = ct;
  axes.forEach((axis, i) => {
    const step = Math.abs(steps[i]!);
    const length = ct.shape[axis]!;
    if (length === 0) {
      pads[axis] = [0, shape[axis]!];
      return;
    }
    if (step > 1) out = dilate(out, axis, step);
    if (steps[i]! < 0) out = flip(out, axis);
    const first = steps[i]! < 0 ? starts[i]! - (length - 1) * step : starts[i]!;
    pads[axis] = [first, shape[axis]! - first - out.shape[axis]!];
  });
  return padZeros(out, pads);
}

/** Inserts `step - 1` zeros between neighbours along an axis. */
export function dilate(x: Tensor, axis: number, step: number): Tensor {
  const split = [...x.shape.slice(0, axis + 1), 1, ...x.shape.slice(axis + 1)];
  const pads = split.map((_, i): [number, number] => (i === axis + 1 ? [0, step - 1] : [0, 0]));
  const merged = x.shape.map((d, i) => (i === axis ? d * step : d));
  const spread = reshape(padZeros(reshape(x, split), pads), merged);
  return sliceAxis(spread, axis, 0, (x.shape[axis]! - 1) * step + 1);
}

const padOp: Op<{ pads: readonly (readonly [number, number])[]; value: number }> = {
  name: "pad",
  infer: ([x], { pads }) => {
    if (pads.length !== x!.shape.length)
      throw new ArgumentError(`expected ${x!.shape.length} pairs of pads, got ${pads.length}`);
    const shape = x!.shape.map((d, i) => d + pads[i]![0] + pads[i]![1]);
    if (shape.some((d) => d < 0)) throw new ShapeError(`pads [${pads.join("; ")}] leave a negative size`);
    return [{ shape, dtype: x!.dtype }];
  },
  lower: (g, [x], { pads, value }, { inputs: [a] }) => {
    const flat = g.ints([...pads.map((p) => p[0]), ...pads.map((p) => p[1])]);
    return [g.op("Pad", [x!, flat, g.scalar(a!.dtype, value)], { mode: "constant" })];
  },
  vjp: ([ct], [x], _, { pads }) => {
    if (!ct) return [];
    const kept = pads.map(([before, after]): [number, number] => [Math.max(0, before), Math.max(0, after)]);
    const inner = slice(
      ct,
      kept.map((p) => p[0]),
      ct.shape.map((d, i) => d - kept[i]![1]),
    );
    const cropped = pads.map(([before, after]): [number, number] => [
      Math.max(0, -before),
      Math.max(0, -after),
    ]);
    return [cropped.some(([b, a]) => b || a) ? padZeros(inner, cropped) : inner.reshape(x!.shape)];
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

/** Exchanges two axes. */
export function swapAxes(x: Tensor, a: number, b: number): Tensor {
  const [i, j] = [normalizeAxis(a, x.rank), normalizeAxis(b, x.rank)];
  return transpose(
    x,
    x.shape.map((_, k) => (k === i ? j : k === j ? i : k)),
  );
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
  let start = 0;
  return sizes.map((s) => sliceAxis(x, at, start, (start += s)));
}

const resolve = (i: number, size: number): number => (i < 0 ? i + size : i);

/**
 * `x[starts:ends:steps]` on the leading axes. Negative bounds count from the end; missing ends mean the whole axis.
 * Steps are positive (see `flip`).
 */
export function slice(
  x: Tensor,
  starts: readonly number[],
  ends: readonly (number | undefined)[] = [],
  steps: readonly number[] = [],
): Tensor {
  if (steps.some((s) => !Number.isInteger(s) || s < 1))
    throw new ArgumentError(`slice: steps must be positive integers, got [${steps}]`);
  const axes = starts.map((_, i) => i).filter((i) => i < x.rank);
  if (starts.length > x.rank) throw new ShapeError(`slice: ${starts.length} bounds for ${x}`);
  const attrs = {
    axes,
    starts: axes.map((i) => resolve(starts[i]!, x.shape[i]!)),
    ends: axes.map((i) => Math.min(resolve(ends[i] ?? x.shape[i]!, x.shape[i]!), x.shape[i]!)),
    steps: axes.map((i) => steps[i] ?? 1),
  };
  const whole = axes.every(
    (i) => attrs.starts[i] === 0 && attrs.ends[i] === x.shape[i] && attrs.steps[i] === 1,
  );
  return whole ? x : apply1(sliceOp, [x], attrs);
}

/** `x[…, start:end:step, …]` on one axis. */
export function sliceAxis(x: Tensor, axis: number, start: number, end?: number, step = 1): Tensor {
  const at = normalizeAxis(axis, x.rank);
  const starts = Array.from({ length: at + 1 }, (_, i) => (i === at ? start : 0));
  const ends = starts.map((_, i) => (i === at ? end : undefined));
  return slice(
    x,
    starts,
    ends,
    starts.map((_, i) => (i === at ? step : 1)),
  );
}

/** One element along an axis, which disappears. */
export function select(x: Tensor, axis: number, index: number): Tensor {
  const at = normalizeAxis(axis, x.rank);
  const i = resolve(index, x.shape[at]!);
  return squeeze(sliceAxis(x, at, i, i + 1), at);
}

/** Reverses the order along axes. */
export function flip(x: Tensor, axes: number | readonly number[]): Tensor {
  const list = (typeof axes === "number" ? [axes] : axes)
    .map((a) => normalizeAxis(a, x.rank))
    .filter((a) => x.shape[a]! > 1);
  if (list.length === 0) return x;
  return apply1(sliceOp, [x], {
    axes: list,
    starts: list.map((a) => x.shape[a]! - 1),
    ends: list.map(() => -1),
    steps: list.map(() => -1),
  });
}

type Pads = readonly (readonly [before: number, after: number])[];

function padZeros(x: Tensor, pads: Pads): Tensor {
  return pads.every(([a, b]) => a === 0 && b === 0) ? x : apply1(padOp, [x], { pads, value: 0 });
}

/**
 * Extends every axis by `[before, after]` elements: a constant, the mirror image without the border ("reflect"), or the
 * border repeated ("replicate"). Negative pads crop (constant mode).
 */
export function pad(
  x: Tensor,
  pads: Pads,
  mode: "constant" | "reflect" | "replicate" = "constant",
  value = 0,
): Tensor {
  if (mode === "constant") return apply1(padOp, [x], { pads, value });
  if (pads.length !== x.rank)
    throw new ArgumentError(`pad: expected ${x.rank} pairs of pads, got ${pads.length}`);
  return pads.reduce((out, [before, after], axis) => {
    if (before === 0 && after === 0) return out;
    const size = x.shape[axis]!;
    if (mode === "reflect" && Math.max(before, after) >= size) {
      throw new ArgumentError(
        `pad: reflecting ${Math.max(before, after)} elements needs more than ${size} on axis ${axis}`,
      );
    }
    const edge = (start: number, count: number): Tensor[] => {
      if (count === 0) return [];
      if (mode === "reflect")
        return [
          flip(
            sliceAxis(out, axis, start === 0 ? 1 : size - 1 - count, start === 0 ? count + 1 : size - 1),
            axis,
          ),
        ];
      const border = sliceAxis(out, axis, start, start + 1);
      return [
        broadcastTo(
          border,
          border.shape.map((d, i) => (i === axis ? count : d)),
        ),
      ];
    };
    const [first, ...rest] = [...edge(0, before), out, ...edge(size - 1, after)];
    return concat(first!, rest, axis);
  }, x);
}

/** Repeats the whole tensor `repeats[i]` times along axis i. */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  if (repeats.length !== x.rank)
    throw new ArgumentError(`tile: expected ${x.rank} repeats, got ${repeats.length}`);
  const spread = x.shape.flatMap((d, i) => [repeats[i]!, d]);
  const apart = reshape(
    x,
    x.shape.flatMap((d) => [1, d]),
  );
  return reshape(
    broadcastTo(apart, spread),
    x.shape.map((d, i) => d * repeats[i]!),
  );
}

/** Repeats each element `count` times along an axis. */
export function repeat(x: Tensor, count: number, axis: number): Tensor {
  const at = normalizeAxis(axis, x.rank);
  const apart = unsqueeze(x, at + 1);
  const spread = broadcastTo(
    apart,
    apart.shape.map((d, i) => (i === at + 1 ? count : d)),
  );
  return reshape(
    spread,
    x.shape.map((d, i) => (i === at ? d * count : d)),
  );
}

/** Moves elements `shift` places along an axis; what leaves at one end enters at the other. */
export function roll(x: Tensor, shift: number, axis: number): Tensor {
  const at = normalizeAxis(axis, x.rank);
  const size = x.shape[at]!;
  const by = ((shift % size) + size) % size;
  return by === 0 ? x : concat(sliceAxis(x, at, size - by), sliceAxis(x, at, 0, size - by), at);
}

/** `x` with `value` in place of the block that begins at `starts`. */
export function setSlice(x: Tensor, starts: readonly number[], value: Tensor): Tensor {
  const full = x.shape.map((_, i) => starts[i] ?? 0);
  const pads = x.shape.map((d, i): [number, number] => [full[i]!, d - full[i]! - value.shape[i]!]);
  const hole = padOnes(value, pads);
  return x.mul(hole).add(padZeros(value, pads));
}

/** Zero where the block is, one elsewhere. */
function padOnes(value: Tensor, pads: Pads): Tensor {
  return apply1(padOp, [zeros(value.shape, value.dtype)], { pads, value: 1 });
}

export const shapeOps = {
  reshape: reshapeOp,
  transpose: transposeOp,
  broadcastTo: broadcastOp,
  concat: concatOp,
  slice: sliceOp,
  pad: padOp,
};
