/** Configurations of the conditional U-Net and of its ControlNet, checked and in the terms of the blocks. */

import {
  COUNT,
  type Fields,
  FLAG,
  type Kind,
  keyOf,
  listOf,
  NATURAL,
  NUMBER,
  oneOf,
  POSITIVE,
  PROBABILITY,
} from "../io/fields.ts";
import type { Activation } from "../nn/index.ts";
import { activationOf } from "./activation-names.ts";
import {
  type BlockType,
  DOWN_BLOCKS,
  type LevelOptions,
  MID_BLOCKS,
  type NetworkOptions,
  UP_BLOCKS,
} from "./blocks/index.ts";

/** How class labels become part of the time embedding. */
export type ClassEmbedding =
  | { readonly kind: "labels"; readonly classes: number }
  | { readonly kind: "timestep" | "identity" }
  | { readonly kind: "projection" | "simple_projection"; readonly inputDim: number };

/** How times become vectors. */
export interface TimesConfig {
  readonly kind: "positional" | "fourier";
  /** Width of the sines and cosines. */
  readonly inputDim: number;
  /** Width of the embedding. */
  readonly dim: number;
  readonly flipSinToCos: boolean;
  readonly freqShift: number;
  /** Width of a further condition of time. */
  readonly conditionDim: number | undefined;
  readonly postActivation: Activation | undefined;
  /** Applied once, after everything has been added. */
  readonly activation: Activation | undefined;
}

/** The conditions, the way down and the middle. */
export interface EncoderConfig {
  readonly inChannels: number;
  readonly kernelIn: number;
  readonly centerInput: boolean;
  readonly times: TimesConfig;
  readonly classes: ClassEmbedding | undefined;
  /** Classes are appended to the time embedding instead of added. */
  readonly joinClasses: boolean;
  /** Width of the embedding of one time id, and of all of them together with the pooled text, as in SDXL. */
  readonly textTime: { readonly dim: number; readonly inputDim: number } | undefined;
  /** Width that a context has before it is projected to that of the attention. */
  readonly contextInput: number | undefined;
  readonly network: NetworkOptions;
  readonly levels: readonly LevelOptions[];
  readonly downsamplePadding: number;
  /** Undefined: there is no middle. */
  readonly mid: { readonly level: LevelOptions; readonly scaleFactor: number } | undefined;
}

/** The whole U-Net. */
export interface UNetConfig extends EncoderConfig {
  readonly outChannels: number;
  readonly kernelOut: number;
  readonly ups: readonly (LevelOptions & { readonly skips: readonly number[] })[];
}

const ODD: Kind<number> = {
  expected: "an odd positive integer",
  is: (v): v is number => COUNT.is(v) && v % 2 === 1,
};
const DEPTH: Kind<number | readonly number[]> = {
  expected: "a positive integer, or one for each layer",
  is: (v): v is number | readonly number[] => COUNT.is(v) || listOf(COUNT).is(v),
};

/** Options that are the same for all levels, read by the U-Nets alike. */
export function networkOptions(config: Fields, timeDim: number): NetworkOptions {
  if (config.isNull("norm_num_groups")) throw config.error("norm_num_groups", COUNT.expected);
  return {
    timeDim,
    groups: config.value("norm_num_groups", COUNT, 32),
    eps: config.value("norm_eps", POSITIVE, 1e-5),
    activation: activationOf(config, "act_fn", "silu"),
    dropout: config.value("dropout", PROBABILITY, 0),
    timeScaleShift: config.value("resnet_time_scale_shift", oneOf("default", "scale_shift"), "default"),
    skipTimeActivation: config.value("resnet_skip_time_act", FLAG, false),
    outputScaleFactor: config.value("resnet_out_scale_factor", POSITIVE, 1),
    linearProjection: config.value("use_linear_projection", FLAG, false),
    upcast: config.value("upcast_attention", FLAG, false),
  };
}

/** Block types of all levels, by the names of a table; older files write them with the prefix "UNetRes". */
export function blockTypes<T extends Record<string, BlockType>>(
  config: Fields,
  key: string,
  table: T,
  fallback: readonly (keyof T & string)[],
): readonly BlockType[] {
  const known = keyOf(table);
  const plain = (name: string): string => name.replace(/^UNetRes/, "");
  const names = config.value(
    key,
    listOf<string>({
      expected: known.expected,
      is: (v): v is string => typeof v === "string" && known.is(plain(v)),
    }),
    fallback,
  );
  return names.map((name) => table[plain(name)]!);
}

/** Channels of all levels, each of which splits into the groups of the norms. */
export function levelChannels(
  config: Fields,
  levels: number,
  fallback: readonly number[],
): readonly number[] {
  const channels = config.value("block_out_channels", listOf(COUNT), fallback);
  if (channels.length !== levels)
    throw config.error("block_out_channels", `${levels} numbers, one for each of down_block_types`);
  const groups = config.value("norm_num_groups", COUNT, 32);
  for (const [i, c] of channels.entries()) config.divides("norm_num_groups", groups, c, `level ${i}`);
  return channels;
}

