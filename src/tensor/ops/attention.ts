/** Scaled dot-product attention. */
import { ShapeError } from "../../errors.ts";
import type { Aval } from "../aval.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Op, Tensor } from "../tensor.ts";
import { where } from "./arithmetic.ts";
import { matmul } from "./matmul.ts";
import { apply1, needFloat, needSameDType } from "./op.ts";
import { softmax } from "./reduce.ts";
import { reshape, transpose } from "./shape.ts";

/** What attention is recorded with. */
export interface HeadsAttrs {
  readonly heads: number;
  readonly scale: number;
}

/** [N, T, heads D] as [N, heads, T, D]. */
const splitHeads = (x: Tensor, heads: number): Tensor =>
  transpose(reshape(x, [x.shape[0]!, x.shape[1]!, heads, x.shape[2]! / heads]), [0, 2, 1, 3]);

/** The inverse of `splitHeads`. */
const joinHeads = (x: Tensor): Tensor =>
  reshape(transpose(x, [0, 2, 1, 3]), [x.shape[0]!, x.shape[2]!, x.shape[1]! * x.shape[3]!]);

/**
 * Attention of several heads at once, without a mask: q [N, Q, heads D], k [N, K, heads D], v [N, K, heads E] give
 * [N, Q, heads E]. Where the runtime has a kernel for it, the scores are never in memory as a whole. The gradient
 * computes them anew, so that none are kept from the forward pass (the idea of FlashAttention, Dao et al. 2022), unless they
 * are small.
 */
const headsAttentionOp: Op<HeadsAttrs> = {
  name: "headsAttention",
  infer: (inputs, { heads }) => {
    needSameDType(inputs);
    const [q, k, v] = inputs as [Aval, Aval, Aval];
    needFloat(q);
    const fits = inputs.every((x) => x.shape.length === 3 && x.shape[2]! % heads === 0);
    const alike = q.shape[2] === k.shape[2] && k.shape[1] === v.shape[1];
    const batch = inputs.every((x) => x.shape[0] === q.shape[0]);
    if (!(fits && alike && batch))
      throw new ShapeError(
        `expected q [N, Q, ${heads} * D], k [N, K, ${heads} * D] and v [N, K, ${heads} * E]`,
      );
    return [{ shape: [q.shape[0]!, q.shape[1]!, v.shape[2]!], dtype: q.dtype }];
  },
  lower: (g, [q, k, v], { heads, scale }, { inputs }) => {
    if (g.contrib && inputs[0]!.dtype === "f32" && !manyShort(inputs, heads)) {
      const attributes = { num_heads: heads, scale: { float: scale } };
      return [g.contribOp("MultiHeadAttention", [q!, k!, v!], attributes)];
    }
    return [lowerHeads(g, [q!, k!, v!], { heads, scale }, inputs)];
  },
  vjp: ([ct], inputs, [y], { heads, scale }) => {
    if (!ct) return [];
    const [q, k, v] = inputs.map((x) => splitHeads(x, heads)) as [Tensor, Tensor, Tensor];
    const dy = splitHeads(ct, heads);
    const weights = softmax(matmul(q, k, { transB: true, alpha: scale })); // [N, heads, Q, K]
    const mean = dy.mul(splitHeads(y!, heads)).sum(-1, true); // of the gradient of each row's weights
    const scores = matmul(dy, v, { transB: true }).sub(mean).mul(weights);
    return [
      joinHeads(matmul(scores, k, { alpha: scale })),
      joinHeads(matmul(scores, q, { transA: true, alpha: scale })),
      joinHeads(matmul(weights, dy, { transA: true })),
    ];
  },
};

/**
 * Whether all weights at once are small (at most twice q) and the runtime's kernel for attention, which goes through heads
 * and pictures one by one, is slower than products over all of them. A gradient finds the weights computed, then.
 */
function manyShort([q, k]: readonly Aval[], heads: number): boolean {
  const [pictures, , width] = q!.shape as [number, number, number];
  const length = k!.shape[1]!;
  return pictures * heads >= 128 && length >= 32 && length <= (2 * width) / heads;
}

/** The same by products over all heads, with the nodes that the gradient has. */
function lowerHeads(
  g: GraphBuilder,
  names: readonly [string, string, string],
  { heads, scale }: HeadsAttrs,
  avals: readonly Aval[],
): string {
  const { dtype } = avals[0]!;
  const [q, k, v] = names.map((name, i) => {
    const [n, t, c] = avals[i]!.shape as [number, number, number];
    return g.transpose(g.reshape(name, [n, t, heads, c / heads]), [0, 2, 1, 3]);
  }) as [string, string, string];
  const scores =
    g.contrib && dtype === "f32"
      ? g.contribOp("FusedMatMul", [q, k], { transA: 0, transB: 1, alpha: { float: scale } })
      : g.op("MatMul", [g.op("Mul", [q, g.scalar(dtype, scale)]), g.transpose(k, [0, 1, 3, 2])]);
  const out = g.op("MatMul", [g.op("Softmax", [scores], { axis: 3 }), v]);
  const shape = [...avals[0]!.shape.slice(0, 2), avals[2]!.shape[2]!];
  return g.reshape(g.transpose(out, [0, 2, 1, 3]), shape);
}

/**
 * Attention of several heads without a mask, the fastest and smallest form: q [N, Q, heads D], k [N, K, heads D] and
 * v [N, K, heads E] give [N, Q, heads E].
 */
export function headsAttention(q: Tensor, k: Tensor, v: Tensor, heads: number, scale?: number): Tensor {
  const depth = q.shape.at(-1)! / heads;
  return apply1(headsAttentionOp, [q, k, v], { heads, scale: scale ?? 1 / Math.sqrt(depth) });
}

/**
 * softmax(q kᵀ / sqrt(D) + mask) v (Vaswani et al. 2017): q [..., Q, D], k [..., K, D], v [..., K, E] gives [..., Q, E].
 * A boolean mask keeps what is true; a float mask is added. Masks broadcast to [..., Q, K].
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: { mask?: Tensor; scale?: number } = {},
): Tensor {
  if (q.shape.at(-1) !== k.shape.at(-1) || k.shape.at(-2) !== v.shape.at(-2)) {
    throw new ShapeError(
      `attention: q ${q}, k ${k} and v ${v} need equal depths of q and k and equal lengths of k and v`,
    );
  }
  const { mask, scale = 1 / Math.sqrt(q.shape.at(-1)!) } = options;
  const scores = matmul(q, k, { transB: true, alpha: scale });
  const masked = mask ? (mask.dtype === "bool" ? where(mask, scores, -1e9) : scores.add(mask)) : scores;
  return matmul(softmax(masked), v);
}

export const attentionOps = { headsAttention: headsAttentionOp };
