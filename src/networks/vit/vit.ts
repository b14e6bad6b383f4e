/** The vision transformer (Dosovitskiy et al. 2021), with the keys of timm. */
import { ArgumentError } from "../../errors.ts";
import { blankRng, LayerNorm, Linear, Module, type Rng, truncatedNormal } from "../../nn/index.ts";
import { type Tensor, zeros } from "../../tensor/index.ts";
import {
  checkViT,
  initTransformer,
  PatchEmbed,
  resizePositions,
  ViTBlock,
  type ViTConfig,
} from "./layers.ts";

/** Options of `VisionTransformer` and `initVisionTransformer`. */
export interface VisionTransformerOptions {
  /** Outputs of the classifier; absent: there is none. */
  readonly classes?: number;
  /**
   * What stands for the image: the class token behind a norm (the default), or the norm of the mean of all others; nothing
   * ("none") where only the blocks' outputs are wanted: there is no norm behind them.
   */
  readonly pooling?: "token" | "average" | "none";
}

/** Keys `cls_token`, `pos_embed`, `patch_embed.proj`, `blocks`, `norm` (`fc_norm` for average pooling), `head`. */
export class VisionTransformer extends Module {
  readonly clsToken: Tensor; // [1, 1, D]
  readonly posEmbed: Tensor; // [1, 1 + L, D]
  readonly patchEmbed: PatchEmbed;
  readonly blocks: readonly ViTBlock[];
  readonly norm: LayerNorm | undefined;
  readonly fcNorm: LayerNorm | undefined;
  readonly head: Linear | undefined;
  readonly config: ViTConfig;

  /** Throws `ArgumentError` for sizes that do not divide. */
  constructor(config: ViTConfig, rng: Rng, { classes, pooling = "token" }: VisionTransformerOptions = {}) {
    super();
    checkViT("VisionTransformer", config);
    const { imageSize, patchSize, dim, depth, heads, eps } = config;
    this.config = config;
    this.clsToken = rng.normal([1, 1, dim], 0.02);
    this.posEmbed = rng.normal([1, 1 + (imageSize / patchSize) ** 2, dim], 0.02);
    this.patchEmbed = new PatchEmbed(config, rng);
    this.blocks = Array.from({ length: depth }, () => new ViTBlock(dim, heads, config, rng));
    this.norm = pooling === "token" ? new LayerNorm(dim, { eps }) : undefined;
    this.fcNorm = pooling === "average" ? new LayerNorm(dim, { eps }) : undefined;
    this.head = classes === undefined ? undefined : new Linear(dim, classes, rng);
  }

  /**
   * What every block gives, without the last norm: depth times [N, 1 + L, D] for x [N, C, H, W]. On other sizes than
   * the model's own the positions are interpolated.
   */
  hiddenStates(x: Tensor): Tensor[] {
    const { patchSize } = this.config;
    const patches = this.patchEmbed.call(x);
    const cls = this.clsToken.broadcastTo([x.shape[0]!, 1, this.config.dim]);
    const positions = resizePositions(this.posEmbed, x.shape[2]! / patchSize, x.shape[3]! / patchSize);
    let hidden = cls.concat(patches, 1).add(positions);
    return this.blocks.map((block) => (hidden = block.call(hidden)));
  }

  /** Normed tokens [N, 1 + L, D] of x [N, C, H, W], the class token first; not normed for average pooling. */
  tokens(x: Tensor): Tensor {
    const last = this.hiddenStates(x).at(-1)!;
    return this.norm?.call(last) ?? last;
  }

  /** The image as one vector: [N, D]. */
  features(x: Tensor): Tensor {
    const tokens = this.tokens(x);
    return this.fcNorm ? this.fcNorm.call(tokens.sliceAxis(1, 1).mean(1)) : tokens.select(1, 0);
  }

  /** Scores of the classes [N, classes]; throws `ArgumentError` for a model without a classifier. */
  call(x: Tensor): Tensor {
    if (!this.head)
      throw new ArgumentError("VisionTransformer: no classifier; take features or tokens instead");
    return this.head.call(this.features(x));
  }
}

/**
 * A model to train from scratch, initialised as timm does: matrices normal with 0.02, biases and the classifier zero.
 */
export function initVisionTransformer(
  config: ViTConfig,
  rng: Rng,
  options: VisionTransformerOptions = {},
): VisionTransformer {
  const normal = (shape: readonly number[]): Tensor => truncatedNormal(rng, shape, { std: 0.02 });
  return initTransformer(new VisionTransformer(config, blankRng, options), normal, (key, shape) =>
    key.startsWith("head.") ? zeros(shape) : key === "cls_token" ? rng.normal(shape, 1e-6) : undefined,
  );
}