function timesConfig(config: Fields, width: number): TimesConfig {
  const kind = config.value("time_embedding_type", oneOf("positional", "fourier"), "positional");
  const dim = config.value("time_embedding_dim", COUNT, (kind === "fourier" ? 2 : 4) * width);
  if (kind === "fourier" && dim % 2 !== 0) throw config.error("time_embedding_dim", "an even number");
  const activation = (key: string) => (config.has(key) ? activationOf(config, key, "silu") : undefined);
  return {
    kind,
    dim,
    inputDim: kind === "fourier" ? dim : width,
    flipSinToCos: config.value("flip_sin_to_cos", FLAG, true),
    freqShift: config.value("freq_shift", NUMBER, 0),
    conditionDim: config.optional("time_cond_proj_dim", COUNT),
    postActivation: activation("timestep_post_act"),
    activation: activation("time_embedding_act_fn"),
  };
}

/** What the configuration says of class labels. */
export function classEmbedding(config: Fields): ClassEmbedding | undefined {
  const kinds = oneOf("timestep", "identity", "projection", "simple_projection");
  const kind = config.optional("class_embed_type", kinds);
  if (kind === "timestep" || kind === "identity") return { kind };
  if (kind) return { kind, inputDim: config.value("projection_class_embeddings_input_dim", COUNT) };
  const classes = config.optional("num_class_embeds", COUNT);
  return classes === undefined ? undefined : { kind: "labels", classes };
}

function textTime(config: Fields): EncoderConfig["textTime"] {
  config.supports("addition_embed_type", "text_time");
  if (!config.has("addition_embed_type")) return undefined;
  return {
    dim: config.value("addition_time_embed_dim", COUNT),
    inputDim: config.value("projection_class_embeddings_input_dim", COUNT),
  };
}

/** Depths of transformers for each level: a number for all, one for each level, or one for each layer of each. */
function depths(config: Fields, key: string, levels: number): readonly (number | readonly number[])[] {
  const given = config.raw(key);
  if (!Array.isArray(given) || !given.some(Array.isArray)) return config.perLevel(key, levels, COUNT, 1);
  const nested = config.value(key, listOf(DEPTH));
  if (nested.length !== levels) throw config.error(key, `${levels} values, one for each level`);
  return nested;
}

function depthsOfLevel(
  config: Fields,
  key: string,
  given: number | readonly number[],
  layers: number,
): readonly number[] {
  if (typeof given === "number") return Array.from({ length: layers }, () => given);
  if (given.length < layers)
    throw config.error(key, `at least ${layers} numbers for a level of ${layers} layers`);
  return given;
}

/** Per level, in the order down; the way up reads them backwards. */
interface PerLevel {
  readonly channels: readonly number[];
  readonly layers: readonly number[];
  readonly heads: readonly number[];
  readonly headDims: readonly number[];
  readonly contextDims: readonly number[];
  readonly onlyCross: readonly boolean[];
}

