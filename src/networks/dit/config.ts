/** Sizes of diffusion transformers. */
import { ArgumentError } from "../../errors.ts";
import { COUNT, Fields, FLAG, keyOf, oneOf, POSITIVE, PROBABILITY } from "../../io/fields.ts";
import type { Activation } from "../../nn/index.ts";

/** Sizes of a DiT. */
export interface DiTConfig {
  /** Height and width of the latents. */
  readonly sampleSize: number;
  readonly patchSize: number;
  readonly inChannels: number;
  /** Twice `inChannels` where the variance is learned. */
  readonly outChannels: number;
  readonly layers: number;
  readonly heads: number;
  readonly headDim: number;
  readonly classes: number;
  /** Whether there is a class more, which stands for none. */
  readonly nullClass: boolean;
  /** 1 in diffusers, 0 in the code that the published models were trained with. */
  readonly freqShift: number;
  /** Of the norm before the perceptron: 1e-5 in diffusers, 1e-6 in the authors' code. */
  readonly mlpNormEps: number;
  /** Whether the norm before the perceptron has a scale and a shift of its own. Default false. */
  readonly mlpNormAffine?: boolean;
  readonly attentionBias: boolean;
  readonly activation: Activation | "geglu";
  readonly dropout: number;
  /** One embedding of timestep and class for all blocks, as in the authors' code, instead of one each. */
  readonly sharedEmbedding: boolean;
}

const ACTIVATION_NAMES = {
  "gelu-approximate": "geluTanh",
  gelu: "gelu",
  geglu: "geglu",
  "geglu-approximate": "quickGelu", // no gate, whatever its name says
} as const satisfies Record<string, Activation | "geglu">;

/**
 * The configuration in a `config.json` of `DiTTransformer2DModel`, or of a `Transformer2DModel` that is a DiT. The key
 * `freq_shift` is ours: 0 stands for the numerics of the authors' code. Throws `FormatError` that names a key with a
 * wrong value.
 */
export function ditConfig(values: unknown): DiTConfig {
  const config = new Fields("DiTTransformer2DModel", values);
  config.supports("norm_type", "ada_norm_zero");
  config.supports("cross_attention_dim");
  config.supports("num_vector_embeds");
  config.supports("double_self_attention", false);
  config.supports("attention_type", "default");
  const inChannels = config.value("in_channels", COUNT, 4);
  const patchSize = config.value("patch_size", COUNT, 2);
  const sampleSize = config.value("sample_size", COUNT, 32);
  if (sampleSize % patchSize !== 0)
    throw config.error("patch_size", `a divisor of the sample_size ${sampleSize}`);
  const heads = config.value("num_attention_heads", COUNT, 16);
  const headDim = config.value("attention_head_dim", COUNT, 72);
  if ((heads * headDim) % 4 !== 0)
    throw config.error("attention_head_dim", `a multiple of 4 channels in ${heads} heads, for the positions`);
  return {
    sampleSize,
    patchSize,
    inChannels,
    outChannels: config.value("out_channels", COUNT, inChannels),
    layers: config.value("num_layers", COUNT, 28),
    heads,
    headDim,
    classes: config.value("num_embeds_ada_norm", COUNT, 1000),
    nullClass: true,
    freqShift: config.value("freq_shift", oneOf(0, 1), 1),
    mlpNormEps: config.value("norm_eps", POSITIVE, 1e-5),
    mlpNormAffine: config.value("norm_elementwise_affine", FLAG, false),
    attentionBias: config.value("attention_bias", FLAG, true),
    activation: ACTIVATION_NAMES[config.value("activation_fn", keyOf(ACTIVATION_NAMES), "gelu-approximate")],
    dropout: config.value("dropout", PROBABILITY, 0),
    sharedEmbedding: false,
  };
}

/** Depth, heads and width of the published sizes (Peebles and Xie 2022, table 1). */
const SIZES = {
  S: { layers: 12, heads: 6, headDim: 64 },
  B: { layers: 12, heads: 12, headDim: 64 },
  L: { layers: 24, heads: 16, headDim: 64 },
  XL: { layers: 28, heads: 16, headDim: 72 },
} as const;

const PATCHES = [2, 4, 8] as const;

/** Such as "XL/2": a size and a patch size. */
export type DiTSize = `${keyof typeof SIZES}/${(typeof PATCHES)[number]}`;

/** Options of `ditPreset`. */
export interface DiTPresetOptions {
  /** Height and width of the latents. Default 32, for images of 256. */
  readonly sampleSize?: number;
  readonly inChannels?: number;
  readonly classes?: number;
  /** Whether the variance is predicted as well. Default true. */
  readonly learnSigma?: boolean;
  /** Whether labels are ever dropped in training, so that there is a null class. Default true. */
  readonly nullClass?: boolean;
}

/** A published size with the numerics of its authors' code, for training from scratch or their checkpoints. */
export function ditPreset(size: DiTSize, options: DiTPresetOptions = {}): DiTConfig {
  const { sampleSize = 32, inChannels = 4, classes = 1000, learnSigma = true, nullClass = true } = options;
  const [name, patch] = size.split("/") as [keyof typeof SIZES, string];
  const patchSize = Number(patch);
  if (!Object.hasOwn(SIZES, name) || !PATCHES.some((p) => p === patchSize))
    throw new ArgumentError(
      `ditPreset: expected S, B, L or XL, and /2, /4 or /8, got ${JSON.stringify(size)}`,
    );
  if (sampleSize % patchSize !== 0)
    throw new ArgumentError(`ditPreset: expected a sample size divisible by ${patchSize}, got ${sampleSize}`);
  return {
    ...SIZES[name],
    sampleSize,
    patchSize,
    inChannels,
    outChannels: learnSigma ? 2 * inChannels : inChannels,
    classes,
    nullClass,
    freqShift: 0,
    mlpNormEps: 1e-6,
    attentionBias: true,
    activation: "geluTanh",
    dropout: 0,
    sharedEmbedding: true,
  };
}
