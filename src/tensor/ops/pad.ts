/** Padding and what is built on it: repetition, rolling, writing into a block. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import type { Tensor } from "../tensor.ts";
import { zeros } from "./create.ts";
import { apply1, normalizeAxis, type Op } from "./op.ts";
import { broadcastTo, concat, flip, reshape, type SliceAttrs, slice, sliceAxis, unsqueeze } from "./shape.ts";

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

/** Puts a slice back into zeros: dilate and flip along each axis, then pad. */
export function unslice(ct: Tensor, shape: readonly number[], { axes, starts, steps }: SliceAttrs): Tensor {
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

export const padOps = { pad: padOp };
