/** Trains a ControlNet (Zhang et al. 2023) for the U-Net of any pipeline; the pipeline stays as it is. */
import type { Dataset } from "../../data/index.ts";
import { diffusionLoss } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import {
  type ControlNetModel,
  controlNet,
  controlNetFromUNet,
  type UNet2DConditionModel,
  UNet2DModel,
} from "../../networks/index.ts";
import { createRng, type TrainState } from "../../nn/index.ts";
import { type LoadedModel, latentFactor, type PipelineComponents } from "../../pipelines/index.ts";
import type { Seed } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import { type PhaseSettings, runPhase, type TrainingRun } from "../phase.ts";
import {
  type AdaptBatch,
  type AdaptSettings,
  adaptBatches,
  addedOf,
  type ControlledPicture,
  unetOf,
} from "./adapt.ts";
import { objectiveOf } from "./train.ts";

/** Keys that a ControlNet's configuration takes over from that of its U-Net. */
const SHARED = [
  "in_channels",
  "flip_sin_to_cos",
  "freq_shift",
  "down_block_types",
  "mid_block_type",
  "only_cross_attention",
  "block_out_channels",
  "layers_per_block",
  "downsample_padding",
  "mid_block_scale_factor",
  "act_fn",
  "norm_num_groups",
  "norm_eps",
  "cross_attention_dim",
  "transformer_layers_per_block",
  "encoder_hid_dim",
  "encoder_hid_dim_type",
  "attention_head_dim",
  "num_attention_heads",
  "use_linear_projection",
  "class_embed_type",
  "addition_embed_type",
  "addition_time_embed_dim",
  "num_class_embeds",
  "upcast_attention",
  "resnet_time_scale_shift",
  "projection_class_embeddings_input_dim",
] as const;

/** Channels of the convolutions that read the map, as published; every further one halves it. */
const HINT_WIDTHS = [16, 32, 96, 256, 256, 256];

/** A ControlNet before training: the encoder of the pipeline's U-Net, which adds nothing yet. @throws ArgumentError without cross attention */
export function newControlNet(pipeline: PipelineComponents, seed: Seed = 0): LoadedModel<ControlNetModel> {
  const unet = unetOf(pipeline);
  if (unet instanceof UNet2DModel)
    throw new ArgumentError(`${pipeline.path}: a ControlNet needs a model that is told a text`);
  const given = pipeline.unet!.config;
  const halvings = Math.log2(latentFactor(pipeline));
  const config = {
    ...Object.fromEntries(SHARED.filter((key) => given[key] !== undefined).map((key) => [key, given[key]])),
    conditioning_channels: 3,
    conditioning_embedding_out_channels: HINT_WIDTHS.slice(0, halvings + 1),
  };
  const model = controlNetFromUNet(controlNet(config, createRng(seed)), unet);
  return { className: "ControlNetModel", config, model };
}

/** What the training of a ControlNet needs. */
export interface ControlNetInputs extends TrainingRun<LoadedModel<ControlNetModel>> {
  readonly pipeline: PipelineComponents;
  /** Every picture with its control. */
  readonly source: Dataset<ControlledPicture>;
  readonly settings: AdaptSettings;
  /** A ControlNet to go on from. Default: `newControlNet`. */
  readonly start?: LoadedModel<ControlNetModel> | undefined;
}

/** The U-Net comes with the batch, so that it is neither copied nor changed. */
interface ControlBatch extends AdaptBatch {
  readonly net: UNet2DConditionModel;
}

/** Trains; the ControlNet, for `saveModel`. @throws as `runPhase` does, and ArgumentError for other pipelines and pictures without control */
export async function* trainControlNet(inputs: ControlNetInputs): Work<LoadedModel<ControlNetModel>> {
  const { stage, pipeline, source, settings, folder, saveEvery, lookEvery, look, threads, signal } = inputs;
  const objective = objectiveOf(pipeline.scheduler);
  const start = inputs.start ?? newControlNet(pipeline, settings.seed);
  const net = unetOf(pipeline) as UNet2DConditionModel;
  const batches = yield* adaptBatches(pipeline, source, settings, signal);
  const { final } = yield* runPhase<ControlNetModel, ControlBatch>({
    stage,
    settings: { ...settings, controlnet: start.config } as PhaseSettings,
    model: start.model,
    loss: (control, { net: unet, hint, ...batch }) =>
      diffusionLoss(
        (x, t, condition) => {
          const added = addedOf(condition);
          const controls = control.call(x, t, condition.context, hint!, added);
          return unet.call(x, t, condition.context, { ...added, controls });
        },
        batch,
        { objective },
      ),
    batch: async (step) => {
      const batch = await batches(step);
      if (batch.hint?.shape[0] !== batch.x0.shape[0])
        throw new ArgumentError(`${stage}: every picture needs the map that controls it`);
      return { ...batch, net };
    },
    ...(look && { look: ({ model }: TrainState<ControlNetModel>) => look({ ...start, model }) }),
    validateEvery: lookEvery,
    folder,
    saveEvery,
    threads,
    signal,
  });
  return { ...start, model: final };
}
