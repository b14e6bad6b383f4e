/**
 * SDSeg's sizes, networks and file: the frozen autoencoder of masks, the trained encoder of the picture, the trained
 * denoiser.
 */
import { z } from "zod";
import type { SetStatistics } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { Encoder } from "../../networks/autoencoder/coder.ts";
import {
  type AutoencoderKL,
  autoencoderKL,
  type GuidedDiffusionUNet,
  guidedDiffusionUNet,
} from "../../networks/index.ts";
import {
  blankRng,
  Conv2d,
  createRng,
  loadParameters,
  Module,
  parameters,
  type Rng,
  withFields,
} from "../../nn/index.ts";
import { type Seed, type Tensor, zerosLike } from "../../tensor/index.ts";
import { modelFile } from "../../training/index.ts";
import { type Denoiser, HEADS, type Head, oneStep } from "./method.ts";

const count = z.int().min(1);

/** Everything that decides the shapes of a model and what its input means; stored in its checkpoint. */
export const configSchema = z.strictObject({
  /** Channels of the picture as the vision encoder takes it; other pictures are converted. */
  imageChannels: z.union([z.literal(1), z.literal(3)]),
  /** Channels of masks as the autoencoder takes them: 3 (repeated) as published. */
  maskChannels: z.union([z.literal(1), z.literal(3)]),
  /** 2: foreground and background. More: one label embedding each. */
  classes: z.int().min(2).max(256),
  head: z.enum(HEADS),
  /** `range`: [-1, 1] by the file's depth; `standard`: mean 0 and deviation 0.4 for each picture, cut off at 1. */
  normalise: z.enum(["range", "standard"]),
  autoencoder: z.strictObject({
    channels: z.array(count).min(1),
    layers: count,
    groups: count,
    latentChannels: count,
    attention: z.boolean(),
  }),
  vision: z.strictObject({
    channels: z.array(count).min(1),
    layers: count,
    groups: count,
    dropout: z.number().min(0).max(0.9),
    attention: z.boolean(),
  }),
  unet: z.strictObject({
    channels: count,
    mult: z.array(count).min(1),
    resBlocks: count,
    groups: count,
    heads: count,
    /** Downsampling factors, counted from the latent, at which there is attention. */
    attention: z.array(count),
    middleAttention: z.boolean(),
    dropout: z.number().min(0).max(0.9),
  }),
});

/** Everything that decides the shapes of a model; stored in its checkpoint. */
export type SDSegConfig = z.output<typeof configSchema>;

const LARGE = { channels: [128, 256, 512, 512], layers: 2, groups: 32, attention: true };

/** A miniature: channels of both coders, groups of their norms. */
const small = (
  { autoencoder, vision, unet }: Readonly<Record<"autoencoder" | "vision", number[]> & { unet: number }>,
  { groups, heads }: { groups: number; heads: number },
): SDSegConfig => ({
  ...{ imageChannels: 1, maskChannels: 1, classes: 2, head: "vskip", normalise: "standard" },
  autoencoder: { channels: autoencoder, layers: 1, groups, latentChannels: 4, attention: false },
  vision: { channels: vision, layers: 1, groups, dropout: 0, attention: false },
  unet: {
    ...{ channels: unet, mult: [1, 2], resBlocks: 1, groups, heads },
    ...{ attention: [], middleAttention: false, dropout: 0 },
  },
});

/** Three sizes. `paper`: as published, 329 million trained parameters; `mini`: 0.5 million; `smoke`: for tests. */
export const PRESETS = {
  paper: {
    ...{ imageChannels: 3, maskChannels: 3, classes: 2, head: "raw", normalise: "range" },
    autoencoder: { ...LARGE, latentChannels: 4 },
    vision: { ...LARGE, dropout: 0.2 },
    unet: {
      ...{ channels: 192, mult: [1, 2, 2, 4, 4], resBlocks: 2, groups: 32, heads: 8 },
      ...{ attention: [1, 2, 4, 8], middleAttention: true, dropout: 0.2 },
    },
  },
  mini: small({ autoencoder: [8, 16, 32], vision: [8, 16, 24], unet: 24 }, { groups: 8, heads: 4 }),
  smoke: small({ autoencoder: [8, 16, 16], vision: [8, 16, 16], unet: 16 }, { groups: 4, heads: 2 }),
} as const satisfies Record<string, SDSegConfig>;

/** Pixels per latent point, along each axis. */
export const latentFactor = ({ autoencoder }: SDSegConfig): number => 2 ** (autoencoder.channels.length - 1);

/** Height and width of pictures are multiples of this: 128 for the published network, 8 for the miniatures. */
export const totalStride = (config: SDSegConfig): number =>
  latentFactor(config) * 2 ** (config.unet.mult.length - 1);

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
export class SegmentationNetwork extends Module implements Denoiser {
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

  /** The paper's method: the clean latent that one call guesses from pure noise. // [N, Z, h, w] */
  directLatent(image: Tensor, noise: Tensor, labels?: Tensor): Tensor {
    return oneStep(this.network, image, noise, labels);
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

/** Where a model comes from: printed by `tweedie systems`, kept with the weights. */
export interface Origin {
  readonly name: string;
  /** What it was trained on and how, in words. */
  readonly training: string;
  readonly seed: string;
  readonly date: string;
  /** Resize factor: size of what the model sees / size of the data's files. */
  readonly scale: number;
  /** The values that were black and white, as `intensityRange` reads them, where that was said. */
  readonly range?: string;
  /** What the pictures that it was trained on have in common, as the model sees them. */
  readonly seen?: SetStatistics;
  /** The command that made it. */
  readonly command?: string;
  /** What was measured of it, on pictures that it was not trained on. */
  readonly metrics?: Readonly<Record<string, number>>;
}

/** Checkpoints: configuration, scale of the latents and origin are in the file's metadata. */
export const sdsegFile = modelFile<SDSeg, Origin>({
  format: "tweedie.sdseg",
  name: "SDSeg",
  notesKey: "origin",
  describe: ({ config, scaleFactor }) => ({
    config: JSON.stringify(config),
    scale_factor: String(scaleFactor),
  }),
  blank: (field) =>
    withParts(new SDSeg(configSchema.parse(JSON.parse(field("config") ?? "")), blankRng), {
      scaleFactor: Number(field("scale_factor")),
    }),
});
