/** The levels of a U-Net, down, middle and up: residual blocks, attention behind each, a change of size at the end. */
import { type Activation, Module, type Rng } from "../../nn/index.ts";
import { concat, type Tensor } from "../../tensor/index.ts";
import { AddedContextAttention, type AttentionInputs, SpatialAttention } from "./attention.ts";
import { Downsample2D, type Size, sizeOfMap, Upsample2D } from "./resampling.ts";
import { ResnetBlock2D, type ResnetOptions } from "./resnet.ts";
import { Transformer2DModel } from "./transformer.ts";

/** Inputs of every block besides the feature map. */
export interface BlockInputs extends AttentionInputs {
  /** Time embedding [N or 1, T]. */
  readonly time?: Tensor;
  /** Key of dropout; absent: nothing is dropped. */
  readonly key?: Tensor;
  /** A map [N, F, h, w] that modulates the first residual block of a level that takes one. */
  readonly features?: Tensor;
}

/** Attention behind the residual blocks: none, to the map itself, to the context in a transformer, or to both at once. */
export type AttentionKind = "none" | "self" | "transformer" | "added";

/** What block types of diffusers stand for. */
export interface BlockType {
  readonly attention: AttentionKind;
  /** Up- and downsampling are residual blocks. */
  readonly resnetSampler?: boolean;
}

/** Blocks of the way down, by diffusers' names. */
export const DOWN_BLOCKS = {
  DownBlock2D: { attention: "none" },
  AttnDownBlock2D: { attention: "self" },
  CrossAttnDownBlock2D: { attention: "transformer" },
  ResnetDownsampleBlock2D: { attention: "none", resnetSampler: true },
  SimpleCrossAttnDownBlock2D: { attention: "added", resnetSampler: true },
} as const satisfies Record<string, BlockType>;

/** Blocks of the way up, by diffusers' names. */
export const UP_BLOCKS = {
  UpBlock2D: { attention: "none" },
  AttnUpBlock2D: { attention: "self" },
  CrossAttnUpBlock2D: { attention: "transformer" },
  ResnetUpsampleBlock2D: { attention: "none", resnetSampler: true },
  SimpleCrossAttnUpBlock2D: { attention: "added", resnetSampler: true },
} as const satisfies Record<string, BlockType>;

/** Blocks in the middle, by diffusers' names. */
export const MID_BLOCKS = {
  UNetMidBlock2DCrossAttn: { attention: "transformer" },
  UNetMidBlock2DSimpleCrossAttn: { attention: "added" },
  UNetMidBlock2D: { attention: "none" },
} as const satisfies Record<string, BlockType>;

/** Options that are the same for all levels of a network. */
export interface NetworkOptions {
  readonly timeDim: number;
  readonly groups: number;
  readonly eps: number;
  readonly activation: Activation;
  readonly dropout: number;
  readonly timeScaleShift: "default" | "scale_shift";
  /** Of residual blocks beside a resnet sampler. */
  readonly skipTimeActivation: boolean;
  readonly outputScaleFactor: number;
  readonly linearProjection: boolean;
  readonly upcast: boolean;
}

/** Options of one level. */
export interface LevelOptions {
  /** Path of the level; it names the random stream of its dropout. */
  readonly name: string;
  readonly type: BlockType;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly layers: number;
  /** Whether the size changes at the end. */
  readonly resample: boolean;
  /** Of attention in transformers. */
  readonly heads: number;
  /** Of all other attention. */
  readonly headDim: number;
  readonly contextDim: number;
  /** Depth of the transformers, per layer. */
  readonly depths: readonly number[];
  readonly onlyCrossAttention: boolean;
  /** Channels of a map that modulates the first residual block on the way down. Default: there is none. */
  readonly featureChannels?: number;
}

/** An attention layer of a U-Net. */
export type Attention = SpatialAttention | Transformer2DModel | AddedContextAttention;

/** The attention behind the residual block of a layer. */
export function attentionOf(
  kind: Exclude<AttentionKind, "none">,
  layer: number,
  level: LevelOptions,
  net: NetworkOptions,
  rng: Rng,
): Attention {
  const { outChannels, heads, headDim, contextDim, onlyCrossAttention } = level;
  const { groups, eps, linearProjection, upcast } = net;
  if (kind === "self") return new SpatialAttention(outChannels, rng, { headDim, groups, eps });
  if (kind === "added")
    return new AddedContextAttention(outChannels, rng, { headDim, contextDim, groups, onlyCrossAttention });
  const depth = level.depths[layer]!;
  const options = { heads, contextDim, depth, groups, linearProjection, onlyCrossAttention, upcast };
  return new Transformer2DModel(outChannels, rng, options);
}

/** Attentions behind all residual blocks; undefined for none. */
function attentionsOf(level: LevelOptions, net: NetworkOptions, rng: Rng): Attention[] | undefined {
  const { attention } = level.type;
  if (attention === "none") return undefined;
  return Array.from({ length: level.layers }, (_, layer) => attentionOf(attention, layer, level, net, rng));
}

/** Options of the residual blocks of a level. */
function resnetOptions(level: LevelOptions, net: NetworkOptions, name: string): ResnetOptions {
  const { timeDim, groups, eps, activation, dropout, timeScaleShift } = net;
  const common = {
    timeDim,
    groups,
    eps,
    activation,
    dropout,
    timeScaleShift,
    purpose: `${level.name}.${name}`,
  };
  const { skipTimeActivation, outputScaleFactor } = net;
  return level.type.resnetSampler ? { ...common, skipTimeActivation, outputScaleFactor } : common;
}

