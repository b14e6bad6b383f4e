/** Sizes of the networks: the published ones, and miniatures that train on a laptop. */
import { z } from "zod";
import { HEADS } from "./schedule.ts";

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

export type SDSegConfig = z.output<typeof configSchema>;

/** Three sizes. `paper`: as published, 329 million trained parameters; `mini`: 0.5 million; `smoke`: for tests. */
export const PRESETS = {
  paper: {
    imageChannels: 3,
    maskChannels: 3,
    classes: 2,
    head: "raw",
    normalise: "range",
    autoencoder: {
      channels: [128, 256, 512, 512],
      layers: 2,
      groups: 32,
      latentChannels: 4,
      attention: true,
    },
    vision: { channels: [128, 256, 512, 512], layers: 2, groups: 32, dropout: 0.2, attention: true },
    unet: {
      channels: 192,
      mult: [1, 2, 2, 4, 4],
      resBlocks: 2,
      groups: 32,
      heads: 8,
      attention: [1, 2, 4, 8],
      middleAttention: true,
      dropout: 0.2,
    },
  },
  mini: {
    imageChannels: 1,
    maskChannels: 1,
    classes: 2,
    head: "vskip",
    normalise: "standard",
    autoencoder: { channels: [8, 16, 32], layers: 1, groups: 8, latentChannels: 4, attention: false },
    vision: { channels: [8, 16, 24], layers: 1, groups: 8, dropout: 0, attention: false },
    unet: {
      channels: 24,
      mult: [1, 2],
      resBlocks: 1,
      groups: 8,
      heads: 4,
      attention: [],
      middleAttention: false,
      dropout: 0,
    },
  },
  smoke: {
    imageChannels: 1,
    maskChannels: 1,
    classes: 2,
    head: "vskip",
    normalise: "standard",
    autoencoder: { channels: [8, 16, 16], layers: 1, groups: 4, latentChannels: 4, attention: false },
    vision: { channels: [8, 16, 16], layers: 1, groups: 4, dropout: 0, attention: false },
    unet: {
      channels: 16,
      mult: [1, 2],
      resBlocks: 1,
      groups: 4,
      heads: 2,
      attention: [],
      middleAttention: false,
      dropout: 0,
    },
  },
} as const satisfies Record<string, SDSegConfig>;

export type PresetName = keyof typeof PRESETS;

/** Pixels per latent point, along each axis. */
export const latentFactor = ({ autoencoder }: SDSegConfig): number => 2 ** (autoencoder.channels.length - 1);

/** Height and width of pictures are multiples of this: 128 for the published network, 8 for the miniatures. */
export const totalStride = (config: SDSegConfig): number =>
  latentFactor(config) * 2 ** (config.unet.mult.length - 1);
