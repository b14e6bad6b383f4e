/** The denoiser of pictures without a context: DDPM and its relatives (Ho et al. 2020). */

import { COUNT, type Fields, FLAG, NATURAL, NUMBER, oneOf, POSITIVE } from "../../io/fields.ts";
import {
  activate,
  Conv2d,
  type Embedding,
  GaussianFourierFeatures,
  GroupNorm,
  type Linear,
  Module,
  type Rng,
  TimestepEmbedding,
} from "../../nn/index.ts";
import { cast, type Tensor } from "../../tensor/index.ts";
import {
  type BlockType,
  DOWN_BLOCKS,
  DownBlock2D,
  type LevelOptions,
  MidBlock2D,
  type NetworkOptions,
  SpatialAttention,
  sizeOfMap,
  Timesteps,
  timesOf,
  UP_BLOCKS,
  UpBlock2D,
} from "../blocks/index.ts";
import {
  blockTypes,
  type ClassEmbedding,
  classEmbedding,
  levelChannels,
  networkOptions,
  skipChannels,
} from "./config.ts";
import { diffusersFields, optionFields } from "./diffusers-keys.ts";
import { classLayer, needed } from "./encoder.ts";
import type { UNet2DModelOptions } from "./options.ts";

/** A checked configuration. */
export interface UNet2DConfig {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly centerInput: boolean;
  readonly timeKind: "positional" | "fourier";
  readonly flipSinToCos: boolean;
  readonly freqShift: number;
  readonly classes: ClassEmbedding | undefined;
  readonly network: NetworkOptions;
  readonly downsamplePadding: number;
  readonly downs: readonly LevelOptions[];
  readonly ups: readonly (LevelOptions & { readonly skips: readonly number[] })[];
  /** Groups 0: attention of the middle has no norm; undefined: the middle has no attention. */
  readonly midAttention: { readonly headDim: number; readonly groups: number } | undefined;
  readonly midScale: number;
}

/** Options of `UNet2DModel`. */
export interface UNet2DOptions {
  /** Labels [N], times [N] or vectors [N, T], as `class_embed_type` says. */
  readonly classLabels?: Tensor;
  /** Key of dropout; absent: nothing is dropped. */
  readonly key?: Tensor;
}

/** A U-Net over pictures, with self attention, in the layout of diffusers. */
export class UNet2DModel extends Module {
  readonly convIn: Conv2d;
  readonly timeProj: Timesteps | GaussianFourierFeatures;
  readonly timeEmbedding: TimestepEmbedding;
  readonly classEmbedding: Embedding | TimestepEmbedding | Linear | undefined;
  readonly downBlocks: readonly DownBlock2D[];
  readonly midBlock: MidBlock2D;
  readonly upBlocks: readonly UpBlock2D[];
  readonly convNormOut: GroupNorm;
  readonly convOut: Conv2d;
  readonly centerInput: boolean;
  readonly classKind: ClassEmbedding["kind"] | undefined;

  constructor(config: UNet2DConfig, rng: Rng) {
    super();
    const { network, downs, ups, classes, midAttention, midScale } = config;
    const { timeDim, eps, groups } = network;
    const [top, bottom] = [downs[0]!.outChannels, downs.at(-1)!.outChannels];
    const fourier = config.timeKind === "fourier";
    this.convIn = new Conv2d(config.inChannels, top, 3, rng, { padding: 1 });
    this.timeProj = fourier
      ? new GaussianFourierFeatures(top, rng, { scale: 16, log: true })
      : new Timesteps(top, config);
    const times = { inputDim: fourier ? 2 * top : top, dim: timeDim };
    this.timeEmbedding = new TimestepEmbedding(times.inputDim, timeDim, rng);
    this.classEmbedding = classLayer(classes, times, "silu", rng);
    const padding = config.downsamplePadding;
    this.downBlocks = downs.map((level) => new DownBlock2D({ ...level, padding }, network, rng));
    const attention =
      midAttention &&
      new SpatialAttention(bottom, rng, { ...midAttention, eps, outputScaleFactor: midScale });
    this.midBlock = new MidBlock2D(bottom, { ...network, outputScaleFactor: midScale }, [attention], rng);
    this.upBlocks = ups.map((level) => new UpBlock2D(level, network, rng));
    this.convNormOut = new GroupNorm(groups, top, { eps });
    this.convOut = new Conv2d(top, config.outChannels, 3, rng, { padding: 1 });
    this.centerInput = config.centerInput;
    this.classKind = classes?.kind;
  }

