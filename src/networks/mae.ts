/** Masked autoencoders (He et al. 2022), with the keys of their authors' checkpoints. */
import { ArgumentError, ShapeError } from "../errors.ts";
import { blankRng, LayerNorm, Linear, Module, type Rng } from "../nn/index.ts";
import { arange, cast, gather, sort, type Tensor } from "../tensor/index.ts";
import { patchify } from "./patches.ts";
import {
  checkViT,
  initTransformer,
  PatchEmbed,
  sinCosTokens,
  ViTBlock,
  type ViTConfig,
  vitPreset,
  xavierMatrix,
} from "./vit/layers.ts";

export interface MAEConfig extends ViTConfig {
  readonly decoderDim: number;
  readonly decoderDepth: number;
  readonly decoderHeads: number;
  /** Whether the target is each patch with zero mean and unit variance. */
  readonly normPixLoss: boolean;
}

/** The published sizes: an encoder B/16, L/16 or H/14 and a decoder of 8 blocks with 512 channels. */
export const maePreset = (size: "B/16" | "L/16" | "H/14", options: Partial<MAEConfig> = {}): MAEConfig => ({
  ...vitPreset(size),
  decoderDim: 512,
  decoderDepth: 8,
  decoderHeads: 16,
  normPixLoss: false,
  ...options,
});

/** Which patches are seen. */
export interface Masking {
  /** Indices of the patches that are kept, in random order: i64 [N, K]. */
  readonly keep: Tensor;
  /** Place of every patch when the kept ones come first: i64 [N, L]. */
  readonly restore: Tensor;
  /** 1 where a patch is hidden: [N, L]. */
  readonly mask: Tensor;
}

/** Patches that stay of `length` at a mask ratio, rounded down; 100 at 0.9 keep 10 in spite of floating point. */
export const keptPatches = (length: number, ratio: number): number => Math.floor(length * (1 - ratio) + 1e-6);

/** Keeps the floor(L (1 - ratio)) patches with the smallest noise [N, L], for which uniform numbers are usual. */
export function randomMasking(noise: Tensor, ratio: number): Masking {
  if (noise.rank !== 2) throw new ShapeError(`randomMasking: expected noise [N, L], got ${noise}`);
  const length = noise.shape[1]!;
  const kept = keptPatches(length, ratio);
  if (!(ratio >= 0) || kept < 1)
    throw new ArgumentError(`randomMasking: a ratio of ${ratio} keeps none of ${length} patches`);
  const [, order] = sort(noise, 1);
  const [, restore] = sort(cast(order, "f32"), 1);
  return { keep: order.sliceAxis(1, 0, kept), restore, mask: cast(restore.greaterEqual(kept), "f32") };
}

/** Rows of x [N, L, D] by indices [N, K], each sample its own: [N, K, D]. */
export function rowsAt(x: Tensor, indices: Tensor): Tensor {
  const [samples, length, dim] = x.shape as [number, number, number];
  const first = arange(0, samples * length, length).unsqueeze(1); // [N, 1]
  return gather(x.reshape([samples * length, dim]), indices.add(first));
}

/** What a masked autoencoder gives. */
export interface MAEOutput {
  /** Mean squared error on hidden patches: a scalar. */
  readonly loss: Tensor;
  /** Every patch as predicted: [N, L, P² C]; see `unpatchify`. */
  readonly prediction: Tensor;
  /** 1 where a patch was hidden: [N, L]. */
  readonly mask: Tensor;
}

/** Encoder of the seen patches, and a small decoder that predicts the pixels of the others. */
export class MaskedAutoencoder extends Module {
  static override readonly fixed = ["posEmbed", "decoderPosEmbed"];
  readonly clsToken: Tensor; // [1, 1, D]
  readonly posEmbed: Tensor; // [1, 1 + L, D], fixed
  readonly patchEmbed: PatchEmbed;
  readonly blocks: readonly ViTBlock[];
  readonly norm: LayerNorm;
  readonly decoderEmbed: Linear;
  readonly maskToken: Tensor; // [1, 1, E]
  readonly decoderPosEmbed: Tensor; // [1, 1 + L, E], fixed
  readonly decoderBlocks: readonly ViTBlock[];
  readonly decoderNorm: LayerNorm;
  readonly decoderPred: Linear;
  readonly config: MAEConfig;

