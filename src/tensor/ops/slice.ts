/** Slices, and what puts them back: padding. Each is the other's gradient. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import type { Op, Tensor } from "../tensor.ts";
import { apply1, normalizeAxis } from "./op.ts";
import { reshape, squeeze } from "./shape.ts";

/** What a slice is recorded with. */
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

/** Elements before and after, per axis; negative ones crop. */
export type Pads = readonly (readonly [before: number, after: number])[];

const padOp: Op<{ pads: Pads; value: number }> = {
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
    return [cropped.some(([b, a]) => b || a) ? padConstant(inner, cropped) : inner.reshape(x!.shape)];
  },
};

/** One number around a tensor; negative pads crop. */
export function padConstant(x: Tensor, pads: Pads, value = 0): Tensor {
  const none = pads.length === x.rank && pads.every(([before, after]) => before === 0 && after === 0);
  return none ? x : apply1(padOp, [x], { pads, value });
}

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
  return padConstant(out, pads);
}

/** Inserts `step - 1` zeros between neighbours along an axis. */
function dilate(x: Tensor, axis: number, step: number): Tensor {
  const split = [...x.shape.slice(0, axis + 1), 1, ...x.shape.slice(axis + 1)];
  const pads = split.map((_, i): [number, number] => (i === axis + 1 ? [0, step - 1] : [0, 0]));
  const merged = x.shape.map((d, i) => (i === axis ? d * step : d));
  const spread = reshape(padConstant(reshape(x, split), pads), merged);
  return sliceAxis(spread, axis, 0, (x.shape[axis]! - 1) * step + 1);
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

export const sliceOps = { slice: sliceOp, pad: padOp };
