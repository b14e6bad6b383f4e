/**
 * Operations on maps in the channel-blocked layout (block-form.ts). Where weights are constants the runtime blocks
 * convolutions by itself, but goes back to the plain layout for every norm and activation between them. Here a whole
 * chain of them stays blocked: each lowering that can, takes the blocked form of its input and leaves one of its result.
 * Plain forms are made as well, and dropped if nothing reads them.
 */

import type { Aval } from "../aval.ts";
import { sizeOf } from "../dtype.ts";
import type { GraphBuilder, OnnxNode } from "../onnx/builder.ts";
import {
  blockedMap,
  blockedShape,
  blockForm,
  isKernel,
  kernel,
  laneValues,
  unblocked,
  wholeBlocks,
} from "./block-form.ts";

const isMap = ({ shape }: Aval): boolean => sizeOf(shape) > 1;

/**
 * An elementwise operation of a map with maps of the same shape and with single values: on blocked forms where every map
 * has one. Where zeros follow the channels, the operation must be one that `keepsZero`: leaves 0 where all maps have 0.
 */
export function elementwise(
  g: GraphBuilder,
  inputs: readonly string[],
  avals: readonly Aval[],
  lower: (inputs: readonly string[]) => string,
  keepsZero = false,
): string {
  const map = avals.find(isMap);
  const forms = inputs.map((x, i) => (isMap(avals[i]!) ? g.blocked.get(x) : x));
  const same = avals.every((a) => !isMap(a) || String(a.shape) === String(map?.shape));
  if (!map || !same || !forms.every((form) => form !== undefined)) return lower(inputs);
  const { columns, lanes } = blockForm(g, map.shape)!;
  if (!keepsZero && lanes !== columns * map.shape[1]!) return lower(inputs);
  return unblocked(g, lower(forms), map.shape);
}

export interface ConvAttributes {
  readonly kernel_shape: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  readonly group: number;
}

/** A blocked convolution of a blocked map. The weight is in blocked order, see `blockWeight`. */
export const convolve = (
  g: GraphBuilder,
  inputs: readonly string[],
  { kernel_shape, strides, dilations, pads, group }: ConvAttributes,
): string => kernel(g, "Conv", inputs, { kernel_shape, strides, dilations, pads, group });

/** The node of a blocked convolution, if a value comes from one. */
function convOf(g: GraphBuilder, blocked: string): OnnxNode | undefined {
  const node = g.producerOf(blocked);
  return node?.op === "Conv" && isKernel(node) ? node : undefined;
}

/** The sum of two blocked values; one that a convolution just made is added by its kernel. */
export function blockedSum(g: GraphBuilder, [a, b]: readonly [string, string]): string {
  for (const [sum, other] of [
    [b, a],
    [a, b],
  ] as const) {
    const node = convOf(g, sum);
    if (!node || node.inputs.length === 4) continue;
    const [x, weight, bias = ""] = node.inputs as [string, string, string?];
    return kernel(g, "Conv", [x, weight, bias, other], node.attributes);
  }
  return g.op("Add", [a, b]);
}

const POINTWISE = { kernel_shape: [1, 1], strides: [1, 1], dilations: [1, 1], pads: [0, 0, 0, 0] };

/**
 * x scale + shift for each lane of each picture, in one pass: x of the blocked shape [N, C, H, W], scale and shift of
 * N C values.
 */
export function channelAffine(
  g: GraphBuilder,
  blocked: string,
  shape: readonly number[],
  scale: string,
  shift?: string,
): string {
  const [n, c, ...spatial] = shape as [number, number, number, number];
  const x = n === 1 ? blocked : g.reshape(blocked, [1, n * c, ...spatial]);
  const inputs = [x, g.reshape(scale, [n * c, 1, 1, 1]), ...(shift ? [g.reshape(shift, [n * c])] : [])];
  const y = convolve(g, inputs, { ...POINTWISE, group: n * c });
  return n === 1 ? y : g.reshape(y, shape);
}

/** What a value is the channel-wise affine map of: x, scale [N C, 1, 1, 1] and shift [N C], if it is one. */
function affineOf(g: GraphBuilder, blocked: string, [n, c]: readonly number[]): string[] | undefined {
  const top = g.producerOf(blocked);
  const node = convOf(g, n === 1 || top?.op !== "Reshape" ? blocked : top.inputs[0]!);
  if (!node || node.inputs.length > 3 || node.attributes.group !== n! * c!) return undefined;
  if (String(node.attributes.kernel_shape) !== "1,1") return undefined;
  const [x, scale, shift] = node.inputs as [string, string, string?];
  const inner = n === 1 ? x : g.producerOf(x)!.inputs[0]!;
  return shift === undefined ? [inner, scale] : [inner, scale, shift];
}

