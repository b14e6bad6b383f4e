/** The noisy classifier of classifier guidance (Dhariwal and Nichol 2021, section 4). */
import { ShapeError } from "../../errors.ts";
import { Conv1d, Conv2d, GroupNorm, Linear, Module, type Rng, zeroed } from "../../nn/index.ts";
import { concat, type Tensor } from "../../tensor/index.ts";
import { timesOf } from "../blocks/embeddings.ts";
import { checkMap } from "../check-map.ts";
import {
  attendColumns,
  guidedTimes,
  headCount,
  type LayerSequence,
  NORM_GROUPS,
  splitQkv,
  TimeEmbed,
} from "./blocks.ts";
import { LayerMaker } from "./layer-maker.ts";
import { type GuidedClassifierConfig, guidedClassifierConfig } from "./options.ts";

/** Attention of the mean to all points, as in CLIP (Radford et al. 2021). */
class AttentionPool extends Module {
  readonly positionalEmbedding: Tensor; // [C, 1 + S S]
  readonly qkvProj: Conv1d;
  readonly cProj: Conv1d;
  readonly heads: number;

  constructor(
    side: number,
    channels: number,
    { heads, outChannels }: { heads: number; outChannels: number },
    rng: Rng,
  ) {
    super();
    this.positionalEmbedding = rng.normal([channels, side * side + 1], 1 / Math.sqrt(channels));
    this.qkvProj = new Conv1d(channels, 3 * channels, 1, rng);
    this.cProj = new Conv1d(channels, outChannels, 1, rng);
    this.heads = heads;
  }

  /** x [N, C, S, S] gives [N, K]. */
  call(x: Tensor): Tensor {
    const [n, c, h, w] = x.shape as [number, number, number, number];
    const points = x.reshape([n, c, h * w]);
    const tokens = concat(points.mean(2, true), points, 2).add(this.positionalEmbedding); // [N, C, 1 + S S]
    const [q, k, v] = splitQkv(this.qkvProj.call(tokens), this.heads, "new");
    const pooled = attendColumns(q.sliceAxis(3, 0, 1), k, v); // the mean's column is all that is used
    return this.cProj.call(pooled).squeeze(2);
  }
}

/** `out` of the pool `attention`: `out.0`, `out.2`. */
export class AttentionHead extends Module {
  static override readonly keyNames = { norm: "0", pool: "2" };
  readonly norm: GroupNorm;
  readonly pool: AttentionPool;

  constructor(channels: number, config: GuidedClassifierConfig, rng: Rng) {
    super();
    const { outChannels, imageSize } = config;
    const heads = headCount(channels, config.heads, config.headChannels);
    const side = imageSize / 2 ** (config.channels.length - 1);
    this.norm = new GroupNorm(NORM_GROUPS, channels);
    this.pool = new AttentionPool(side, channels, { heads, outChannels }, rng);
  }

  /** maps [N, C, H, W], of which the last counts. */
  call(maps: readonly Tensor[]): Tensor {
    return this.pool.call(this.norm.call(maps.at(-1)!).silu());
  }
}

/** `out` of the pool `adaptive`: `out.0`, `out.3`. */
export class MeanHead extends Module {
  static override readonly keyNames = { norm: "0", conv: "3" };
  readonly norm: GroupNorm;
  readonly conv: Conv2d;

  constructor(channels: number, outChannels: number, rng: Rng) {
    super();
    this.norm = new GroupNorm(NORM_GROUPS, channels);
    this.conv = zeroed(new Conv2d(channels, outChannels, 1, rng));
  }

  /** maps [N, C, H, W], of which the last counts. */
  call(maps: readonly Tensor[]): Tensor {
    const mean = this.norm.call(maps.at(-1)!).silu().mean([2, 3], true);
    return this.conv.call(mean).reshape([mean.shape[0]!, -1]);
  }
}

const SPATIAL_WIDTH = 2048;

