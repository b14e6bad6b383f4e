/**
 * Two-dimensional convolutions in the channel-blocked layout (block-form.ts), whose kernels run at 400 GFLOP/s where the plain
 * ones reach 150-350 on the same two cores. Constant weights are rearranged before the graph is built, others inside the
 * graph, at every step. Which block size the machine's kernels use is probed once (runtime/blocked-layout.ts).
 */

import type { Aval } from "../aval.ts";
import { type DType, hostArray, sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import {
  type BlockForm,
  kernel as blockedKernel,
  blockForm,
  laneValues,
  plainForm,
  unblocked,
  wholeBlocks,
} from "./block-form.ts";
import { type ConvAttributes, convolve } from "./blocked.ts";

/** The block size to use, or undefined where the plain convolution is the right one. */
export function blockFor(
  g: GraphBuilder,
  x: Aval,
  weight: string,
  inChannels: number,
  outChannels: number,
  groups: number,
): number | undefined {
  const block = g.capabilities.channelBlock;
  const fits = block !== undefined && groups === 1 && x.dtype === "f32" && x.shape.length === 4;
  return fits && !g.isConstant(weight) && inChannels % block === 0 && outChannels % block === 0
    ? block
    : undefined;
}

/** A plain map of whole blocks in blocks. */
const reordered = (g: GraphBuilder, x: string): string =>
  blockedKernel(g, "ReorderInput", [x], { channels_last: 0 });

/** Convolution of x [N, C, H, W] by a weight in blocked order; the result is of the given plain shape. */
export function blockedConv(
  g: GraphBuilder,
  x: string,
  weight: string,
  bias: string | undefined,
  shape: readonly number[],
  attributes: ConvAttributes,
): string {
  const input = g.blocked.get(x) ?? reordered(g, x);
  const result = convolve(g, bias ? [input, weight, bias] : [input, weight], attributes);
  return plainForm(g, result, shape, { columns: 1, lanes: shape[1]! });
}

/** The weight [K, C, h, w] of a convolution of plain maps of fewer channels than a block: [K / b, C, h, w, b]. */
function widenedWeight(g: GraphBuilder, weight: string, shape: readonly number[], block: number): string {
  const [k, ...others] = shape as [number, number, number, number];
  const whole = wholeBlocks(g, k);
  const padded = zeroPadded(g, weight, shape, [whole, ...others]);
  const rows = g.reshape(padded, [whole / block, block, sizeOf(others)]);
  return g.reshape(g.transpose(rows, [0, 2, 1]), [whole, ...others]);
}

/** A tensor with zeros behind each of its axes, up to a larger shape. */
const zeroPadded = (g: GraphBuilder, x: string, from: readonly number[], to: readonly number[]): string =>
  to.every((d, i) => d === from[i])
    ? x
    : g.op("Pad", [x, g.ints([...from.map(() => 0), ...to.map((d, i) => d - from[i]!)])]);

/** The forms on both sides of a convolution. */
interface Sides {
  /** Columns in one of the input. */
  readonly input: 1 | 2;
  readonly output: BlockForm;
  /** Whether the result stays in blocks. */
  readonly stays: boolean;
}

/** The forms that a convolution reads and leaves, or undefined where they do not go together. */
function sidesOf(
  g: GraphBuilder,
  from: BlockForm | undefined,
  outShape: readonly number[],
  { strides, dilations }: ConvAttributes,
): Sides | undefined {
  const [, out, , width] = outShape as [number, number, number, number];
  const kept = blockForm(g, outShape);
  const output = kept ?? { columns: 1, lanes: wholeBlocks(g, out) };
  const input = from?.columns ?? 1;
  if (dilations[1] !== 1 && (input === 2 || output.columns === 2)) return undefined;
  if (input === 1 || output.columns === 2 || strides[1]! % 2 === 0) return { input, output, stays: !!kept };
  // Packed input and plain output with an odd stride: even and odd output columns need different kernels, so the output
  // is computed packed. That does not serve for a map that is to stay plain in blocks, or has an odd width.
  if (kept || width % 2 !== 0) return undefined;
  return { input, output: { columns: 2, lanes: wholeBlocks(g, 2 * out) }, stays: false };
}

/**
 * The kernel between packed maps: the input has `a` neighbouring columns packed into the channels of one, the output `b`.
 * With a = 2, the columns 0 1 2 3 of channel c become two columns with the channels (c of 0, c of 1) and (c of 2, c of 3).
 * Output column q of a pack reads input column x = stride q + tap - left, which is column x mod a of pack floor(x / a).
 */
function stripKernel(
  values: Float32Array,
  [out, channels, h, w]: readonly [number, number, number, number],
  [stride, left]: readonly [number, number],
  [a, b]: readonly [number, number],
): { values: Float32Array; shape: [number, number, number, number]; left: number } {
  const first = Math.floor(-left / a);
  const width = Math.floor((stride * (b - 1) + w - 1 - left) / a) - first + 1;
  const shape: [number, number, number, number] = [b * out, a * channels, h, width];
  const strip = new Float32Array(sizeOf(shape));
  let from = 0;
  for (let k = 0; k < out; k++)
    for (let c = 0; c < channels; c++)
      for (let y = 0; y < h; y++)
        for (let tap = 0; tap < w; tap++, from++)
          for (let q = 0; q < b; q++) {
            const x = stride * q + tap - left;
            const m = Math.floor(x / a);
            const row = (q * out + k) * a * channels + (x - a * m) * channels + c;
            strip[(row * h + y) * width + m - first] = values[from]!;
          }
  return { values: strip, shape, left: -first };
}

/**
 * A convolution by constant weights that reads or leaves a blocked map; undefined where the plain one is the right one, to
 * be blocked by the runtime or not: weights that the runtime maps from their file stay there. Maps of fewer channels than a
 * block are read in plain layout.
 */
export function constantConv(
  g: GraphBuilder,
  [x, weight, bias]: readonly [string, string, string?],
  [xa, wa, ya]: readonly [Aval, Aval, Aval],
  attributes: ConvAttributes,
): string | undefined {
  const block = g.capabilities.channelBlock;
  if (block === undefined || xa.dtype !== "f32" || xa.shape.length !== 4 || attributes.group !== 1)
    return undefined;
  const values = g.valuesOf(weight);
  if (!(values instanceof Float32Array) || (bias !== undefined && !g.isConstant(bias))) return undefined;
  const [out, channels] = wa.shape as [number, number];
  const blocked = g.blocked.get(x);
  const from = blocked === undefined ? undefined : blockForm(g, xa.shape);
  const sides = sidesOf(g, from, ya.shape, attributes) ?? sidesOf(g, undefined, ya.shape, attributes);
  if (sizeOf(xa.shape) === 0 || !sides) return undefined;
  const { input, output, stays } = sides;
  const given = from?.columns === input ? blocked : undefined;
  if (given === undefined && channels >= block && channels % block !== 0) return undefined;
  if (given === undefined && !stays) return undefined;
  const strip = stripOf(g, weight, values, [xa, wa, ya], attributes, [input, output.columns]);
  const inputs =
    given !== undefined || channels >= block
      ? [given ?? reordered(g, x), blockWeight(g, strip.weight, strip.shape, block)]
      : [x, widenedWeight(g, strip.weight, strip.shape, block)];
  if (bias !== undefined)
    inputs.push(g.reshape(laneValues(g, g.reshape(bias, [1, out]), [1, out], output), [output.lanes]));
  const result = convolve(g, inputs, strip.attributes);
  return stays ? unblocked(g, result, ya.shape) : plainForm(g, result, ya.shape, output);
}

/** Weight and attributes of a convolution between maps of so many columns in one. */
function stripOf(
  g: GraphBuilder,
  weight: string,
  values: Float32Array,
  [xa, wa, ya]: readonly [Aval, Aval, Aval],
  attributes: ConvAttributes,
  [a, b]: readonly [1 | 2, 1 | 2],
): { weight: string; shape: readonly number[]; attributes: ConvAttributes } {
  if (a === 1 && b === 1) return { weight, shape: wa.shape, attributes };
  const { pads } = attributes;
  const shape = wa.shape as [number, number, number, number];
  const [step, left] = [attributes.strides[1]!, pads[1]!];
  const strip = stripKernel(values, shape, [step, left], [a, b]);
  const stride = (step * b) / a;
  const reach = (ya.shape[3]! / b - 1) * stride + strip.shape[3] - strip.left;
  const right = Math.max(0, reach - xa.shape[3]! / a);
  return {
    weight: g.once(`${weight} for ${a} and ${b} columns, ${step}, ${left}`, () =>
      g.constant("f32", strip.shape, strip.values),
    ),
    shape: strip.shape,
    attributes: {
      ...attributes,
      kernel_shape: strip.shape.slice(2),
      strides: [attributes.strides[0]!, stride],
      pads: [pads[0]!, strip.left, pads[2]!, right],
    },
  };
}

/** Rearranges values [K, C, h w] to [K / b, C / b, h w, b of C, b of K], with zeros where blocks are not filled. */
function rearranged(values: Float32Array, shape: readonly number[], block: number): Float32Array {
  const [k, c, h, w] = shape as [number, number, number, number];
  const [rows, columns] = [k, c].map((d) => Math.ceil(d / block) * block) as [number, number];
  const [taps, out] = [h * w, new Float32Array(rows * columns * h * w)];
  const tile = taps * block * block; // stays in the fastest cache while it is filled
  for (let row = 0, base = 0; row < k; row += block)
    for (let column = 0; column < c; column += block, base += tile)
      for (let o = 0; o < Math.min(block, k - row); o++)
        for (let i = 0, from = ((row + o) * c + column) * taps; i < Math.min(block, c - column); i++)
          for (let tap = 0; tap < taps; tap++) out[base + (tap * block + i) * block + o] = values[from++]!;
  return out;
}

/**
 * Weight [K, C, h, w] in the order [K / b, C / b, h w, b of C, b of K], K and C in whole blocks: values that are at hand
 * are rearranged here, so that the graph holds them once; others as maps of one column, and by a transposition in runs.
 */
export function blockWeight(
  g: GraphBuilder,
  weight: string,
  shape: readonly number[],
  block: number,
): string {
  const [k, c] = [wholeBlocks(g, shape[0]!), wholeBlocks(g, shape[1]!)];
  const [h, w] = shape.slice(2) as [number, number];
  const values = g.valuesOf(weight);
  if (values instanceof Float32Array)
    return g.once(`${weight} in blocks of ${block}`, () =>
      g.constant("f32", [k, c, h, w], rearranged(values, shape, block)),
    );
  const padded = zeroPadded(g, weight, shape, [k, c, h, w]);
  const outer = reordered(g, g.reshape(padded, [k / block, block, c * h * w, 1])); // [K/b, C h w, b]
  const inner = g.transpose(g.reshape(outer, [(k * c) / block / block, block, h * w, block]), [0, 2, 1, 3]);
  return g.reshape(inner, [k, c, h, w]);
}

/**
 * The weight [K, C, h, w] of a convolution as the blocked weight of its input gradient: channels exchanged and kernel
 * turned around. One product per block pair with the reversal matrix both turns and moves the kernel axis.
 */
export function blockAdjointWeight(
  g: GraphBuilder,
  weight: string,
  shape: readonly number[],
  block: number,
  dtype: DType,
): string {
  const [k, c, h, w] = shape as [number, number, number, number];
  const apart = g.reshape(weight, [k / block, block, c / block, block * h * w]);
  const pairs = g.reshape(g.transpose(apart, [2, 0, 1, 3]), [(k * c) / block / block, block * block, h * w]);
  const reversal = new Array<number>(h * w * h * w).fill(0);
  for (let i = 0; i < h * w; i++) reversal[i * h * w + (h * w - 1 - i)] = 1;
  const matrix = g.constant(dtype, [h * w, h * w], hostArray(dtype, reversal));
  return g.reshape(g.contribOp("FusedMatMul", [matrix, pairs], { transB: 1 }), [c, k, h, w]); // [C/b K/b, h w, b b]
}
