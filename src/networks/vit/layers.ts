/** Parts of a vision transformer, with the keys of timm. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import {
  Conv2d,
  LayerNorm,
  Linear,
  Module,
  mapParameters,
  multiHeadAttention,
  type Rng,
  sinCosPositions2d,
} from "../../nn/index.ts";
import { gelu, resize, type Tensor, zeros } from "../../tensor/index.ts";

/** Sizes of a vision transformer's trunk. */
export interface ViTConfig {
  readonly imageSize: number;
  readonly patchSize: number;
  readonly inChannels: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  readonly mlpRatio: number;
  /** Of all norms. */
  readonly eps: number;
  /** Which of the attention's inputs have a bias: all, or only queries and values, as in BEiT and EVA. Default "all". */
  readonly qkvBias?: "all" | "qv";
}

const SIZES = {
  Ti: { dim: 192, depth: 12, heads: 3 },
  S: { dim: 384, depth: 12, heads: 6 },
  B: { dim: 768, depth: 12, heads: 12 },
  L: { dim: 1024, depth: 24, heads: 16 },
  H: { dim: 1280, depth: 32, heads: 16 },
} as const;

/** Such as "B/16": a size and a patch size. */
export type ViTSize = `${keyof typeof SIZES}/${number}`;

/** A usual size (Dosovitskiy et al. 2021, table 1; Touvron et al. 2021 for Ti and S), by default for images of 224. */
export function vitPreset(size: ViTSize, options: Partial<ViTConfig> = {}): ViTConfig {
  const [name, patch] = size.split("/") as [keyof typeof SIZES, string];
  if (!Object.hasOwn(SIZES, name))
    throw new ArgumentError(
      `vitPreset: expected ${Object.keys(SIZES).join(", ")}, got ${JSON.stringify(size)}`,
    );
  const patchSize = Number(patch);
  return { ...SIZES[name], patchSize, imageSize: 224, inChannels: 3, mlpRatio: 4, eps: 1e-6, ...options };
}

/** Throws `ArgumentError` for sizes that do not divide. */
export function checkViT(name: string, { imageSize, patchSize, dim, heads }: ViTConfig): void {
  if (!Number.isInteger(patchSize) || patchSize < 1 || imageSize % patchSize !== 0)
    throw new ArgumentError(
      `${name}: expected an image size divisible by the patches, got ${imageSize} and ${patchSize}`,
    );
  if (dim % heads !== 0 || dim % 4 !== 0)
    throw new ArgumentError(
      `${name}: expected channels divisible by the heads and by 4, got ${dim} and ${heads}`,
    );
}

class Attention extends Module {
  readonly qkv: Linear;
  /** Biases of queries and values, where keys have none. // [D] */
  readonly qBias: Tensor | undefined;
  readonly vBias: Tensor | undefined;
  readonly proj: Linear;
  readonly heads: number;

  constructor(dim: number, heads: number, rng: Rng, bias: "all" | "qv" = "all") {
    super();
    this.qkv = new Linear(dim, 3 * dim, rng, { bias: bias === "all" });
    if (bias === "qv") [this.qBias, this.vBias] = [zeros([dim]), zeros([dim])];
    this.proj = new Linear(dim, dim, rng);
    this.heads = heads;
  }

  /** x [N, T, D]. */
  call(x: Tensor): Tensor {
    const [q, k, v] = this.qkv.call(x).split(3, -1) as [Tensor, Tensor, Tensor];
    const [query, value] = [this.qBias ? q.add(this.qBias) : q, this.vBias ? v.add(this.vBias) : v];
    return this.proj.call(multiHeadAttention(query, k, value, { heads: this.heads }));
  }
}

/** The feed-forward part of a block. */
export class Mlp extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;

  constructor(dim: number, inner: number, rng: Rng) {
    super();
    this.fc1 = new Linear(dim, inner, rng);
    this.fc2 = new Linear(inner, dim, rng);
  }

  /** x [N, T, D]. */
  call(x: Tensor): Tensor {
    return this.fc2.call(gelu(this.fc1.call(x)));
  }
}

/** Attention and perceptron, each behind its norm. */
export class ViTBlock extends Module {
  readonly norm1: LayerNorm;
  readonly attn: Attention;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp;

