/** The transformer: sizes, encoder, decoder, both heads, its file, and the arithmetic of a pass. */
import { z } from "zod";
import { ArgumentError, ShapeError } from "../../errors.ts";
import {
  initTransformer,
  type Masking,
  PatchEmbed,
  randomMasking,
  rowsAt,
  unpatchify,
  xavierMatrix,
} from "../../networks/index.ts";
import {
  blankRng,
  createRng,
  Embedding,
  gated,
  LayerNorm,
  Linear,
  MLP,
  Module,
  MultiHeadAttention,
  mapParameters,
  modulate,
  parameters,
  type Rng,
  timestepEmbedding,
} from "../../nn/index.ts";
import { full, resize, type Seed, silu, type Tensor, zeros } from "../../tensor/index.ts";
import { modelFile } from "../../training/model-file.ts";
import {
  type Hiding,
  keptTokens,
  type Mixture,
  type Network,
  type NetworkInput,
  type Prediction,
} from "./method.ts";

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
  domain: z.enum(["pixels", "latents"]),
});

/** Everything that decides the shapes of a model; stored in its checkpoint. */
export type UMDConfig = z.output<typeof configSchema>;

/** A size of pixels; the shapes of the others follow from the numbers. */
const sized = (
  size: number,
  patch: number,
  dim: number,
  heads: number,
  depth: number,
  decoderDepth: number,
) =>
  ({
    ...{ size, patch, channels: 3, dim, heads, depth, decoderDepth, classTokens: 4 },
    ...{ conditioning: "adaLN", classes: 0, activation: "geluTanh", domain: "pixels" },
  }) as const satisfies UMDConfig;

/** The published sizes, two miniatures and one for tests. */
export const PRESETS = {
  "S/4": sized(64, 4, 384, 6, 12, 4),
  "B/4": sized(64, 4, 768, 12, 12, 4),
  "L/2": { ...sized(32, 2, 1024, 16, 24, 8), channels: 4, domain: "latents" },
  "L/16": sized(256, 16, 1024, 16, 24, 8),
  mini: sized(24, 4, 96, 6, 6, 2),
  micro: sized(24, 4, 64, 4, 4, 2),
  smoke: sized(16, 4, 32, 4, 2, 1),
} as const satisfies Record<string, UMDConfig>;

/** Tokens of a picture. */
export const tokenCount = ({ size, patch }: Pick<UMDConfig, "size" | "patch">): number => (size / patch) ** 2;

/** @throws ArgumentError for sizes that do not divide */
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

/** The norm of this model: learned scale and shift, under adaLN too. */
const norm = (dim: number): LayerNorm => new LayerNorm(dim, { eps: 1e-6 });

/** Attention and perceptron behind their norms, modulated by the condition (adaLN-Zero) or with it as a token. */
class UMDBlock extends Module {
  readonly norm1: LayerNorm;
  readonly attn: MultiHeadAttention;
  readonly norm2: LayerNorm;
  readonly mlp: MLP;
  /** Shifts, scales and gates from the condition; absent: the condition is a token. */
  readonly modulation: Linear | undefined;

  constructor({ dim, heads, conditioning, activation }: UMDConfig, rng: Rng) {
    super();
    this.norm1 = norm(dim);
    this.attn = new MultiHeadAttention(dim, rng, { heads, bias: true });
    this.norm2 = norm(dim);
    this.mlp = new MLP([dim, 4 * dim, dim], rng, { activation });
    this.modulation = conditioning === "adaLN" ? new Linear(dim, 6 * dim, rng) : undefined;
  }

  /** x [N, T, D] and condition [N, D] give [N, T, D]. */
  call(x: Tensor, condition: Tensor): Tensor {
    if (!this.modulation) return this.plain(condition.unsqueeze(1).concat(x, 1)).sliceAxis(1, 1);
    const parts = this.modulation.call(condition).split(6, 1);
    const [shift1, scale1, gate1, shift2, scale2, gate2] = parts as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const attended = x.add(gated(this.attn.call(modulate(this.norm1.call(x), shift1, scale1)), gate1));
    return attended.add(gated(this.mlp.call(modulate(this.norm2.call(attended), shift2, scale2)), gate2));
  }

  /** The block of a vision transformer. */
  private plain(x: Tensor): Tensor {
    const attended = x.add(this.attn.call(this.norm1.call(x)));
    return attended.add(this.mlp.call(this.norm2.call(attended)));
  }
}

/** What the encoder gives. */
export interface Encoded {
  /** Visible tokens. */
  readonly tokens: Tensor; // [N, K, D]
  /** Mean of the class tokens: the features. */
  readonly representation: Tensor; // [N, D]
  readonly condition: Tensor; // [N, D]
}

