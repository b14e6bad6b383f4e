/** Attention over the points of feature maps, as in U-Nets and VAEs without a transformer. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { GroupNorm, Linear, Module, multiHeadAttention, type Rng } from "../../nn/index.ts";
import { concat, type Tensor } from "../../tensor/index.ts";

/** Context of the attention, besides the map itself. */
export interface AttentionInputs {
  /** Tokens [N, L, D]. */
  readonly context?: Tensor;
  /** Added to the scores of the tokens: [N or 1, 1, L]. */
  readonly mask?: Tensor;
}

/** Points of a map as tokens: [N, C, H, W] gives [N, H W, C]. */
export function mapToTokens(x: Tensor): Tensor {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  return x.reshape([n, c, h * w]).transpose([0, 2, 1]);
}

/** The inverse of `mapToTokens`: tokens [N, H W, C] at the points of `like` [N, *, H, W]. */
export function tokensToMap(tokens: Tensor, like: Tensor): Tensor {
  const [n, , h, w] = like.shape as [number, number, number, number];
  return tokens.transpose([0, 2, 1]).reshape([n, tokens.shape[2]!, h, w]);
}

/** As many heads of a given width as the channels have room for. Throws `ArgumentError` when there is none for one. */
function headsOf(channels: number, headDim: number): number {
  if (!(headDim >= 1) || headDim > channels)
    throw new ArgumentError(`attention: expected heads of 1 to ${channels} channels, got ${headDim}`);
  return Math.floor(channels / headDim);
}

/** Options of `SpatialAttention`. */
export interface SpatialAttentionOptions {
  /** Width of one head. Default: one head. */
  readonly headDim?: number;
  /** Groups of the norm before it; 0: no norm. Default 32. */
  readonly groups?: number;
  readonly eps?: number;
  /** The output is divided by this. Default 1. */
  readonly outputScaleFactor?: number;
}

/** Self attention with its norm and shortcut, in the layout of diffusers (`group_norm`, `to_q` … `to_out.0`). */
export class SpatialAttention extends Module {
  readonly groupNorm: GroupNorm | undefined;
  readonly toQ: Linear;
  readonly toK: Linear;
  readonly toV: Linear;
  readonly toOut: readonly [Linear];
  readonly heads: number;
  readonly outputScaleFactor: number;

  constructor(channels: number, rng: Rng, options: SpatialAttentionOptions = {}) {
    super();
    const { headDim = channels, groups = 32, eps = 1e-5, outputScaleFactor = 1 } = options;
    this.heads = headsOf(channels, headDim);
    this.groupNorm = groups > 0 ? new GroupNorm(groups, channels, { eps }) : undefined;
    const inner = this.heads * headDim; // less than the channels where these do not split
    this.toQ = new Linear(channels, inner, rng);
    this.toK = new Linear(channels, inner, rng);
    this.toV = new Linear(channels, inner, rng);
    this.toOut = [new Linear(inner, channels, rng)];
    this.outputScaleFactor = outputScaleFactor;
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    const tokens = mapToTokens(this.groupNorm ? this.groupNorm.call(x) : x); // [N, H W, C]
    const [q, k, v] = [this.toQ.call(tokens), this.toK.call(tokens), this.toV.call(tokens)];
    const attended = this.toOut[0].call(multiHeadAttention(q, k, v, { heads: this.heads }));
    const sum = tokensToMap(attended, x).add(x);
    return this.outputScaleFactor === 1 ? sum : sum.div(this.outputScaleFactor);
  }
}

/** Options of `AddedContextAttention`. */
export interface AddedContextOptions {
  /** Width of one head. */
  readonly headDim: number;
  readonly contextDim: number;
  readonly groups: number;
  /** The map does not attend to itself. */
  readonly onlyCrossAttention?: boolean;
}

/** Attention of a map to itself and to tokens at once (unCLIP; Ramesh et al. 2022), with its norm and shortcut. */
export class AddedContextAttention extends Module {
  readonly groupNorm: GroupNorm;
  readonly toQ: Linear;
  readonly toK: Linear | undefined;
  readonly toV: Linear | undefined;
  readonly addKProj: Linear;
  readonly addVProj: Linear;
  readonly toOut: readonly [Linear];
  readonly heads: number;

  constructor(channels: number, rng: Rng, options: AddedContextOptions) {
    super();
    const { headDim, contextDim, groups, onlyCrossAttention = false } = options;
    this.heads = headsOf(channels, headDim);
    const inner = this.heads * headDim;
    const project = (from: number): Linear => new Linear(from, inner, rng);
    this.groupNorm = new GroupNorm(groups, channels);
    this.toQ = project(channels);
    this.toK = onlyCrossAttention ? undefined : project(channels);
    this.toV = onlyCrossAttention ? undefined : project(channels);
    this.addKProj = project(contextDim);
    this.addVProj = project(contextDim);
    this.toOut = [new Linear(inner, channels, rng)];
  }

  /** x [N, C, H, W] and context [N, L, D]. */
  call(x: Tensor, { context, mask }: AttentionInputs): Tensor {
    if (!context) throw new ShapeError("AddedContextAttention: expected a context [N, L, D], got none");
    const tokens = mapToTokens(this.groupNorm.call(x)); // [N, H W, C]
    const [addedK, addedV] = [this.addKProj.call(context), this.addVProj.call(context)];
    const k = this.toK ? concat(addedK, this.toK.call(tokens), 1) : addedK; // [N, L + H W, C]
    const v = this.toV ? concat(addedV, this.toV.call(tokens), 1) : addedV;
    const own = this.toK ? tokens.shape[1]! : 0;
    const full = mask?.pad([
      [0, 0],
      [0, 0],
      [0, own],
    ]);
    const q = this.toQ.call(tokens);
    const attended = this.toOut[0].call(multiHeadAttention(q, k, v, { heads: this.heads, mask: full }));
    return tokensToMap(attended, x).add(x);
  }
}
