/** Pooling over spatial axes. */
import { ShapeError } from "../../errors.ts";
import { vjp } from "../autodiff.ts";
import type { Aval } from "../aval.ts";
import { hostArray, sizeOf } from "../dtype.ts";
import type { Attributes, GraphBuilder } from "../onnx/builder.ts";
import type { Op, Tensor } from "../tensor.ts";
import { blockedMap, unblocked } from "./block-form.ts";
import { blockedPool, blockedUpsample } from "./blocked.ts";
import { convTranspose } from "./conv.ts";
import { full } from "./create.ts";
import { apply1 } from "./op.ts";
import { pad } from "./pad.ts";
import { reshape, stack } from "./shape.ts";
import { slice } from "./slice.ts";

/** What a pooling is recorded with. */
export interface PoolAttrs {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  /** The same on both sides of each axis. */
  readonly padding: readonly number[];
}

function pooledShape(x: Aval, { kernel, stride, padding }: PoolAttrs): number[] {
  const spatial = x.shape.slice(2);
  if (spatial.length !== kernel.length)
    throw new ShapeError(`expected ${kernel.length} spatial axes, got ${spatial.length}`);
  const out = spatial.map((d, i) => Math.floor((d + 2 * padding[i]! - kernel[i]!) / stride[i]!) + 1);
  if (out.some((d) => d < 1))
    throw new ShapeError(`the window [${kernel.join(", ")}] is larger than the padded input`);
  return [...x.shape.slice(0, 2), ...out];
}

const poolAttributes = ({ kernel, stride, padding }: PoolAttrs) => ({
  kernel_shape: kernel,
  strides: stride,
  pads: [...padding, ...padding],
});

function lowerPool(
  g: GraphBuilder,
  op: "AveragePool" | "MaxPool",
  x: string,
  [from, to]: readonly [Aval, Aval],
  attributes: Attributes,
): string {
  const blocked = blockedMap(g, x, from.shape);
  return blocked === undefined
    ? g.op(op, [x], attributes)
    : unblocked(g, blockedPool(g, op, blocked, attributes), to.shape);
}

const avgPoolOp: Op<PoolAttrs> = {
  name: "avgPool",
  infer: ([x], attrs) => [{ shape: pooledShape(x!, attrs), dtype: x!.dtype }],
  lower: (g, [x], attrs, { inputs: [a], outputs: [y] }) => [
    lowerPool(g, "AveragePool", x!, [a!, y!], { ...poolAttributes(attrs), count_include_pad: 1 }),
  ],
  // The adjoint spreads each cotangent evenly over its window: an upsampling when windows tile the input, in general a
  // transposed convolution per channel.
  vjp: ([ct], [x], _, { kernel, stride, padding }) => {
    if (!ct) return [];
    const [n, c, ...spatial] = x!.shape as [number, number, ...number[]];
    const tiles = kernel.every((k, i) => k === stride[i] && padding[i] === 0 && spatial[i]! % k === 0);
    if (tiles) return [upsample(ct, kernel).mul(1 / sizeOf(kernel))];
    const flat = reshape(ct, [n * c, 1, ...ct.shape.slice(2)]);
    const window = full([1, 1, ...kernel], 1 / sizeOf(kernel), ct.dtype);
    const outputPadding = spatial.map((d, i) => (d + 2 * padding[i]! - kernel[i]!) % stride[i]!);
    return [reshape(convTranspose(flat, window, undefined, { stride, padding, outputPadding }), x!.shape)];
  },
};

