/** Stride, padding, dilation and groups of a convolution. */
import { ArgumentError } from "../../errors.ts";
import type { Aval } from "../aval.ts";
import type { Tensor } from "../tensor.ts";

/** Strides, padding, dilation and groups, an entry for each axis. */
export interface ConvGeometry {
  /** Per spatial axis. */
  readonly stride: readonly number[];
  readonly dilation: readonly number[];
  /** Zeros before and after, per spatial axis. */
  readonly padding: readonly (readonly [before: number, after: number])[];
  readonly groups: number;
}

/** What the gradient of a convolution's weights is recorded with. */
export interface WeightGradAttrs extends ConvGeometry {
  readonly kernel: readonly number[];
}

/** Input and cotangent of a convolution, by name and shape, and its geometry. */
export interface WeightGrad {
  readonly x: string;
  readonly dy: string;
  readonly attrs: WeightGradAttrs;
  readonly xa: Aval;
  readonly da: Aval;
}

/** Spatial size of a convolution's result. */
export function convSize(
  input: number,
  kernel: number,
  axis: number,
  { stride, dilation, padding }: ConvGeometry,
): number {
  const [before, after] = padding[axis]!;
  return Math.floor((input + before + after - dilation[axis]! * (kernel - 1) - 1) / stride[axis]!) + 1;
}

export const onnxPads = ({ padding }: ConvGeometry): number[] => [
  ...padding.map((p) => p[0]),
  ...padding.map((p) => p[1]),
];

/** Options of `geometry`. */
export interface ConvOptions {
  /** One number for all spatial axes, or one each. Default 1. */
  readonly stride?: number | readonly number[];
  /** Elements on both sides (a number, or one per axis), or `[before, after]` per axis. Default 0. */
  readonly padding?: number | readonly (number | readonly [number, number])[];
  readonly dilation?: number | readonly number[];
  readonly groups?: number;
}

/** Options with one value per spatial axis. Throws `ArgumentError` for values that make no convolution. */
export function geometry(
  x: Tensor,
  { stride = 1, padding = 0, dilation = 1, groups = 1 }: ConvOptions,
): ConvGeometry {
  const axes = Math.max(0, x.rank - 2);
  const each = <T>(v: T | readonly T[]): readonly T[] =>
    Array.isArray(v) ? v : Array.from({ length: axes }, () => v as T);
  const out = {
    stride: each(stride),
    dilation: each(dilation),
    padding: each<number | readonly [number, number]>(padding).map((p) =>
      typeof p === "number" ? ([p, p] as const) : p,
    ),
    groups,
  };
  const positive = [...out.stride, ...out.dilation, groups].every((v) => Number.isInteger(v) && v >= 1);
  if (!positive || out.padding.flat().some((p) => !Number.isInteger(p) || p < 0)) {
    throw new ArgumentError(
      "conv: stride, dilation and groups need positive integers, padding non-negative ones",
    );
  }
  if (out.stride.length !== axes || out.dilation.length !== axes || out.padding.length !== axes) {
    throw new ArgumentError(`conv: expected ${axes} values per option for ${x}`);
  }
  return out;
}
