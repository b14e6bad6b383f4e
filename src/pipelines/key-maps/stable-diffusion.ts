/**
 * The names of Stable Diffusion's networks in CompVis' and StabilityAI's code (which A1111's single files keep) and in
 * diffusers. Blocks are numbered through there and by level here; within a block only a few names differ.
 */
import { type KeyRule, renames } from "./engine.ts";

/** What decides how a U-Net's blocks are numbered. */
export interface UNetStructure {
  readonly levels: number;
  /** `layers_per_block`. */
  readonly layers: number;
  /** For each level of the way up: whether it has cross-attention, which moves the upsampler by one. */
  readonly upAttention: readonly boolean[];
}

const RESNET = renames({
  "in_layers.0": "norm1",
  "in_layers.2": "conv1",
  "emb_layers.1": "time_emb_proj",
  "out_layers.0": "norm2",
  "out_layers.3": "conv2",
  skip_connection: "conv_shortcut",
});

const EMBEDDINGS = renames({
  "time_embed.0": "time_embedding.linear_1",
  "time_embed.2": "time_embedding.linear_2",
  "label_emb.0.0": "add_embedding.linear_1",
  "label_emb.0.2": "add_embedding.linear_2",
});

/** A numbered block, its resnet and its attention. */
const block = (original: string, level: string, j: number): KeyRule[] => [
  { original: `${original}.0`, diffusers: `${level}.resnets.${j}`, inner: RESNET },
  { original: `${original}.1`, diffusers: `${level}.attentions.${j}` },
];

/** The way down and the middle, which a ControlNet has as well. */
function encoderRules({ levels, layers }: UNetStructure): KeyRule[] {
  const rules = [...EMBEDDINGS, ...renames({ "input_blocks.0.0": "conv_in" })];
  for (let i = 0; i < levels; i++) {
    for (let j = 0; j < layers; j++)
      rules.push(...block(`input_blocks.${1 + i * (layers + 1) + j}`, `down_blocks.${i}`, j));
    const end = (i + 1) * (layers + 1);
    rules.push(...renames({ [`input_blocks.${end}.0.op`]: `down_blocks.${i}.downsamplers.0.conv` }));
  }
  return [
    ...rules,
    { original: "middle_block.0", diffusers: "mid_block.resnets.0", inner: RESNET },
    { original: "middle_block.1", diffusers: "mid_block.attentions.0" },
    { original: "middle_block.2", diffusers: "mid_block.resnets.1", inner: RESNET },
  ];
}

/** UNet2DConditionModel. */
export function unetRules(structure: UNetStructure): KeyRule[] {
  const { levels, layers, upAttention } = structure;
  const rules = encoderRules(structure);
  for (let i = 0; i < levels; i++) {
    const last = i * (layers + 1) + layers;
    const upsampler = `output_blocks.${last}.${upAttention[i] ? 2 : 1}.conv`;
    rules.push(...renames({ [upsampler]: `up_blocks.${i}.upsamplers.0.conv` }));
    for (let j = 0; j <= layers; j++)
      rules.push(...block(`output_blocks.${i * (layers + 1) + j}`, `up_blocks.${i}`, j));
  }
  return [...rules, ...renames({ "out.0": "conv_norm_out", "out.2": "conv_out" })];
}

/** ControlNetModel; `hintBlocks`: convolutions between the first and the last of the hint's encoder. */
export function controlNetRules(structure: UNetStructure, hintBlocks = 6): KeyRule[] {
  const hint = "controlnet_cond_embedding";
  const residuals = structure.levels * (structure.layers + 1);
  const rules = renames({
    "input_hint_block.0": `${hint}.conv_in`,
    [`input_hint_block.${2 * (hintBlocks + 1)}`]: `${hint}.conv_out`,
    "middle_block_out.0": "controlnet_mid_block",
  });
  for (let k = 0; k < hintBlocks; k++)
    rules.push(...renames({ [`input_hint_block.${2 * (k + 1)}`]: `${hint}.blocks.${k}` }));
  for (let k = 0; k < residuals; k++)
    rules.push(...renames({ [`zero_convs.${k}.0`]: `controlnet_down_blocks.${k}` }));
  return [...encoderRules(structure), ...rules];
}

/** AnyControl's adapter: a ControlNet without a hint, the first residual block of each level modulated by features. */
export function localAdapterRules(structure: UNetStructure): KeyRule[] {
  const { levels, layers } = structure;
  const modulated = [...renames({ norm_in: "norm1", norm_out: "norm2" }), ...RESNET];
  return [
    ...Array.from({ length: levels }, (_, i) => ({
      original: `input_blocks.${1 + i * (layers + 1)}.0`,
      diffusers: `down_blocks.${i}.resnets.0`,
      inner: modulated,
    })),
    ...encoderRules(structure),
    ...renames({
      visual_projs: "visual_projs",
      zero_convs: "zero_convs",
      middle_block_out: "middle_block_out",
    }),
  ];
}