function perLevel(config: Fields, levels: number): PerLevel {
  const headKey = config.has("num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
  return {
    channels: levelChannels(config, levels, [320, 640, 1280, 1280]),
    layers: config.perLevel("layers_per_block", levels, COUNT, 2),
    // In these files `attention_head_dim` is the number of heads: a misnomer that stayed.
    heads: config.perLevel(headKey, levels, COUNT, 8),
    headDims: config.perLevel("attention_head_dim", levels, COUNT, 8),
    contextDims: config.perLevel("cross_attention_dim", levels, COUNT, 1280),
    onlyCross: config.perLevel("only_cross_attention", levels, FLAG, false),
  };
}

/** A level of the U-Net, with its attention checked. */
function levelOf(
  config: Fields,
  per: PerLevel,
  i: number,
  own: Pick<LevelOptions, "name" | "type" | "inChannels" | "layers" | "resample" | "depths">,
): LevelOptions {
  const [outChannels, heads, headDim] = [per.channels[i]!, per.heads[i]!, per.headDims[i]!];
  const { attention } = own.type;
  const headKey = config.has("num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
  if (attention === "transformer") config.hasRoom(headKey, heads, outChannels, own.name);
  if (attention === "self" || attention === "added")
    config.hasRoom("attention_head_dim", headDim, outChannels, own.name);
  return {
    ...own,
    outChannels,
    heads,
    headDim,
    contextDim: per.contextDims[i]!,
    onlyCrossAttention: per.onlyCross[i]!,
  };
}

function midConfig(config: Fields, per: PerLevel, depth: number | readonly number[]): EncoderConfig["mid"] {
  if (config.isNull("mid_block_type")) return undefined;
  const name = config.value("mid_block_type", keyOf(MID_BLOCKS), "UNetMidBlock2DCrossAttn");
  const last = per.channels.length - 1;
  const everywhere = config.raw("only_cross_attention") === true;
  const level = levelOf(config, per, last, {
    name: "mid_block",
    type: MID_BLOCKS[name],
    inChannels: per.channels[last]!,
    layers: 1,
    resample: false,
    depths: depthsOfLevel(config, "transformer_layers_per_block", depth, 1),
  });
  const only = config.value("mid_block_only_cross_attention", FLAG, everywhere);
  return {
    level: { ...level, onlyCrossAttention: level.type.attention === "added" && only },
    scaleFactor: config.value("mid_block_scale_factor", POSITIVE, 1),
  };
}

/** The encoder's part of a configuration. */
export function encoderConfig(config: Fields): EncoderConfig {
  const cross = "CrossAttnDownBlock2D" as const;
  const types = blockTypes(config, "down_block_types", DOWN_BLOCKS, [cross, cross, cross, "DownBlock2D"]);
  const n = types.length;
  const per = perLevel(config, n);
  const key = "transformer_layers_per_block";
  const depth = depths(config, key, n);
  const times = timesConfig(config, per.channels[0]!);
  const joinClasses = config.value("class_embeddings_concat", FLAG, false);
  const classes = classEmbedding(config);
  if (joinClasses && !classes)
    throw config.error("class_embeddings_concat", "false without a class embedding");
  config.supports("dual_cross_attention", false);
  config.supports("attention_type", "default");
  config.supports("cross_attention_norm");
  config.supports("encoder_hid_dim_type", "text_proj");
  return {
    inChannels: config.value("in_channels", COUNT, 4),
    kernelIn: config.value("conv_in_kernel", ODD, 3),
    centerInput: config.value("center_input_sample", FLAG, false),
    times,
    classes,
    joinClasses,
    textTime: textTime(config),
    contextInput: config.has("encoder_hid_dim_type")
      ? config.value("encoder_hid_dim", COUNT)
      : config.optional("encoder_hid_dim", COUNT),
    network: networkOptions(config, joinClasses ? 2 * times.dim : times.dim),
    levels: types.map((type, i) =>
      levelOf(config, per, i, {
        name: `down_blocks.${i}`,
        type,
        inChannels: per.channels[Math.max(0, i - 1)]!,
        layers: per.layers[i]!,
        resample: i < n - 1,
        depths: depthsOfLevel(config, key, depth[i]!, per.layers[i]!),
      }),
    ),
    downsamplePadding: config.value("downsample_padding", NATURAL, 1),
    mid: midConfig(config, per, depth.at(-1)!),
  };
}

/** Channels of the skip connections in the order in which the way down makes them, from that of the first convolution. */
export function skipChannels(levels: readonly LevelOptions[]): number[] {
  const own = levels.flatMap(({ outChannels, layers, resample }) =>
    Array.from({ length: layers + (resample ? 1 : 0) }, () => outChannels),
  );
  return [levels[0]!.inChannels, ...own];
}

/** The depths of the way up: those of the way down backwards, unless they are given. */
function upDepths(
  config: Fields,
  levels: number,
): [key: string, depths: readonly (number | readonly number[])[]] {
  const [down, up] = ["transformer_layers_per_block", "reverse_transformer_layers_per_block"];
  if (config.has(up)) return [up, depths(config, up, levels)];
  const given = depths(config, down, levels);
  if (given.some((d) => typeof d !== "number"))
    throw config.error(up, `depths of the way up, since "${down}" has one for each layer`);
  return [down, given.toReversed()];
}

/** The configuration of a conditional U-Net. */
export function unetConfig(config: Fields): UNetConfig {
  const encoder = encoderConfig(config);
  const n = encoder.levels.length;
  const cross = "CrossAttnUpBlock2D" as const;
  const types = blockTypes(config, "up_block_types", UP_BLOCKS, ["UpBlock2D", cross, cross, cross]);
  if (types.length !== n) throw config.error("up_block_types", `${n} types, as many as on the way down`);
  const per = perLevel(config, n);
  const [key, depth] = upDepths(config, n);
  const left = skipChannels(encoder.levels);
  const ups = types.map((type, i) => {
    const at = n - 1 - i;
    const layers = per.layers[at]! + 1;
    const level = levelOf(config, per, at, {
      name: `up_blocks.${i}`,
      type,
      inChannels: per.channels[Math.min(n - 1, at + 1)]!,
      layers,
      resample: i < n - 1,
      depths: depthsOfLevel(config, key, depth[i]!, layers),
    });
    return { ...level, skips: left.splice(-layers).toReversed() };
  });
  return {
    ...encoder,
    outChannels: config.value("out_channels", COUNT, 4),
    kernelOut: config.value("conv_out_kernel", ODD, 3),
    ups,
  };
}