  constructor(dim: number, heads: number, { mlpRatio, eps, qkvBias }: ViTConfig, rng: Rng) {
    super();
    this.norm1 = new LayerNorm(dim, { eps });
    this.attn = new Attention(dim, heads, rng, qkvBias);
    this.norm2 = new LayerNorm(dim, { eps });
    this.mlp = new Mlp(dim, Math.floor(dim * mlpRatio), rng);
  }

  /** x [N, T, D]. */
  call(x: Tensor): Tensor {
    const attended = x.add(this.attn.call(this.norm1.call(x)));
    return attended.add(this.mlp.call(this.norm2.call(attended)));
  }
}

/** Square patches as tokens. */
export class PatchEmbed extends Module {
  readonly proj: Conv2d;
  readonly patchSize: number;

  constructor({ inChannels, dim, patchSize }: ViTConfig, rng: Rng) {
    super();
    this.proj = new Conv2d(inChannels, dim, patchSize, rng, { stride: patchSize });
    this.patchSize = patchSize;
  }

  /** x [N, C, H, W] gives [N, H W / P², D]. Throws `ShapeError` unless the patches fit. */
  call(x: Tensor): Tensor {
    const { patchSize } = this;
    if (x.rank !== 4 || x.shape[2]! % patchSize !== 0 || x.shape[3]! % patchSize !== 0)
      throw new ShapeError(
        `PatchEmbed: expected [N, C, H, W] with H and W divisible by ${patchSize}, got ${x}`,
      );
    const patches = this.proj.call(x); // [N, D, H / P, W / P]
    return patches.reshape([x.shape[0]!, patches.shape[1]!, -1]).transpose([0, 2, 1]);
  }
}

/** Fixed sine-cosine positions of a square grid behind a zero for the class token: [1, 1 + size², D]. */
export const sinCosTokens = (dim: number, size: number): Tensor =>
  zeros([1, 1, dim]).concat(sinCosPositions2d(dim, size, size).unsqueeze(0), 1);

/**
 * Positions [1, prefix + L, D] of a square grid for a grid of another size, by bicubic interpolation as in the code of
 * MAE: [1, prefix + rows columns, D]. The first `prefix` (class token) stay.
 */
export function resizePositions(positions: Tensor, rows: number, columns: number, prefix = 1): Tensor {
  const [, length, dim] = positions.shape as [number, number, number];
  const size = Math.sqrt(length - prefix);
  if (positions.rank !== 3 || !Number.isInteger(size))
    throw new ShapeError(`resizePositions: expected [1, ${prefix} + a square number, D], got ${positions}`);
  if (rows === size && columns === size) return positions;
  const grid = positions.sliceAxis(1, prefix).reshape([1, size, size, dim]).transpose([0, 3, 1, 2]);
  const resized = resize(grid, [rows, columns], { mode: "bicubic" }); // [1, D, rows, columns]
  const tokens = resized.reshape([1, dim, rows * columns]).transpose([0, 2, 1]);
  return positions.sliceAxis(1, 0, prefix).concat(tokens, 1);
}

/** Replaces a parameter, by key; undefined keeps the usual rule. */
export type SpecialInit = (key: string, shape: readonly number[]) => Tensor | undefined;

/**
 * A transformer as its authors begin: weights by `weight` (a kernel counts as the matrix that it is), biases zero,
 * norms as they are, and what `special` says.
 */
export function initTransformer<T extends object>(
  module: T,
  weight: (shape: readonly number[], key: string) => Tensor,
  special: SpecialInit = () => undefined,
): T {
  return mapParameters(module, (parameter, key) => {
    const { shape } = parameter;
    const given = special(key, shape);
    if (given) return given;
    if (key.endsWith(".bias")) return zeros(shape);
    return shape.length >= 2 ? weight(shape, key) : parameter;
  });
}

/** Uniform with the variance of Glorot and Bengio 2010, for the matrix [out, everything else]. */
export const xavierMatrix =
  (rng: Rng) =>
  (shape: readonly number[]): Tensor => {
    const fanIn = shape.slice(1).reduce((a, b) => a * b, 1);
    const bound = Math.sqrt(6 / (shape[0]! + fanIn));
    return rng.uniform(shape, -bound, bound);
  };
