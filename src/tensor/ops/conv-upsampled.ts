/**
 * A 3 x 3 convolution of a map whose points were doubled in both directions, as where U-Nets and decoders grow. Each of
 * the four points that come from one sees only 2 x 2 points of the small map, so four convolutions there, by kernels
 * whose equal-valued taps are added beforehand, do the same with 4/9 of the arithmetic.
 */

import type { Aval } from "../aval.ts";
import { hostArray } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { blockForm, laneValues, unblocked } from "./block-form.ts";
import { blockedDoubled, convolve, interleave } from "./blocked.ts";
import { blockWeight } from "./conv-blocked.ts";
import type { ConvGeometry } from "./conv-geometry.ts";

/** Which of the three taps each of the two sums adds, for the first and the second of two neighbouring points. */
const TAPS = [
  [[0], [1, 2]],
  [[0, 1], [2]],
] as const;

/** [9, 4] matrix from the taps of the 3 x 3 kernel to those of the 2 x 2 kernel of one of the four points. */
function tapSums(row: 0 | 1, column: 0 | 1): number[] {
  const sums = new Array<number>(36).fill(0);
  TAPS[row].forEach((ys, y) => {
    TAPS[column].forEach((xs, x) => {
      for (const i of ys) for (const j of xs) sums[(3 * i + j) * 4 + 2 * y + x] = 1;
    });
  });
  return sums;
}

/**
 * [9, 16] matrix from the taps of the 3 x 3 kernel to those of the 4 x 4 kernel with which a transposed convolution of
 * stride 2 does the same: along each axis its tap u adds the taps 2 - u and 3 - u.
 */
export const doubledTaps = (): number[] =>
  Array.from({ length: 9 * 16 }, (_, i) => {
    const [from, to] = [Math.floor(i / 16), i % 16];
    const meets = (r: number, u: number): boolean => r === 2 - u || r === 3 - u;
    return Number(meets(Math.floor(from / 3), Math.floor(to / 4)) && meets(from % 3, to % 4));
  });

/** What a value is the doubling of, when it is one: the result of `upsample` by 2 in both directions. */
function doubled(g: GraphBuilder, name: string): string | undefined {
  const blocked = g.blocked.get(name);
  if (blocked !== undefined) return blockedDoubled(g, blocked);
  const node = g.producerOf(name);
  if (node?.op !== "Resize" || node.attributes.mode !== "nearest") return undefined;
  const scales = g.initializers.find((init) => init.name === node.inputs[2])?.data;
  return scales instanceof Float32Array && scales.join() === "1,1,2,2" ? node.inputs[0] : undefined;
}

/** Whether the geometry is that of a 3 x 3 convolution that keeps the size. */
export function keepsSize(
  { shape }: { readonly shape: readonly number[] },
  { stride, dilation, padding, groups }: ConvGeometry,
): boolean {
  const ones = [...stride, ...dilation, groups, ...padding.flat()].every((v) => v === 1);
  return ones && shape.length === 4 && shape[2] === 3 && shape[3] === 3;
}

/** The four places of a point of the small map in the large one: row and column. */
const PLACES = [
  [0, 0],
  [0, 1],
  [1, 0],
  [1, 1],
] as const;

/** The convolution of a doubled map by a constant weight, or undefined where it is something else. */
export function lowerUpsampledConv(
  g: GraphBuilder,
  [x, weight, bias]: readonly [string, string, string?],
  [xa, wa]: readonly [Aval, Aval],
  geometry: ConvGeometry,
): string | undefined {
  if (!g.contrib || wa.dtype !== "f32" || !g.isConstant(weight) || !keepsSize(wa, geometry)) return undefined;
  const small = doubled(g, x);
  if (small === undefined) return undefined;
  const [out, channels] = wa.shape as [number, number];
  const taps = g.reshape(weight, [out * channels, 9]);
  const points = PLACES.map(([row, column]) => {
    const sums = g.constant("f32", [9, 4], hostArray("f32", tapSums(row, column)));
    const kernel = g.reshape(g.op("MatMul", [taps, sums]), [out, channels, 2, 2]);
    return { kernel, pads: [1 - row, 1 - column, row, column] };
  });
  const [n, , h, w] = xa.shape as [number, number, number, number];
  const shape = [n, out, h, w];
  const form = blockForm(g, shape);
  const block = g.capabilities.channelBlock;
  if (g.blocked.has(x) && block !== undefined && form?.columns === 1) {
    const lanes = bias && laneValues(g, g.reshape(bias, [1, out]), [1, out], form);
    const shift = lanes && g.reshape(lanes, [form.lanes]);
    const maps = points.map(({ kernel, pads }) => {
      const ordered = blockWeight(g, kernel, [out, channels, 2, 2], block);
      const inputs = shift ? [small, ordered, shift] : [small, ordered];
      return convolve(g, inputs, {
        kernel_shape: [2, 2],
        strides: [1, 1],
        dilations: [1, 1],
        pads,
        group: 1,
      });
    });
    return unblocked(g, interleave(g, maps, [n, form.lanes, h / 2, w / 2]), shape);
  }
  const input = g.blocked.has(x) ? unblocked(g, small, [n, channels, h / 2, w / 2]) : small;
  const maps = points.map(({ kernel, pads }) =>
    g.op("Conv", bias ? [input, kernel, bias] : [input, kernel], { kernel_shape: [2, 2], pads }),
  );
  return g.op("DepthToSpace", [g.op("Concat", maps, { axis: 1 })], { blocksize: 2, mode: "DCR" });
}
