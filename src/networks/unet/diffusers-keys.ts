/** The options of U-Nets by the keys that the `config.json` of diffusers has for them. */
import { ArgumentError, FormatError } from "../../errors.ts";
import { Fields } from "../../io/fields.ts";

const KEYS = {
  inChannels: "in_channels",
  outChannels: "out_channels",
  channels: "block_out_channels",
  downBlocks: "down_block_types",
  upBlocks: "up_block_types",
  midBlock: "mid_block_type",
  layers: "layers_per_block",
  heads: "num_attention_heads",
  headDim: "attention_head_dim",
  contextDim: "cross_attention_dim",
  depths: "transformer_layers_per_block",
  upDepths: "reverse_transformer_layers_per_block",
  onlyCrossAttention: "only_cross_attention",
  midOnlyCrossAttention: "mid_block_only_cross_attention",
  midScaleFactor: "mid_block_scale_factor",
  groups: "norm_num_groups",
  eps: "norm_eps",
  activation: "act_fn",
  dropout: "dropout",
  timeScaleShift: "resnet_time_scale_shift",
  skipTimeActivation: "resnet_skip_time_act",
  outputScaleFactor: "resnet_out_scale_factor",
  linearProjection: "use_linear_projection",
  upcastAttention: "upcast_attention",
  timeEmbedding: "time_embedding_type",
  timeEmbeddingDim: "time_embedding_dim",
  flipSinToCos: "flip_sin_to_cos",
  freqShift: "freq_shift",
  timeConditionDim: "time_cond_proj_dim",
  timePostActivation: "timestep_post_act",
  timeActivation: "time_embedding_act_fn",
  classEmbedding: "class_embed_type",
  classes: "num_class_embeds",
  projectionInputDim: "projection_class_embeddings_input_dim",
  joinClasses: "class_embeddings_concat",
  additionEmbedding: "addition_embed_type",
  additionTimeDim: "addition_time_embed_dim",
  contextProjection: "encoder_hid_dim_type",
  contextInputDim: "encoder_hid_dim",
  kernelIn: "conv_in_kernel",
  kernelOut: "conv_out_kernel",
  centerInput: "center_input_sample",
  downsamplePadding: "downsample_padding",
  upsampleKind: "upsample_type",
  downsampleKind: "downsample_type",
  midAttention: "add_attention",
  midAttentionGroups: "attn_norm_num_groups",
  hintChannels: "conditioning_channels",
  hintWidths: "conditioning_embedding_out_channels",
  hintOrder: "controlnet_conditioning_channel_order",
  globalPool: "global_pool_conditions",
} as const;

const OPTIONS: ReadonlyMap<string, string> = new Map(
  Object.entries(KEYS).map(([option, key]) => [key, option]),
);

/** Typed options of a network; errors name the option. @throws ArgumentError for an option that does not exist */
export function optionFields(network: string, options: object): Fields {
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(KEYS, name));
  if (unknown !== undefined)
    throw new ArgumentError(
      `${network}: there is no option "${unknown}"; there are ${Object.keys(KEYS).join(", ")}`,
    );
  return new Fields(network, options, { error: ArgumentError });
}

/** What files do not have and people write: it would be passed over like the notes that files do have. */
const MISTAKEN: Readonly<Record<string, string>> = { num_classes: KEYS.classes, channels: KEYS.channels };

/**
 * A `config.json` in the terms of the options; errors name the key of the file. In conditional U-Nets the key
 * `attention_head_dim` means the number of heads unless `num_attention_heads` is there: a misnomer that stayed.
 */
export function diffusersFields(network: string, config: unknown, { headDimIsHeads = false } = {}): Fields {
  const json = new Fields(network, config);
  for (const [key, meant] of Object.entries(MISTAKEN))
    if (json.has(key))
      throw new FormatError(`${network}: there is no key "${key}"; "${meant}" is what it is called`);
  const keys: Record<string, string> = { ...KEYS };
  const values = Object.fromEntries(json.entries().map(([key, value]) => [OPTIONS.get(key) ?? key, value]));
  if (headDimIsHeads && !json.has(KEYS.heads)) {
    values.heads = values.headDim;
    keys.heads = KEYS.headDim;
  }
  return new Fields(network, values, { keys, error: FormatError });
}
