/** Parts of a diffusion transformer, with the keys of diffusers. */
import { ShapeError } from "../../errors.ts";
import {
  Conv2d,
  Embedding,
  FeedForward,
  gated,
  LayerNorm,
  Linear,
  Module,
  MultiHeadAttention,
  modulate,
  type Rng,
  sinCosPositions2d,
  TimestepEmbedding,
  timestepEmbedding,
} from "../../nn/index.ts";
import { cast, silu, type Tensor } from "../../tensor/index.ts";
import type { DiTConfig } from "./config.ts";

/** Width of the sinusoidal embedding behind which the perceptron of the timestep sits. */
const TIME_CHANNELS = 256;

/** The class as a vector; the class after the last stands for none. */
class LabelEmbedding extends Module {
  readonly embeddingTable: Embedding;

  constructor(entries: number, dim: number, rng: Rng) {
    super();
    const init = (source: Rng, shape: readonly number[]): Tensor => source.normal(shape, 0.02);
    this.embeddingTable = new Embedding(entries, dim, rng, { init });
  }

  call(labels: Tensor): Tensor {
    return this.embeddingTable.call(labels);
  }
}

/** Timestep and class as one condition. */
export class TimestepLabelEmbedding extends Module {
  readonly timestepEmbedder: TimestepEmbedding;
  readonly classEmbedder: LabelEmbedding;
  readonly freqShift: number;

  constructor(dim: number, { classes, nullClass, freqShift }: DiTConfig, rng: Rng) {
    super();
    this.timestepEmbedder = new TimestepEmbedding(TIME_CHANNELS, dim, rng);
    this.classEmbedder = new LabelEmbedding(nullClass ? classes + 1 : classes, dim, rng);
    this.freqShift = freqShift;
  }

  /** t [N] and labels [N] give [N, D]. */
  call(t: Tensor, labels: Tensor): Tensor {
    const waves = timestepEmbedding(t, TIME_CHANNELS, { flipSinToCos: true, freqShift: this.freqShift });
    const { dtype } = this.classEmbedder.embeddingTable.weight;
    return this.timestepEmbedder.call(cast(waves, dtype)).add(this.classEmbedder.call(labels));
  }
}

/** Layer norm whose shift and scale, like the gates of the block, come from the condition. */
class AdaLayerNormZero extends Module {
  /** Absent when the embedding of the first block is shared. */
  readonly emb: TimestepLabelEmbedding | undefined;
  readonly linear: Linear;
  readonly norm: LayerNorm;

  constructor(dim: number, emb: TimestepLabelEmbedding | undefined, rng: Rng) {
    super();
    this.emb = emb;
    this.linear = new Linear(dim, 6 * dim, rng);
    this.norm = new LayerNorm(dim, { eps: 1e-6, affine: false });
  }

  /** x [N, T, D] modulated by a condition [N, D], and what the rest of the block needs, each [N, D]. */
  call(x: Tensor, condition: Tensor) {
    const [shift, scale, gateAttention, shiftMlp, scaleMlp, gateMlp] = this.linear
      .call(silu(condition))
      .split(6, 1) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    return { x: modulate(this.norm.call(x), shift, scale), gateAttention, shiftMlp, scaleMlp, gateMlp };
  }
}

/** A transformer block with adaLN-Zero conditioning (Peebles and Xie 2022, figure 3). */
export class DiTBlock extends Module {
  readonly norm1: AdaLayerNormZero;
  readonly attn1: MultiHeadAttention;
  readonly norm3: LayerNorm;
  readonly ff: FeedForward;

  constructor(config: DiTConfig, layer: number, emb: TimestepLabelEmbedding | undefined, rng: Rng) {
    super();
    const {
      heads,
      headDim,
      attentionBias: bias,
      mlpNormEps,
      mlpNormAffine = false,
      activation,
      dropout,
    } = config;
    const dim = heads * headDim;
    this.norm1 = new AdaLayerNormZero(dim, emb, rng);
    this.attn1 = new MultiHeadAttention(dim, rng, { heads, headDim, bias });
    this.norm3 = new LayerNorm(dim, { eps: mlpNormEps, affine: mlpNormAffine });
    this.ff = new FeedForward(dim, rng, { activation, dropout, purpose: `transformer_blocks.${layer}.ff` });
  }

  /** x [N, T, D], condition [N, D]; a key drops values of the perceptron. */
  call(x: Tensor, condition: Tensor, key?: Tensor): Tensor {
    const norm = this.norm1.call(x, condition);
    const attended = x.add(gated(this.attn1.call(norm.x), norm.gateAttention));
    const modulated = modulate(this.norm3.call(attended), norm.shiftMlp, norm.scaleMlp);
    return attended.add(gated(this.ff.call(modulated, key), norm.gateMlp));
  }
}

/** Square patches as tokens with fixed sine-cosine positions. */
export class DiTPatchEmbed extends Module {
  readonly proj: Conv2d;
  readonly patchSize: number;
  readonly gridSize: number;

  constructor({ inChannels, patchSize, sampleSize, heads, headDim }: DiTConfig, rng: Rng) {
    super();
    this.proj = new Conv2d(inChannels, heads * headDim, patchSize, rng, { stride: patchSize });
    this.patchSize = patchSize;
    this.gridSize = Math.floor(sampleSize / patchSize);
  }

  /** x [N, C, H, W] gives [N, H W / P², D]. On other sizes than the model's own the positions are stretched to fit. */
  call(x: Tensor): Tensor {
    const { patchSize, gridSize } = this;
    if (x.rank !== 4 || x.shape[2]! % patchSize !== 0 || x.shape[3]! % patchSize !== 0)
      throw new ShapeError(`DiT: expected [N, C, H, W] with H and W divisible by ${patchSize}, got ${x}`);
    const patches = this.proj.call(x); // [N, D, H / P, W / P]
    const [samples, dim, rows, columns] = patches.shape as [number, number, number, number];
    const steps = { rowStep: gridSize / rows, columnStep: gridSize / columns };
    const positions = sinCosPositions2d(dim, rows, columns, steps);
    return patches
      .reshape([samples, dim, rows * columns])
      .transpose([0, 2, 1])
      .add(cast(positions, patches.dtype));
  }
}
