/** Configurations of guided-diffusion's networks under the names of its code, checked; and the published ones. */
import {
  COUNT,
  Fields,
  FLAG,
  type Kind,
  listOf,
  NATURAL,
  oneOf,
  POSITIVE,
  PROBABILITY,
} from "../../io/fields.ts";
import { NORM_GROUPS, type QkvOrder } from "./blocks.ts";

/** The checked options of both networks. */
export interface GuidedConfig {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly modelChannels: number;
  /** Width of the time embedding. */
  readonly timeDim: number;
  /** Channels of each level. */
  readonly channels: readonly number[];
  readonly resBlocks: readonly number[];
  /** Which levels have attention. */
  readonly attention: readonly boolean[];
  /** Whether there is attention in the middle too, as in all published networks. */
  readonly middleAttention: boolean;
  /** Groups of the norms outside of transformers. */
  readonly groups: number;
  readonly dropout: number;
  /** Resampling has a convolution. */
  readonly convResample: boolean;
  /** Residual blocks resample. */
  readonly resblockUpdown: boolean;
  readonly timeScaleShift: "default" | "scale_shift";
  readonly heads: number;
  readonly headsUp: number;
  /** Width of one head, which then decides their number. */
  readonly headChannels: number | undefined;
  readonly order: QkvOrder;
  /** Transformers with cross attention in place of attention. */
  readonly transformer:
    | {
        readonly contextDim: number;
        readonly depths: readonly number[];
        readonly depthMiddle: number;
        readonly linearProjection: boolean;
      }
    | undefined;
}

/** The U-Net's own part. */
export interface GuidedUNetConfig extends GuidedConfig {
  /** Channels of a map that is concatenated to the input. */
  readonly concatChannels: number;
  readonly numClasses: number | undefined;
  /** Width of a vector that is embedded and added to the time. */
  readonly vectorDim: number | undefined;
}

/** A count, or -1 for none, as guided-diffusion writes it. */
const COUNT_OR_NONE: Kind<number> = {
  expected: "a positive integer, or -1 for none",
  is: (v): v is number => v === -1 || COUNT.is(v),
};

/** Downsampling factors with attention. It may be empty: attention in the middle has its own option. */
const FACTORS: Kind<readonly number[]> = {
  expected: "a list of downsampling factors",
  is: (v): v is readonly number[] => Array.isArray(v) && v.every((x) => COUNT.is(x)),
};

function countOrNone(config: Fields, key: string): number | undefined {
  const value = config.optional(key, COUNT_OR_NONE);
  return value === -1 ? undefined : value;
}

function transformerOf(config: Fields, levels: number): GuidedConfig["transformer"] {
  const contextDim = config.optional("context_dim", COUNT);
  const wanted = config.value("use_spatial_transformer", FLAG, contextDim !== undefined);
  if (wanted !== (contextDim !== undefined))
    throw config.error("context_dim", wanted ? COUNT.expected : "none without use_spatial_transformer");
  if (contextDim === undefined) return undefined;
  const depths = config.perLevel("transformer_depth", levels, NATURAL, 1);
  return {
    contextDim,
    depths,
    depthMiddle: config.value("transformer_depth_middle", COUNT, Math.max(1, depths.at(-1)!)),
    linearProjection: config.value("use_linear_in_transformer", FLAG, false),
  };
}

/** Reads what both networks have in common. Throws `FormatError` for what is wrong or not built here. */
export function guidedConfig(config: Fields): GuidedConfig {
  config.supports("dims", 2);
  config.supports("n_embed");
  const modelChannels = config.value("model_channels", COUNT);
  const mults = config.value("channel_mult", listOf(POSITIVE), [1, 2, 4, 8]);
  const factors = mults.map((_, level) => 2 ** level);
  const attention = config.value("attention_resolutions", FACTORS);
  const unknown = attention.filter((factor) => !factors.includes(factor));
  if (unknown.length > 0)
    throw config.error("attention_resolutions", `downsampling factors among ${factors.join(", ")}`);
  const heads = countOrNone(config, "num_heads") ?? 1;
  return {
    inChannels: config.value("in_channels", COUNT),
    outChannels: config.value("out_channels", COUNT),
    modelChannels,
    timeDim: 4 * modelChannels,
    channels: mults.map((mult) => Math.trunc(mult * modelChannels)),
    resBlocks: config.perLevel("num_res_blocks", mults.length, NATURAL, 2),
    attention: factors.map((factor) => attention.includes(factor)),
    middleAttention: config.value("middle_attention", FLAG, true),
    groups: config.value("norm_groups", COUNT, NORM_GROUPS),
    dropout: config.value("dropout", PROBABILITY, 0),
    convResample: config.value("conv_resample", FLAG, true),
    resblockUpdown: config.value("resblock_updown", FLAG, false),
    timeScaleShift: config.value("use_scale_shift_norm", FLAG, false) ? "scale_shift" : "default",
    heads,
    headsUp: countOrNone(config, "num_heads_upsample") ?? heads,
    headChannels: countOrNone(config, "num_head_channels"),
    order: config.value("use_new_attention_order", FLAG, false) ? "new" : "legacy",
    transformer: transformerOf(config, mults.length),
  };
}