  /** x [N, C, H, W] and timestep [N] or [1] (the noise level where `timeKind` is fourier) give [N, K, H, W]. */
  call(x: Tensor, timestep: Tensor, options: UNet2DOptions = {}): Tensor {
    const inputs = { time: this.embed(x, timestep, options.classLabels), key: options.key };
    let h = this.convIn.call(this.centerInput ? x.mul(2).sub(1) : x);
    const skips = [h];
    for (const block of this.downBlocks) {
      const out = block.call(h, inputs);
      skips.push(...out.skips);
      h = out.x;
    }
    h = this.midBlock.call(h, inputs);
    for (const block of this.upBlocks) {
      const own = skips.splice(-block.resnets.length).toReversed();
      const next = skips.at(-1);
      h = block.call(h, own, inputs, next && sizeOfMap(next));
    }
    const out = this.convOut.call(activate("silu", this.convNormOut.call(h)));
    if (!(this.timeProj instanceof GaussianFourierFeatures)) return out;
    // Networks of a noise level predict a score: their output is divided by it (Song et al. 2021).
    const level = cast(timesOf(timestep, x.shape[0]!), out.dtype);
    return out.div(level.reshape([-1, 1, 1, 1]));
  }

  private embed(x: Tensor, timestep: Tensor, classLabels: Tensor | undefined): Tensor {
    const times = (t: Tensor): Tensor => cast(this.timeProj.call(cast(t, "f32")), x.dtype);
    const time = this.timeEmbedding.call(times(timesOf(timestep, x.shape[0]!)));
    const labels = needed(this, "classLabels", classLabels, this.classKind !== undefined);
    if (!labels) return time;
    const vectors = this.classKind === "timestep" ? times(labels) : labels;
    return time.add(this.classEmbedding ? this.classEmbedding.call(vectors) : vectors);
  }
}

/** Block types with the sampler that the configuration names for those with self attention. */
function withSampler(config: Fields, key: string, types: readonly BlockType[]): readonly BlockType[] {
  const resnetSampler = config.value(key, oneOf("conv", "resnet"), "conv") === "resnet";
  return types.map((type) => (type.attention === "self" ? { ...type, resnetSampler } : type));
}

/** Levels of the way down. */
function downLevels(config: Fields): LevelOptions[] {
  const self = "AttnDownBlock2D" as const;
  const plain = {
    DownBlock2D: DOWN_BLOCKS.DownBlock2D,
    [self]: DOWN_BLOCKS[self],
    ResnetDownsampleBlock2D: DOWN_BLOCKS.ResnetDownsampleBlock2D,
  };
  const named = blockTypes(config, "downBlocks", plain, ["DownBlock2D", self, self, self]);
  const types = withSampler(config, "downsampleKind", named);
  const channels = levelChannels(config, types.length, [224, 448, 672, 896]);
  const layers = config.value("layers", COUNT, 2);
  return types.map((type, i) => {
    const level = levelOf(config, `down_blocks.${i}`, type, channels[i]!);
    return { ...level, inChannels: channels[Math.max(0, i - 1)]!, layers, resample: i < types.length - 1 };
  });
}

/** The width of a head, which at `null` is all channels. */
function headDimOf(config: Fields, channels: number, where: string): number {
  const headDim = config.isNull("headDim") ? channels : config.value("headDim", COUNT, 8);
  config.hasRoom("headDim", headDim, channels, where);
  return headDim;
}

