/** The tiny autoencoder (TAESD and relatives): decodes the latents of the large one in a fraction of the time. */

import { ArgumentError } from "../errors.ts";
import { COUNT, Fields, FLAG, listOf, NATURAL, NUMBER, oneOf, POSITIVE } from "../io/fields.ts";
import { type Activation, activate, Conv2d, GroupNorm, Module, type Rng } from "../nn/index.ts";
import { type Tensor, tanh } from "../tensor/index.ts";
import { activationOf } from "./activation-names.ts";
import { type LatentScale, latentScale, scaleLatents, unscaleLatents } from "./autoencoder/latents.ts";
import { Upsample2D } from "./blocks/resampling.ts";
import { checkMap } from "./check-map.ts";

/** A checked configuration. */
export interface AutoencoderTinyConfig {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly latentChannels: number;
  /** Channels of all levels of the encoder and of the decoder. */
  readonly encoderChannels: number;
  readonly decoderChannels: number;
  /** Residual blocks of each level, from the image to the latents and back. */
  readonly encoderBlocks: readonly number[];
  readonly decoderBlocks: readonly number[];
  readonly activation: Activation;
  /** The blocks of the smallest level look at normalised channels first, as in TAEF2. */
  readonly midBlockNorm: boolean;
  /** Latents lie within this, mostly: how they become bytes. */
  readonly latentMagnitude: number;
  readonly latentShift: number;
  readonly scale: LatentScale;
  /** Which halves are there: the authors' files hold one each. Default both. */
  readonly halves?: "both" | "encoder" | "decoder";
}

/** Three convolutions beside a shortcut; all three levels of indices are those of the checkpoints. */
class TinyBlock extends Module {
  readonly conv: { readonly 0: Conv2d; readonly 2: Conv2d; readonly 4: Conv2d };
  readonly pool: { readonly 0: Conv2d; readonly 1: GroupNorm; readonly 3: Conv2d } | undefined;
  readonly activation: Activation;

  constructor(channels: number, rng: Rng, options: { activation: Activation; norm: boolean }) {
    super();
    const same = (): Conv2d => new Conv2d(channels, channels, 3, rng, { padding: 1 });
    const wide = 4 * channels;
    this.conv = { 0: same(), 2: same(), 4: same() };
    if (options.norm)
      this.pool = {
        0: new Conv2d(channels, wide, 1, rng, { bias: false }),
        1: new GroupNorm(4, wide),
        3: new Conv2d(wide, channels, 1, rng, { bias: false }),
      };
    this.activation = options.activation;
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    const { conv, pool } = this;
    const act = (y: Tensor): Tensor => activate(this.activation, y);
    const start = pool ? x.add(pool[3].call(pool[1].call(pool[0].call(x)).relu())) : x;
    const residual = conv[4].call(act(conv[2].call(act(conv[0].call(start)))));
    return start.add(residual).relu();
  }
}

/** An activation that has an index of its own. */
class ActivationLayer extends Module {
  readonly activation: Activation;
  constructor(activation: Activation) {
    super();
    this.activation = activation;
  }
  /** x [...]. */
  call(x: Tensor): Tensor {
    return activate(this.activation, x);
  }
}

type TinyLayer = Conv2d | TinyBlock | ActivationLayer | Upsample2D;

const blocks = (
  count: number,
  channels: number,
  rng: Rng,
  options: { activation: Activation; norm: boolean },
) => Array.from({ length: count }, () => new TinyBlock(channels, rng, options));

function encoderLayers(config: AutoencoderTinyConfig, rng: Rng): TinyLayer[] {
  const { inChannels, latentChannels, encoderChannels: c, encoderBlocks, activation, midBlockNorm } = config;
  const levels = encoderBlocks.flatMap((count, level) => {
    const last = level === encoderBlocks.length - 1;
    const first =
      level === 0
        ? new Conv2d(inChannels, c, 3, rng, { padding: 1 })
        : new Conv2d(c, c, 3, rng, { padding: 1, stride: 2, bias: false });
    return [first, ...blocks(count, c, rng, { activation, norm: midBlockNorm && last })];
  });
  return [...levels, new Conv2d(c, latentChannels, 3, rng, { padding: 1 })];
}

function decoderLayers(config: AutoencoderTinyConfig, rng: Rng): TinyLayer[] {
  const { outChannels, latentChannels, decoderChannels: c, decoderBlocks, activation, midBlockNorm } = config;
  const levels = decoderBlocks.flatMap((count, level): TinyLayer[] => {
    const last = level === decoderBlocks.length - 1;
    const norm = midBlockNorm && level === 0;
    const next = last
      ? [new Conv2d(c, outChannels, 3, rng, { padding: 1 })]
      : [new Upsample2D(c, rng, { kind: "nearest" }), new Conv2d(c, c, 3, rng, { padding: 1, bias: false })];
    return [...blocks(count, c, rng, { activation, norm }), ...next];
  });
  const first = new Conv2d(latentChannels, c, 3, rng, { padding: 1 });
  return [first, new ActivationLayer(activation), ...levels];
}

/** `encoder.layers.N` and `decoder.layers.N`. */
export class TinyCoder extends Module {
  readonly layers: readonly TinyLayer[];

  constructor(layers: readonly TinyLayer[]) {
    super();
    this.layers = layers;
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    return this.layers.reduce((y, layer) => layer.call(y), x);
  }
}

