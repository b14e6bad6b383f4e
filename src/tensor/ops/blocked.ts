/**
 * Values in the channel-blocked layout of ONNX Runtime's CPU kernels: [N, C / b, H, W, b], with b = 8 or 16 channels
 * innermost. Where weights are constants the runtime blocks convolutions by itself, but goes back to the plain layout for
 * every norm and activation between them. Here a whole chain of them stays blocked: each lowering that can, takes the
 * blocked form of its input and leaves one of its result. Plain forms are made as well, and dropped if nothing reads them.
 * Channels that do not fill their last block are followed by zeros, which every operation here keeps.
 */
import { sizeOf } from "../dtype.ts";
import type { GraphBuilder, OnnxNode } from "../onnx/builder.ts";
import type { Aval } from "../tensor.ts";

const NCHWC = "com.microsoft.nchwc";

/** A node of the blocked kernels. */
const kernel = (g: GraphBuilder, op: string, inputs: readonly string[], attributes = {}): string =>
  g.node(op, inputs, attributes, 1, NCHWC)[0]!;

/** Channels of a blocked map: whole blocks. What is behind the last channel is 0, in every blocked map. */
export function blockedChannels(g: GraphBuilder, channels: number): number {
  const block = g.capabilities.channelBlock ?? 1;
  return Math.ceil(channels / block) * block;
}

/** Whether maps of so many channels are kept in blocks: at most a third more than the map itself. */
export const fillsBlocks = (g: GraphBuilder, channels: number): boolean =>
  3 * blockedChannels(g, channels) <= 4 * channels;

/** A tensor with zeros behind each of its axes, up to a larger shape. */
export function zeroPadded(
  g: GraphBuilder,
  x: string,
  from: readonly number[],
  to: readonly number[],
): string {
  if (to.every((d, i) => d === from[i])) return x;
  return g.op("Pad", [x, g.ints([...from.map(() => 0), ...to.map((d, i) => d - from[i]!)])]);
}

/** A blocked value in plain layout: its first `channels` channels. */
export const plainForm = (g: GraphBuilder, blocked: string, channels: number): string =>
  kernel(g, "ReorderOutput", [blocked], { channels, channels_last: 0 });

/** A blocked value as the result of a lowering: a plain one that remembers its blocked form. */
export function unblocked(g: GraphBuilder, blocked: string, channels: number): string {
  const plain = plainForm(g, blocked, channels);
  g.blocked.set(plain, blocked);
  return plain;
}

/** The blocked form of a value, made if it is not there. */
export const blockedForm = (g: GraphBuilder, x: string): string =>
  g.blocked.get(x) ?? kernel(g, "ReorderInput", [x], { channels_last: 0 });

const isMap = ({ shape }: Aval): boolean => sizeOf(shape) > 1;

/**
 * An elementwise operation of a map with maps of the same shape and with single values: on blocked forms where every map
 * has one. Maps that do not fill their blocks stay blocked if the operation `keepsZero`: leaves 0 where all maps have 0.
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
  const channels = map.shape[1]!;
  if (!keepsZero && blockedChannels(g, channels) !== channels) return lower(inputs);
  return unblocked(g, lower(forms), channels);
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
  return node?.op === "Conv" && node.domain === NCHWC ? node : undefined;
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

/** One value for each channel [N or 1, C, ...] of each picture of a blocked map: [N, C], in whole blocks. */
export function channelValues(
  g: GraphBuilder,
  values: string,
  [pictures, c]: readonly number[],
  n: number,
): string {
  const [from, to] = [
    [pictures!, c!],
    [pictures!, blockedChannels(g, c!)],
  ];
  const whole = zeroPadded(g, g.reshape(values, from), from, to);
  return pictures === n ? whole : g.op("Expand", [whole, g.ints([n, to[1]!])]);
}

/**
 * x scale + shift for each channel of each picture, in one pass: x a blocked [N, C, H, W], C in whole blocks, scale and
 * shift of N C values.
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
  const n = mapShape[0]!;
  const c = blockedChannels(g, mapShape[1]!);
  const shape = [n, c, ...mapShape.slice(2)];
  const each = channelValues(g, values, valuesShape, n);
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

/** Mean of each channel of each picture of a blocked map: [N, C], C in whole blocks. A map of one point is not reordered. */
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
  return g.reshape(means, [n, blockedChannels(g, c)]);
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

/** Maps behind one another, or undefined where one has no blocked form or one but the last does not fill its blocks. */
export function blockedConcat(
  g: GraphBuilder,
  inputs: readonly string[],
  avals: readonly Aval[],
): string | undefined {
  const forms = inputs.map((x) => g.blocked.get(x));
  const whole = avals.slice(0, -1).every(({ shape }) => blockedChannels(g, shape[1]!) === shape[1]);
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
