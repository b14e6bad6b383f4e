/**
 * The multi-control encoder of AnyControl (Sun et al. 2024): a query transformer reads the text and any number of conditions,
 * and gives maps of one size. The names of its tensors are those of the published code, which began with BLIP-2's Q-Former.
 */
import { ArgumentError, ShapeError } from "../../errors.ts";
import {
  Embedding,
  LayerNorm,
  LearnedPositions,
  Linear,
  Module,
  multiHeadAttention,
  type Rng,
} from "../../nn/index.ts";
import { cast, concat, gelu, log, maximum, ones, type Tensor, where } from "../../tensor/index.ts";
import type { ViTConfig } from "../vit/layers.ts";
import { VisionTransformer } from "../vit/vit.ts";

/** Sizes of a `MultiControlEncoder`. */
export interface MultiControlConfig {
  /** Of the network that looks at each condition alone. */
  readonly visual: ViTConfig;
  /** Blocks of it, from 0, whose outputs are read: one for each fusion, in this order. */
  readonly levels: readonly number[];
  readonly dim: number;
  readonly layers: number;
  readonly heads: number;
  /** Width inside the perceptrons. */
  readonly inner: number;
  /** The queries are a grid of so many rows and columns. */
  readonly grid: number;
  /** Places for which there is a position: one for each token of a condition. Default: just as many. */
  readonly positions?: number;
  readonly vocabulary: number;
  readonly textLength: number;
  /** What is read: the queries after so many layers, one for each level of the adapter. */
  readonly readouts: readonly number[];
  /** Norms behind the sums, as in BERT, or before the branches, which trains from nothing. */
  readonly norm: "after" | "before";
  readonly eps: number;
  /** Queries and text attend to each other. Default true; false: an ablation, the text is not seen. */
  readonly align?: boolean;
  /** Queries attend to the tokens of all conditions. Default true; false: an ablation, to the mean of the conditions. */
  readonly fuse?: boolean;
  /** Number of conditions that have positions of their own: an ablation. Default 0: all share one table. */
  readonly slots?: number;
}

/** What an encoder is told. */
export interface MultiControlInputs {
  /** Conditions, as the visual encoder takes pictures. // [N, n, 3, S, S] */
  readonly conditions: Tensor;
  /** How much each counts: 0 where there is none, 1 as trained. // [N, n] */
  readonly weights: Tensor;
  readonly ids: Tensor; // [N, L], i32 or i64
  /** True where there is a token. // [N, L] */
  readonly textMask: Tensor;
}

/** Inputs of an attention. */
export class ControlProjections extends Module {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;

  constructor(dim: number, contextDim: number, rng: Rng) {
    super();
    this.query = new Linear(dim, dim, rng);
    this.key = new Linear(contextDim, dim, rng);
    this.value = new Linear(contextDim, dim, rng);
  }
}

/** The end of a branch: its last matrix, and the norm that belongs to it. */
export class ControlOutput extends Module {
  static override readonly keyNames = { layerNorm: "LayerNorm" };
  readonly dense: Linear;
  readonly layerNorm: LayerNorm;

  constructor(inner: number, { dim, eps }: MultiControlConfig, rng: Rng) {
    super();
    this.dense = new Linear(inner, dim, rng);
    this.layerNorm = new LayerNorm(dim, { eps });
  }
}

/** ControlAttention with BERT's names. */
export class ControlAttention extends Module {
  readonly self: ControlProjections;
  readonly output: ControlOutput;

  constructor(contextDim: number, config: MultiControlConfig, rng: Rng) {
    super();
    this.self = new ControlProjections(config.dim, contextDim, rng);
    this.output = new ControlOutput(config.dim, config, rng);
  }

  /** x [N, Q, D], context [N, K, C]; a mask of booleans, or values that are added to the scores. // [N, 1, K] */
  attend(x: Tensor, context: Tensor, heads: number, mask?: Tensor): Tensor {
    const { query, key, value } = this.self;
    const [q, k, v] = [query.call(x), key.call(context), value.call(context)];
    return this.output.dense.call(multiHeadAttention(q, k, v, { heads, mask }));
  }
}

/** The first matrix of a perceptron. */
export class ControlWidening extends Module {
  readonly dense: Linear;

  constructor({ dim, inner }: MultiControlConfig, rng: Rng) {
    super();
    this.dense = new Linear(dim, inner, rng);
  }
}

/** A branch beside its shortcut: norm(u + f(u)), or h + f(norm(u)); u is h with the positions of the queries. */
const beside = (
  kind: MultiControlConfig["norm"],
  [h, u]: readonly [h: Tensor, u: Tensor],
  { layerNorm }: ControlOutput,
  f: (x: Tensor) => Tensor,
): Tensor => (kind === "after" ? layerNorm.call(u.add(f(u))) : h.add(f(layerNorm.call(u))));

/** The conditions as one layer sees them. */
export interface ControlContext {
  readonly tokens: Tensor; // [N, n T, C]
  /** Added to the scores. // [N, 1, n T] */
  readonly bias: Tensor;
  /** 1 where there is any condition, else 0. // [N, 1, 1] */
  readonly any: Tensor;
}

