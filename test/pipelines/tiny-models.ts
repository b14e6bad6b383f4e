/** Tiny models with the true topology of the published ones, with random weights. */
import { createRng, type Module, parameters } from "../../src/nn/index.ts";
import type { Config, LoadedModel, PipelineComponents } from "../../src/pipelines/components.ts";
import { networkClass } from "../../src/pipelines/registry.ts";
import { evaluate } from "../../src/tensor/index.ts";

export const TINY_UNET: Config = {
  _class_name: "UNet2DConditionModel",
  sample_size: 16,
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [8, 16, 32, 32],
  layers_per_block: 2,
  norm_num_groups: 4,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  cross_attention_dim: 12,
  attention_head_dim: 4,
};

export const TINY_XL_UNET: Config = {
  ...TINY_UNET,
  block_out_channels: [8, 16, 32],
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
  transformer_layers_per_block: [1, 2, 3],
  cross_attention_dim: 28,
  attention_head_dim: [2, 4, 8],
  use_linear_projection: true,
  addition_embed_type: "text_time",
  addition_time_embed_dim: 4,
  projection_class_embeddings_input_dim: 16 + 6 * 4,
};

export const TINY_TEXT: Config = {
  architectures: ["CLIPTextModel"],
  vocab_size: 600,
  hidden_size: 12,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  max_position_embeddings: 77,
  hidden_act: "quick_gelu",
  eos_token_id: 2,
};

export const TINY_TEXT_2: Config = {
  ...TINY_TEXT,
  architectures: ["CLIPTextModelWithProjection"],
  hidden_size: 16,
  hidden_act: "gelu",
  projection_dim: 16,
};

export const TINY_VAE: Config = {
  _class_name: "AutoencoderKL",
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  block_out_channels: [4, 8, 16, 16],
  layers_per_block: 2,
  norm_num_groups: 4,
  sample_size: 32,
  down_block_types: Array.from({ length: 4 }, () => "DownEncoderBlock2D"),
  up_block_types: Array.from({ length: 4 }, () => "UpDecoderBlock2D"),
  scaling_factor: 0.18215,
};

export const SCHEDULER: Config = {
  _class_name: "PNDMScheduler",
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  steps_offset: 1,
  skip_prk_steps: true,
  set_alpha_to_one: false,
};

/** A network with random weights. */
export function tinyModel(config: Config, seed: number, className?: string): LoadedModel {
  const [architecture] = (config.architectures ?? []) as string[];
  const name = className ?? architecture ?? String(config._class_name);
  const model = networkClass(name, "test").build(config, createRng(seed));
  return { className: name, config, model };
}

export const TOKENIZER = { config: { model_max_length: 77 }, merges: "#version: 0.2\na b\nab c</w>\n" };

/** Stable Diffusion 1.x in miniature. */
export const tinySd = (unet: Config = TINY_UNET): PipelineComponents => ({
  kind: "sd",
  className: "StableDiffusionPipeline",
  path: "memory",
  unet: tinyModel(unet, 1),
  vae: tinyModel(TINY_VAE, 2),
  textEncoders: [tinyModel(TINY_TEXT, 3)],
  tokenizers: [TOKENIZER],
  scheduler: SCHEDULER,
});

/** Stable Diffusion XL in miniature. */
export const tinyXl = (): PipelineComponents => ({
  kind: "sdxl",
  className: "StableDiffusionXLPipeline",
  path: "memory",
  unet: tinyModel(TINY_XL_UNET, 1),
  vae: tinyModel({ ...TINY_VAE, scaling_factor: 0.13025 }, 2),
  textEncoders: [tinyModel(TINY_TEXT, 3), tinyModel(TINY_TEXT_2, 4)],
  tokenizers: [TOKENIZER, { ...TOKENIZER, config: { pad_token: "!" } }],
  scheduler: { ...SCHEDULER, _class_name: "EulerDiscreteScheduler" },
});

/** All values of a module by checkpoint key. */
export async function valuesOf(module: Module): Promise<Record<string, number[]>> {
  const values: Record<string, number[]> = {};
  await evaluate([...parameters(module).values()]); // in one session
  for (const [key, t] of parameters(module)) values[key] = await t.toArray();
  return values;
}
