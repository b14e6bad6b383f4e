/** Transformers inside U-Nets (Rombach et al. 2022). */
import { ArgumentError, ShapeError } from "../../errors.ts";
import {
  Conv2d,
  FeedForward,
  GroupNorm,
  LayerNorm,
  Linear,
  Module,
  MultiHeadAttention,
  type Rng,
} from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import { type AttentionInputs, mapToTokens, tokensToMap } from "./attention.ts";

/** Options of `BasicTransformerBlock`. */
export interface TransformerOptions {
  readonly heads: number;
  /** Width of the context tokens. */
  readonly contextDim: number;
  /** Both attentions look at the context. */
  readonly onlyCrossAttention?: boolean;
  /** See `AttentionOptions`. */
  readonly upcast?: boolean;
}

/** Self attention, cross attention, perceptron; each behind a norm and beside a shortcut. */
export class BasicTransformerBlock extends Module {
  readonly norm1: LayerNorm;
  readonly attn1: MultiHeadAttention;
  readonly norm2: LayerNorm;
  readonly attn2: MultiHeadAttention;
  readonly norm3: LayerNorm;
  readonly ff: FeedForward;
  readonly onlyCrossAttention: boolean;

  constructor(dim: number, rng: Rng, options: TransformerOptions) {
    super();
    const { heads, contextDim, onlyCrossAttention = false, upcast } = options;
    this.norm1 = new LayerNorm(dim);
    const first = { heads, upcast, contextDim: onlyCrossAttention ? contextDim : dim };
    this.attn1 = new MultiHeadAttention(dim, rng, first);
    this.norm2 = new LayerNorm(dim);
    this.attn2 = new MultiHeadAttention(dim, rng, { heads, upcast, contextDim });
    this.norm3 = new LayerNorm(dim);
    this.ff = new FeedForward(dim, rng);
    this.onlyCrossAttention = onlyCrossAttention;
  }

  /** x [N, T, C] and context [N, L, D]. */
  call(x: Tensor, cross: AttentionInputs): Tensor {
    const first = this.onlyCrossAttention ? cross : {};
    const a = x.add(this.attn1.call(this.norm1.call(x), first));
    const b = a.add(this.attn2.call(this.norm2.call(a), cross));
    return b.add(this.ff.call(this.norm3.call(b)));
  }
}

/** Options of `Transformer2DModel`. */
export interface SpatialTransformerOptions extends TransformerOptions {
  /** Number of blocks. Default 1. */
  readonly depth?: number;
  readonly groups?: number;
  /** The projections around the blocks are matrices on tokens rather than 1 x 1 convolutions on the map. */
  readonly linearProjection?: boolean;
}

/** A transformer over the points of a map, beside a shortcut. */
export class Transformer2DModel extends Module {
  readonly norm: GroupNorm;
  readonly projIn: Conv2d | Linear;
  readonly transformerBlocks: readonly BasicTransformerBlock[];
  readonly projOut: Conv2d | Linear;
  readonly linearProjection: boolean;

  constructor(channels: number, rng: Rng, options: SpatialTransformerOptions) {
    super();
    const { heads, depth = 1, groups = 32, linearProjection = false } = options;
    if (!(heads >= 1 && heads <= channels))
      throw new ArgumentError(`Transformer2DModel: expected 1 to ${channels} heads, got ${heads}`);
    const inner = heads * Math.floor(channels / heads); // less than the channels where these do not split
    const projection = (from: number, to: number): Conv2d | Linear =>
      linearProjection ? new Linear(from, to, rng) : new Conv2d(from, to, 1, rng);
    this.norm = new GroupNorm(groups, channels, { eps: 1e-6 });
    this.projIn = projection(channels, inner);
    this.transformerBlocks = Array.from(
      { length: depth },
      () => new BasicTransformerBlock(inner, rng, options),
    );
    this.projOut = projection(inner, channels);
    this.linearProjection = linearProjection;
  }

  /** x [N, C, H, W] and context [N, L, D]. */
  call(x: Tensor, cross: AttentionInputs): Tensor {
    if (!cross.context) throw new ShapeError("Transformer2DModel: expected a context [N, L, D], got none");
    const tokens = this.transformerBlocks.reduce((y, block) => block.call(y, cross), this.enter(x));
    return this.leave(tokens, x).add(x);
  }

  private enter(x: Tensor): Tensor {
    const normal = this.norm.call(x);
    return this.linearProjection
      ? this.projIn.call(mapToTokens(normal))
      : mapToTokens(this.projIn.call(normal));
  }

  private leave(tokens: Tensor, like: Tensor): Tensor {
    return this.linearProjection
      ? tokensToMap(this.projOut.call(tokens), like)
      : this.projOut.call(tokensToMap(tokens, like));
  }
}
