/**
 * What adapts a pipeline that stays as it is (a LoRA, a ControlNet) learns from: latents of pictures and features of captions,
 * each computed once, for pipelines of any U-Net: Stable Diffusion 1 and 2, SDXL, those of this library.
 */
import type { Dataset } from "../../data/index.ts";
import { picturesToTensor } from "../../data/index.ts";
import { type NoiseLevel, startingAtSample, trainingAlphaBars } from "../../diffusion/index.ts";
import { AbortError, ArgumentError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { UNet2DConditionModel, UNet2DModel } from "../../networks/index.ts";
import {
  CompiledFunctions,
  type Condition,
  encodePrompts,
  latentCodec,
  type PipelineComponents,
  type TextCondition,
} from "../../pipelines/index.ts";
import { concat, createNoise, type Tensor, tensor } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import { alphaBarLevels, diffusionBatch, epochIndices } from "../batches.ts";
import type { PhaseSettings } from "../phase.ts";
import type { CaptionedPicture } from "./train.ts";

/** Everything that decides how a pipeline is adapted, beside the pipeline and the pictures. */
export interface AdaptSettings extends PhaseSettings {
  readonly seed: number;
  /** Share of captions that are left out, for guidance. */
  readonly dropCaptions: number;
}

/** A picture with its caption and, for a ControlNet, the map that controls it, of the same size. */
export interface ControlledPicture extends CaptionedPicture {
  readonly control?: Picture;
}

/** What a step is made of. Conditions have one row for each sample. */
export interface AdaptBatch {
  readonly x0: Tensor; // [N, C, h, w]
  readonly condition: Condition;
  /** In [0, 1]. */
  readonly hint?: Tensor; // [N, 3, H, W]
  readonly noise: Tensor; // [N, C, h, w]
  readonly level: NoiseLevel;
  readonly timestep: Tensor; // [N]
}

/** Batches as a pure function of the step. */
export type AdaptBatches = (step: number) => Promise<AdaptBatch>;

/** The U-Net of a pipeline. @throws ArgumentError for transformers */
export function unetOf({ unet, path }: PipelineComponents): UNet2DConditionModel | UNet2DModel {
  const model = unet?.model;
  if (model instanceof UNet2DConditionModel || model instanceof UNet2DModel) return model;
  throw new ArgumentError(
    `${path}: expected a pipeline of a U-Net, got a ${model?.constructor.name ?? "transformer"}`,
  );
}

/** The network's prediction under a condition, for `diffusionLoss`. */
export function predictWith(
  unet: UNet2DConditionModel | UNet2DModel,
  x: Tensor,
  t: Tensor,
  condition: Condition,
): Tensor {
  if (unet instanceof UNet2DModel) return unet.call(x, t);
  return unet.call(x, t, condition.context, addedOf(condition));
}

/** The further conditions of SDXL. */
export const addedOf = ({ textEmbeds, timeIds }: Condition) =>
  textEmbeds && timeIds ? { addedConditions: { textEmbeds, timeIds } } : {};

/** Features of all captions that occur, the empty one among them. */
async function* encodeCaptions(
  pipeline: PipelineComponents,
  captions: Iterable<string>,
  functions: CompiledFunctions,
  signal: AbortSignal | undefined,
): Work<ReadonlyMap<string, TextCondition>> {
  const different = [...new Set(["", ...captions])];
  const found = new Map<string, TextCondition>();
  for (const [i, caption] of different.entries()) {
    if (signal?.aborted) throw new AbortError();
    const { positive } = await encodePrompts(pipeline, caption, undefined, { emphasis: false }, functions);
    found.set(caption, positive);
    yield { type: "progress", stage: "captions are encoded", done: i + 1, total: different.length };
  }
  return found;
}

/** A row of each of some tensors as one. */
const stacked = ([first, ...rest]: readonly Tensor[]): Tensor =>
  rest.length > 0 ? concat(first!, rest, 0) : first!;

interface Known {
  readonly latents: readonly Tensor[];
  readonly captions: readonly string[];
  readonly controls: readonly (Picture | undefined)[];
  readonly texts: ReadonlyMap<string, TextCondition> | undefined;
  readonly size: number;
}

async function* known(
  pipeline: PipelineComponents,
  source: Dataset<ControlledPicture>,
  { seed }: AdaptSettings,
  signal: AbortSignal | undefined,
): Work<Known> {
  const functions = new CompiledFunctions();
  const codec = latentCodec(pipeline, signal, functions);
  const noise = createNoise("philox", seed);
  const [latents, captions, controls]: [Tensor[], string[], (Picture | undefined)[]] = [[], [], []];
  let size = 0;
  try {
    for (let i = 0; i < source.length; i++) {
      if (signal?.aborted) throw new AbortError();
      const { image, caption = "", control } = await source.get(i);
      size = image.width;
      latents.push(await codec.encode(picturesToTensor([image]), startingAtSample(noise, i), 1));
      captions.push(caption);
      controls.push(control);
      yield { type: "progress", stage: "pictures are encoded", done: i + 1, total: source.length };
    }
    const isText = pipeline.textEncoders.length > 0;
    const texts = isText ? yield* encodeCaptions(pipeline, captions, functions, signal) : undefined;
    return { latents, captions, controls, texts, size };
  } finally {
    await functions.close();
  }
}

function conditionOf({ texts, size }: Known, captions: readonly string[], isXl: boolean): Condition {
  if (!texts) return {};
  const rows = captions.map((caption) => texts.get(caption)!);
  const context = stacked(rows.map((row) => row.context));
  if (!isXl) return { context };
  const ids = captions.map(() => [size, size, 0, 0, size, size]);
  return { context, textEmbeds: stacked(rows.map((row) => row.pooled!)), timeIds: tensor(ids) };
}

/**
 * Encodes the pictures and captions of a set and gives batches of them. Every picture is read once: what is drawn anew in each
 * epoch (mirroring, one of several captions) is as it is in epoch 0. @throws ArgumentError for pipelines without a U-Net
 */
export async function* adaptBatches(
  pipeline: PipelineComponents,
  source: Dataset<ControlledPicture>,
  settings: AdaptSettings,
  signal?: AbortSignal,
): Work<AdaptBatches> {
  unetOf(pipeline);
  const all = yield* known(pipeline, source, settings, signal);
  const { batch, seed, dropCaptions } = settings;
  const indices = epochIndices(source.length, batch, seed);
  const levels = alphaBarLevels(trainingAlphaBars(pipeline.scheduler));
  const noise = createNoise("philox", seed);
  return async (step) => {
    const chosen = Array.from(indices(step));
    const x0 = await stacked(chosen.map((i) => all.latents[i]!)).eval();
    const { dropped, ...draws } = diffusionBatch(x0.shape, {
      source: noise,
      step,
      levels,
      dropRate: dropCaptions,
      stratified: true,
    });
    const left = (await dropped!.data()) as Uint8Array;
    const captions = chosen.map((i, k) => (left[k] ? "" : all.captions[i]!));
    const hints = chosen.flatMap((i) => all.controls[i] ?? []);
    return {
      x0,
      condition: conditionOf(all, captions, pipeline.kind === "sdxl"),
      ...(hints.length > 0 && { hint: picturesToTensor(hints, "unit") }),
      ...draws,
    };
  };
}
