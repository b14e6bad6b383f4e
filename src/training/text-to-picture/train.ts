/** Trains the U-Net of a pipeline together with its text encoder, from nothing or from where it stands. */
import { type Dataset, picturesToTensor } from "../../data/index.ts";
import {
  debiasedWeight,
  diffusionLoss,
  dropCondition,
  epsilonObjective,
  type NoiseLevel,
  sampleObjective,
  trainingAlphaBars,
  vObjective,
} from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { CLIPTextModel, SpaceToDepth, UNet2DConditionModel, UNet2DModel } from "../../networks/index.ts";
import { adamW, constantDecay, type LossParts, Module, type TrainState } from "../../nn/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import { createNoise, type Tensor } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import { alphaBarLevels, diffusionBatch, epochIndices } from "../batches.ts";
import { type PhaseResult, type PhaseSettings, rateOf, runPhase, type TrainingRun } from "../phase.ts";
import { captionIds, tokenizerOf } from "./caption-ids.ts";

/** A picture of the model's size, with its caption unless the model is unconditional. */
export interface CaptionedPicture {
  readonly image: Picture;
  readonly caption?: string;
}

/** Everything that decides a training beside pictures and model. */
export interface TextToPictureSettings extends PhaseSettings {
  readonly seed: number;
  /** Share of captions that are left out, for guidance. */
  readonly dropCaptions: number;
  /** EMA decay in [0, 1). */
  readonly ema: number;
  readonly weightDecay: number;
}

/** The networks that are trained together. */
export class TextToPicture extends Module {
  readonly unet: UNet2DConditionModel | UNet2DModel;
  readonly textEncoder: CLIPTextModel | undefined;

  constructor(unet: UNet2DConditionModel | UNet2DModel, textEncoder?: CLIPTextModel) {
    super();
    this.unet = unet;
    this.textEncoder = textEncoder;
  }

  /** Ids of captions [N, T] as the U-Net takes them, [N, T, D]; undefined without a text encoder. */
  context(ids: Tensor | undefined): Tensor | undefined {
    return ids && this.textEncoder?.call(ids).lastHiddenState;
  }

  /** x [N, C, H, W], timestep [N], context [N, T, D]. */
  call(x: Tensor, timestep: Tensor, context?: Tensor): Tensor {
    if (this.unet instanceof UNet2DModel) return this.unet.call(x, timestep);
    return this.unet.call(x, timestep, context);
  }
}

/** The networks of a pipeline that are trained. @throws ArgumentError for pipelines of another kind */
export function trainedNetworks({ unet, textEncoders, path }: PipelineComponents): TextToPicture {
  const [model, text] = [unet?.model, textEncoders[0]?.model];
  if (model instanceof UNet2DModel) return new TextToPicture(model);
  if (model instanceof UNet2DConditionModel && text instanceof CLIPTextModel && textEncoders.length === 1)
    return new TextToPicture(model, text);
  throw new ArgumentError(`${path}: expected a U-Net with one text encoder, or one without text`);
}

/** The pipeline with other weights. */
export const withTrained = (
  pipeline: PipelineComponents,
  { unet, textEncoder }: TextToPicture,
): PipelineComponents => ({
  ...pipeline,
  unet: { ...pipeline.unet!, model: unet },
  textEncoders: pipeline.textEncoders.map((encoder) => ({ ...encoder, model: textEncoder! })),
});

const OBJECTIVES = { epsilon: epsilonObjective, v_prediction: vObjective, sample: sampleObjective } as const;

/** What the network of a scheduler's configuration learns to predict. @throws ArgumentError for flows */
export function objectiveOf({ prediction_type: type = "epsilon" }: PipelineComponents["scheduler"]) {
  const found = OBJECTIVES[type as keyof typeof OBJECTIVES];
  if (found) return found;
  throw new ArgumentError(
    `training: expected a scheduler that predicts ${Object.keys(OBJECTIVES).join(", ")}, got ${JSON.stringify(type)}`,
  );
}

/** What a step is made of. */
export interface TextToPictureBatch {
  /** In [-1, 1]. */
  readonly pictures: Tensor; // [N, 3, H, W]
  /** Captions, the empty one where it is left out. */
  readonly ids?: Tensor; // [N, T]
  readonly noise: Tensor; // [N, C, h, w]
  readonly level: NoiseLevel;
  readonly timestep: Tensor; // [N]
}

