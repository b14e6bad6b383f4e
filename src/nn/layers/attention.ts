/** Attention with projections. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { attention, cast, headsAttention, type Tensor } from "../../tensor/index.ts";
import type { Rng } from "../init.ts";
import { Module } from "../module.ts";
import { Linear } from "./linear.ts";

/** [N, T, heads D] as [N, heads, T, D]. */
const splitHeads = (x: Tensor, heads: number): Tensor =>
  x.reshape([x.shape[0]!, x.shape[1]!, heads, x.shape[2]! / heads]).transpose([0, 2, 1, 3]);

/**
 * Scaled dot-product attention in several heads (Vaswani et al. 2017): q [N, Q, heads D], k [N, K, heads D] and
 * v [N, K, heads E] give [N, Q, heads E]. A boolean mask keeps what is true, a float mask is added; its shape is
 * [Q, K], [N, Q, K] or [N, heads, Q, K], with 1 wherever it is the same for all. `upcast` computes in f32 what is of
 * half precision.
 */
export function multiHeadAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { heads, mask, scale, upcast = false }: { heads: number; mask?: Tensor; scale?: number; upcast?: boolean },
): Tensor {
  for (const x of [q, k, v]) {
    if (x.rank !== 3 || x.shape[2]! % heads !== 0)
      throw new ShapeError(`multiHeadAttention: expected [N, T, ${heads} * D], got ${x}`);
  }
  const wide = (x: Tensor): Tensor => (upcast ? cast(x, "f32") : x);
  const sameBatch = q.shape[0] === k.shape[0] && k.shape[0] === v.shape[0];
  if (!mask && sameBatch) return cast(headsAttention(wide(q), wide(k), wide(v), heads, scale), q.dtype);
  const split = (x: Tensor): Tensor => splitHeads(wide(x), heads);
  const perHead = mask?.rank === 3 ? mask.unsqueeze(1) : mask;
  const out = attention(split(q), split(k), split(v), { mask: perHead, scale }); // [N, heads, Q, E]
  const joined = out.transpose([0, 2, 1, 3]).reshape([out.shape[0]!, out.shape[2]!, heads * out.shape[3]!]);
  return cast(joined, q.dtype);
}

/** Options of `MultiHeadAttention`. */
export interface AttentionOptions {
  readonly heads: number;
  /** Width of one head; default: queryDim / heads. */
  readonly headDim?: number;
  /** Width of the context, for cross attention; default: queryDim. */
  readonly contextDim?: number;
  readonly outDim?: number;
  /** Bias of the three input projections. Default false. */
  readonly bias?: boolean;
  /** Bias of the output projection. Default true. */
  readonly outBias?: boolean;
  /** Computes scores and sums in f32 when the projections are of half precision. Default false. */
  readonly upcast?: boolean;
}

/** Self attention, or cross attention when a context is given. Keys as in diffusers. */
export class MultiHeadAttention extends Module {
  readonly toQ: Linear;
  readonly toK: Linear;
  readonly toV: Linear;
  readonly toOut: readonly [Linear];
  readonly heads: number;
  readonly upcast: boolean;

  constructor(queryDim: number, rng: Rng, options: AttentionOptions) {
    super();
    const { heads, headDim = queryDim / heads, contextDim = queryDim, outDim = queryDim } = options;
    const { bias = false, outBias = true } = options;
    const inner = heads * headDim;
    if (!Number.isInteger(heads) || !Number.isInteger(headDim) || heads < 1 || headDim < 1)
      throw new ArgumentError(`MultiHeadAttention: ${queryDim} channels do not split into ${heads} heads`);
    this.toQ = new Linear(queryDim, inner, rng, { bias });
    this.toK = new Linear(contextDim, inner, rng, { bias });
    this.toV = new Linear(contextDim, inner, rng, { bias });
    this.toOut = [new Linear(inner, outDim, rng, { bias: outBias })];
    this.heads = heads;
    this.upcast = options.upcast ?? false;
  }

  /** x [N, T, C] and context [N, S, contextDim] (default: x) give [N, T, outDim]. See `multiHeadAttention` for masks. */
  call(x: Tensor, { context = x, mask }: { context?: Tensor; mask?: Tensor } = {}): Tensor {
    const q = this.toQ.call(x);
    const k = this.toK.call(context);
    const v = this.toV.call(context);
    return this.toOut[0].call(multiHeadAttention(q, k, v, { heads: this.heads, mask, upcast: this.upcast }));
  }
}
