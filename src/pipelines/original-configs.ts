/**
 * The configurations of the models that single files leave out, as diffusers publishes them. A file's own
 * shapes decide which one it needs; `detect.ts` looks.
 */
import type { Config } from "./components.ts";

const UNET_SD1: Config = {
  _class_name: "UNet2DConditionModel",
  sample_size: 64,
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [320, 640, 1280, 1280],
  layers_per_block: 2,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  cross_attention_dim: 768,
  attention_head_dim: 8,
};

const UNET_SD2: Config = {
  ...UNET_SD1,
  cross_attention_dim: 1024,
  attention_head_dim: [5, 10, 20, 20],
  use_linear_projection: true,
};

const UNET_SDXL: Config = {
  ...UNET_SD1,
  sample_size: 128,
  block_out_channels: [320, 640, 1280],
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
  transformer_layers_per_block: [1, 2, 10],
  cross_attention_dim: 2048,
  attention_head_dim: [5, 10, 20],
  use_linear_projection: true,
  addition_embed_type: "text_time",
  addition_time_embed_dim: 256,
  projection_class_embeddings_input_dim: 2816,
};

const VAE_SD: Config = {
  _class_name: "AutoencoderKL",
  sample_size: 512,
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  block_out_channels: [128, 256, 512, 512],
  layers_per_block: 2,
  down_block_types: Array.from({ length: 4 }, () => "DownEncoderBlock2D"),
  up_block_types: Array.from({ length: 4 }, () => "UpDecoderBlock2D"),
  norm_num_groups: 32,
  scaling_factor: 0.18215,
};

const TEXT_L: Config = {
  architectures: ["CLIPTextModel"],
  model_type: "clip_text_model",
  vocab_size: 49408,
  hidden_size: 768,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  max_position_embeddings: 77,
  hidden_act: "quick_gelu",
  layer_norm_eps: 1e-5,
  projection_dim: 768,
  bos_token_id: 0,
  eos_token_id: 2,
  pad_token_id: 1,
};

/** The last but one layer of ViT-H is what SD2 reads, so the last one is left out. */
const TEXT_H: Config = {
  ...TEXT_L,
  hidden_size: 1024,
  intermediate_size: 4096,
  num_hidden_layers: 23,
  num_attention_heads: 16,
  hidden_act: "gelu",
  projection_dim: 512,
};

const TEXT_BIG_G: Config = {
  ...TEXT_L,
  architectures: ["CLIPTextModelWithProjection"],
  hidden_size: 1280,
  intermediate_size: 5120,
  num_hidden_layers: 32,
  num_attention_heads: 20,
  hidden_act: "gelu",
  projection_dim: 1280,
};

const SCHEDULER_SD: Config = {
  _class_name: "PNDMScheduler",
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  prediction_type: "epsilon",
  set_alpha_to_one: false,
  skip_prk_steps: true,
  steps_offset: 1,
  trained_betas: null,
};

const SCHEDULER_SDXL: Config = {
  ...SCHEDULER_SD,
  _class_name: "EulerDiscreteScheduler",
  timestep_spacing: "leading", // said for SDXL alone
  interpolation_type: "linear",
  use_karras_sigmas: false,
};

/** The families of single files that are known here. */
export type Family = "sd1" | "sd2" | "sdxl";

/** Components of a family by their folder in diffusers' layout. */
export interface FamilyConfigs {
  readonly pipeline: string;
  readonly unet: Config;
  readonly vae: Config;
  readonly scheduler: Config;
  /** `text_encoder`, `text_encoder_2`. */
  readonly textEncoders: readonly Config[];
}

export const FAMILIES: Readonly<Record<Family, FamilyConfigs>> = {
  sd1: {
    pipeline: "StableDiffusionPipeline",
    unet: UNET_SD1,
    vae: VAE_SD,
    scheduler: SCHEDULER_SD,
    textEncoders: [TEXT_L],
  },
  sd2: {
    pipeline: "StableDiffusionPipeline",
    unet: UNET_SD2,
    vae: { ...VAE_SD, sample_size: 768 },
    scheduler: SCHEDULER_SD,
    textEncoders: [TEXT_H],
  },
  sdxl: {
    pipeline: "StableDiffusionXLPipeline",
    unet: UNET_SDXL,
    vae: { ...VAE_SD, sample_size: 1024, scaling_factor: 0.13025, force_upcast: true },
    scheduler: SCHEDULER_SDXL,
    textEncoders: [TEXT_L, TEXT_BIG_G],
  },
};

const HINT: Config = {
  _class_name: "ControlNetModel",
  conditioning_embedding_out_channels: [16, 32, 96, 256],
};

/** The ControlNet that goes with a family's U-Net, which it copies the way down of. */
export function controlNetConfig(unet: Config): Config {
  const { _class_name: _, out_channels: __, up_block_types: ___, sample_size: ____, ...rest } = unet;
  return { ...rest, ...HINT };
}