/** Every element repeated `factors[i]` times along spatial axis i. */
const upsampleOp: Op<{ factors: readonly number[] }> = {
  name: "upsample",
  infer: ([x], { factors }) => {
    if (x!.shape.length !== factors.length + 2 || factors.some((f) => !Number.isInteger(f) || f < 1)) {
      throw new ShapeError(`expected ${x!.shape.length - 2} whole factors, got [${factors.join(", ")}]`);
    }
    return [{ shape: x!.shape.map((d, i) => (i < 2 ? d : d * factors[i - 2]!)), dtype: x!.dtype }];
  },
  lower: (g, [x], { factors }, { inputs: [a], outputs: [y] }) => {
    const blocked = blockedMap(g, x!, a!.shape);
    if (blocked !== undefined) return [unblocked(g, blockedUpsample(g, blocked, factors), y!.shape)];
    const scales = g.constant("f32", [factors.length + 2], hostArray("f32", [1, 1, ...factors]));
    const attributes = {
      mode: "nearest",
      coordinate_transformation_mode: "asymmetric",
      nearest_mode: "floor",
    };
    return [g.op("Resize", [x!, "", scales], attributes)];
  },
  vjp: ([ct], _, __, { factors }) => [ct && avgPool(ct, factors).mul(sizeOf(factors))],
};

const maxPoolOp: Op<PoolAttrs> = {
  name: "maxPool",
  infer: ([x], attrs) => [{ shape: pooledShape(x!, attrs), dtype: x!.dtype }],
  lower: (g, [x], attrs, { inputs: [a], outputs: [y] }) => [
    lowerPool(g, "MaxPool", x!, [a!, y!], poolAttributes(attrs)),
  ],
  vjp: ([ct], [x], _, attrs) => [ct && vjp((input: Tensor) => maxOfViews(input, attrs), x!)[1](ct)[0]],
};

/** The same maximum over the shifted views of the padded input, one per place in the window; its gradient is known. */
function maxOfViews(x: Tensor, { kernel, stride, padding }: PoolAttrs): Tensor {
  const lowest = x.dtype === "f16" ? -65504 : -3.4e38;
  const padded = pad(x, [[0, 0], [0, 0], ...padding.map((p) => [p, p] as const)], "constant", lowest);
  const out = kernel.map((k, i) => Math.floor((padded.shape[i + 2]! - k) / stride[i]!) + 1);
  const views = Array.from({ length: sizeOf(kernel) }, (_, place) => {
    const starts = kernel.map((k, i) => Math.floor(place / sizeOf(kernel.slice(i + 1))) % k);
    const ends = starts.map((s, i) => s + (out[i]! - 1) * stride[i]! + 1);
    return slice(padded, [0, 0, ...starts], [undefined, undefined, ...ends], [1, 1, ...stride]);
  });
  return stack(views).max(0);
}

/** Options of `avgPool` and `maxPool`. */
export interface PoolOptions {
  /** Default: the window itself, so that windows do not overlap. */
  readonly stride?: number | readonly number[];
  readonly padding?: number | readonly number[];
}

function poolAttrs(
  x: Tensor,
  window: number | readonly number[],
  { stride = window, padding = 0 }: PoolOptions,
): PoolAttrs {
  const each = (v: number | readonly number[]): readonly number[] =>
    typeof v === "number" ? x.shape.slice(2).map(() => v) : v;
  return { kernel: each(window), stride: each(stride), padding: each(padding) };
}

/** Mean over windows of x [N, C, ...]; padding counts as zeros. */
export function avgPool(x: Tensor, window: number | readonly number[], options: PoolOptions = {}): Tensor {
  return apply1(avgPoolOp, [x], poolAttrs(x, window, options));
}

/** Maximum over windows of x [N, C, ...]; padding never wins. */
export function maxPool(x: Tensor, window: number | readonly number[], options: PoolOptions = {}): Tensor {
  return apply1(maxPoolOp, [x], poolAttrs(x, window, options));
}

/** Nearest-neighbour upsampling of x [N, C, ...] by whole factors (one number for all spatial axes). */
export function upsample(x: Tensor, factors: number | readonly number[]): Tensor {
  const list = typeof factors === "number" ? x.shape.slice(2).map(() => factors) : factors;
  return apply1(upsampleOp, [x], { factors: list });
}

/** Poolings and their inverse, by name. */
export const poolOps = { upsample: upsampleOp, avgPool: avgPoolOp, maxPool: maxPoolOp };
