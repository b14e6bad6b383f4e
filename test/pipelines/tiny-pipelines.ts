/** Small pipelines in the layout of diffusers whose weights come from a hash of their names: nothing is downloaded. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeSafetensors } from "../../src/io/index.ts";
import {
  autoencoderKL,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  clipTextConfig,
  controlNet,
  DiTTransformer2DModel,
  ditConfig,
  unet2D,
  unet2DCondition,
} from "../../src/networks/index.ts";
import { blankRng, parameters } from "../../src/nn/index.ts";
import { evaluate, type HostArray } from "../../src/tensor/index.ts";
import { fill, withTinyWeights } from "../networks/tiny-models.ts";

type Json = Readonly<Record<string, unknown>>;

const writeJson = (path: string, value: unknown): void => writeFileSync(path, JSON.stringify(value, null, 1));

/** Writes tensors of the given keys, f32. */
export async function writeTensors(path: string, module: object): Promise<void> {
  const all = parameters(module);
  await evaluate([...all.values()]);
  const entries = await Promise.all(
    [...all].map(
      async ([key, t]) => [key, { dtype: t.dtype, shape: t.shape, data: await t.data() }] as const,
    ),
  );
  await writeSafetensors(
    path,
    new Map<string, { dtype: "f32"; shape: readonly number[]; data: HostArray }>(entries as never),
  );
}

async function writeModel(
  folder: string,
  config: Json,
  module: object,
  weights = "diffusion_pytorch_model",
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  writeJson(join(folder, "config.json"), config);
  await writeTensors(join(folder, `${weights}.safetensors`), withTinyWeights(module));
}

const WORDS = ["a", "red", "blue", "cat", "dog", "house", "tree", "at", "night", "blurry", "sky"];

/** Merges that build each word from its letters, and the vocabulary that follows from them. */
function tinyTokenizer(): { merges: string; vocabulary: Record<string, number> } {
  const merges: string[] = [];
  for (const word of WORDS) {
    const symbols = [...word.slice(0, -1), `${word.at(-1)}</w>`];
    while (symbols.length > 1) {
      const pair = `${symbols[0]} ${symbols[1]}`;
      if (!merges.includes(pair)) merges.push(pair);
      symbols.splice(0, 2, symbols[0]! + symbols[1]!);
    }
  }
  const printable = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
  const tokens = [
    ...printable,
    ...printable.map((c) => `${c}</w>`),
    ...merges.map((m) => m.replace(" ", "")),
  ];
  const all = [...new Set(tokens), "<|startoftext|>", "<|endoftext|>"];
  return {
    merges: `#version: 0.2\n${merges.join("\n")}\n`,
    vocabulary: Object.fromEntries(all.map((token, id) => [token, id])),
  };
}

function writeTokenizer(folder: string): number {
  const { merges, vocabulary } = tinyTokenizer();
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "merges.txt"), merges);
  writeJson(join(folder, "vocab.json"), vocabulary);
  writeJson(join(folder, "tokenizer_config.json"), { model_max_length: 77, pad_token: "<|endoftext|>" });
  return Object.keys(vocabulary).length;
}

const CONTEXT = 12;

const UNET = {
  _class_name: "UNet2DConditionModel",
  sample_size: 8,
  in_channels: 4,
  out_channels: 4,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  block_out_channels: [8, 16, 16],
  layers_per_block: 1,
  cross_attention_dim: CONTEXT,
  attention_head_dim: 4,
  norm_num_groups: 4,
};

const VAE = {
  _class_name: "AutoencoderKL",
  block_out_channels: [4, 8, 8, 8],
  in_channels: 3,
  out_channels: 3,
  down_block_types: Array(4).fill("DownEncoderBlock2D"),
  up_block_types: Array(4).fill("UpDecoderBlock2D"),
  layers_per_block: 1,
  latent_channels: 4,
  norm_num_groups: 4,
  sample_size: 64,
  scaling_factor: 0.18215,
};

