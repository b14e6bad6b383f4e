/** Simulated quantisation of activations inside a graph: rounded to the grid, kept as floats. */
import { ArgumentError } from "../../errors.ts";
import { maximum, minimum, type Tensor } from "../../tensor/index.ts";
import { Module } from "../module.ts";
import { checkBits, type Grid, groupSize } from "./grid.ts";

/**
 * How activations become codes. The granularity is one scale for everything ("tensor": with dynamic ranges, samples of a
 * batch influence each other), one per token ("row"), or one per group of channels of a token.
 */
export interface ActivationGrid extends Grid {
  /** Ranges of the values at hand, or fixed ranges from calibration, the same for all tokens and steps. */
  readonly range: "dynamic" | "static";
}

const LEAST_RANGE = 1e-5;

/** Rounded to the grid between `low` and `high`, which broadcast against x; the gradient passes straight through. */
function snap(x: Tensor, low: Tensor, high: Tensor, { bits, symmetric }: Omit<Grid, "granularity">): Tensor {
  const top = 2 ** bits - 1;
  let rounded: Tensor;
  if (symmetric) {
    const half = 2 ** (bits - 1);
    const scale = maximum(maximum(low.neg(), high), LEAST_RANGE).div(half - 1);
    rounded = x
      .div(scale)
      .round()
      .clip(-half, half - 1)
      .mul(scale);
  } else {
    const from = minimum(low, 0);
    const scale = maximum(maximum(high, 0).sub(from), LEAST_RANGE).div(top);
    const zero = from.neg().div(scale).round().clip(0, top);
    rounded = x.div(scale).round().add(zero).clip(0, top).sub(zero).mul(scale);
  }
  return x.add(rounded.sub(x).stopGradient());
}

/** x [..., K] on its grid, with the ranges of x itself. */
export function quantizeActivations(x: Tensor, grid: Omit<ActivationGrid, "range">): Tensor {
  const width = x.shape.at(-1)!;
  const group = groupSize(grid.granularity, width, "quantizeActivations");
  if (grid.granularity === "tensor") return snap(x, x.min(), x.max(), grid);
  const grouped = x.reshape([...x.shape.slice(0, -1), width / group, group]);
  return snap(grouped, grouped.min(-1, true), grouped.max(-1, true), grid).reshape(x.shape);
}

/** Ranges of static activations, one for each channel. */
export class StaticRange extends Module {
  readonly low: Tensor; // [K]
  readonly high: Tensor; // [K]

  constructor(low: Tensor, high: Tensor) {
    super();
    this.low = low;
    this.high = high;
  }

  /** x [..., K] on its grid. */
  call(x: Tensor, grid: Omit<ActivationGrid, "range">): Tensor {
    return snap(x, this.low, this.high, grid);
  }
}

/** Ranges of channels, widened to those of their group, token or tensor. // [K] each */
export function sharedRanges(
  low: Float32Array,
  high: Float32Array,
  { granularity, bits }: Grid,
): { low: Float32Array; high: Float32Array } {
  checkBits(bits, "activations");
  if (low.length !== high.length) throw new ArgumentError("sharedRanges: as many lower as upper bounds");
  const group = groupSize(granularity, low.length, "activations");
  const reduce = (values: Float32Array, f: (...x: number[]) => number): Float32Array => {
    const out = new Float32Array(values.length);
    for (let at = 0; at < values.length; at += group)
      out.fill(f(...values.subarray(at, at + group)), at, at + group);
    return out;
  };
  return { low: reduce(low, Math.min), high: reduce(high, Math.max) };
}
