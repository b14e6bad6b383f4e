/** SDSeg's networks: the frozen autoencoder of masks, the trained encoder of the picture, the trained denoiser. */
import { ArgumentError } from "../../errors.ts";
import { Encoder } from "../../networks/autoencoder/coder.ts";
import {
  type AutoencoderKL,
  autoencoderKL,
  type GuidedDiffusionUNet,
  guidedDiffusionUNet,
} from "../../networks/index.ts";
import {
  Conv2d,
  createRng,
  loadParameters,
  Module,
  parameters,
  type Rng,
  withFields,
} from "../../nn/index.ts";
import { fromHost, type Seed, type Tensor, zerosLike } from "../../tensor/index.ts";
import { configSchema, latentFactor, type SDSegConfig } from "./config.ts";
import { ALPHA_BARS, type Head, TRAINED } from "./schedule.ts";

/** The autoencoder of masks. Its latents are used times a scale that is measured on masks. */
export function maskAutoencoder({ autoencoder, maskChannels }: SDSegConfig, rng: Rng): AutoencoderKL {
  const { channels, layers, groups, latentChannels, attention } = autoencoder;
  return autoencoderKL(
    {
      in_channels: maskChannels,
      out_channels: maskChannels,
      block_out_channels: channels,
      down_block_types: channels.map(() => "DownEncoderBlock2D"),
      up_block_types: channels.map(() => "UpDecoderBlock2D"),
      layers_per_block: layers,
      norm_num_groups: groups,
      latent_channels: latentChannels,
      mid_block_add_attention: attention,
    },
    rng,
  );
}

/** The encoder of the picture: that of the autoencoder with dropout, then a convolution to the latent's channels. */
export class VisionEncoder extends Module {
  readonly encoder: Encoder;
  readonly out: Conv2d;

  constructor({ vision, imageChannels, autoencoder }: SDSegConfig, rng: Rng) {
    super();
    const { latentChannels } = autoencoder;
    this.encoder = new Encoder(
      {
        channels: imageChannels,
        latentChannels,
        levels: vision.channels.map((channels) => ({ channels, attention: false })),
        layers: vision.layers,
        groups: vision.groups,
        activation: "silu",
        midAttention: vision.attention,
        dropout: vision.dropout,
      },
      rng,
    );
    this.out = new Conv2d(2 * latentChannels, latentChannels, 1, rng);
  }

  /** Pictures [N, C, H, W] in [-1, 1] give conditions [N, Z, H / f, W / f], which are not scaled. */
  call(image: Tensor, key?: Tensor): Tensor {
    return this.out.call(this.encoder.call(image, key));
  }
}

function denoiserUNet({ unet, autoencoder, classes }: SDSegConfig, rng: Rng): GuidedDiffusionUNet {
  const { latentChannels } = autoencoder;
  return guidedDiffusionUNet(
    {
      in_channels: latentChannels,
      concat_channels: latentChannels,
      out_channels: latentChannels,
      model_channels: unet.channels,
      channel_mult: unet.mult,
      num_res_blocks: unet.resBlocks,
      attention_resolutions: unet.attention,
      num_heads: unet.heads,
      use_scale_shift_norm: true,
      resblock_updown: true,
      dropout: unet.dropout,
      norm_groups: unet.groups,
      middle_attention: unet.middleAttention,
      ...(classes > 2 && { num_classes: classes }),
    },
    rng,
  );
}

/** What is trained: keys `unet.*` and `vision.*`. */
export class SegmentationNetwork extends Module {
  readonly unet: GuidedDiffusionUNet;
  readonly vision: VisionEncoder;
  readonly head: Head;

  constructor(config: SDSegConfig, rng: Rng) {
    super();
    this.unet = denoiserUNet(config, rng);
    this.vision = new VisionEncoder(config, rng);
    this.head = config.head;
  }

  /** The network's output [N, Z, h, w] for noisy latents at times [N], conditions from `vision`, classes [N]. */
  predict(z: Tensor, t: Tensor, condition: Tensor, labels?: Tensor, key?: Tensor): Tensor {
    const imageOnly = this.head === "image-only";
    const [x, time] = imageOnly ? [zerosLike(z), zerosLike(t)] : [z, t];
    return this.unet.call(x, time, { concat: condition, labels, key });
  }