const missingHalf = (half: string): ArgumentError =>
  new ArgumentError(
    `AutoencoderTiny: it has no ${half}: the file that it was loaded from holds the other half only`,
  );

/** Latents larger than this are compressed softly (tanh). */
const CLAMP = 3;

/** A deterministic autoencoder without attention, in the layout of diffusers. Its latents are scaled already. */
export class AutoencoderTiny extends Module {
  readonly encoder: TinyCoder | undefined;
  readonly decoder: TinyCoder | undefined;
  readonly inChannels: number;
  readonly latentChannels: number;
  readonly latentMagnitude: number;
  readonly latentShift: number;
  readonly scale: LatentScale;
  /** Pixels per latent point, along each axis. */
  readonly sizeFactor: number;

  constructor(config: AutoencoderTinyConfig, rng: Rng) {
    super();
    const { halves = "both" } = config;
    this.encoder = halves === "decoder" ? undefined : new TinyCoder(encoderLayers(config, rng));
    this.decoder = halves === "encoder" ? undefined : new TinyCoder(decoderLayers(config, rng));
    this.inChannels = config.inChannels;
    this.latentChannels = config.latentChannels;
    this.latentMagnitude = config.latentMagnitude;
    this.latentShift = config.latentShift;
    this.scale = config.scale;
    this.sizeFactor = 2 ** (config.encoderBlocks.length - 1);
  }

  /** Images [N, C, H, W] in [-1, 1] give latents [N, Z, H / f, W / f]. Throws `ArgumentError` without an encoder. */
  encode(x: Tensor): Tensor {
    if (!this.encoder) throw missingHalf("encoder");
    checkMap("AutoencoderTiny.encode", x, this.inChannels, this.sizeFactor);
    return this.encoder.call(x.add(1).div(2));
  }

  /** Latents [N, Z, h, w] give images [N, C, f h, f w], mostly in [-1, 1]. Throws `ArgumentError` without a decoder. */
  decode(z: Tensor): Tensor {
    if (!this.decoder) throw missingHalf("decoder");
    checkMap("AutoencoderTiny.decode", z, this.latentChannels);
    return this.decoder
      .call(tanh(z.div(CLAMP)).mul(CLAMP))
      .mul(2)
      .sub(1);
  }

  /** Images through latents of eight bits, as if those had been stored as a picture. */
  call(x: Tensor): Tensor {
    return this.decode(this.fromUnit(this.toUnit(this.encode(x)).mul(255).round().div(255)));
  }

  /** Latents in [0, 1]; what lies beyond the magnitude is clamped. */
  toUnit(z: Tensor): Tensor {
    return z
      .div(2 * this.latentMagnitude)
      .add(this.latentShift)
      .clip(0, 1);
  }

  /** The inverse of `toUnit`. */
  fromUnit(unit: Tensor): Tensor {
    return unit.sub(this.latentShift).mul(2 * this.latentMagnitude);
  }

  /** Latents as the diffusion model sees them. */
  scaled(z: Tensor): Tensor {
    return scaleLatents(z, this.scale);
  }

  /** The inverse of `scaled`. */
  unscaled(z: Tensor): Tensor {
    return unscaleLatents(z, this.scale);
  }
}

/** All levels have the same channels, because no layer between them could change their number. */
function levelsOf(config: Fields, half: "encoder" | "decoder", fallback: readonly number[]) {
  const blocksKey = `num_${half}_blocks`;
  const channelsKey = `${half}_block_out_channels`;
  const counts = config.value(blocksKey, listOf(NATURAL), fallback);
  const channels = config.value(channelsKey, listOf(COUNT), [64, 64, 64, 64]);
  if (channels.length !== counts.length)
    throw config.error(channelsKey, `${counts.length} numbers, one for each of ${blocksKey}`);
  if (channels.some((c) => c !== channels[0]))
    throw config.error(channelsKey, "the same number for each level");
  return { counts, channels: channels[0]! };
}

/**
 * A tiny autoencoder from its `config.json`; `use_midblock_gn` is the variant of TAEF2. Throws `FormatError` for
 * values that do not fit.
 */
export function autoencoderTiny(config: unknown, rng: Rng): AutoencoderTiny {
  const read = new Fields("AutoencoderTiny", config);
  const encoder = levelsOf(read, "encoder", [1, 3, 3, 3]);
  const decoder = levelsOf(read, "decoder", [3, 3, 3, 1]);
  if (encoder.counts.length !== decoder.counts.length)
    throw read.error("num_decoder_blocks", `as many levels as the encoder's ${encoder.counts.length}`);
  read.supports("upsampling_scaling_factor", 2);
  read.supports("upsample_fn", "nearest");
  const latentChannels = read.value("latent_channels", COUNT, 4);
  return new AutoencoderTiny(
    {
      inChannels: read.value("in_channels", COUNT, 3),
      outChannels: read.value("out_channels", COUNT, 3),
      latentChannels,
      encoderChannels: encoder.channels,
      decoderChannels: decoder.channels,
      encoderBlocks: encoder.counts,
      decoderBlocks: decoder.counts,
      activation: activationOf(read, "act_fn", "relu"),
      midBlockNorm: read.value("use_midblock_gn", FLAG, false),
      latentMagnitude: read.value("latent_magnitude", POSITIVE, 3),
      latentShift: read.value("latent_shift", NUMBER, 0.5),
      scale: latentScale(read, latentChannels, 1),
      halves: read.value("halves", oneOf("both", "encoder", "decoder"), "both"),
    },
    rng,
  );
}
