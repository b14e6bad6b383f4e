/**
 * The text encoder of CLIP (Radford et al. 2021), with the keys of transformers: that of SD 1.x, the OpenCLIP
 * one of SD 2.x, and the two of SDXL.
 */
import { ArgumentError, ShapeError } from "../errors.ts";
import {
  type Activation,
  activate,
  Embedding,
  LayerNorm,
  LearnedPositions,
  Linear,
  Module,
  multiHeadAttention,
  type Rng,
} from "../nn/index.ts";
import { arange, argmax, cast, equal, gather, logicalAnd, type Tensor, tril } from "../tensor/index.ts";
import { type CLIPTextConfig, clipTextConfig } from "./clip/config.ts";

/** Self attention with the key names of CLIP. */
export class CLIPAttention extends Module {
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly qProj: Linear;
  readonly outProj: Linear;
  readonly heads: number;

  constructor(dim: number, heads: number, rng: Rng) {
    super();
    this.kProj = new Linear(dim, dim, rng);
    this.vProj = new Linear(dim, dim, rng);
    this.qProj = new Linear(dim, dim, rng);
    this.outProj = new Linear(dim, dim, rng);
    this.heads = heads;
  }

  /** x [N, T, D]; the mask is that of `multiHeadAttention`. */
  call(x: Tensor, mask?: Tensor): Tensor {
    const [q, k, v] = [this.qProj.call(x), this.kProj.call(x), this.vProj.call(x)];
    return this.outProj.call(multiHeadAttention(q, k, v, { heads: this.heads, mask }));
  }
}

/** The feed-forward part of a layer. */
export class CLIPMLP extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly activation: Activation;

  constructor(dim: number, inner: number, activation: Activation, rng: Rng) {
    super();
    this.fc1 = new Linear(dim, inner, rng);
    this.fc2 = new Linear(inner, dim, rng);
    this.activation = activation;
  }

  /** x [N, T, D]. */
  call(x: Tensor): Tensor {
    return this.fc2.call(activate(this.activation, this.fc1.call(x)));
  }
}

/** Attention and perceptron, each behind its norm. */
export class CLIPEncoderLayer extends Module {
  readonly selfAttn: CLIPAttention;
  readonly layerNorm1: LayerNorm;
  readonly mlp: CLIPMLP;
  readonly layerNorm2: LayerNorm;

  constructor(config: CLIPTextConfig, rng: Rng) {
    super();
    const { hiddenSize, intermediateSize, heads, activation, eps } = config;
    this.selfAttn = new CLIPAttention(hiddenSize, heads, rng);
    this.layerNorm1 = new LayerNorm(hiddenSize, { eps });
    this.mlp = new CLIPMLP(hiddenSize, intermediateSize, activation, rng);
    this.layerNorm2 = new LayerNorm(hiddenSize, { eps });
  }

  /** x [N, T, D]. */
  call(x: Tensor, mask?: Tensor): Tensor {
    const attended = x.add(this.selfAttn.call(this.layerNorm1.call(x), mask));
    return attended.add(this.mlp.call(this.layerNorm2.call(attended)));
  }
}

class CLIPTextEmbeddings extends Module {
  readonly tokenEmbedding: Embedding;
  readonly positionEmbedding: LearnedPositions;

  constructor({ vocabSize, hiddenSize, maxPositions }: CLIPTextConfig, rng: Rng) {
    super();
    const init = (source: Rng, shape: readonly number[]): Tensor => source.normal(shape, 0.02);
    this.tokenEmbedding = new Embedding(vocabSize, hiddenSize, rng, { init });
    this.positionEmbedding = new LearnedPositions(maxPositions, hiddenSize, rng, { init });
  }

  /** ids [N, T] give [N, T, D]; `tokens` [N, T, D] take the place of looked-up vectors. */
  call(ids: Tensor, tokens: Tensor = this.tokenEmbedding.call(ids)): Tensor {
    return tokens.add(this.positionEmbedding.call(ids.shape[1]!));
  }
}

class CLIPEncoder extends Module {
  readonly layers: readonly CLIPEncoderLayer[];

  constructor(config: CLIPTextConfig, rng: Rng) {
    super();
    this.layers = Array.from({ length: config.layers }, () => new CLIPEncoderLayer(config, rng));
  }

  /** What goes into each layer, and what comes out of the last. */
  call(x: Tensor, mask?: Tensor): Tensor[] {
    const states = [x];
    for (const layer of this.layers) states.push(layer.call(states.at(-1)!, mask));
    return states;
  }
}

/** What a text encoder gives. */
export interface CLIPTextOutput {
  /** After the last layer and the final norm: [N, T, D]. */
  readonly lastHiddenState: Tensor;
  /** The last hidden state where the text ends: [N, D]. */
  readonly poolerOutput: Tensor;
  /** The embeddings, then every layer's output, without the final norm: layers + 1 times [N, T, D]. */
  readonly hiddenStates: readonly Tensor[];
}

/** What a text encoder takes beside the tokens. */
export interface CLIPTextInputs {
  /** [N, T], true (or not 0) where there is a token to attend to. Diffusion models attend to padding as well. */
  readonly attentionMask?: Tensor;
  /** Vectors [N, T, D] instead of those of the ids, for textual inversion. The ids still say where the text ends. */
  readonly tokenEmbeddings?: Tensor;
}