/** The scheduler of SD 1.5. */
export const SCHEDULER: Json = {
  _class_name: "PNDMScheduler",
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  prediction_type: "epsilon",
  set_alpha_to_one: false,
  skip_prk_steps: true,
  steps_offset: 1,
};

const DDIM: Json = {
  ...SCHEDULER,
  _class_name: "DDIMScheduler",
  clip_sample: false,
  skip_prk_steps: undefined,
};

function writeScheduler(folder: string, config: Json): void {
  mkdirSync(join(folder, "scheduler"), { recursive: true });
  writeJson(join(folder, "scheduler", "scheduler_config.json"), config);
}

const textConfig = (vocabSize: number): Json => ({
  architectures: ["CLIPTextModel"],
  vocab_size: vocabSize,
  hidden_size: CONTEXT,
  intermediate_size: 24,
  num_attention_heads: 2,
  num_hidden_layers: 3,
  max_position_embeddings: 77,
  bos_token_id: vocabSize - 2,
  eos_token_id: vocabSize - 1,
});

/** Stable Diffusion of 64x64 pixels. `unet` changes the U-Net's configuration, such as its `in_channels`. */
export async function writeTinyStableDiffusion(
  folder: string,
  { scheduler = SCHEDULER, unet = {} }: { scheduler?: Json; unet?: Json } = {},
): Promise<void> {
  const vocabSize = writeTokenizer(join(folder, "tokenizer"));
  const text = textConfig(vocabSize);
  const network = { ...UNET, ...unet };
  await writeModel(
    join(folder, "text_encoder"),
    text,
    new CLIPTextModel(clipTextConfig(text), blankRng),
    "model",
  );
  await writeModel(join(folder, "unet"), network, unet2DCondition(network, blankRng));
  await writeModel(join(folder, "vae"), VAE, autoencoderKL(VAE, blankRng));
  writeScheduler(folder, scheduler);
  writeJson(join(folder, "model_index.json"), {
    _class_name: "StableDiffusionPipeline",
    text_encoder: ["transformers", "CLIPTextModel"],
    tokenizer: ["transformers", "CLIPTokenizer"],
    unet: ["diffusers", "UNet2DConditionModel"],
    vae: ["diffusers", "AutoencoderKL"],
    scheduler: ["diffusers", scheduler._class_name],
    safety_checker: [null, null],
  });
}

/** Stable Diffusion XL of 64x64 pixels. */
export async function writeTinySdxl(folder: string): Promise<void> {
  const vocabSize = writeTokenizer(join(folder, "tokenizer"));
  writeTokenizer(join(folder, "tokenizer_2"));
  const text = textConfig(vocabSize);
  const second = {
    ...text,
    architectures: ["CLIPTextModelWithProjection"],
    hidden_size: 8,
    projection_dim: 6,
  };
  const network = {
    ...UNET,
    cross_attention_dim: CONTEXT + 8,
    addition_embed_type: "text_time",
    addition_time_embed_dim: 4,
    projection_class_embeddings_input_dim: 6 + 6 * 4,
    use_linear_projection: true,
  };
  const encoders = [
    ["text_encoder", text, new CLIPTextModel(clipTextConfig(text), blankRng)],
    ["text_encoder_2", second, new CLIPTextModelWithProjection(clipTextConfig(second), blankRng)],
  ] as const;
  for (const [name, config, module] of encoders)
    await writeModel(join(folder, name), config, module, "model");
  await writeModel(join(folder, "unet"), network, unet2DCondition(network, blankRng));
  await writeModel(join(folder, "vae"), VAE, autoencoderKL(VAE, blankRng));
  writeScheduler(folder, { ...SCHEDULER, _class_name: "EulerDiscreteScheduler" });
  writeJson(join(folder, "model_index.json"), {
    _class_name: "StableDiffusionXLPipeline",
    text_encoder: ["transformers", "CLIPTextModel"],
    text_encoder_2: ["transformers", "CLIPTextModelWithProjection"],
    tokenizer: ["transformers", "CLIPTokenizer"],
    tokenizer_2: ["transformers", "CLIPTokenizer"],
    unet: ["diffusers", "UNet2DConditionModel"],
    vae: ["diffusers", "AutoencoderKL"],
    scheduler: ["diffusers", "EulerDiscreteScheduler"],
  });
}