/**
 * Reads the configuration of a U-Net: the arguments of the reference's `UNetModel`, and `learn_sigma` (twice the output
 * channels), `concat_channels` (of a map beside the input), `norm_groups` (32 in published networks) and
 * `middle_attention` (true there; without any attention the network takes maps of every size alike).
 */
export function guidedUNetConfig(values: unknown): GuidedUNetConfig {
  const config = new Fields("GuidedDiffusionUNet", values);
  const common = guidedConfig(config);
  const sequential = config.raw("num_classes") === "sequential";
  if (!sequential && config.has("adm_in_channels"))
    throw config.error("adm_in_channels", 'none unless "num_classes" is "sequential"');
  return {
    ...common,
    outChannels: common.outChannels * (config.value("learn_sigma", FLAG, false) ? 2 : 1),
    concatChannels: config.value("concat_channels", NATURAL, 0),
    numClasses: sequential ? undefined : config.optional("num_classes", COUNT),
    vectorDim: sequential ? config.value("adm_in_channels", COUNT) : undefined,
  };
}

const POOL = oneOf("attention", "adaptive", "spatial", "spatial_v2");

/** The classifier's own part. */
export interface GuidedClassifierConfig extends GuidedConfig {
  /** How the maps become one vector; spatial pools take the mean of every block's map. */
  readonly pool: "attention" | "adaptive" | "spatial" | "spatial_v2";
  /** Height and width of the images. */
  readonly imageSize: number;
}

/** Reads the configuration of a classifier: the arguments of the reference's `EncoderUNetModel`. */
export function guidedClassifierConfig(values: unknown): GuidedClassifierConfig {
  const config = new Fields("GuidedDiffusionClassifier", values);
  const common = guidedConfig(config);
  const imageSize = config.value("image_size", COUNT);
  config.supports("norm_groups", NORM_GROUPS);
  config.supports("middle_attention", true);
  const factor = 2 ** (common.channels.length - 1);
  if (imageSize % factor !== 0) throw config.error("image_size", `a multiple of ${factor}`);
  return { ...common, imageSize, pool: config.value("pool", POOL, "attention") };
}

const ADM = {
  in_channels: 3,
  out_channels: 3,
  learn_sigma: true,
  model_channels: 256,
  num_res_blocks: 2,
  num_head_channels: 64,
  use_scale_shift_norm: true,
  resblock_updown: true,
};

const ADM_256 = { ...ADM, channel_mult: [1, 1, 2, 2, 4, 4], attention_resolutions: [8, 16, 32] };

/** The published U-Nets for ImageNet (Dhariwal and Nichol 2021), by size of the image. */
export const ADM_UNETS = {
  imagenet64: {
    ...ADM,
    model_channels: 192,
    num_res_blocks: 3,
    channel_mult: [1, 2, 3, 4],
    attention_resolutions: [2, 4, 8],
    use_new_attention_order: true,
    dropout: 0.1,
    num_classes: 1000,
  },
  imagenet128: {
    ...ADM,
    num_head_channels: -1,
    num_heads: 4,
    channel_mult: [1, 1, 2, 3, 4],
    attention_resolutions: [4, 8, 16],
    num_classes: 1000,
  },
  imagenet256: { ...ADM_256, num_classes: 1000 },
  imagenet256Unconditional: ADM_256,
  imagenet512: {
    ...ADM,
    channel_mult: [0.5, 1, 1, 2, 2, 4, 4],
    attention_resolutions: [16, 32, 64],
    num_classes: 1000,
  },
} as const;

/** The published classifier for ImageNet at 256 x 256. */
export const ADM_CLASSIFIER_256 = {
  image_size: 256,
  in_channels: 3,
  out_channels: 1000,
  model_channels: 128,
  num_res_blocks: 2,
  channel_mult: [1, 1, 2, 2, 4, 4],
  attention_resolutions: [8, 16, 32],
  num_head_channels: 64,
  use_scale_shift_norm: true,
  resblock_updown: true,
  pool: "attention",
} as const;
