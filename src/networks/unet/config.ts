/** The configuration of a U-Net's blocks, derived from checked options. */

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
} from "../../io/fields.ts";
import type { Activation } from "../../nn/index.ts";
import { activationOf } from "../activation-names.ts";
import {
  type BlockType,
  DOWN_BLOCKS,
  type LevelOptions,
  MID_BLOCKS,
  type NetworkOptions,
  UP_BLOCKS,
} from "../blocks/index.ts";

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
  if (config.isNull("groups")) throw config.error("groups", COUNT.expected);
  return {
    timeDim,
    groups: config.value("groups", COUNT, 32),
    eps: config.value("eps", POSITIVE, 1e-5),
    activation: activationOf(config, "activation", "silu"),
    dropout: config.value("dropout", PROBABILITY, 0),
    timeScaleShift: config.value("timeScaleShift", oneOf("default", "scale_shift"), "default"),
    skipTimeActivation: config.value("skipTimeActivation", FLAG, false),
    outputScaleFactor: config.value("outputScaleFactor", POSITIVE, 1),
    linearProjection: config.value("linearProjection", FLAG, false),
    upcast: config.value("upcastAttention", FLAG, false),
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
  const channels = config.value("channels", listOf(COUNT), fallback);
  if (channels.length !== levels)
    throw config.error("channels", `${levels} numbers, one for each of the blocks on the way down`);
  const groups = config.value("groups", COUNT, 32);
  for (const [i, c] of channels.entries()) config.divides("groups", groups, c, `level ${i}`);
  return channels;
}

function timesConfig(config: Fields, width: number): TimesConfig {
  const kind = config.value("timeEmbedding", oneOf("positional", "fourier"), "positional");
  const dim = config.value("timeEmbeddingDim", COUNT, (kind === "fourier" ? 2 : 4) * width);
  if (kind === "fourier" && dim % 2 !== 0) throw config.error("timeEmbeddingDim", "an even number");
  const activation = (key: string) => (config.has(key) ? activationOf(config, key, "silu") : undefined);
  return {
    kind,
    dim,
    inputDim: kind === "fourier" ? dim : width,
    flipSinToCos: config.value("flipSinToCos", FLAG, true),
    freqShift: config.value("freqShift", NUMBER, 0),
    conditionDim: config.optional("timeConditionDim", COUNT),
    postActivation: activation("timePostActivation"),
    activation: activation("timeActivation"),
  };
}

/** How class labels are embedded, if they are. */
export function classEmbedding(config: Fields): ClassEmbedding | undefined {
  const kinds = oneOf("timestep", "identity", "projection", "simple_projection");
  const kind = config.optional("classEmbedding", kinds);
  if (kind === "timestep" || kind === "identity") return { kind };
  if (kind) return { kind, inputDim: config.value("projectionInputDim", COUNT) };
  const classes = config.optional("classes", COUNT);
  return classes === undefined ? undefined : { kind: "labels", classes };
}

function textTime(config: Fields): EncoderConfig["textTime"] {
  config.supports("additionEmbedding", "text_time");
  if (!config.has("additionEmbedding")) return undefined;
  return {
    dim: config.value("additionTimeDim", COUNT),
    inputDim: config.value("projectionInputDim", COUNT),
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
  return {
    channels: levelChannels(config, levels, [320, 640, 1280, 1280]),
    layers: config.perLevel("layers", levels, COUNT, 2),
    heads: config.perLevel("heads", levels, COUNT, 8),
    headDims: config.perLevel("headDim", levels, COUNT, 8),
    contextDims: config.perLevel("contextDim", levels, COUNT, 1280),
    onlyCross: config.perLevel("onlyCrossAttention", levels, FLAG, false),
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
  if (attention === "transformer") config.hasRoom("heads", heads, outChannels, own.name);
  if (attention === "self" || attention === "added")
    config.hasRoom("headDim", headDim, outChannels, own.name);
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
  if (config.isNull("midBlock")) return undefined;
  const name = config.value("midBlock", keyOf(MID_BLOCKS), "UNetMidBlock2DCrossAttn");
  const last = per.channels.length - 1;
  const everywhere = config.raw("onlyCrossAttention") === true;
  const level = levelOf(config, per, last, {
    name: "mid_block",
    type: MID_BLOCKS[name],
    inChannels: per.channels[last]!,
    layers: 1,
    resample: false,
    depths: depthsOfLevel(config, "depths", depth, 1),
  });
  const only = config.value("midOnlyCrossAttention", FLAG, everywhere);
  return {
    level: { ...level, onlyCrossAttention: level.type.attention === "added" && only },
    scaleFactor: config.value("midScaleFactor", POSITIVE, 1),
  };
}

/** The encoder's part of a configuration. */
export function encoderConfig(config: Fields): EncoderConfig {
  const cross = "CrossAttnDownBlock2D" as const;
  const types = blockTypes(config, "downBlocks", DOWN_BLOCKS, [cross, cross, cross, "DownBlock2D"]);
  const n = types.length;
  const per = perLevel(config, n);
  const key = "depths";
  const depth = depths(config, key, n);
  const times = timesConfig(config, per.channels[0]!);
  const joinClasses = config.value("joinClasses", FLAG, false);
  const classes = classEmbedding(config);
  if (joinClasses && !classes) throw config.error("joinClasses", "false without a class embedding");
  config.supports("dual_cross_attention", false);
  config.supports("attention_type", "default");
  config.supports("cross_attention_norm");
  config.supports("contextProjection", "text_proj");
  return {
    inChannels: config.value("inChannels", COUNT, 4),
    kernelIn: config.value("kernelIn", ODD, 3),
    centerInput: config.value("centerInput", FLAG, false),
    times,
    classes,
    joinClasses,
    textTime: textTime(config),
    contextInput: config.has("contextProjection")
      ? config.value("contextInputDim", COUNT)
      : config.optional("contextInputDim", COUNT),
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
    downsamplePadding: config.value("downsamplePadding", NATURAL, 1),
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
  const [down, up] = ["depths", "upDepths"];
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
  const types = blockTypes(config, "upBlocks", UP_BLOCKS, ["UpBlock2D", cross, cross, cross]);
  if (types.length !== n) throw config.error("upBlocks", `${n} types, as many as on the way down`);
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
    outChannels: config.value("outChannels", COUNT, 4),
    kernelOut: config.value("kernelOut", ODD, 3),
    ups,
  };
}