const VAE_RESNET: readonly KeyRule[] = renames({
  norm1: "norm1",
  conv1: "conv1",
  norm2: "norm2",
  conv2: "conv2",
  nin_shortcut: "conv_shortcut",
});

const VAE_ATTENTION: readonly KeyRule[] = [
  ...renames({ norm: "group_norm" }),
  ...renames({ q: "to_q", k: "to_k", v: "to_v", proj_out: "to_out.0" }, "pointwise"),
];

/** AutoencoderKL of `levels` levels, `layers` resnets in each of the encoder and one more in the decoder. */
export function vaeRules(levels: number, layers: number): KeyRule[] {
  const rules: KeyRule[] = renames({ quant_conv: "quant_conv", post_quant_conv: "post_quant_conv" });
  for (const half of ["encoder", "decoder"]) {
    const renamed = { conv_in: "conv_in", norm_out: "conv_norm_out", conv_out: "conv_out" };
    for (const [original, diffusers] of Object.entries(renamed))
      rules.push(...renames({ [`${half}.${original}`]: `${half}.${diffusers}` }));
    rules.push(
      { original: `${half}.mid.block_1`, diffusers: `${half}.mid_block.resnets.0`, inner: VAE_RESNET },
      { original: `${half}.mid.attn_1`, diffusers: `${half}.mid_block.attentions.0`, inner: VAE_ATTENTION },
      { original: `${half}.mid.block_2`, diffusers: `${half}.mid_block.resnets.1`, inner: VAE_RESNET },
    );
  }
  const level = (original: string, diffusers: string, resnets: number): void => {
    for (let j = 0; j < resnets; j++)
      rules.push(
        { original: `${original}.block.${j}`, diffusers: `${diffusers}.resnets.${j}`, inner: VAE_RESNET },
        {
          original: `${original}.attn.${j}`,
          diffusers: `${diffusers}.attentions.${j}`,
          inner: VAE_ATTENTION,
        },
      );
  };
  for (let i = 0; i < levels; i++) {
    const up = levels - 1 - i; // the decoder counts its levels by resolution there, by order here
    level(`encoder.down.${i}`, `encoder.down_blocks.${i}`, layers);
    level(`decoder.up.${up}`, `decoder.up_blocks.${i}`, layers + 1);
    rules.push(
      ...renames({
        [`encoder.down.${i}.downsample.conv`]: `encoder.down_blocks.${i}.downsamplers.0.conv`,
        [`decoder.up.${up}.upsample.conv`]: `decoder.up_blocks.${i}.upsamplers.0.conv`,
      }),
    );
  }
  return rules;
}

/** Names that early diffusers files gave to the autoencoder's attention. */
export const LEGACY_ATTENTION: Readonly<Record<string, string>> = {
  query: "to_q",
  key: "to_k",
  value: "to_v",
  proj_attn: "to_out.0",
};

/** The text transformer of transformers: its names are the same in single files, below another prefix. */
export const clipTextRules = (): KeyRule[] => [
  { original: "text_model", diffusers: "text_model" },
  // Some merged checkpoints lack the outer name.
  ...renames({
    embeddings: "text_model.embeddings",
    encoder: "text_model.encoder",
    final_layer_norm: "text_model.final_layer_norm",
  }),
];

const OPEN_CLIP_LAYER: readonly KeyRule[] = [
  ...renames({
    ln_1: "layer_norm1",
    ln_2: "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
  }),
  ...["weight", "bias"].map((kind) => ({
    original: `attn.in_proj_${kind}`,
    diffusers: ["q", "k", "v"].map((part) => `self_attn.${part}_proj.${kind}`),
  })),
];

/** OpenCLIP's text transformer, of SD2 and of SDXL's second encoder. */
export function openClipRules(layers: number, { projection }: { projection: boolean }): KeyRule[] {
  const rules = renames({
    positional_embedding: "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    ln_final: "text_model.final_layer_norm",
  });
  if (projection)
    rules.push({ original: "text_projection", diffusers: "text_projection.weight", change: "transposed" });
  for (let l = 0; l < layers; l++)
    rules.push({
      original: `transformer.resblocks.${l}`,
      diffusers: `text_model.encoder.layers.${l}`,
      inner: OPEN_CLIP_LAYER,
    });
  return rules;
}
