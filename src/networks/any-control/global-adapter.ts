/**
 * Conditions of a picture as a whole, content and colours, as further tokens that a U-Net attends to apart from its text
 * (Uni-ControlNet's global adapter with decoupled attention; the mode "uni" of AnyControl's demonstration).
 */
import { ArgumentError, ShapeError } from "../../errors.ts";
import {
  activate,
  LayerNorm,
  Linear,
  Module,
  MultiHeadAttention,
  mapModules,
  multiHeadAttention,
  type Rng,
} from "../../nn/index.ts";
import { concat, cos, sin, type Tensor, zeros } from "../../tensor/index.ts";
import { BasicTransformerBlock } from "../blocks/index.ts";

/** Sizes of a `GlobalAdapter`; defaults are the published ones for Stable Diffusion 1.5. */
export interface GlobalAdapterConfig {
  /** Width of the U-Net's context. Default 768. */
  readonly contextDim?: number;
  /** Width of the picture's embedding, CLIP ViT-L/14's. Default 768. */
  readonly contentDim?: number;
  /** Bins of the colour histogram. Default 180. */
  readonly colours?: number;
  /** Tokens of each. Default 4. */
  readonly tokens?: number;
  /** Width inside the colours' perceptron. Default 512. */
  readonly inner?: number;
}

const FREQUENCIES = 4;
const TEMPERATURE = 100;
const SCALE = 100;

/** Waves of a histogram: [sin, cos] of each of four frequencies, one behind the other. // [N, K] to [N, 8 K] */
function waves(x: Tensor): Tensor {
  const parts = Array.from({ length: FREQUENCIES }, (_, i) =>
    x.mul(SCALE * TEMPERATURE ** (i / FREQUENCIES)),
  );
  const [first, ...rest] = parts.flatMap((part) => [sin(part), cos(part)]);
  return concat(first!, rest, 1);
}

/** A layer without tensors, whose number names have to count. */
class Nothing extends Module {}

/** A histogram of colours as tokens. */
export class ColourEmbedder extends Module {
  readonly mlp: readonly [Linear, LayerNorm, Module, Linear, LayerNorm, Module, Linear]; // numbers are the published names
  readonly nullFeatures: Tensor; // [8 K]

  constructor(colours: number, inner: number, out: number, rng: Rng) {
    super();
    const width = 2 * FREQUENCIES * colours;
    const silu = new Nothing();
    const norm = (): LayerNorm => new LayerNorm(inner);
    this.mlp = [
      new Linear(width, inner, rng),
      norm(),
      silu,
      new Linear(inner, inner, rng),
      norm(),
      silu,
      new Linear(inner, out, rng),
    ];
    this.nullFeatures = zeros([width]);
  }

  /** Shares [N, K], and 1 where there are any [N, 1]. */
  call(shares: Tensor, given: Tensor): Tensor {
    const x = waves(shares)
      .mul(given)
      .add(this.nullFeatures.mul(given.neg().add(1)));
    const [a, normA, , b, normB, , c] = this.mlp;
    const h = activate("silu", normA.call(a.call(x)));
    return c.call(activate("silu", normB.call(b.call(h))));
  }
}

/** Content and colours of a picture as tokens, with the published names. */
export class GlobalAdapter extends Module {
  static override readonly keyNames = { colourEmbed: "color_embed" };
  readonly proj: Linear;
  readonly norm: LayerNorm;
  readonly colourEmbed: ColourEmbedder;
  readonly tokens: number;

  constructor(config: GlobalAdapterConfig, rng: Rng) {
    super();
    const { contextDim = 768, contentDim = 768, colours = 180, tokens = 4, inner = 512 } = config;
    this.proj = new Linear(contentDim, tokens * contextDim, rng);
    this.norm = new LayerNorm(contextDim);
    this.colourEmbed = new ColourEmbedder(colours, inner, tokens * contextDim, rng);
    this.tokens = tokens;
  }

  /** A picture's embedding [N, C]; shares of colours [N, K], and 1 where there are any [N, 1]. Each gives [N, tokens, D]. */
  call(
    content: Tensor,
    colours: Tensor,
    given: Tensor,
  ): { readonly content: Tensor; readonly colours: Tensor } {
    const [n] = content.shape as [number];
    const rows = (t: Tensor): Tensor => t.reshape([n, this.tokens, -1]);
    return {
      content: this.norm.call(rows(this.proj.call(content))),
      colours: rows(this.colourEmbed.call(colours, given)),
    };
  }
}

/**
 * Attention to text, content and colours apart: A(q, text) + w A(q, content) + w' A(q, colours), then one projection. They are
 * the last tokens of the context, in this order.
 */
export class DecoupledAttention extends MultiHeadAttention {
  static override readonly keyNames = { toKColour: "to_k_color", toVColour: "to_v_color" };
  readonly toKExtra: Linear;
  readonly toVExtra: Linear;
  readonly toKColour: Linear;
  readonly toVColour: Linear;
  readonly tokens: number;
  readonly strengths: readonly [content: number, colours: number];

  constructor(plain: MultiHeadAttention, rng: Rng, tokens: number, strengths: readonly [number, number]) {
    const [inner, contextDim] = plain.toK.weight.shape as [number, number];
    super(inner, rng, { heads: plain.heads, contextDim });
    Object.assign(this, plain);
    const project = (): Linear => new Linear(contextDim, inner, rng, { bias: false });
    [this.toKExtra, this.toVExtra, this.toKColour, this.toVColour] = [
      project(),
      project(),
      project(),
      project(),
    ];
    this.tokens = tokens;
    this.strengths = strengths;
  }

  override call(x: Tensor, { context, mask }: { context?: Tensor; mask?: Tensor } = {}): Tensor {
    const text = (context?.shape[1] ?? 0) - 2 * this.tokens;
    if (!context || text < 1)
      throw new ShapeError(
        `DecoupledAttention: expected text and ${2 * this.tokens} tokens behind it, got ${context}`,
      );
    const q = this.toQ.call(x);
    const part = (from: number, to: number): Tensor => context.sliceAxis(1, from, to);
    const attend = (k: Linear, v: Linear, of: Tensor, own?: Tensor): Tensor =>
      multiHeadAttention(q, k.call(of), v.call(of), { heads: this.heads, ...(own && { mask: own }) });
    const [content, colours] = [
      part(text, text + this.tokens),
      part(text + this.tokens, text + 2 * this.tokens),
    ];
    const out = attend(this.toK, this.toV, part(0, text), mask)
      .add(attend(this.toKExtra, this.toVExtra, content).mul(this.strengths[0]))
      .add(attend(this.toKColour, this.toVColour, colours).mul(this.strengths[1]));
    return this.toOut[0].call(out);
  }
}

/** A U-Net whose attention to the text sees content and colours as well; new weights are its own, the others as they were. */
export function withGlobalConditions<T extends object>(
  unet: T,
  rng: Rng,
  {
    tokens = 4,
    content = 1,
    colours = 1,
  }: { readonly tokens?: number; readonly content?: number; readonly colours?: number } = {},
): T {
  let found = 0;
  const changed = mapModules(unet, (module) => {
    if (!(module instanceof BasicTransformerBlock)) return module;
    found++;
    const attn2 = new DecoupledAttention(module.attn2, rng, tokens, [content, colours]);
    return Object.assign(Object.create(Object.getPrototypeOf(module)), module, { attn2 });
  });
  if (found === 0) throw new ArgumentError("withGlobalConditions: this network attends to no text");
  return changed;
}