/** Encoder, decoder and both heads. */
export class UMD extends Module implements Network {
  readonly embedding: PatchEmbed;
  readonly posEmbedding: Tensor; // [1, L, D]
  readonly cls: Tensor; // [1, 4, D]
  readonly timeTrunk: MLP;
  readonly labelEmbedding: Embedding | undefined;
  readonly labelTrunk: MLP | undefined;
  readonly encoder: readonly UMDBlock[];
  readonly encoderNorm: LayerNorm;
  readonly maskToken: Tensor; // [1, 1, D]
  readonly decoderPosEmbedding: Tensor; // [1, L, D]
  readonly decoder: readonly UMDBlock[];
  readonly decoderNorm: LayerNorm;
  readonly finalModulation: Linear | undefined;
  readonly finalProjection: Linear;
  readonly config: UMDConfig;

  /** @throws ArgumentError for sizes that do not divide */
  constructor(config: UMDConfig, rng: Rng) {
    super();
    checkConfig(config);
    const { size, patch, channels, dim, depth, decoderDepth, heads, classTokens, classes } = config;
    const tokens = tokenCount(config);
    const blocks = (n: number): UMDBlock[] => Array.from({ length: n }, () => new UMDBlock(config, rng));
    const trunk = (): MLP => new MLP([dim, 2 * dim, dim], rng);
    this.config = config;
    this.embedding = new PatchEmbed(
      { imageSize: size, patchSize: patch, inChannels: channels, dim, depth, heads, mlpRatio: 4, eps: 1e-6 },
      rng,
    );
    this.posEmbedding = rng.normal([1, tokens, dim], 1 / Math.sqrt(tokens));
    this.cls = rng.normal([1, classTokens, dim], 0.02);
    this.timeTrunk = trunk();
    this.labelEmbedding = classes > 0 ? new Embedding(classes + 1, dim, rng) : undefined;
    this.labelTrunk = classes > 0 ? trunk() : undefined;
    this.encoder = blocks(depth);
    this.encoderNorm = norm(dim);
    this.maskToken = rng.normal([1, 1, dim], 0.02);
    this.decoderPosEmbedding = rng.normal([1, tokens, dim], 1 / Math.sqrt(tokens));
    this.decoder = blocks(decoderDepth);
    this.decoderNorm = norm(dim);
    this.finalModulation = config.conditioning === "adaLN" ? new Linear(dim, 2 * dim, rng) : undefined;
    this.finalProjection = new Linear(dim, patch ** 2 * 2 * channels, rng);
  }

  /** Time and label as one vector [N, D]; the null label where none is given. @throws ArgumentError for labels unknown */
  condition(t: Tensor, labels?: Tensor): Tensor {
    const { dim, classes, conditioning } = this.config;
    if (labels && classes === 0) throw new ArgumentError("UMD: this model has no table of labels");
    const time = this.timeTrunk.call(timestepEmbedding(t, dim));
    const none = (): Tensor => full(t.shape, classes, "i32");
    const sum =
      this.labelEmbedding && this.labelTrunk
        ? time.add(this.labelTrunk.call(this.labelEmbedding.call(labels ?? none())))
        : time;
    return conditioning === "adaLN" ? silu(sum) : sum;
  }

  /** Tokens of the patches that a masking keeps (default: all), and the features of the picture. */
  encode({ x, t, labels }: NetworkInput, masking?: Pick<Masking, "keep">): Encoded {
    const { size, channels, dim, classTokens } = this.config;
    if (x.rank !== 4 || x.shape[1] !== channels || x.shape[2] !== size || x.shape[3] !== size)
      throw new ShapeError(`UMD: expected [N, ${channels}, ${size}, ${size}], got ${x}`);
    const samples = x.shape[0]!;
    const condition = this.condition(t, labels);
    const all = this.embedding.call(x).add(this.posEmbedding); // [N, L, D]
    const patches = masking ? rowsAt(all, masking.keep) : all;
    const tokens = this.cls.broadcastTo([samples, classTokens, dim]).concat(patches, 1);
    const encoded = this.encoderNorm.call(
      this.encoder.reduce((h, block) => block.call(h, condition), tokens),
    );
    return {
      tokens: encoded.sliceAxis(1, classTokens),
      representation: encoded.sliceAxis(1, 0, classTokens).mean(1),
      condition,
    };
  }

  /** Every patch from the tokens of the visible ones: [N, 2 C, S, S]. */
  decode({ tokens, representation, condition }: Encoded, masking?: Pick<Masking, "restore">): Tensor {
    const { size, patch, dim } = this.config;
    const length = tokenCount(this.config);
    const [samples, kept] = tokens.shape as [number, number];
    const places = masking
      ? rowsAt(tokens.concat(this.maskToken.broadcastTo([samples, length - kept, dim]), 1), masking.restore)
      : tokens;
    const input = representation.unsqueeze(1).concat(places.add(this.decoderPosEmbedding), 1);
    const decoded = this.decoder.reduce((h, block) => block.call(h, condition), input);
    const patches = this.modulated(this.decoderNorm.call(decoded).sliceAxis(1, 1), condition);
    return unpatchify(this.finalProjection.call(patches), patch, size / patch, size / patch);
  }

  private modulated(x: Tensor, condition: Tensor): Tensor {
    if (!this.finalModulation) return x;
    const [shift, scale] = this.finalModulation.call(condition).split(2, 1) as [Tensor, Tensor];
    return modulate(x, shift, scale);
  }