/** Options of `CLIPTextModel`. */
export interface HiddenStateOptions {
  /** Layers left out at the end: 0 is the last layer, 1 the penultimate (SD 2.x, SDXL). Default 0. */
  readonly skip?: number;
  /** Whether the final norm is applied: yes in SD (the default), no in SDXL. */
  readonly norm?: boolean;
}

/** The transformer, in a module of its own because its keys begin with `text_model.` */
export class CLIPTextTransformer extends Module {
  readonly embeddings: CLIPTextEmbeddings;
  readonly encoder: CLIPEncoder;
  readonly finalLayerNorm: LayerNorm;
  readonly eosId: number;

  constructor(config: CLIPTextConfig, rng: Rng) {
    super();
    this.embeddings = new CLIPTextEmbeddings(config, rng);
    this.encoder = new CLIPEncoder(config, rng);
    this.finalLayerNorm = new LayerNorm(config.hiddenSize, { eps: config.eps });
    this.eosId = config.eosId;
  }

  call(ids: Tensor, { attentionMask, tokenEmbeddings }: CLIPTextInputs = {}): CLIPTextOutput {
    if (ids.rank !== 2) throw new ShapeError(`CLIPTextModel: expected ids [N, T], got ${ids}`);
    const [samples, length] = ids.shape as [number, number];
    const embedded = this.embeddings.call(ids, tokenEmbeddings);
    const causal = tril(length, length); // [T, T]
    const mask = attentionMask
      ? logicalAnd(causal, cast(attentionMask, "bool").reshape([samples, 1, length]))
      : causal;
    const hiddenStates = this.encoder.call(embedded, mask);
    const lastHiddenState = this.finalLayerNorm.call(hiddenStates.at(-1)!);
    const rows = lastHiddenState.reshape([samples * length, -1]);
    const first = arange(0, samples * length, length); // [N]
    const poolerOutput = gather(rows, textEnd(ids, this.eosId).add(first));
    return { lastHiddenState, poolerOutput, hiddenStates };
  }
}

/**
 * Where texts end: [N]. Older configurations give 2 as the id of EOS, which no tokenizer produces: there the largest id
 * counts, which is that of EOS.
 */
const textEnd = (ids: Tensor, eosId: number): Tensor =>
  argmax(eosId === 2 ? cast(ids, "f32") : cast(equal(ids, eosId), "f32"), 1);

/** Reference class `CLIPTextModel`. Weights without the prefix `text_model.` are taken through `withTextModelPrefix`. */
export class CLIPTextModel extends Module {
  readonly textModel: CLIPTextTransformer;

  constructor(config: CLIPTextConfig, rng: Rng) {
    super();
    this.textModel = new CLIPTextTransformer(config, rng);
  }

  /** ids [N, T] (i64 or i32), T at most `maxPositions`. */
  call(ids: Tensor, inputs: CLIPTextInputs = {}): CLIPTextOutput {
    return this.textModel.call(ids, inputs);
  }

  /** The hidden state that conditions a denoiser: [N, T, D]. */
  hidden(output: CLIPTextOutput, { skip = 0, norm = true }: HiddenStateOptions = {}): Tensor {
    const count = output.hiddenStates.length - 1;
    if (!Number.isInteger(skip) || skip < 0 || skip > count)
      throw new ArgumentError(`CLIPTextModel: expected to skip 0 to ${count} layers, got ${skip}`);
    if (skip === 0 && norm) return output.lastHiddenState;
    const state = output.hiddenStates[count - skip]!;
    return norm ? this.textModel.finalLayerNorm.call(state) : state;
  }
}

/** Reference class `CLIPTextModelWithProjection`: the pooled output also in the space shared with images. */
export class CLIPTextModelWithProjection extends CLIPTextModel {
  readonly textProjection: Linear;

  constructor(config: CLIPTextConfig, rng: Rng) {
    super(config, rng);
    this.textProjection = new Linear(config.hiddenSize, config.projectionDim, rng, { bias: false });
  }

  override call(ids: Tensor, inputs: CLIPTextInputs = {}): CLIPTextOutput & { readonly textEmbeds: Tensor } {
    const output = super.call(ids, inputs);
    return { ...output, textEmbeds: this.textProjection.call(output.poolerOutput) }; // [N, P]
  }
}

/** A `CLIPTextModel` from its `config.json`. Throws `FormatError` naming a key whose value cannot be. */
export const clipText = (config: unknown, rng: Rng): CLIPTextModel =>
  new CLIPTextModel(clipTextConfig(config), rng);

/** A `CLIPTextModelWithProjection` from its `config.json`. Throws `FormatError` naming a key whose value cannot be. */
export const clipTextWithProjection = (config: unknown, rng: Rng): CLIPTextModelWithProjection =>
  new CLIPTextModelWithProjection(clipTextConfig(config), rng);

/**
 * Weights by the keys of the module: newer versions of transformers drop the prefix `text_model.`, older ones
 * store `position_ids`, which is no weight.
 */
export function withTextModelPrefix<T>(weights: ReadonlyMap<string, T>): Map<string, T> {
  const bare = /^(embeddings|encoder|final_layer_norm)\./;
  return new Map(
    [...weights]
      .filter(([key]) => !key.endsWith("position_ids"))
      .map(([key, value]) => [bare.test(key) ? `text_model.${key}` : key, value]),
  );
}
