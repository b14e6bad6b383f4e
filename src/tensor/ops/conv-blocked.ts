/**
 * Two-dimensional convolutions in the channel-blocked layout (blocked.ts), whose kernels run at 400 GFLOP/s where the plain
 * ones reach 150-350 on the same two cores. Constant weights are rearranged before the graph is built, others inside the
 * graph, at every step. Which block size the machine's kernels use is probed once (runtime/blocked-layout.ts).
 */
import { type DType, hostArray, sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Aval } from "../tensor.ts";
import {
  blockedChannels,
  blockedForm,
  type ConvAttributes,
  convolve,
  fillsBlocks,
  plainForm,
  unblocked,
  zeroPadded,
} from "./blocked.ts";

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

/** Convolution of x [N, C, H, W] by a weight in blocked order; the result is [N, K, H', W'] in plain order. */
export function blockedConv(
  g: GraphBuilder,
  x: string,
  weight: string,
  bias: string | undefined,
  outChannels: number,
  attributes: ConvAttributes,
): string {
  const input = blockedForm(g, x);
  return plainForm(g, convolve(g, bias ? [input, weight, bias] : [input, weight], attributes), outChannels);
}

/** The weight [K, C, h, w] of a convolution of plain maps of fewer channels than a block: [K / b, C, h, w, b]. */
function widenedWeight(g: GraphBuilder, weight: string, shape: readonly number[], block: number): string {
  const rows = g.reshape(weight, [shape[0]! / block, block, sizeOf(shape.slice(1))]);
  return g.reshape(g.transpose(rows, [0, 2, 1]), shape);
}

/**
 * A convolution by constant weights that reads or leaves a blocked map; undefined where the plain one is the right one, to
 * be blocked by the runtime or not: weights that the runtime maps from their file stay there. Maps of fewer channels than a
 * block are read in plain layout.
 */
export function constantConv(
  g: GraphBuilder,
  [x, weight, bias]: readonly [string, string, string?],
  [xa, wa]: readonly [Aval, Aval],
  attributes: ConvAttributes,
): string | undefined {
  const block = g.capabilities.channelBlock;
  if (block === undefined || xa.dtype !== "f32" || xa.shape.length !== 4 || attributes.group !== 1)
    return undefined;
  if (!g.valuesOf(weight) || (bias !== undefined && !g.isConstant(bias))) return undefined;
  const [out, channels, ...kernel] = wa.shape as [number, number, number, number];
  const whole = blockedChannels(g, out);
  const narrow = channels < block && !g.blocked.has(x);
  if (sizeOf(xa.shape) === 0 || !(narrow || g.blocked.has(x) || channels % block === 0)) return undefined;
  const stays = fillsBlocks(g, out);
  if (!stays && !g.blocked.has(x)) return undefined;
  const inputs = narrow
    ? [
        x,
        widenedWeight(
          g,
          zeroPadded(g, weight, wa.shape, [whole, channels, ...kernel]),
          [whole, channels, ...kernel],
          block,
        ),
      ]
    : [blockedForm(g, x), blockWeight(g, weight, wa.shape, block)];
  if (bias !== undefined) inputs.push(zeroPadded(g, bias, [out], [whole]));
  const result = convolve(g, inputs, attributes);
  return stays ? unblocked(g, result, out) : plainForm(g, result, out);
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
 * are rearranged here, so that the graph holds them once; others by two transpositions with long inner runs.
 */
export function blockWeight(
  g: GraphBuilder,
  weight: string,
  shape: readonly number[],
  block: number,
): string {
  const [k, c] = [blockedChannels(g, shape[0]!), blockedChannels(g, shape[1]!)];
  const [h, w] = shape.slice(2) as [number, number];
  const values = g.valuesOf(weight);
  if (values instanceof Float32Array)
    return g.once(`${weight} in blocks of ${block}`, () =>
      g.constant("f32", [k, c, h, w], rearranged(values, shape, block)),
    );
  const padded = zeroPadded(g, weight, shape, [k, c, h, w]);
  const outer = g.transpose(g.reshape(padded, [k / block, block, c * h * w]), [0, 2, 1]); // [K/b, C h w, b]
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
