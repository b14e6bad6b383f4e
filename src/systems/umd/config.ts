/** Sizes of the transformer: the published ones, and miniatures that train on a laptop. */
import { z } from "zod";
import { ArgumentError } from "../../errors.ts";

const count = z.int().min(1);

/** Everything that decides the shapes of a model and what its input means; stored in its checkpoint. */
export const configSchema = z.strictObject({
  /** Height and width of the picture, or of its latent. */
  size: count,
  patch: count,
  channels: count,
  /** Width of encoder and decoder. */
  dim: count,
  heads: count,
  depth: count,
  decoderDepth: count,
  classTokens: count,
  /** Every block is modulated by the condition, or sees it as one token more (the setting of MAE). */
  conditioning: z.enum(["adaLN", "token"]),
  /** Labels that the model knows; 0: it has no table of labels. */
  classes: z.int().min(0),
  activation: z.enum(["geluTanh", "gelu"]),
  /** Pixels in [-1, 1] under the cosine schedule, or latents of an autoencoder under the linear one. */
  domain: z.enum(["pixels", "latents"]),
});

export type UMDConfig = z.output<typeof configSchema>;

const published = {
  classTokens: 4,
  conditioning: "adaLN",
  classes: 0,
  activation: "geluTanh",
} as const;

const pixels = { ...published, channels: 3, domain: "pixels" } as const;

/** The published sizes, two miniatures and one for tests. */
export const PRESETS = {
  "S/4": { ...pixels, size: 64, patch: 4, dim: 384, heads: 6, depth: 12, decoderDepth: 4 },
  "B/4": { ...pixels, size: 64, patch: 4, dim: 768, heads: 12, depth: 12, decoderDepth: 4 },
  "L/2": {
    ...published,
    size: 32,
    patch: 2,
    channels: 4,
    dim: 1024,
    heads: 16,
    depth: 24,
    decoderDepth: 8,
    domain: "latents",
  },
  "L/16": { ...pixels, size: 256, patch: 16, dim: 1024, heads: 16, depth: 24, decoderDepth: 8 },
  mini: { ...pixels, size: 24, patch: 4, dim: 96, heads: 6, depth: 6, decoderDepth: 2 },
  micro: { ...pixels, size: 24, patch: 4, dim: 64, heads: 4, depth: 4, decoderDepth: 2 },
  smoke: { ...pixels, size: 16, patch: 4, dim: 32, heads: 4, depth: 2, decoderDepth: 1 },
} as const satisfies Record<string, UMDConfig>;

export type PresetName = keyof typeof PRESETS;

/** Tokens of a picture. */
export const tokenCount = ({ size, patch }: Pick<UMDConfig, "size" | "patch">): number => (size / patch) ** 2;

/** Throws `ArgumentError` for sizes that do not divide. */
export function checkConfig(config: UMDConfig): UMDConfig {
  const { size, patch, dim, heads } = config;
  if (size % patch !== 0)
    throw new ArgumentError(`UMD: expected a size divisible by the patch, got ${size} and ${patch}`);
  if (dim % heads !== 0)
    throw new ArgumentError(`UMD: expected a width divisible by the heads, got ${dim} and ${heads}`);
  if (dim % 2 !== 0 || dim < 4)
    throw new ArgumentError(
      `UMD: expected an even width from 4, for sines and cosines of the time, got ${dim}`,
    );
  return config;
}

/** Tokens that stay of `tokens` at a mask ratio. Throws `ArgumentError` outside [0, 1), or when none stays. */
export function keptTokens(tokens: number, ratio: number): number {
  if (!(ratio >= 0 && ratio < 1))
    throw new ArgumentError(`UMD: expected a mask ratio in [0, 1), got ${ratio}`);
  const kept = Math.floor(tokens * (1 - ratio));
  if (kept < 1) throw new ArgumentError(`UMD: a mask ratio of ${ratio} keeps none of ${tokens} tokens`);
  return kept;
}