function levelOf(config: Fields, name: string, type: BlockType, outChannels: number) {
  const headDim = type.attention === "none" ? 1 : headDimOf(config, outChannels, name);
  return { name, type, outChannels, headDim, heads: 1, contextDim: 0, depths: [], onlyCrossAttention: false };
}

/** Levels of the way up, for the levels of the way down. */
function upLevels(config: Fields, downs: readonly LevelOptions[]): UNet2DConfig["ups"] {
  const self = "AttnUpBlock2D" as const;
  const plain = {
    UpBlock2D: UP_BLOCKS.UpBlock2D,
    [self]: UP_BLOCKS[self],
    ResnetUpsampleBlock2D: UP_BLOCKS.ResnetUpsampleBlock2D,
  };
  const named = blockTypes(config, "upBlocks", plain, [self, self, self, "UpBlock2D"]);
  if (named.length !== downs.length)
    throw config.error("upBlocks", `${downs.length} types, as many as on the way down`);
  const left = skipChannels(downs);
  return withSampler(config, "upsampleKind", named).map((type, i) => {
    const at = downs.length - 1 - i;
    const layers = downs[at]!.layers + 1;
    const level = levelOf(config, `up_blocks.${i}`, type, downs[at]!.outChannels);
    const inChannels = downs[Math.min(downs.length - 1, at + 1)]!.outChannels;
    const skips = left.splice(-layers).toReversed();
    return { ...level, inChannels, layers, resample: at > 0, skips };
  });
}

function midAttention(
  config: Fields,
  network: NetworkOptions,
  channels: number,
): UNet2DConfig["midAttention"] {
  if (!config.value("midAttention", FLAG, true)) return undefined;
  const fallback = network.timeScaleShift === "default" ? network.groups : 0;
  const groups = config.value("midAttentionGroups", COUNT, fallback);
  return { headDim: headDimOf(config, channels, "mid_block"), groups };
}

/** Drops `time_proj.W`, the second name that diffusers gives to the frequencies of Fourier features. */
export function unet2DWeights(weights: ReadonlyMap<string, Tensor>): ReadonlyMap<string, Tensor> {
  const [second, first] = ["time_proj.W", "time_proj.weight"];
  const twin = weights.get(second);
  if (!twin) return weights;
  const rest = [...weights].filter(([name]) => name !== second);
  return new Map([[first, twin], ...rest]);
}

/** The configuration that options, or a `config.json` in their terms, describe. */
function unet2DConfig(read: Fields): UNet2DConfig {
  const downs = downLevels(read);
  const network = networkOptions(read, 4 * downs[0]!.outChannels);
  read.supports("attention_legacy_order", false);
  read.supports("classEmbedding", "timestep", "identity");
  read.supports("midBlock", "UNetMidBlock2D");
  return {
    inChannels: read.value("inChannels", COUNT, 3),
    outChannels: read.value("outChannels", COUNT, 3),
    centerInput: read.value("centerInput", FLAG, false),
    timeKind: read.value("timeEmbedding", oneOf("positional", "fourier"), "positional"),
    flipSinToCos: read.value("flipSinToCos", FLAG, true),
    freqShift: read.value("freqShift", NUMBER, 0),
    classes: classEmbedding(read),
    network,
    downsamplePadding: read.value("downsamplePadding", NATURAL, 1),
    downs,
    ups: upLevels(read, downs),
    midAttention: midAttention(read, network, downs.at(-1)!.outChannels),
    midScale: read.value("midScaleFactor", POSITIVE, 1),
  };
}

/** A `UNet2DModel` from its `config.json`; see `unet2DCondition`. */
export const unet2D = (config: unknown, rng: Rng): UNet2DModel =>
  new UNet2DModel(unet2DConfig(diffusersFields("UNet2DModel", config)), rng);

/** A `UNet2DModel` from typed options. Throws `ArgumentError` naming the option whose value does not fit. */
export const createUNet2D = (rng: Rng, options: UNet2DModelOptions = {}): UNet2DModel =>
  new UNet2DModel(unet2DConfig(optionFields("UNet2DModel", options)), rng);
