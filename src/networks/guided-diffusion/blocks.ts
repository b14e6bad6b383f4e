/**
 * Blocks of the U-Nets of guided-diffusion (Dhariwal and Nichol 2021) and latent diffusion (Rombach et al. 2022): the
 * shared blocks under the names of those checkpoints, and attention with q, k and v in one convolution.
 */
import { ArgumentError } from "../../errors.ts";
import {
  Conv1d,
  type Conv2d,
  GroupNorm,
  Module,
  type Rng,
  TimestepEmbedding,
  timestepEmbedding,
  withFields,
  zeroed,
} from "../../nn/index.ts";
import { matmul, softmax, type Tensor } from "../../tensor/index.ts";
import type { AttentionInputs } from "../blocks/attention.ts";
import { Downsample2D, type Upsample2D } from "../blocks/resampling.ts";
import { ResnetBlock2D, type ResnetOptions } from "../blocks/resnet.ts";
import { Transformer2DModel } from "../blocks/transformer.ts";

/** Groups of the norms of published networks; transformers always have as many. */
export const NORM_GROUPS = 32;

/** The perceptron of the time embedding: `time_embed.0`, `time_embed.2`. */
export class TimeEmbed extends TimestepEmbedding {
  static override readonly keyNames = { linear1: "0", linear2: "2" };
}

/** Embedding of times [N] as in that code: [cos | sin], frequencies 10000^(-i / half). */
export const guidedTimes = (t: Tensor, dim: number): Tensor =>
  timestepEmbedding(t, dim, { flipSinToCos: true, freqShift: 0 });

/** `ResnetBlock2D` as `in_layers`, `emb_layers`, `out_layers` and `skip_connection`. */
export class ResBlock extends ResnetBlock2D {
  static override readonly keyNames = {
    norm1: "in_layers.0",
    conv1: "in_layers.2",
    timeEmbProj: "emb_layers.1",
    norm2: "out_layers.0",
    conv2: "out_layers.3",
    convShortcut: "skip_connection",
  };
}

/** A residual block that begins as its shortcut. */
export function resBlock(channels: number, rng: Rng, options: ResnetOptions = {}): ResBlock {
  const block = new ResBlock(channels, rng, { eps: 1e-5, ...options });
  return withFields<ResBlock>(block, { conv2: zeroed(block.conv2) });
}

/** `Downsample2D` whose convolution is called `op`. */
export class Downsample extends Downsample2D {
  static override readonly keyNames = { conv: "op" };
}

/** How the channels of a qkv convolution are ordered: heads outside and q, k, v inside, or the other way round. */
export type QkvOrder = "legacy" | "new";

/** q, k and v [N, heads, D, T] of qkv [N, 3 heads D, T]. */
export function splitQkv(qkv: Tensor, heads: number, order: QkvOrder): [q: Tensor, k: Tensor, v: Tensor] {
  const [n, channels, t] = qkv.shape as [number, number, number];
  const dim = channels / (3 * heads);
  const legacy = order === "legacy";
  const parts = qkv.reshape(legacy ? [n, heads, 3, dim, t] : [n, 3, heads, dim, t]);
  return [0, 1, 2].map((i) => parts.select(legacy ? 2 : 1, i)) as [Tensor, Tensor, Tensor];
}

/** Attention over columns: q [N, heads, D, Q], k and v [N, heads, D, T] give [N, heads D, Q]. */
export function attendColumns(q: Tensor, k: Tensor, v: Tensor): Tensor {
  const [n, heads, dim, length] = q.shape as [number, number, number, number];
  const weights = softmax(matmul(q, k, { transA: true, alpha: 1 / Math.sqrt(dim) })); // [N, heads, Q, T]
  return matmul(v, weights, { transB: true }).reshape([n, heads * dim, length]);
}

/** Number of heads: of a given width, or given. Throws `ArgumentError` when the channels do not split. */
export function headCount(channels: number, heads: number, headChannels: number | undefined): number {
  const count = headChannels === undefined ? heads : channels / headChannels;
  if (!Number.isInteger(count) || count < 1 || channels % count !== 0)
    throw new ArgumentError(
      headChannels === undefined
        ? `attention: ${channels} channels do not split into ${heads} heads (num_heads)`
        : `attention: ${channels} channels do not split into heads of ${headChannels} (num_head_channels)`,
    );
  return count;
}

/** Self attention over the points of a map, with its norm and shortcut. */
export class AttentionBlock extends Module {
  readonly norm: GroupNorm;
  readonly qkv: Conv1d;
  readonly projOut: Conv1d;
  readonly heads: number;
  readonly order: QkvOrder;

  constructor(channels: number, rng: Rng, options: { heads: number; order: QkvOrder; groups?: number }) {
    super();
    this.norm = new GroupNorm(options.groups ?? NORM_GROUPS, channels);
    this.qkv = new Conv1d(channels, 3 * channels, 1, rng);
    this.projOut = zeroed(new Conv1d(channels, channels, 1, rng));
    this.heads = options.heads;
    this.order = options.order;
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    const [n, c, h, w] = x.shape as [number, number, number, number];
    const points = this.norm.call(x).reshape([n, c, h * w]);
    const attended = attendColumns(...splitQkv(this.qkv.call(points), this.heads, this.order)); // [N, C, H W]
    return x.add(this.projOut.call(attended).reshape(x.shape));
  }
}

/** What the layers of a U-Net get beside the map. */
export interface LayerInputs {
  /** Embedding of time and class [N or 1, T]. */
  readonly time: Tensor;
  readonly cross: AttentionInputs;
  /** Key of the dropout; absent: evaluation. */
  readonly key?: Tensor;
}

/** One layer of a block of the U-Net. */
export type Layer = Conv2d | ResBlock | AttentionBlock | Transformer2DModel | Downsample | Upsample2D;

function apply(layer: Layer, x: Tensor, { time, cross, key }: LayerInputs): Tensor {
  if (layer instanceof ResnetBlock2D) return layer.call(x, time, key);
  if (layer instanceof Transformer2DModel) return layer.call(x, cross);
  return layer.call(x);
}

/** Layers one after the other, `0`, `1`, …: one entry of `input_blocks` or `output_blocks`, or the `middle_block`. */
export class LayerSequence extends Module {
  readonly [index: number]: Layer;

  constructor(layers: readonly Layer[]) {
    super();
    Object.assign(this, layers);
  }

  /** x [N, C, H, W]. */
  call(x: Tensor, inputs: LayerInputs): Tensor {
    return (Object.values(this) as Layer[]).reduce((y, layer) => apply(layer, y, inputs), x);
  }
}

/** The norm, activation and convolution at the end: `out.0`, `out.2`. */
export class OutputLayers extends Module {
  static override readonly keyNames = { norm: "0", conv: "2" };
  readonly norm: GroupNorm;
  readonly conv: Conv2d;

  constructor(channels: number, conv: Conv2d, groups = NORM_GROUPS) {
    super();
    this.norm = new GroupNorm(groups, channels);
    this.conv = zeroed(conv);
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    return this.conv.call(this.norm.call(x).silu());
  }
}
