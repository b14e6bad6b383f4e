/** What a pipeline is made of, whatever kind of file it came from. */
import type { Module } from "../nn/index.ts";

/** A configuration as diffusers writes it: snake_case keys, `_class_name` says what it configures. */
export type Config = Readonly<Record<string, unknown>>;

/**
 * How a pipeline is conditioned: `sd` by one text encoder, `sdxl` by two and by sizes, `dit` by class labels,
 * `unconditional` by nothing.
 */
export type PipelineKind = "sd" | "sdxl" | "dit" | "unconditional";

/** A network and the configuration that it was built from. */
export interface LoadedModel<M extends Module = Module> {
  /** Name of the class in diffusers, such as `UNet2DConditionModel`. */
  readonly className: string;
  readonly config: Config;
  readonly model: M;
}

/** Text files of a byte-pair-encoding tokenizer. */
export interface TokenizerFiles {
  /** `tokenizer_config.json`, `{}` where there is none. */
  readonly config: Config;
  /** Text of `merges.txt`. */
  readonly merges: string;
  /** Token to id, from `vocab.json`; absent where only the merges are there, from which it follows. */
  readonly vocabulary?: Readonly<Record<string, number>>;
}

/** What `model_index.json` may say of the sampling, beside the components: keys of our own, which diffusers passes over. */
export interface PipelineDefaults {
  /** `num_inference_steps`. */
  readonly steps?: number;
  /** `guidance_scale`. */
  readonly guidance?: number;
}

/** The components of a pipeline. Weights that a file holds in f16 stay f16 in memory. */
export interface PipelineComponents {
  readonly kind: PipelineKind;
  /** Name of the pipeline's class in diffusers, such as `StableDiffusionPipeline`. */
  readonly className: string;
  /** Where it came from: a folder or a file. */
  readonly path: string;
  /** The denoiser: a U-Net, or a transformer (exactly one of both). */
  readonly unet?: LoadedModel;
  readonly transformer?: LoadedModel;
  readonly vae?: LoadedModel;
  /** None, one, or two for `sdxl` (in the order of diffusers). */
  readonly textEncoders: readonly LoadedModel[];
  /** One per text encoder; empty when the file brings none and none was given. */
  readonly tokenizers: readonly TokenizerFiles[];
  /** `scheduler_config.json`: hand it to `schedulerFromConfig`. */
  readonly scheduler: Config;
  /** What its pictures are made with, unless something else is asked for. Default: as in diffusers' pipelines. */
  readonly defaults?: PipelineDefaults;
  /** SDXL: whether zeros stand for a negative prompt that is not given (`force_zeros_for_empty_prompt`). Default true. */
  readonly zerosForEmptyPrompt?: boolean;
  /** Names of classes, for class-conditional models (`id2label` of the pipeline), by label. */
  readonly labels?: ReadonlyMap<number, string>;
}