  /** Throws `ArgumentError` for sizes that do not divide. */
  constructor(config: MAEConfig, rng: Rng) {
    super();
    const { imageSize, patchSize, inChannels, dim, depth, heads, eps } = config;
    const { decoderDim, decoderDepth, decoderHeads } = config;
    checkViT("MaskedAutoencoder", config);
    checkViT("MaskedAutoencoder's decoder", { ...config, dim: decoderDim, heads: decoderHeads });
    const grid = imageSize / patchSize;
    const blocks = (count: number, width: number, many: number): ViTBlock[] =>
      Array.from({ length: count }, () => new ViTBlock(width, many, config, rng));
    this.config = config;
    this.clsToken = rng.normal([1, 1, dim], 0.02);
    this.posEmbed = sinCosTokens(dim, grid);
    this.patchEmbed = new PatchEmbed(config, rng);
    this.blocks = blocks(depth, dim, heads);
    this.norm = new LayerNorm(dim, { eps });
    this.decoderEmbed = new Linear(dim, decoderDim, rng);
    this.maskToken = rng.normal([1, 1, decoderDim], 0.02);
    this.decoderPosEmbed = sinCosTokens(decoderDim, grid);
    this.decoderBlocks = blocks(decoderDepth, decoderDim, decoderHeads);
    this.decoderNorm = new LayerNorm(decoderDim, { eps });
    this.decoderPred = new Linear(decoderDim, patchSize ** 2 * inChannels, rng);
  }

  /** Normed tokens of the kept patches, the class token first: x [N, C, H, W] gives [N, 1 + K, D]. */
  encode(x: Tensor, { keep }: Pick<Masking, "keep">): Tensor {
    const positions = this.posEmbed.stopGradient();
    const patches = this.patchEmbed.call(x).add(positions.sliceAxis(1, 1));
    const cls = this.clsToken
      .add(positions.sliceAxis(1, 0, 1))
      .broadcastTo([x.shape[0]!, 1, this.config.dim]);
    const tokens = cls.concat(rowsAt(patches, keep), 1);
    return this.norm.call(this.blocks.reduce((h, block) => block.call(h), tokens));
  }

  /** Every patch from the tokens [N, 1 + K, D] of the kept ones: [N, L, P² C]. */
  decode(latent: Tensor, { restore }: Pick<Masking, "restore">): Tensor {
    const [samples, length] = restore.shape as [number, number];
    const seen = this.decoderEmbed.call(latent); // [N, 1 + K, E]
    const hidden = length + 1 - seen.shape[1]!;
    const masked = this.maskToken.broadcastTo([samples, hidden, this.config.decoderDim]);
    const patches = rowsAt(seen.sliceAxis(1, 1).concat(masked, 1), restore);
    const tokens = seen.sliceAxis(1, 0, 1).concat(patches, 1).add(this.decoderPosEmbed.stopGradient());
    const decoded = this.decoderBlocks.reduce((h, block) => block.call(h), tokens);
    return this.decoderPred.call(this.decoderNorm.call(decoded)).sliceAxis(1, 1);
  }

  /** Mean squared error [] of a prediction on the hidden patches of x. */
  loss(x: Tensor, prediction: Tensor, mask: Tensor): Tensor {
    const pixels = patchify(x, this.config.patchSize);
    const target = this.config.normPixLoss
      ? pixels.sub(pixels.mean(-1, true)).div(pixels.variance(-1, true, 1).add(1e-6).sqrt())
      : pixels;
    const perPatch = prediction.sub(target).square().mean(-1); // [N, L]
    const weight = cast(mask, perPatch.dtype);
    return perPatch.mul(weight).sum().div(weight.sum());
  }

  /** x [N, C, H, W] of the model's own size, and noise [N, L] that decides which patches are hidden. */
  call(x: Tensor, noise: Tensor, { maskRatio = 0.75 }: { maskRatio?: number } = {}): MAEOutput {
    const masking = randomMasking(noise, maskRatio);
    const prediction = this.decode(this.encode(x, masking), masking);
    return { loss: this.loss(x, prediction, masking.mask), prediction, mask: masking.mask };
  }
}

/** A model to train from scratch, initialised as by its authors: Xavier for matrices, normal with 0.02 for tokens. */
export function initMaskedAutoencoder(config: MAEConfig, rng: Rng): MaskedAutoencoder {
  const blank = new MaskedAutoencoder(config, blankRng);
  const fixed: Readonly<Record<string, Tensor>> = {
    pos_embed: blank.posEmbed,
    decoder_pos_embed: blank.decoderPosEmbed,
  };
  return initTransformer(blank, xavierMatrix(rng), (key, shape) =>
    key.endsWith("_token") ? rng.normal(shape, 0.02) : fixed[key],
  );
}