  /** @throws ArgumentError for a mask ratio outside [0, 1), or one that hides everything */
  call(input: NetworkInput, hiding?: Hiding): Prediction & Pick<Encoded, "representation"> {
    const { channels } = this.config;
    if (hiding) keptTokens(tokenCount(this.config), hiding.ratio);
    const masking = hiding && hiding.ratio > 0 ? randomMasking(hiding.noise, hiding.ratio) : undefined;
    const encoded = this.encode(input, masking);
    const out = this.decode(encoded, masking);
    return {
      x0: out.sliceAxis(1, 0, channels),
      eps: out.sliceAxis(1, channels),
      mask: masking?.mask,
      representation: encoded.representation,
    };
  }
}

/** Options of `initUMD`. */
export interface InitOptions {
  /** The class tokens begin at zero, as in the authors' code: they then stay equal for ever. Default false. */
  readonly zeroClassTokens?: boolean;
}

/**
 * A model to train from scratch: matrices by Glorot and Bengio, positions normal with 1 / sqrt(L), tokens, labels and
 * the head with 0.02, and zero wherever the condition modulates, so that every block begins as the identity.
 */
export function initUMD(config: UMDConfig, seed: Seed, { zeroClassTokens = false }: InitOptions = {}): UMD {
  const rng = createRng(seed);
  const position = 1 / Math.sqrt(tokenCount(config));
  return initTransformer(blankUMD(config), xavierMatrix(rng), (key, shape) => {
    if (/(^|\.)(final_)?modulation\./.test(key)) return zeros(shape);
    if (key.endsWith("pos_embedding")) return rng.normal(shape, position);
    if (key === "cls" && zeroClassTokens) return zeros(shape);
    if (/^(cls|mask_token|label_embedding\.weight|final_projection\.weight)$/.test(key))
      return rng.normal(shape, 0.02);
    return undefined;
  });
}

/** A model to load weights into. */
export const blankUMD = (config: UMDConfig): UMD => new UMD(config, blankRng);

/** Checkpoints: notes say method, data, steps and seed. */
export const umdFile = modelFile<UMD>({
  format: "tweedie.umd",
  name: "UMD",
  describe: ({ config }) => ({ config: JSON.stringify(config) }),
  blank: (field) => blankUMD(configSchema.parse(JSON.parse(field("config") ?? ""))),
});

/** Positions [1, L, D] of a square grid, bilinear, for a grid of another side. */
function resized(positions: Tensor, side: number): Tensor {
  const [, length, dim] = positions.shape as [number, number, number];
  const old = Math.sqrt(length);
  const grid = positions.reshape([1, old, old, dim]).transpose([0, 3, 1, 2]);
  return resize(grid, [side, side], { mode: "bilinear" })
    .reshape([1, dim, side * side])
    .transpose([0, 2, 1]);
}

/** The model for pictures of another size: its positions are interpolated. @throws ArgumentError when the patch does not fit */
export function withSize(model: UMD, size: number): UMD {
  const { config } = model;
  if (size === config.size) return model;
  if (!Number.isInteger(size) || size < 1 || size % config.patch !== 0)
    throw new ArgumentError(`UMD: expected a size divisible by the patch of ${config.patch}, got ${size}`);
  const known = parameters(model);
  return mapParameters(blankUMD({ ...config, size }), (_, key) => {
    const weight = known.get(key)!;
    return key.endsWith("pos_embedding") ? resized(weight, size / config.patch) : weight;
  });
}

/** Multiplications and additions of a pass for one picture that hides a share of the tokens: matrices of blocks, attention, conditioning, embedding and head. */
export function forwardFlops(config: UMDConfig, maskRatio: number): number {
  const { dim: d, depth, decoderDepth, classTokens, patch, channels, conditioning, classes } = config;
  const tokens = tokenCount(config);
  const extra = conditioning === "token" ? 1 : 0;
  const block = (length: number): number => {
    const n = length + extra;
    return 24 * n * d * d + 4 * n * n * d + (conditioning === "adaLN" ? 12 * d * d : 0);
  };
  const encoder = depth * block(keptTokens(tokens, maskRatio) + classTokens);
  const decoder = decoderDepth * block(tokens + 1);
  const values = patch * patch * channels;
  const ends = 2 * tokens * d * values + 2 * tokens * d * 2 * values;
  const trunks = (classes > 0 ? 2 : 1) * 8 * d * d + (conditioning === "adaLN" ? 4 * d * d : 0);
  return encoder + decoder + ends + trunks;
}

/** Those of a training step for one picture of the mixture: the backward pass counts twice. */
export function trainingFlops(config: UMDConfig, { cleanShare, noisedMask, cleanMask }: Mixture): number {
  const noised = cleanShare < 1 ? (1 - cleanShare) * forwardFlops(config, noisedMask) : 0;
  const clean = cleanShare > 0 ? cleanShare * forwardFlops(config, cleanMask) : 0;
  return 3 * (noised + clean);
}