/**
 * A blocked map [N, C, H, W] times, or plus, one value for each channel [N or 1, C, 1, 1]: one pass, or none where a
 * channel-wise map or (for one picture) a convolution came before, which takes it up.
 */
export function withChannels(
  g: GraphBuilder,
  op: "Mul" | "Add",
  blocked: string,
  mapShape: readonly number[],
  values: string,
  valuesShape: readonly number[],
): string {
  const form = blockForm(g, mapShape)!;
  const shape = blockedShape(mapShape, form);
  const [n, c] = shape;
  const [pictures, channels] = valuesShape as [number, number];
  const lanes = laneValues(g, g.reshape(values, [pictures, channels]), [pictures, channels], form);
  const each = pictures === n ? lanes : g.op("Expand", [lanes, g.ints([n, c])]);
  const [v, column] = [g.reshape(each, [n * c]), g.reshape(each, [n * c, 1, 1, 1])];
  const before = affineOf(g, blocked, shape);
  if (before) {
    const [x, scale, shift] = before as [string, string, string?];
    if (op === "Mul")
      return channelAffine(g, x, shape, g.op("Mul", [scale, column]), shift && g.op("Mul", [shift, v]));
    return channelAffine(g, x, shape, scale, shift ? g.op("Add", [shift, v]) : v);
  }
  const conv = convOf(g, blocked);
  if (op === "Add" && n === 1 && conv && conv.inputs.length < 4) {
    const [x, weight, bias] = conv.inputs as [string, string, string?];
    return kernel(g, "Conv", [x, weight, bias ? g.op("Add", [bias, v]) : v], conv.attributes);
  }
  return op === "Mul"
    ? channelAffine(g, blocked, shape, each)
    : channelAffine(g, blocked, shape, g.full("f32", [n * c], 1), each);
}

/** Rows of partial means: enough for two threads and for the sums of f32 to stay exact. */
const PARTS = 32;

/** Mean of each lane of each picture of a map of this blocked shape: [N, lanes], as maps of one point are in either layout. */
export function channelMeans(g: GraphBuilder, blocked: string, shape: readonly number[]): string {
  const [n, c, h, w] = shape as [number, number, number, number];
  const rows = Array.from({ length: h }, (_, i) => i + 1).find((k) => h % k === 0 && h / k <= PARTS)!;
  const over = (x: string, window: readonly number[]): string =>
    kernel(g, "AveragePool", [x], {
      kernel_shape: window,
      strides: window,
      pads: [0, 0, 0, 0],
      count_include_pad: 1,
    });
  const means = over(over(blocked, [rows, w]), [h / rows, 1]);
  return g.reshape(means, [n, c]);
}

/** Average or largest value of windows of a blocked map. */
export const blockedPool = (
  g: GraphBuilder,
  op: "AveragePool" | "MaxPool",
  blocked: string,
  attributes: object,
): string => kernel(g, op, [blocked], attributes);

/** Every value of a blocked map repeated. */
export const blockedUpsample = (g: GraphBuilder, blocked: string, factors: readonly number[]): string =>
  kernel(g, "Upsample", [blocked], { scales: [1, 1, ...factors] });

/** Maps behind one another, or undefined where one has no blocked form or one but the last has zeros behind it. */
export function blockedConcat(
  g: GraphBuilder,
  inputs: readonly string[],
  avals: readonly Aval[],
): string | undefined {
  const forms = inputs.map((x, i) => blockedMap(g, x, avals[i]!.shape));
  const whole = avals.slice(0, -1).every(({ shape }) => wholeBlocks(g, shape[1]!) === shape[1]);
  return whole && forms.every((form) => form !== undefined) ? g.op("Concat", forms, { axis: 1 }) : undefined;
}

/** What a blocked map is the doubling of, when it is one. */
export function blockedDoubled(g: GraphBuilder, blocked: string): string | undefined {
  const node = g.producerOf(blocked);
  return node?.op === "Upsample" && String(node.attributes.scales) === "1,1,2,2" ? node.inputs[0] : undefined;
}

/** Four blocked maps [N, C, H, W] (C in whole blocks), of the places of 2 x 2 cells in reading order, as one [N, C, 2 H, 2 W]. */
export function interleave(
  g: GraphBuilder,
  maps: readonly string[],
  [n, c, h, w]: readonly [number, number, number, number],
): string {
  const block = g.capabilities.channelBlock!;
  const pixels = maps.map((m) => g.reshape(m, [(n * c * h * w) / block, 1, block]));
  const rows = [0, 2].map((i) => {
    const pairs = g.op("Concat", [pixels[i]!, pixels[i + 1]!], { axis: 1 });
    return g.reshape(pairs, [(n * c * h) / block, 1, 2 * w * block]);
  });
  return g.reshape(g.op("Concat", rows, { axis: 1 }), [n, c, 2 * h, 2 * w]);
}
