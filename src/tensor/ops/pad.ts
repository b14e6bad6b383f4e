/** What is built on padding and joining: mirrored borders, repetition, rolling, writing into a block. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import type { Tensor } from "../tensor.ts";
import { zeros } from "./create.ts";
import { normalizeAxis } from "./op.ts";
import { broadcastTo, concat, reshape, unsqueeze } from "./shape.ts";
import { flip, type Pads, padConstant, sliceAxis } from "./slice.ts";

/** What lies beyond the border, made of the tensor itself. */
export type BorderMode = "reflect" | "replicate" | "circular";

/**
 * Extends every axis by `[before, after]` elements: a constant, the mirror image without the border ("reflect"), or the
 * border repeated ("replicate"), or the other end ("circular"). Negative pads crop (constant mode).
 */
export function pad(x: Tensor, pads: Pads, mode: "constant" | BorderMode = "constant", value = 0): Tensor {
  if (mode === "constant") return padConstant(x, pads, value);
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
    if (mode === "circular" && Math.max(before, after) > size)
      throw new ArgumentError(
        `pad: ${Math.max(before, after)} elements are more than one turn of ${size} on axis ${axis}`,
      );
    const edge = (start: number, count: number): Tensor[] => {
      if (count === 0) return [];
      if (mode === "reflect")
        return [
          flip(
            sliceAxis(out, axis, start === 0 ? 1 : size - 1 - count, start === 0 ? count + 1 : size - 1),
            axis,
          ),
        ];
      if (mode === "circular")
        return [sliceAxis(out, axis, start === 0 ? size - count : 0, start === 0 ? size : count)];
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

/**
 * `x` with `value` in place of the block that begins at `starts` (0 for axes without one). Throws `ShapeError` unless the
 * block lies inside of `x`.
 */
export function setSlice(x: Tensor, starts: readonly number[], value: Tensor): Tensor {
  const inside =
    value.rank === x.rank &&
    starts.length <= x.rank &&
    x.shape.every((d, i) => {
      const start = starts[i] ?? 0;
      return Number.isInteger(start) && start >= 0 && start + value.shape[i]! <= d;
    });
  if (!inside)
    throw new ShapeError(`setSlice: a block ${value} at [${starts.join(", ")}] does not lie inside of ${x}`);
  const full = x.shape.map((_, i) => starts[i] ?? 0);
  const pads = x.shape.map((d, i): [number, number] => [full[i]!, d - full[i]! - value.shape[i]!]);
  const hole = padOnes(value, pads);
  return x.mul(hole).add(padConstant(value, pads));
}

/** Zero where the block is, one elsewhere. */
function padOnes(value: Tensor, pads: Pads): Tensor {
  return padConstant(zeros(value.shape, value.dtype), pads, 1);
}
