/** The frozen text-to-picture model that is steered: any Stable Diffusion pipeline folder. */
import { type Scheduler, schedulerFromConfig, trainingAlphaBars } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import {
  AutoencoderKL,
  type AutoencoderTiny,
  CLIPTextModel,
  gaussianOf,
  type SpaceToDepth,
  type UNet2DConditionModel,
} from "../../networks/index.ts";
import { latentFactor, type PipelineComponents, unknownWords } from "../../pipelines/index.ts";
import { createNoise, fromHost, jit, type NoiseSource, type Seed, type Tensor } from "../../tensor/index.ts";
import { captionIds, objectiveOf, tokenizerOf } from "../../training/index.ts";
import type { Guide } from "./method.ts";
import { unetOf } from "./model.ts";

/** A base, ready to be steered; its text encoder and latent code stay compiled until it is closed. */
export interface Base {
  readonly components: PipelineComponents;
  readonly unet: UNet2DConditionModel;
  readonly unetConfig: Readonly<Record<string, unknown>>;
  readonly objective: ReturnType<typeof objectiveOf>;
  readonly alphaBars: Float32Array;
  /** Side of its pictures in pixels. */
  readonly size: number;
  /** Shape of a latent. // [C, h, w] */
  readonly latent: readonly [number, number, number];
  readonly vocabulary: number;
  /** Noise of a seed, as the pipeline draws it. */
  noise(seed: Seed): NoiseSource;
  /** The pipeline's own sampler. */
  scheduler(steps: number): Scheduler;
  /** Features of texts. // [N, T, D] */
  contexts(texts: readonly string[]): Promise<Tensor>;
  /** Texts for the multi-control encoder, in the base's own tokens. // [N, L] */
  textIds(texts: readonly string[]): Pick<Guide, "ids" | "textMask">;
  /** Words of a text that the base has never seen, where it lists those it has. */
  unknownWords(text: string): string[];
  /** Latents of pictures [N, 3, S, S] in [-1, 1], as the U-Net sees them. */
  encode(pictures: Tensor): Promise<Tensor>;
  /** Pictures of latents, not cut off. */
  decode(latents: Tensor): Promise<Tensor>;
  /** Frees what is compiled. */
  close(): Promise<void>;
}

/** Tokens of the text that the encoder of conditions reads: caption and types. */
export const TEXT_LENGTH = 32;

type Code = AutoencoderKL | AutoencoderTiny | SpaceToDepth;

const encodeWith = (code: Code, x: Tensor): Tensor =>
  code.scaled(code instanceof AutoencoderKL ? gaussianOf(code.moments(x)).mean : code.encode(x));

/** @throws ArgumentError for pipelines other than a U-Net with one text encoder and an autoencoder */
export function openBase(
  components: PipelineComponents,
  { threads }: { readonly threads?: number | undefined } = {},
): Base {
  const { textEncoders, vae, path } = components;
  const { unet, config } = unetOf(components);
  const text = textEncoders[0]?.model;
  if (!(text instanceof CLIPTextModel) || textEncoders.length !== 1 || !vae)
    throw new ArgumentError(
      `${path}: AnyControl needs a pipeline with one CLIP text encoder and a latent code`,
    );
  const tokenizer = tokenizerOf(components);
  const how = threads === undefined ? {} : { threads };
  const encodeText = jit((net: CLIPTextModel, ids: Tensor) => net.call(ids).lastHiddenState, how);
  const encode = jit((code: Code, x: Tensor) => encodeWith(code, x), how);
  const decode = jit((code: Code, z: Tensor) => code.decode(code.unscaled(z)), how);
  const code = vae.model as Code;
  const side = Number(config.sample_size);
  return {
    components,
    unet,
    unetConfig: config,
    objective: objectiveOf(components.scheduler),
    alphaBars: trainingAlphaBars(components.scheduler),
    size: side * latentFactor(components),
    latent: [Number(config.in_channels), side, side],
    vocabulary: Number(textEncoders[0]!.config.vocab_size),
    noise: (seed) => createNoise("philox", seed),
    scheduler: (steps) => schedulerFromConfig(components.scheduler, { steps }),
    contexts: (texts) => encodeText(text, captionIds(tokenizer, texts)),
    textIds(texts) {
      const rows = texts.map((one) => tokenizer.tokenize(one).slice(0, TEXT_LENGTH));
      const at = (f: (row: number[], i: number) => number) =>
        Int32Array.from(rows.flatMap((row) => Array.from({ length: TEXT_LENGTH }, (_, i) => f(row, i))));
      const shape = [texts.length, TEXT_LENGTH];
      // The first token is always there: a text of nothing but padding would be attended to as a whole.
      return {
        ids: fromHost(
          "i32",
          shape,
          at((row, i) => row[i] ?? 0),
        ),
        textMask: fromHost(
          "i32",
          shape,
          at((row, i) => (i < Math.max(1, row.length) ? 1 : 0)),
        ),
      };
    },
    unknownWords: (one) => unknownWords(components.tokenizers[0]!, [one]),
    encode: (pictures) => encode(code, pictures),
    decode: (latents) => decode(code, latents),
    async close() {
      await Promise.all([encodeText.close(), encode.close(), decode.close()]);
    },
  };
}
