/**
 * Two-dimensional convolutions in the channel-blocked layout of ONNX Runtime's CPU kernels (NCHWc: blocks of 8 or 16
 * channels innermost), which run at 400 GFLOP/s where the plain ones reach 150-350 on the same two cores. The runtime
 * changes to that layout by itself only when weights are constants; in training they are not, so the lowering does it,
 * with the weights reordered inside the graph. Which block size the machine's kernels use is probed once
 * (runtime/blocked-layout.ts).
 */
import { type DType, hostArray } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Aval } from "../tensor.ts";

const NCHWC = "com.microsoft.nchwc";

export interface BlockedConv {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  readonly groups: number;
}

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
  conv: BlockedConv,
): string {
  const { kernel, strides, dilations, pads, groups } = conv;
  const input = g.node("ReorderInput", [x], { channels_last: 0 }, 1, NCHWC)[0]!;
  const attributes = { kernel_shape: kernel, strides, dilations, pads, group: groups };
  const blocked = g.node("Conv", bias ? [input, weight, bias] : [input, weight], attributes, 1, NCHWC)[0]!;
  return g.node("ReorderOutput", [blocked], { channels: outChannels, channels_last: 0 }, 1, NCHWC)[0]!;
}

/** Weight [K, C, h, w] in the order [K / b, C / b, h w, b of C, b of K], by two transpositions with long inner runs. */
export function blockWeight(
  g: GraphBuilder,
  weight: string,
  shape: readonly number[],
  block: number,
): string {
  const [k, c, h, w] = shape as [number, number, number, number];
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