  /**
   * Noise and clean latent that an output means, at levels alpha = sqrt(alphaBar) and sigma = sqrt(1 - alphaBar)
   * [N, 1, 1, 1]. With `vskip` the clean latent does not come from the noise by a division, so nothing is amplified.
   */
  read(output: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor): { noise: Tensor; clean: Tensor } {
    if (this.head === "raw") return { noise: output, clean: z.sub(sigma.mul(output)).div(alpha) };
    if (this.head === "image-only") return { noise: z.sub(alpha.mul(output)).div(sigma), clean: output };
    return { noise: sigma.mul(z).add(alpha.mul(output)), clean: alpha.mul(z).sub(sigma.mul(output)) };
  }
}

/** A whole model. */
export class SDSeg extends Module {
  readonly autoencoder: AutoencoderKL;
  readonly network: SegmentationNetwork;
  readonly config: SDSegConfig;
  /** 1 / deviation of mask latents: measured once, on masks, and kept from then on. */
  readonly scaleFactor: number;

  constructor(config: SDSegConfig, rng: Rng) {
    super();
    this.config = configSchema.parse(config);
    this.autoencoder = maskAutoencoder(config, rng);
    this.network = new SegmentationNetwork(config, rng);
    this.scaleFactor = 1;
  }

  /** Height and width of the latent of a picture. */
  latentSize(height: number, width: number): [h: number, w: number] {
    const f = latentFactor(this.config);
    return [height / f, width / f];
  }

  /** What scaled latents decode to: about -1 (background) to 1. // [N, C, H, W] */
  decode(z: Tensor): Tensor {
    return this.autoencoder.decode(z.div(this.scaleFactor));
  }

  /** How likely each point is foreground: every channel cut to [0, 1], then their mean. // [N, 1, H, W] */
  probability(z: Tensor): Tensor {
    return this.decode(z).add(1).mul(0.5).clip(0, 1).mean(1, true);
  }

  /**
   * The paper's method: the clean latent that one call at the last timestep guesses from pure noise [N, Z, h, w].
   * All in f32: with the raw head the error of the noise is amplified by 38.7.
   */
  directLatent(image: Tensor, noise: Tensor, labels?: Tensor): Tensor {
    const last = ALPHA_BARS[TRAINED - 1]!;
    const scalar = (value: number): Tensor => fromHost("f32", [1, 1, 1, 1], Float32Array.of(value));
    const t = fromHost("f32", [1], Float32Array.of(TRAINED - 1));
    const condition = this.network.vision.call(image);
    const output = this.network.predict(noise, t, condition, labels);
    return this.network.read(output, noise, scalar(Math.sqrt(last)), scalar(Math.sqrt(1 - last))).clean;
  }
}

/** A model with fresh weights. @throws ArgumentError for a seed or sizes that do not fit */
export const createSDSeg = (config: SDSegConfig, seed: Seed): SDSeg => new SDSeg(config, createRng(seed));

/**
 * A model of several classes with the weights of a binary one and fresh embeddings of the classes: the recipe of the
 * released code. @throws ArgumentError when it has classes already
 */
export function withClasses(model: SDSeg, classes: number, seed: Seed): SDSeg {
  if (model.config.classes !== 2)
    throw new ArgumentError(`SDSeg: the model has ${model.config.classes} classes already, not ${classes}`);
  const fresh = createSDSeg({ ...model.config, classes }, seed);
  const known = parameters(model);
  const weights = new Map([...parameters(fresh)].map(([key, own]) => [key, known.get(key) ?? own] as const));
  return withParts(loadParameters(fresh, weights), { scaleFactor: model.scaleFactor });
}

/** The model with another scale, or other networks. @throws ArgumentError for a scale that is no positive number */
export function withParts(
  model: SDSeg,
  parts: {
    readonly autoencoder?: AutoencoderKL;
    readonly network?: SegmentationNetwork;
    readonly scaleFactor?: number;
  },
): SDSeg {
  const { scaleFactor = model.scaleFactor } = parts;
  if (!(Number.isFinite(scaleFactor) && scaleFactor > 0))
    throw new ArgumentError(`SDSeg: the scale of latents must be positive, got ${scaleFactor}`);
  return withFields<SDSeg>(model, parts);
}