/** One level on the way down. */
export class DownBlock2D extends Module {
  readonly resnets: readonly ResnetBlock2D[];
  readonly attentions: readonly Attention[] | undefined;
  readonly downsamplers: readonly [Downsample2D | ResnetBlock2D] | undefined;

  constructor(level: LevelOptions & { padding: number }, net: NetworkOptions, rng: Rng) {
    super();
    const { inChannels, outChannels, layers, resample, featureChannels } = level;
    this.resnets = Array.from({ length: layers }, (_, i) => {
      const options = { ...resnetOptions(level, net, `resnets.${i}`), outChannels };
      return i === 0
        ? new ResnetBlock2D(inChannels, rng, { ...options, featureChannels })
        : new ResnetBlock2D(outChannels, rng, options);
    });
    this.attentions = attentionsOf(level, net, rng);
    if (resample) this.downsamplers = [downsampler(level, net, rng)];
  }

  /** x [N, C, H, W] gives the map of the next level, and what the way up takes from here. */
  call(x: Tensor, inputs: BlockInputs): { x: Tensor; skips: Tensor[] } {
    const skips: Tensor[] = [];
    let h = x;
    for (const [i, resnet] of this.resnets.entries()) {
      h = resnet.call(h, inputs.time, inputs.key, inputs.features);
      h = this.attentions ? this.attentions[i]!.call(h, inputs) : h;
      skips.push(h);
    }
    for (const sampler of this.downsamplers ?? []) {
      h = sampler.call(h, inputs.time, inputs.key);
      skips.push(h);
    }
    return { x: h, skips };
  }
}

function downsampler(
  level: LevelOptions & { padding: number },
  net: NetworkOptions,
  rng: Rng,
): Downsample2D | ResnetBlock2D {
  const { outChannels, padding, type } = level;
  if (!type.resnetSampler) return new Downsample2D(outChannels, rng, { padding });
  return new ResnetBlock2D(outChannels, rng, {
    ...resnetOptions(level, net, "downsamplers.0"),
    resample: "down",
  });
}

/** One level on the way up. */
export class UpBlock2D extends Module {
  readonly resnets: readonly ResnetBlock2D[];
  readonly attentions: readonly Attention[] | undefined;
  readonly upsamplers: readonly [Upsample2D | ResnetBlock2D] | undefined;

  /** `skips` are the channels of the skip connections in the order in which they are taken: one per layer. */
  constructor(level: LevelOptions & { skips: readonly number[] }, net: NetworkOptions, rng: Rng) {
    super();
    const { inChannels, outChannels, skips, resample, type } = level;
    this.resnets = skips.map((skip, i) => {
      const options = resnetOptions(level, net, `resnets.${i}`);
      return new ResnetBlock2D((i === 0 ? inChannels : outChannels) + skip, rng, { ...options, outChannels });
    });
    this.attentions = attentionsOf(level, net, rng);
    if (!resample) return;
    const options = resnetOptions(level, net, "upsamplers.0");
    this.upsamplers = [
      type.resnetSampler
        ? new ResnetBlock2D(outChannels, rng, { ...options, resample: "up" })
        : new Upsample2D(outChannels, rng),
    ];
  }

  /** x [N, C, H, W] and as many skip connections as there are layers; `size` is that of the next level. */
  call(x: Tensor, skips: readonly Tensor[], inputs: BlockInputs, size?: Size): Tensor {
    let h = x;
    for (const [i, resnet] of this.resnets.entries()) {
      h = resnet.call(concat(h, skips[i]!, 1), inputs.time, inputs.key);
      h = this.attentions ? this.attentions[i]!.call(h, inputs) : h;
    }
    const [sampler] = this.upsamplers ?? [];
    if (!sampler) return h;
    return "kind" in sampler
      ? sampler.call(h, size && doubled(h, size) ? undefined : size)
      : sampler.call(h, inputs.time, inputs.key);
  }
}

/** Whether `size` is twice that of x. */
function doubled(x: Tensor, size: Size): boolean {
  return sizeOfMap(x).every((d, i) => 2 * d === size[i]);
}

/** The middle: a residual block, then, as often as there are `attentions`, attention (or none) and a residual block. */
export class MidBlock2D extends Module {
  readonly resnets: readonly ResnetBlock2D[];
  readonly attentions: readonly (Attention | undefined)[];

  constructor(
    channels: number,
    options: ResnetOptions,
    attentions: readonly (Attention | undefined)[],
    rng: Rng,
  ) {
    super();
    this.resnets = Array.from({ length: attentions.length + 1 }, (_, i) => {
      return new ResnetBlock2D(channels, rng, { ...options, purpose: `mid_block.resnets.${i}` });
    });
    this.attentions = attentions;
  }

  /** x [N, C, H, W]. */
  call(x: Tensor, inputs: BlockInputs): Tensor {
    const [first, ...rest] = this.resnets;
    return rest.reduce(
      (h, resnet, i) => {
        const attended = this.attentions[i]?.call(h, inputs) ?? h;
        return resnet.call(attended, inputs.time, inputs.key);
      },
      first!.call(x, inputs.time, inputs.key),
    );
  }
}