/** Alignment of queries and text, then (in every second layer) fusion of the conditions, then perceptrons of their own. */
export class ControlLayer extends Module {
  readonly attention: ControlAttention;
  readonly crossattention: ControlAttention | undefined;
  readonly intermediate: ControlWidening;
  readonly output: ControlOutput;
  readonly intermediateQuery: ControlWidening;
  readonly outputQuery: ControlOutput;
  readonly heads: number;
  readonly norm: MultiControlConfig["norm"];

  constructor(fuses: boolean, config: MultiControlConfig, rng: Rng) {
    super();
    const { dim, inner, visual } = config;
    this.attention = new ControlAttention(dim, config, rng);
    this.crossattention = fuses ? new ControlAttention(visual.dim, config, rng) : undefined;
    this.intermediate = new ControlWidening(config, rng);
    this.output = new ControlOutput(inner, config, rng);
    this.intermediateQuery = new ControlWidening(config, rng);
    this.outputQuery = new ControlOutput(inner, config, rng);
    this.heads = config.heads;
    this.norm = config.norm;
  }

  /** Queries [N, Q, D] and text [N, L, D] or none; `places` [1, Q, D] are added to the queries before each attention. */
  call(
    queries: Tensor,
    text: Tensor | undefined,
    {
      places,
      mask,
      context,
    }: { places: Tensor; mask: Tensor | undefined; context: ControlContext | undefined },
  ): readonly [queries: Tensor, text: Tensor | undefined] {
    const { attention, crossattention, heads, norm } = this;
    const joined = (q: Tensor): Tensor => (text ? concat(q, text, 1) : q);
    const pair = [joined(queries), joined(queries.add(places))] as const;
    const aligned = beside(norm, pair, attention.output, (x) => attention.attend(x, x, heads, mask));
    const count = queries.shape[1]!;
    let own = text ? aligned.sliceAxis(1, 0, count) : aligned;
    if (crossattention && context) {
      const { tokens, bias, any } = context;
      const fused = (x: Tensor): Tensor => crossattention.attend(x, tokens, heads, bias).mul(any);
      own = beside(norm, [own, own.add(places)], crossattention.output, fused);
    }
    const perceptron = (x: Tensor, wide: ControlWidening, out: ControlOutput): Tensor =>
      beside(norm, [x, x], out, (u) => out.dense.call(gelu(wide.dense.call(u))));
    return [
      perceptron(own, this.intermediateQuery, this.outputQuery),
      text && perceptron(aligned.sliceAxis(1, count), this.intermediate, this.output),
    ];
  }
}

/** Positions of the tokens of conditions, and the norm behind them: the same for all conditions and levels. */
export class ConditionPositions extends Module {
  static override readonly keyNames = { layerNorm: "LayerNorm" };
  readonly positionEmbeddings: LearnedPositions;
  readonly layerNorm: LayerNorm;

  constructor(places: number, dim: number, eps: number, rng: Rng) {
    super();
    this.positionEmbeddings = new LearnedPositions(places, dim, rng);
    this.layerNorm = new LayerNorm(dim, { eps });
  }
}

/** Words and their places as vectors. */
export class ControlTextEmbeddings extends Module {
  static override readonly keyNames = { layerNorm: "LayerNorm" };
  readonly wordEmbeddings: Embedding;
  readonly positionEmbeddings: LearnedPositions;
  readonly layerNorm: LayerNorm;

  constructor({ vocabulary, textLength, dim, eps }: MultiControlConfig, rng: Rng) {
    super();
    this.wordEmbeddings = new Embedding(vocabulary, dim, rng, { init: (r, shape) => r.normal(shape, 0.02) });
    this.positionEmbeddings = new LearnedPositions(textLength, dim, rng);
    this.layerNorm = new LayerNorm(dim, { eps });
  }
}

/** Text embeddings and layers. */
export class ControlBert extends Module {
  readonly embeddings: ControlTextEmbeddings;
  readonly encoder: { readonly layer: readonly ControlLayer[] };

  constructor(config: MultiControlConfig, rng: Rng) {
    super();
    this.embeddings = new ControlTextEmbeddings(config, rng);
    this.encoder = {
      layer: Array.from({ length: config.layers }, (_, i) => new ControlLayer(i % 2 === 0, config, rng)),
    };
  }
}

/** Tokens of a condition: its patches, and one for the whole. */
export const conditionTokens = ({ imageSize, patchSize }: ViTConfig): number =>
  (imageSize / patchSize) ** 2 + 1;

/** Any number of conditions and a text as maps of one size. */
export class MultiControlEncoder extends Module {
  static override readonly keyNames = { qformer: "Qformer" };
  readonly queryTokens: Tensor; // [1, grid², D]
  readonly crossattnEmbeddings: ConditionPositions;
  readonly lnVision: readonly LayerNorm[];
  readonly visualEncoder: VisionTransformer;
  readonly qformer: { readonly bert: ControlBert };
  readonly config: MultiControlConfig;