/** A ControlNet for Stable Diffusion. */
export async function writeTinyControlNet(folder: string): Promise<void> {
  const { up_block_types: _, out_channels: __, ...shared } = UNET;
  const config = {
    ...shared,
    _class_name: "ControlNetModel",
    conditioning_embedding_out_channels: [4, 4, 8, 8],
  };
  await writeModel(folder, config, controlNet(config, blankRng));
}

/** An unconditional pipeline over pictures of 16x16 pixels. */
export async function writeTinyDdpm(folder: string): Promise<void> {
  const config = {
    _class_name: "UNet2DModel",
    sample_size: 16,
    in_channels: 3,
    out_channels: 3,
    down_block_types: ["DownBlock2D", "AttnDownBlock2D"],
    up_block_types: ["AttnUpBlock2D", "UpBlock2D"],
    block_out_channels: [8, 16],
    layers_per_block: 1,
    attention_head_dim: 4,
    norm_num_groups: 4,
  };
  await writeModel(join(folder, "unet"), config, unet2D(config, blankRng));
  const scheduler = {
    _class_name: "DDPMScheduler",
    num_train_timesteps: 1000,
    beta_schedule: "linear",
    clip_sample: true,
  };
  writeScheduler(folder, scheduler);
  writeJson(join(folder, "model_index.json"), {
    _class_name: "DDPMPipeline",
    unet: ["diffusers", "UNet2DModel"],
    scheduler: ["diffusers", "DDPMScheduler"],
  });
}

/** A diffusion transformer over 8x8 latents with three named classes. */
export async function writeTinyDit(folder: string): Promise<void> {
  const config = {
    _class_name: "DiTTransformer2DModel",
    sample_size: 8,
    num_layers: 2,
    patch_size: 2,
    attention_head_dim: 8,
    num_attention_heads: 2,
    in_channels: 4,
    out_channels: 8,
    attention_bias: true,
    activation_fn: "gelu-approximate",
    num_embeds_ada_norm: 3,
    norm_type: "ada_norm_zero",
    norm_elementwise_affine: false,
  };
  await writeModel(
    join(folder, "transformer"),
    config,
    new DiTTransformer2DModel(ditConfig(config), blankRng),
  );
  await writeModel(join(folder, "vae"), VAE, autoencoderKL(VAE, blankRng));
  writeScheduler(folder, { ...DDIM, beta_schedule: "linear", beta_start: 0.0001, beta_end: 0.02 });
  writeJson(join(folder, "model_index.json"), {
    _class_name: "DiTPipeline",
    id2label: { 0: "tench, Tinca tinca", 1: "golden retriever", 2: "lighthouse" },
    transformer: ["diffusers", "DiTTransformer2DModel"],
    vae: ["diffusers", "AutoencoderKL"],
    scheduler: ["diffusers", "DDIMScheduler"],
  });
}

/** A low-rank adapter, in the layout of diffusers, for the attention of the U-Net and of the text encoder. */
export async function writeTinyLora(path: string): Promise<void> {
  const layers = {
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": [8, 8],
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": [16, CONTEXT],
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": [CONTEXT, CONTEXT],
  } as const;
  const tensors = Object.entries(layers).flatMap(([name, [out, into]]) =>
    (
      [
        ["lora_A", [2, into]],
        ["lora_B", [out, 2]],
      ] as const
    ).map(([half, shape]) => {
      const key = `${name}.${half}.weight`;
      const values = Float32Array.from(fill(key, shape[0] * shape[1]), (v) => 2 * v);
      return [key, { dtype: "f32" as const, shape, data: values }] as const;
    }),
  );
  await writeSafetensors(path, new Map(tensors));
}
