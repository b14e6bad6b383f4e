/** Encoder and decoder of `AutoencoderKL`: levels of residual blocks, with attention in the middle. */
import { type Activation, activate, Conv2d, GroupNorm, Module, type Rng } from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import { SpatialAttention } from "../blocks/attention.ts";
import { Downsample2D, Upsample2D } from "../blocks/resampling.ts";
import { ResnetBlock2D } from "../blocks/resnet.ts";
import { MidBlock2D } from "../blocks/unet-blocks.ts";

const EPS = 1e-6;

/** What encoder and decoder are built from. Levels are counted from the image. */
export interface CoderConfig {
  /** Of the image. */
  readonly channels: number;
  readonly latentChannels: number;
  readonly levels: readonly { readonly channels: number; readonly attention: boolean }[];
  /** Residual blocks per level of the encoder; the decoder has one more. */
  readonly layers: number;
  readonly groups: number;
  /** Activation of the residual blocks; before the last convolution it is always SiLU, as in diffusers. */
  readonly activation: Activation;
  readonly midAttention: boolean;
  /** Dropout in the encoder's residual blocks. Default 0. */
  readonly dropout?: number;
}

interface LevelOptions {
  /** Path of the level; it names the random stream of its dropout. */
  readonly name: string;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly layers: number;
  readonly attention: boolean;
  /** Up- or downsampling at the end, if any. */
  readonly resample: "up" | "down" | undefined;
}

/** One level, on the way down or up. */
class CoderLevel extends Module {
  readonly resnets: readonly ResnetBlock2D[];
  readonly attentions: readonly SpatialAttention[] | undefined;
  readonly downsamplers: readonly [Downsample2D] | undefined;
  readonly upsamplers: readonly [Upsample2D] | undefined;

  constructor(level: LevelOptions, { groups, activation, dropout }: CoderConfig, rng: Rng) {
    super();
    const { name, inChannels, outChannels, layers, attention, resample } = level;
    const each = <T>(make: (i: number) => T): T[] => Array.from({ length: layers }, (_, i) => make(i));
    const options = { outChannels, groups, eps: EPS, activation, dropout };
    this.resnets = each((i) => {
      const purpose = `${name}.resnets.${i}`;
      return new ResnetBlock2D(i === 0 ? inChannels : outChannels, rng, { ...options, purpose });
    });
    if (attention) this.attentions = each(() => new SpatialAttention(outChannels, rng, { groups, eps: EPS }));
    if (resample === "down") this.downsamplers = [new Downsample2D(outChannels, rng, { padding: 0 })];
    if (resample === "up") this.upsamplers = [new Upsample2D(outChannels, rng)];
  }

  /** x [N, C, H, W]; with a key, values are dropped. */
  call(x: Tensor, key?: Tensor): Tensor {
    const h = this.resnets.reduce((y, resnet, i) => {
      const out = resnet.call(y, undefined, key);
      return this.attentions ? this.attentions[i]!.call(out) : out;
    }, x);
    const [sampler] = this.downsamplers ?? this.upsamplers ?? [];
    return sampler ? sampler.call(h) : h;
  }
}

function middle(config: CoderConfig, rng: Rng): MidBlock2D {
  const { levels, groups, activation, midAttention, dropout } = config;
  const { channels } = levels.at(-1)!;
  const attention = midAttention ? new SpatialAttention(channels, rng, { groups, eps: EPS }) : undefined;
  return new MidBlock2D(channels, { groups, eps: EPS, activation, dropout }, [attention], rng);
}

/** From images to moments. */
export class Encoder extends Module {
  readonly convIn: Conv2d;
  readonly downBlocks: readonly CoderLevel[];
  readonly midBlock: MidBlock2D;
  readonly convNormOut: GroupNorm;
  readonly convOut: Conv2d;

  constructor(config: CoderConfig, rng: Rng) {
    super();
    const { levels, layers, groups } = config;
    const [top, bottom] = [levels[0]!.channels, levels.at(-1)!.channels];
    this.convIn = new Conv2d(config.channels, top, 3, rng, { padding: 1 });
    this.downBlocks = levels.map(({ channels, attention }, i) => {
      const resample = i < levels.length - 1 ? "down" : undefined;
      const inChannels = levels[Math.max(0, i - 1)]!.channels;
      const level = { inChannels, outChannels: channels, layers, attention, resample } as const;
      return new CoderLevel({ name: `down_blocks.${i}`, ...level }, config, rng);
    });
    this.midBlock = middle(config, rng);
    this.convNormOut = new GroupNorm(groups, bottom, { eps: EPS });
    this.convOut = new Conv2d(bottom, 2 * config.latentChannels, 3, rng, { padding: 1 });
  }

  /** x [N, C, H, W] gives [N, 2 Z, H / f, W / f]; with a key, values are dropped. */
  call(x: Tensor, key?: Tensor): Tensor {
    const deep = this.downBlocks.reduce((y, block) => block.call(y, key), this.convIn.call(x));
    const h = this.convNormOut.call(this.midBlock.call(deep, { key }));
    return this.convOut.call(activate("silu", h));
  }
}

/** From latents to images. */
export class Decoder extends Module {
  readonly convIn: Conv2d;
  readonly midBlock: MidBlock2D;
  readonly upBlocks: readonly CoderLevel[];
  readonly convNormOut: GroupNorm;
  readonly convOut: Conv2d;

  constructor(config: CoderConfig, rng: Rng) {
    super();
    const { layers, groups } = config;
    const levels = [...config.levels].reverse();
    const [bottom, top] = [levels[0]!.channels, levels.at(-1)!.channels];
    this.convIn = new Conv2d(config.latentChannels, bottom, 3, rng, { padding: 1 });
    this.midBlock = middle(config, rng);
    this.upBlocks = levels.map(({ channels, attention }, i) => {
      const resample = i < levels.length - 1 ? "up" : undefined;
      const inChannels = levels[Math.max(0, i - 1)]!.channels;
      const level = { inChannels, outChannels: channels, layers: layers + 1, attention, resample } as const;
      return new CoderLevel({ name: `up_blocks.${i}`, ...level }, config, rng);
    });
    this.convNormOut = new GroupNorm(groups, top, { eps: EPS });
    this.convOut = new Conv2d(top, config.channels, 3, rng, { padding: 1 });
  }

  /** z [N, Z, h, w] gives [N, C, f h, f w]. */
  call(z: Tensor): Tensor {
    const middle = this.midBlock.call(this.convIn.call(z), {});
    const h = this.convNormOut.call(this.upBlocks.reduce((y, block) => block.call(y), middle));
    return this.convOut.call(activate("silu", h));
  }
}
