/**
 * A text-to-picture pipeline before training: U-Net, text encoder, tokenizer, latent code and scheduler in the layout of
 * Stable Diffusion, small enough for a CPU. Without captions it is an unconditional one.
 */
import { ArgumentError } from "../../errors.ts";
import {
  CLIPTextModel,
  CLIPTokenizer,
  clipTextConfig,
  learnTokenizer,
  spaceToDepth,
  unet2D,
  unet2DCondition,
} from "../../networks/index.ts";
import { createRng } from "../../nn/index.ts";
import { KNOWN_WORDS, type PipelineComponents, type TokenizerFiles } from "../../pipelines/index.ts";
import type { Seed } from "../../tensor/index.ts";

/** Sizes of a new pipeline. */
export interface NewPipeline {
  /** Side of its pictures in pixels. */
  readonly size: number;
  /** Pixels per latent point, along each axis: its latents are blocks of so many pixels. */
  readonly factor: number;
  /** Channels of each level of the U-Net, from the top; multiples of 8. */
  readonly channels: readonly number[];
  /** Residual blocks (and transformers) of each level on the way down. */
  readonly layers: number;
  /** Width and layers of the text encoder. */
  readonly text: { readonly width: number; readonly layers: number };
  /** What the U-Net predicts. */
  readonly prediction: "epsilon" | "v_prediction";
  /** Steps and guidance that its pictures are made with by default. */
  readonly steps: number;
  readonly guidance: number;
}

/** The base of the shape world: 1.9 million parameters. */
export const SHAPES_TEXT: NewPipeline = {
  size: 32,
  factor: 2,
  channels: [32, 64, 64],
  layers: 1,
  text: { width: 96, layers: 2 },
  prediction: "epsilon",
  steps: 20,
  guidance: 2,
};

const HEADS = 4;
/** Words that the configuration of a tokenizer lists at most. */
const LISTED_WORDS = 20_000;

/** Files of a tokenizer of the captions' own words, and room for the longest caption. */
export function captionTokenizer(captions: readonly string[]): TokenizerFiles {
  const { merges, vocabulary, words } = learnTokenizer(captions);
  const ends = { bos_token: "<|startoftext|>", eos_token: "<|endoftext|>" };
  const config = {
    tokenizer_class: "CLIPTokenizer",
    ...ends,
    pad_token: ends.eos_token,
    unk_token: ends.eos_token,
  };
  const tokenizer = new CLIPTokenizer({ merges, vocabulary, config });
  const longest = Math.max(...new Set(captions.map((caption) => tokenizer.tokenize(caption).length)));
  const room = Math.min(77, Math.max(16, 8 * Math.ceil((longest + 2) / 8)));
  return {
    merges,
    vocabulary,
    config: { ...config, model_max_length: room, [KNOWN_WORDS]: words.slice(0, LISTED_WORDS) },
  };
}

function textEncoder({ text }: NewPipeline, tokenizer: TokenizerFiles, seed: Seed) {
  const known = tokenizer.vocabulary!;
  const config = {
    vocab_size: Object.keys(known).length,
    hidden_size: text.width,
    intermediate_size: 4 * text.width,
    num_hidden_layers: text.layers,
    num_attention_heads: HEADS,
    max_position_embeddings: tokenizer.config.model_max_length,
    hidden_act: "quick_gelu",
    projection_dim: text.width,
    bos_token_id: known["<|startoftext|>"],
    eos_token_id: known["<|endoftext|>"],
    pad_token_id: known["<|endoftext|>"],
    model_type: "clip_text_model",
  };
  const model = new CLIPTextModel(clipTextConfig(config), createRng(seed));
  return { className: "CLIPTextModel", config, model };
}

function denoiser(options: NewPipeline, latentChannels: number, isText: boolean, seed: Seed) {
  const { size, factor, channels, layers, text } = options;
  const levels = channels.length;
  const kind = (side: "Down" | "Up"): string[] =>
    channels.map(() => (isText ? `CrossAttn${side}Block2D` : `Attn${side}Block2D`));
  const common = {
    sample_size: size / factor,
    in_channels: latentChannels,
    out_channels: latentChannels,
    block_out_channels: channels,
    layers_per_block: layers,
    norm_num_groups: 8,
    down_block_types: kind("Down"),
    up_block_types: kind("Up"),
  };
  if (!isText) {
    const config = { ...common, attention_head_dim: 16 };
    return { className: "UNet2DModel", config, model: unet2D(config, createRng(seed)) };
  }
  const config = {
    ...common,
    attention_head_dim: new Array<number>(levels).fill(HEADS), // heads, by diffusers' misnomer
    cross_attention_dim: text.width,
  };
  return { className: "UNet2DConditionModel", config, model: unet2DCondition(config, createRng(seed)) };
}

/** @throws ArgumentError for sizes that do not go together */
function checkSizes({ size, factor, channels }: NewPipeline): void {
  const multiple = factor * 2 ** (channels.length - 1);
  if (size % multiple !== 0)
    throw new ArgumentError(
      `pictures of ${size} pixels: the side must be a multiple of ${multiple} (blocks of ${factor} pixels, ${channels.length} levels)`,
    );
  const odd = channels.find((c) => c % 8 !== 0);
  if (odd !== undefined) throw new ArgumentError(`channels: expected multiples of 8, got ${odd}`);
}

/** A pipeline with fresh weights. Without captions it makes pictures from noise alone. @throws ArgumentError for sizes that cannot be */
export function newPipeline(
  options: NewPipeline,
  captions: readonly string[] | undefined,
  seed: Seed = 0,
): PipelineComponents {
  checkSizes(options);
  const { factor, steps, guidance, prediction } = options;
  const code = { in_channels: 3, factor, scaling_factor: 1 };
  const config = { ...code, latent_channels: 3 * factor ** 2 };
  const vae = { className: "SpaceToDepth", config, model: spaceToDepth(config) };
  const tokenizer = captions && captionTokenizer(captions);
  return {
    kind: tokenizer ? "sd" : "unconditional",
    className: tokenizer ? "StableDiffusionPipeline" : "DDIMPipeline",
    path: "a new pipeline",
    unet: denoiser(options, vae.model.latentChannels, tokenizer !== undefined, seed),
    vae,
    textEncoders: tokenizer ? [textEncoder(options, tokenizer, seed)] : [],
    tokenizers: tokenizer ? [tokenizer] : [],
    scheduler: {
      _class_name: "DDIMScheduler",
      num_train_timesteps: 1000,
      beta_schedule: "linear",
      beta_start: 0.0001,
      beta_end: 0.02,
      prediction_type: prediction,
      timestep_spacing: "trailing",
      set_alpha_to_one: true,
      steps_offset: 0,
      clip_sample: true, // latents are pixels: they lie in [-1, 1]
      clip_sample_range: 1,
    },
    defaults: { steps, ...(tokenizer && { guidance }) },
  };
}
