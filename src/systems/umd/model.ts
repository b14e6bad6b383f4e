/**
 * The unified auto-encoder: one transformer that fills in hidden patches of clean pictures and removes noise from
 * visible ones. Hidden tokens are not in the encoder at all, which is what masking saves.
 */
import { ShapeError } from "../../errors.ts";
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
  type LayerNorm,
  Linear,
  MLP,
  Module,
  modulate,
  type Rng,
  timestepEmbedding,
} from "../../nn/index.ts";
import { full, type Seed, silu, type Tensor, zeros } from "../../tensor/index.ts";
import { checkConfig, keptTokens, tokenCount, type UMDConfig } from "./config.ts";
import { norm, UMDBlock } from "./layers.ts";

export interface UMDInput {
  readonly x: Tensor; // [N, C, S, S]
  /** 0: clean; i + 1: noised at index i of the schedule. */
  readonly t: Tensor; // [N]
  /** Absent in a model with labels: the null label. */
  readonly labels?: Tensor; // [N]
}

export interface UMDMasking {
  /** Uniform numbers that decide what is hidden. */
  readonly noise: Tensor; // [N, L]
  readonly ratio: number;
}

export interface UMDOutput {
  /** The clean picture as guessed. */
  readonly x0: Tensor; // [N, C, S, S]
  /** The noise as guessed. */
  readonly eps: Tensor; // [N, C, S, S]
  /** 1 where a token was hidden; undefined without a mask. */
  readonly mask: Tensor | undefined; // [N, L]
  /** Mean of the class tokens: the features. */
  readonly representation: Tensor; // [N, D]
}

export interface Encoded {
  /** Visible tokens. */
  readonly tokens: Tensor; // [N, K, D]
  readonly representation: Tensor; // [N, D]
  readonly condition: Tensor; // [N, D]
}

/** Encoder, decoder and both heads. */
export class UMD extends Module {
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

  /** Throws `ArgumentError` for sizes that do not divide. */
  constructor(config: UMDConfig, rng: Rng) {
    super();
    checkConfig(config);
    const { size, patch, channels, dim, depth, decoderDepth, heads, classTokens, classes } = config;
    const tokens = tokenCount(config);
    const blocks = (n: number): UMDBlock[] => Array.from({ length: n }, () => new UMDBlock(config, rng));
    const trunk = (): MLP => new MLP([dim, 2 * dim, dim], rng);
    const embed = {
      imageSize: size,
      patchSize: patch,
      inChannels: channels,
      dim,
      depth,
      heads,
      mlpRatio: 4,
      eps: 1e-6,
    };
    this.config = config;
    this.embedding = new PatchEmbed(embed, rng);
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

  /** Time and label as one vector [N, D]; the null label where none is given. */
  condition(t: Tensor, labels?: Tensor): Tensor {
    const { dim, classes, conditioning } = this.config;
    const time = this.timeTrunk.call(timestepEmbedding(t, dim));
    const none = (): Tensor => full(t.shape, classes, "i32");
    const sum =
      this.labelEmbedding && this.labelTrunk
        ? time.add(this.labelTrunk.call(this.labelEmbedding.call(labels ?? none())))
        : time;
    return conditioning === "adaLN" ? silu(sum) : sum;
  }

  /** Tokens of the patches that a masking keeps (default: all), and the features of the picture. */
  encode({ x, t, labels }: UMDInput, masking?: Pick<Masking, "keep">): Encoded {
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

  /** Throws `ArgumentError` for a mask ratio outside [0, 1), or one that hides everything. */
  call(input: UMDInput, mask?: UMDMasking): UMDOutput {
    const { channels } = this.config;
    if (mask) keptTokens(tokenCount(this.config), mask.ratio);
    const masking = mask && mask.ratio > 0 ? randomMasking(mask.noise, mask.ratio) : undefined;
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
