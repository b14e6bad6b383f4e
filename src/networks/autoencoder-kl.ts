/** The variational autoencoder of latent diffusion (Rombach et al. 2022). */

import { COUNT, Fields, FLAG, keyOf, listOf } from "../io/fields.ts";
import { Conv2d, Module, type Rng } from "../nn/index.ts";
import type { Tensor } from "../tensor/index.ts";
import { activationOf } from "./activation-names.ts";
import { type CoderConfig, Decoder, Encoder } from "./autoencoder/coder.ts";
import { type DiagonalGaussian, gaussianOf, sampleGaussian } from "./autoencoder/gaussian.ts";
import { type LatentScale, latentScale, scaleLatents, unscaleLatents } from "./autoencoder/latents.ts";
import { checkLeast, checkMap } from "./check-map.ts";

export * from "./autoencoder/gaussian.ts";
export { type LatentScale, scaleLatents, unscaleLatents } from "./autoencoder/latents.ts";

/** A checked configuration. */
export interface AutoencoderKLConfig {
  readonly encoder: CoderConfig;
  readonly decoder: CoderConfig;
  readonly useQuantConv: boolean;
  readonly usePostQuantConv: boolean;
  readonly scale: LatentScale;
}

/** Keys `encoder`, `decoder`, `quant_conv`, `post_quant_conv`, in the layout of diffusers. */
export class AutoencoderKL extends Module {
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  readonly quantConv: Conv2d | undefined;
  readonly postQuantConv: Conv2d | undefined;
  readonly inChannels: number;
  readonly latentChannels: number;
  readonly scale: LatentScale;
  /** Pixels per latent point, along each axis. */
  readonly sizeFactor: number;

  constructor(config: AutoencoderKLConfig, rng: Rng) {
    super();
    const { encoder, decoder, useQuantConv, usePostQuantConv } = config;
    const z = encoder.latentChannels;
    this.encoder = new Encoder(encoder, rng);
    this.decoder = new Decoder(decoder, rng);
    this.quantConv = useQuantConv ? new Conv2d(2 * z, 2 * z, 1, rng) : undefined;
    this.postQuantConv = usePostQuantConv ? new Conv2d(z, z, 1, rng) : undefined;
    this.inChannels = encoder.channels;
    this.latentChannels = z;
    this.scale = config.scale;
    this.sizeFactor = 2 ** (encoder.levels.length - 1);
  }

  /** Images [N, C, H, W] in [-1, 1] give moments [N, 2 Z, H / f, W / f], sizes rounded down: see `gaussianOf`. */
  moments(x: Tensor): Tensor {
    checkLeast("AutoencoderKL.encode", x, this.inChannels, this.sizeFactor);
    const h = this.encoder.call(x);
    return this.quantConv ? this.quantConv.call(h) : h;
  }

  /** Images [N, C, H, W] in [-1, 1] give the distribution of their latents [N, Z, H / f, W / f], rounded down. */
  encode(x: Tensor): DiagonalGaussian {
    return gaussianOf(this.moments(x));
  }

  /** Latents [N, Z, h, w], not scaled, give images [N, C, f h, f w], mostly in [-1, 1]. */
  decode(z: Tensor): Tensor {
    checkMap("AutoencoderKL.decode", z, this.latentChannels);
    return this.decoder.call(this.postQuantConv ? this.postQuantConv.call(z) : z);
  }

  /** Images through their latents: the modes, or the samples that standard normals [N, Z, H / f, W / f] give. */
  call(x: Tensor, noise?: Tensor): Tensor {
    const posterior = this.encode(x);
    return this.decode(noise ? sampleGaussian(posterior, noise) : posterior.mean);
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

const DOWN = { DownEncoderBlock2D: false, AttnDownEncoderBlock2D: true } as const;
const UP = { UpDecoderBlock2D: false, AttnUpDecoderBlock2D: true } as const;

/**
 * An `AutoencoderKL` from its `config.json`: `block_out_channels` from the image to the latents, block types with or
 * without attention, `scaling_factor` and `shift_factor`. Throws `FormatError` for values that do not fit.
 */
export function autoencoderKL(config: unknown, rng: Rng): AutoencoderKL {
  const read = new Fields("AutoencoderKL", config);
  const channels = read.value("block_out_channels", listOf(COUNT), [64]);
  const groups = read.value("norm_num_groups", COUNT, 32);
  channels.forEach((c, i) => {
    read.divides("norm_num_groups", groups, c, `level ${i}`);
  });
  const levels = (key: string, types: readonly string[], attention: readonly boolean[]) => {
    if (types.length !== channels.length)
      throw read.error(key, `${channels.length} names, one for each of block_out_channels`);
    return channels.map((c, i) => ({ channels: c, attention: attention[i]! }));
  };
  const down = read.value("down_block_types", listOf(keyOf(DOWN)), ["DownEncoderBlock2D"]);
  const up = read.value("up_block_types", listOf(keyOf(UP)), ["UpDecoderBlock2D"]);
  const latentChannels = read.value("latent_channels", COUNT, 4);
  const common = {
    latentChannels,
    layers: read.value("layers_per_block", COUNT, 1),
    groups,
    activation: activationOf(read, "act_fn", "silu"),
    midAttention: read.value("mid_block_add_attention", FLAG, true),
  };
  const downAttention = down.map((name) => DOWN[name]);
  const upAttention = up.map((name) => UP[name]).reverse();
  return new AutoencoderKL(
    {
      encoder: {
        ...common,
        channels: read.value("in_channels", COUNT, 3),
        levels: levels("down_block_types", down, downAttention),
      },
      decoder: {
        ...common,
        channels: read.value("out_channels", COUNT, 3),
        levels: levels("up_block_types", up, upAttention),
      },
      useQuantConv: read.value("use_quant_conv", FLAG, true),
      usePostQuantConv: read.value("use_post_quant_conv", FLAG, true),
      scale: latentScale(read, latentChannels, 0.18215),
    },
    rng,
  );
}
