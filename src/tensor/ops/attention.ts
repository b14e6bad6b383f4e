/** Scaled dot-product attention. */
import { ShapeError } from "../../errors.ts";
import type { Tensor } from "../tensor.ts";
import { where } from "./arithmetic.ts";
import { matmul } from "./matmul.ts";
import { softmax } from "./reduce.ts";

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
