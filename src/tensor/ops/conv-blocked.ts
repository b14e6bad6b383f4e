/**
 * Two-dimensional convolutions in the channel-blocked layout (blocked.ts), whose kernels run at 400 GFLOP/s where the plain
 * ones reach 150-350 on the same two cores. Constant weights are rearranged before the graph is built, others inside the
 * graph, at every step. Which block size the machine's kernels use is probed once (runtime/blocked-layout.ts).
 */
import { type DType, hostArray, sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Aval } from "../tensor.ts";
import { blockedForm, type ConvAttributes, convolve, plainForm, unblocked } from "./blocked.ts";

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

/** A constant with zeros behind its rows. */
const withRows = (g: GraphBuilder, x: string, more: number, rank: number): string =>
  more === 0
    ? x
    : g.op("Pad", [
        x,
        g.ints([...new Array<number>(rank).fill(0), more, ...new Array<number>(rank - 1).fill(0)]),
      ]);

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
  if (sizeOf(xa.shape) === 0 || (channels >= block && channels % block !== 0)) return undefined;
  const more = (block - (out % block)) % block;
  if (more > 0 && !g.blocked.has(x)) return undefined;
  const shape = [out + more, channels, ...kernel];
  const inputs =
    channels < block
      ? [x, widenedWeight(g, withRows(g, weight, more, 4), shape, block)]
      : [blockedForm(g, x), blockWeight(g, weight, shape, block)];
  if (bias !== undefined) inputs.push(withRows(g, bias, more, 1));
  const result = convolve(g, inputs, attributes);
  return more > 0 ? plainForm(g, result, out) : unblocked(g, result, out);
}

/** Rearranges values [K, C, h w] to [K / b, C / b, h w, b of C, b of K]; what is behind the last row is 0. */
function rearranged(values: Float32Array, shape: readonly number[], block: number): Float32Array {
  const [k, c, h, w] = shape as [number, number, number, number];
  const [taps, out] = [h * w, new Float32Array(k * c * h * w)];
  const tile = taps * block * block; // stays in the fastest cache while it is filled
  for (let row = 0, base = 0; row < k; row += block)
    for (let column = 0; column < c; column += block, base += tile)
      for (let o = 0; o < block; o++)
        for (let i = 0, from = ((row + o) * c + column) * taps; i < block; i++)
          for (let tap = 0; tap < taps; tap++)
            out[base + (tap * block + i) * block + o] = values[from++] ?? 0;
  return out;
}

/**
 * Weight [K, C, h, w] in the order [K / b, C / b, h w, b of C, b of K]: values that are at hand are rearranged here, so
 * that the graph holds them once; others by two transpositions with long inner runs.
 */
export function blockWeight(
  g: GraphBuilder,
  weight: string,
  shape: readonly number[],
  block: number,
): string {
  const [k, c, h, w] = shape as [number, number, number, number];
  const values = g.valuesOf(weight);
  if (values instanceof Float32Array)
    return g.once(`${weight} in blocks of ${block}`, () =>
      g.constant("f32", shape, rearranged(values, shape, block)),
    );
  const outer = g.transpose(g.reshape(weight, [k / block, block, c * h * w]), [0, 2, 1]); // [K/b, C h w, b]
  const inner = g.transpose(g.reshape(outer, [(k * c) / block / block, block, h * w, block]), [0, 2, 1, 3]);
  return g.reshape(inner, shape);
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