  /** @throws ArgumentError for levels and read-outs that do not fit the layers */
  constructor(config: MultiControlConfig, rng: Rng) {
    super();
    const { visual, levels, layers, dim, grid, readouts, eps, slots = 0 } = config;
    if (
      levels.length !== Math.ceil(layers / 2) ||
      levels.some((level) => !(level >= 0 && level < visual.depth))
    )
      throw new ArgumentError(
        `MultiControlEncoder: expected a level below ${visual.depth} for each second of ${layers} layers, got ${levels}`,
      );
    if (readouts.some((after) => !(after >= 1 && after <= layers)))
      throw new ArgumentError(
        `MultiControlEncoder: expected read-outs after 1 to ${layers} layers, got ${readouts}`,
      );
    const tokens = conditionTokens(visual);
    this.queryTokens = rng.normal([1, grid * grid, dim], dim ** -0.5);
    const places = slots > 0 ? slots * tokens : (config.positions ?? tokens);
    this.crossattnEmbeddings = new ConditionPositions(places, visual.dim, eps, rng);
    this.lnVision = levels.map(() => new LayerNorm(visual.dim));
    this.visualEncoder = new VisionTransformer(visual, rng, { pooling: "none" });
    this.qformer = { bert: new ControlBert(config, rng) };
    this.config = config;
  }

  /** One map for each read-out. // [N, D, grid, grid] */
  call(inputs: MultiControlInputs): Tensor[] {
    const { grid, readouts, dim } = this.config;
    const contexts = this.contexts(inputs);
    const [n] = inputs.weights.shape as [number];
    const { layer: layers } = this.qformer.bert.encoder;
    let [queries, text] = this.embed(inputs, n);
    const all = text && cast(inputs.textMask, "bool");
    const mask = all && concat(cast(ones([n, grid * grid]), "bool"), all, 1);
    const states = layers.map((layer, k) => {
      const shared = { places: this.queryTokens, mask: mask?.unsqueeze(1), context: contexts[k / 2] };
      [queries, text] = layer.call(queries, text, shared);
      return queries;
    });
    return readouts.map((after) => states[after - 1]!.transpose([0, 2, 1]).reshape([n, dim, grid, grid]));
  }

  /** Queries [N, Q, D] and the text's vectors [N, L, D] as they enter the first layer. */
  private embed({ ids }: MultiControlInputs, n: number): [Tensor, Tensor | undefined] {
    const { wordEmbeddings, positionEmbeddings, layerNorm } = this.qformer.bert.embeddings;
    const queries = layerNorm.call(this.queryTokens).broadcastTo([n, ...this.queryTokens.shape.slice(1)]);
    if (this.config.align === false) return [queries, undefined];
    const words = wordEmbeddings.call(ids).add(positionEmbeddings.call(ids.shape[1]!));
    return [queries, layerNorm.call(words)];
  }

  /** What each fusion attends to: LNp(LN_l(ViT_l(c_i)) + P), conditions one behind the other, so that order is nothing. */
  private contexts({ conditions, weights }: MultiControlInputs): ControlContext[] {
    const { visual, levels, fuse = true, slots = 0 } = this.config;
    const [n, count, ...picture] = conditions.shape as [number, number, ...number[]];
    if (conditions.rank !== 5 || weights.shape.join() !== [n, count].join())
      throw new ShapeError(
        `MultiControlEncoder: expected conditions [N, n, 3, S, S] with weights [N, n], got ${conditions} and ${weights}`,
      );
    if (slots > 0 && count > slots)
      throw new ShapeError(`MultiControlEncoder: expected at most ${slots} conditions, got ${count}`);
    const { positionEmbeddings, layerNorm } = this.crossattnEmbeddings;
    const tokens = conditionTokens(visual);
    const states = this.visualEncoder.hiddenStates(conditions.reshape([n * count, ...picture]));
    const places =
      slots > 0
        ? positionEmbeddings.call(count * tokens).reshape([count, tokens, -1])
        : positionEmbeddings.call(tokens);
    const some = cast(weights.greater(0), "f32");
    const total = some.sum(1, true); // [N, 1]
    const bias = where(weights.greater(0), log(maximum(weights, 1e-6)), -1e9); // [N, n]
    const any = cast(total.greater(0), "f32").unsqueeze(2);
    return levels.map((level, i) => {
      const normed = this.lnVision[i]!.call(states[level]!).reshape([n, count, tokens, visual.dim]);
      const placed = layerNorm.call(normed.add(places)); // [N, n, T, C]
      if (fuse)
        return {
          tokens: placed.reshape([n, count * tokens, visual.dim]),
          bias: bias
            .unsqueeze(2)
            .broadcastTo([n, count, tokens])
            .reshape([n, 1, count * tokens]),
          any,
        };
      const share = some.div(maximum(total, 1)).unsqueeze(2).unsqueeze(3);
      return { tokens: placed.mul(share).sum(1), bias: bias.mul(0).sum(1, true).unsqueeze(2), any };
    });
  }
}
