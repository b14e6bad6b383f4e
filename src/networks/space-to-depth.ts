/**
 * A latent code without parameters: blocks of pixels become channels, exactly and back (space-to-depth). It makes
 * small pictures small enough for a U-Net in the place of an autoencoder.
 */
import { ShapeError } from "../errors.ts";
import { COUNT, Fields, POSITIVE } from "../io/fields.ts";
import { Module, type Rng } from "../nn/index.ts";
import { pixelShuffle, pixelUnshuffle, type Tensor } from "../tensor/index.ts";

/** Configuration of a `SpaceToDepth`. */
export interface SpaceToDepthConfig {
  /** Channels of a picture. */
  readonly channels: number;
  /** Side of the blocks in pixels. */
  readonly factor: number;
  /** Latents are pixels in [-1, 1] times this. */
  readonly scale: number;
}

/** Blocks of pixels as channels: [N, C, f h, f w] and [N, f^2 C, h, w]. */
export class SpaceToDepth extends Module {
  readonly inChannels: number;
  /** Pixels per latent point, along each axis. */
  readonly sizeFactor: number;
  readonly latentChannels: number;
  readonly scale: number;

  constructor({ channels, factor, scale }: SpaceToDepthConfig) {
    super();
    this.inChannels = channels;
    this.sizeFactor = factor;
    this.latentChannels = channels * factor * factor;
    this.scale = scale;
  }

  /** Pictures x [N, C, f h, f w] give latents [N, f^2 C, h, w], not scaled. @throws ShapeError for other pictures */
  encode(x: Tensor): Tensor {
    if (x.rank !== 4 || x.shape[1] !== this.inChannels)
      throw new ShapeError(`SpaceToDepth: expected pictures [N, ${this.inChannels}, H, W], got ${x}`);
    return pixelUnshuffle(x, this.sizeFactor);
  }

  /** Latents z [N, f^2 C, h, w], not scaled, give pictures [N, C, f h, f w]. @throws ShapeError for other latents */
  decode(z: Tensor): Tensor {
    if (z.rank !== 4 || z.shape[1] !== this.latentChannels)
      throw new ShapeError(`SpaceToDepth: expected latents [N, ${this.latentChannels}, h, w], got ${z}`);
    return pixelShuffle(z, this.sizeFactor);
  }

  /** Latents as the denoiser sees them. */
  scaled(z: Tensor): Tensor {
    return this.scale === 1 ? z : z.mul(this.scale);
  }

  /** The inverse of `scaled`. */
  unscaled(z: Tensor): Tensor {
    return this.scale === 1 ? z : z.div(this.scale);
  }
}

/** A `SpaceToDepth` from its `config.json`. Throws `FormatError` naming a key whose value cannot be. */
export function spaceToDepth(values: unknown, _rng?: Rng): SpaceToDepth {
  const config = new Fields("SpaceToDepth", values);
  return new SpaceToDepth({
    channels: config.value("in_channels", COUNT, 3),
    factor: config.value("factor", COUNT, 2),
    scale: config.value("scaling_factor", POSITIVE, 1),
  });
}
