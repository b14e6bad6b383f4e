/** U-Nets and ControlNets as one writes them in TypeScript; every option has a default. */
import type { DOWN_BLOCKS, MID_BLOCKS, UP_BLOCKS } from "../blocks/index.ts";

/** One value for all levels, or one for each, from the top. */
export type PerLevel<T> = T | readonly T[];

/** Activation within a U-Net. */
export type UNetActivation = "silu" | "gelu" | "relu" | "mish";

/** What all U-Nets share. */
export interface UNetOptions {
  readonly inChannels?: number;
  readonly outChannels?: number;
  /** Channels of each level, from the top. */
  readonly channels?: readonly number[];
  /** Groups of the norms; they divide all channels. Default 32. */
  readonly groups?: number;
  /** Added to variances in the norms. Default 1e-5. */
  readonly eps?: number;
  /** Default "silu". */
  readonly activation?: UNetActivation;
  /** Probability in [0, 1). Default 0. */
  readonly dropout?: number;
  /** How the time enters the residual blocks: it is added, or it scales and shifts. Default "default", added. */
  readonly timeScaleShift?: "default" | "scale_shift";
  /** Times as sines and cosines ("positional", the default), or noise levels as random Fourier features. */
  readonly timeEmbedding?: "positional" | "fourier";
  readonly flipSinToCos?: boolean;
  readonly freqShift?: number;
  /** Class labels: number of classes. Default: the network takes none. */
  readonly classes?: number;
  /** What the network is told in place of labels: times, or vectors as they are. */
  readonly classEmbedding?: "timestep" | "identity" | "projection" | "simple_projection";
  /** Takes 2 x - 1 in place of x. Default false. */
  readonly centerInput?: boolean;
  /** Zeros around the input of downsampling; 0: below and to the right only. Default 1. */
  readonly downsamplePadding?: number;
  /** Divides the sums of the residual blocks in the middle. Default 1. */
  readonly midScaleFactor?: number;
}

/** A U-Net that looks at context tokens. The defaults are those of Stable Diffusion 1, with a context of width 1280. */
export interface UNet2DConditionOptions extends UNetOptions {
  /** Default 4 and 4, 320, 640, 1280 and 1280 channels. */
  readonly downBlocks?: readonly (keyof typeof DOWN_BLOCKS)[];
  /** From the bottom. */
  readonly upBlocks?: readonly (keyof typeof UP_BLOCKS)[];
  /** Null: there is no middle. */
  readonly midBlock?: keyof typeof MID_BLOCKS | null;
  /** Residual blocks of each level on the way down; the way up has one more. Default 2. */
  readonly layers?: PerLevel<number>;
  /** Heads of the transformers. Default 8. */
  readonly heads?: PerLevel<number>;
  /** Width of a head of the attention without transformer. Default 8. */
  readonly headDim?: PerLevel<number>;
  /** Width of the context. Default 1280. */
  readonly contextDim?: PerLevel<number>;
  /** Blocks of each transformer. Default 1. */
  readonly depths?: PerLevel<number | readonly number[]>;
  /** The same on the way up, from the bottom. Default: those of the way down, backwards. */
  readonly upDepths?: readonly (number | readonly number[])[];
  readonly onlyCrossAttention?: PerLevel<boolean>;
  readonly midOnlyCrossAttention?: boolean;
  readonly skipTimeActivation?: boolean;
  readonly outputScaleFactor?: number;
  /** Linear layers in place of 1 x 1 convolutions around the transformers. Default false. */
  readonly linearProjection?: boolean;
  readonly upcastAttention?: boolean;
  /** Width of the time embedding. Default 4 times the first channels. */
  readonly timeEmbeddingDim?: number;
  /** Width of a further condition of time, such as the guidance scale of distilled models. */
  readonly timeConditionDim?: number;
  readonly timePostActivation?: UNetActivation;
  readonly timeActivation?: UNetActivation;
  /** Width of what a class embedding projects, or of the pooled text and time ids together. */
  readonly projectionInputDim?: number;
  /** The class embedding is appended to that of the time, not added. Default false. */
  readonly joinClasses?: boolean;
  /** Pooled text and time ids, as in SDXL. */
  readonly additionEmbedding?: "text_time";
  /** Width of the embedding of one time id. */
  readonly additionTimeDim?: number;
  /** Width that the context has before it is projected to `contextDim`. */
  readonly contextInputDim?: number;
  readonly kernelIn?: number;
  readonly kernelOut?: number;
}

/** A U-Net over pictures, without a context. */
export interface UNet2DModelOptions extends Omit<UNetOptions, "classEmbedding"> {
  readonly classEmbedding?: "timestep" | "identity";
  readonly downBlocks?: readonly ("DownBlock2D" | "AttnDownBlock2D" | "ResnetDownsampleBlock2D")[];
  /** From the bottom. */
  readonly upBlocks?: readonly ("UpBlock2D" | "AttnUpBlock2D" | "ResnetUpsampleBlock2D")[];
  readonly layers?: number;
  /** Width of a head; null: all channels. Default 8. */
  readonly headDim?: number | null;
  readonly downsampleKind?: "conv" | "resnet";
  readonly upsampleKind?: "conv" | "resnet";
  /** Whether the middle has attention. Default true. */
  readonly midAttention?: boolean;
  readonly midAttentionGroups?: number;
}

/** A ControlNet: the options of its U-Net's way down, and of the hint. */
export interface ControlNetModelOptions
  extends Omit<UNet2DConditionOptions, "outChannels" | "upBlocks" | "upDepths" | "kernelOut"> {
  readonly hintChannels?: number;
  /** Channels of the convolutions that read the hint. Default 16, 32, 96 and 256. */
  readonly hintWidths?: readonly number[];
  readonly hintOrder?: "rgb" | "bgr";
  readonly globalPool?: boolean;
}