/** `out` of the pools `spatial` (`out.0`, `out.2`) and `spatial_v2`, with a norm (`out.0`, `out.1`, `out.3`). */
export class SpatialHead extends Module {
  readonly 0: Linear;
  readonly 1: GroupNorm | undefined;
  readonly 2: Linear | undefined;
  readonly 3: Linear | undefined;

  constructor(features: number, outChannels: number, withNorm: boolean, rng: Rng) {
    super();
    this[0] = new Linear(features, SPATIAL_WIDTH, rng);
    this[1] = withNorm ? new GroupNorm(NORM_GROUPS, SPATIAL_WIDTH) : undefined;
    const last = new Linear(SPATIAL_WIDTH, outChannels, rng);
    this[2] = withNorm ? undefined : last;
    this[3] = withNorm ? last : undefined;
  }

  /** maps [N, *, *, *], whose channels add up to the features. */
  call(maps: readonly Tensor[]): Tensor {
    const [first, ...others] = maps.map((map) => map.mean([2, 3]));
    const hidden = this[0].call(concat(first!, others, 1));
    return this[1] ? this[3]!.call(this[1].call(hidden).silu()) : this[2]!.call(hidden.relu());
  }
}

/** Logits of noisy images: the half of the U-Net that goes down, and a pool. Keys as in its checkpoints. */
export class GuidedDiffusionClassifier extends Module {
  readonly timeEmbed: TimeEmbed;
  readonly inputBlocks: readonly LayerSequence[];
  readonly middleBlock: LayerSequence;
  readonly out: AttentionHead | MeanHead | SpatialHead;
  readonly inChannels: number;
  readonly modelChannels: number;
  readonly sizeFactor: number;
  /** The only size that it takes, when attention pools. */
  readonly imageSize: number | undefined;

  constructor(config: GuidedClassifierConfig, rng: Rng) {
    super();
    const { inChannels, outChannels, modelChannels, imageSize, pool } = config;
    const make = new LayerMaker(config, rng);
    this.sizeFactor = 2 ** (config.channels.length - 1);
    this.timeEmbed = new TimeEmbed(modelChannels, config.timeDim, rng);
    const { blocks, given } = make.inputBlocks(inChannels);
    const channels = given.at(-1)!;
    this.inputBlocks = blocks;
    this.middleBlock = make.middleBlock(channels);
    const features = given.reduce((sum, c) => sum + c, channels);
    if (pool === "attention") this.out = new AttentionHead(channels, config, rng);
    else if (pool === "adaptive") this.out = new MeanHead(channels, outChannels, rng);
    else this.out = new SpatialHead(features, outChannels, pool === "spatial_v2", rng);
    this.inChannels = inChannels;
    this.modelChannels = modelChannels;
    this.imageSize = pool === "attention" ? imageSize : undefined;
  }

  /** x [N, C, H, W] at times t [N], [1] or [] gives logits [N, out_channels]; with a key, values are dropped. */
  call(x: Tensor, t: Tensor, key?: Tensor): Tensor {
    checkMap("GuidedDiffusionClassifier", x, this.inChannels, this.sizeFactor);
    const size = this.imageSize;
    if (size !== undefined && (x.shape[2] !== size || x.shape[3] !== size))
      throw new ShapeError(
        `GuidedDiffusionClassifier: expected [N, ${this.inChannels}, ${size}, ${size}], got ${x}`,
      );
    const time = this.timeEmbed.call(guidedTimes(timesOf(t, x.shape[0]!), this.modelChannels));
    const inputs = { time, cross: {}, key };
    const maps: Tensor[] = [];
    let h = x;
    for (const block of [...this.inputBlocks, this.middleBlock]) maps.push((h = block.call(h, inputs)));
    return this.out.call(maps);
  }
}

/** A classifier from the arguments of guided-diffusion's `EncoderUNetModel`; see `guidedDiffusionUNet`. */
export const guidedDiffusionClassifier = (config: unknown, rng: Rng): GuidedDiffusionClassifier =>
  new GuidedDiffusionClassifier(guidedClassifierConfig(config), rng);