/** The latent code of a pipeline whose U-Net is trained from nothing. @throws ArgumentError for an autoencoder */
function codeOf({ vae, path }: PipelineComponents): SpaceToDepth {
  if (vae?.model instanceof SpaceToDepth) return vae.model;
  throw new ArgumentError(
    `${path}: expected the latent code SpaceToDepth, got ${vae?.className ?? "none"}; adapt such a model with a LoRA or a ControlNet`,
  );
}

/**
 * Captions decide what pictures are at high noise, where errors of the noise are small: unweighted, a network learns grain long
 * before it learns to read.
 */
const WEIGHT = debiasedWeight(1e-3);

/** The squared error of the prediction, weighted by 1 / sqrt(SNR). */
export function textToPictureLoss(pipeline: PipelineComponents) {
  const [code, objective] = [codeOf(pipeline), objectiveOf(pipeline.scheduler)];
  return (net: TextToPicture, { pictures, ids, ...rest }: TextToPictureBatch): Tensor | LossParts =>
    diffusionLoss(
      (x, t, condition: { ids?: Tensor }) => net.call(x, t, net.context(condition.ids)),
      {
        x0: code.scaled(code.encode(pictures)),
        condition: ids ? { ids } : {},
        ...rest,
      },
      { objective, weight: WEIGHT },
    );
}

/** Batches of captioned pictures: a pure function of the step. */
export function textToPictureBatches(
  pipeline: PipelineComponents,
  source: Dataset<CaptionedPicture>,
  { batch, seed, dropCaptions }: TextToPictureSettings,
): (step: number) => Promise<TextToPictureBatch> {
  const code = codeOf(pipeline);
  const tokenizer = pipeline.textEncoders.length > 0 ? tokenizerOf(pipeline) : undefined;
  const empty = tokenizer && captionIds(tokenizer, [""]);
  const indices = epochIndices(source.length, batch, seed);
  const levels = alphaBarLevels(trainingAlphaBars(pipeline.scheduler));
  const noise = createNoise("philox", seed);
  return async (step) => {
    const epoch = Math.floor((step * batch) / source.length);
    const samples = await Promise.all(Array.from(indices(step), async (i) => source.get(i, epoch)));
    const pictures = picturesToTensor(samples.map(({ image }) => image));
    const [n, , height, width] = pictures.shape as [number, number, number, number];
    const shape = [n, code.latentChannels, height / code.sizeFactor, width / code.sizeFactor];
    const { dropped, ...draws } = diffusionBatch(shape, {
      source: noise,
      step,
      levels,
      dropRate: dropCaptions,
      stratified: true,
    });
    const ids =
      tokenizer &&
      captionIds(
        tokenizer,
        samples.map(({ caption }) => caption ?? ""),
      );
    return { pictures, ...draws, ...(ids && { ids: await dropCondition(ids, empty!, dropped!).eval() }) };
  };
}

/** What a training needs. */
export interface TextToPictureInputs extends TrainingRun<PipelineComponents> {
  readonly pipeline: PipelineComponents;
  readonly source: Dataset<CaptionedPicture>;
  readonly settings: TextToPictureSettings;
}

/** Norms, biases and embeddings are not decayed. */
const undecayed = (key: string): boolean => /(bias|norm\w*\.weight|embedding\.weight)$/.test(key);

/** Trains; the pipeline to keep, with the averaged weights. @throws as `runPhase` does, and ArgumentError for other pipelines */
export async function* trainTextToPicture(inputs: TextToPictureInputs): Work<PipelineComponents> {
  const { stage, pipeline, source, settings, folder, saveEvery, lookEvery, look, threads, signal } = inputs;
  const { ema, weightDecay } = settings;
  if (!(ema >= 0 && ema < 1))
    throw new ArgumentError(`${stage}: expected an EMA decay in [0, 1), got ${ema}`);
  const result: PhaseResult<TextToPicture> = yield* runPhase<TextToPicture, TextToPictureBatch>({
    stage,
    settings: { ...settings, unet: pipeline.unet!.config } as PhaseSettings,
    model: trainedNetworks(pipeline),
    loss: textToPictureLoss(pipeline),
    batch: textToPictureBatches(pipeline, source, settings),
    optimizer: adamW({
      learningRate: rateOf(settings),
      weightDecay,
      groups: [{ match: undecayed, weightDecay: 0 }],
    }),
    ema: constantDecay(ema),
    ...(look && {
      look: (state: TrainState<TextToPicture>) => look(withTrained(pipeline, state.ema ?? state.model)),
    }),
    validateEvery: lookEvery,
    folder,
    saveEvery,
    threads,
    signal,
  });
  return withTrained(pipeline, result.final);
}
