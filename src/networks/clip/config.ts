/** Sizes of CLIP text encoders. */

import { COUNT, Fields, keyOf, NATURAL, POSITIVE } from "../../io/fields.ts";
import type { Activation } from "../../nn/index.ts";

/** Sizes of a text encoder, with the names of its `config.json`. */
export interface CLIPTextConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly maxPositions: number;
  readonly activation: Activation;
  readonly eps: number;
  /** Id of the token that ends a text; 2 means the largest id in it (older configurations). */
  readonly eosId: number;
  /** Width of the space shared with images, for `CLIPTextModelWithProjection`. */
  readonly projectionDim: number;
}

const ACTIVATION_NAMES = {
  quick_gelu: "quickGelu",
  gelu: "gelu",
  gelu_new: "geluTanh",
  gelu_pytorch_tanh: "geluTanh",
  relu: "relu",
  silu: "silu",
} as const satisfies Record<string, Activation>;

/**
 * The configuration of a `config.json` (or its `text_config`), with transformers' defaults: those of CLIP
 * ViT-B/32. Throws `FormatError` that names a key whose value cannot be.
 */
export function clipTextConfig(values: unknown): CLIPTextConfig {
  const config = new Fields("CLIPTextModel", values);
  const hiddenSize = config.value("hidden_size", COUNT, 512);
  const heads = config.value("num_attention_heads", COUNT, 8);
  config.divides("num_attention_heads", heads, hiddenSize, "hidden_size");
  return {
    vocabSize: config.value("vocab_size", COUNT, 49408),
    hiddenSize,
    intermediateSize: config.value("intermediate_size", COUNT, 2048),
    layers: config.value("num_hidden_layers", COUNT, 12),
    heads,
    maxPositions: config.value("max_position_embeddings", COUNT, 77),
    activation: ACTIVATION_NAMES[config.value("hidden_act", keyOf(ACTIVATION_NAMES), "quick_gelu")],
    eps: config.value("layer_norm_eps", POSITIVE, 1e-5),
    eosId: config.value("eos_token_id", NATURAL, 49407),
    projectionDim: config.value("projection_dim", COUNT, 512),
  };
}

/** Official encoders, as their `config.json` gives them. */
const OFFICIAL = {
  /** CLIP ViT-L/14: SD 1.x, and the first of SDXL. */
  "clip-vit-large-patch14": {
    hidden_size: 768,
    intermediate_size: 3072,
    num_attention_heads: 12,
    projection_dim: 768,
  },
  /** OpenCLIP ViT-H/14 without its last layer: SD 2.x. */
  "openclip-vit-h-14": {
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 23,
    num_attention_heads: 16,
    hidden_act: "gelu",
    projection_dim: 512,
  },
  /** OpenCLIP ViT-bigG/14: the second of SDXL. */
  "openclip-vit-bigg-14": {
    hidden_size: 1280,
    intermediate_size: 5120,
    num_hidden_layers: 32,
    num_attention_heads: 20,
    hidden_act: "gelu",
    projection_dim: 1280,
  },
} as const;

/** Name of a published text encoder. */
export type OfficialCLIPText = keyof typeof OFFICIAL;

/** The configuration of an official encoder, for files that bring none. */
export const officialClipTextConfig = (name: OfficialCLIPText): CLIPTextConfig =>
  clipTextConfig({ ...OFFICIAL[name], eos_token_id: 2 });
