/** Trains a LoRA (Hu et al. 2021) for the U-Net of any pipeline; the pipeline stays as it is. */
import type { Dataset } from "../../data/index.ts";
import { diffusionLoss } from "../../diffusion/index.ts";
import { type HostTensor, writeSafetensors } from "../../io/index.ts";
import { attachedAdapters, type LoraAdapters, writeLora } from "../../networks/index.ts";
import { addLora, createRng, loraParameters, type TrainState, withLoraParameters } from "../../nn/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import { evaluate, type Tensor } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import { type PhaseSettings, runPhase, type TrainingRun } from "../phase.ts";
import { type AdaptBatch, type AdaptSettings, adaptBatches, predictWith, unetOf } from "./adapt.ts";
import { type CaptionedPicture, objectiveOf } from "./train.ts";

/** Which layers of a U-Net are adapted: those of the attention, or these and those around it and in the residual blocks. */
export const LORA_LAYERS = {
  attention: /\.to_(q|k|v|out\.0)$/,
  all: /\.(to_(q|k|v|out\.0)|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|conv1|conv2|time_emb_proj)$/,
} as const;

/** Everything that decides the training of a LoRA, beside the pipeline and the pictures. */
export interface LoraSettings extends AdaptSettings {
  readonly rank: number;
  /** The change counts alpha / rank times. */
  readonly alpha: number;
  readonly layers: keyof typeof LORA_LAYERS;
}

/** What the training of a LoRA needs. */
export interface LoraInputs extends TrainingRun<PipelineComponents> {
  readonly pipeline: PipelineComponents;
  readonly source: Dataset<CaptionedPicture>;
  readonly settings: LoraSettings;
}

type Adapted = ReturnType<typeof unetOf>;

/** The adapters are what is trained; the network comes with the batch, so that it is neither copied nor changed. */
interface LoraBatch extends AdaptBatch {
  readonly net: Adapted;
}

/** Trains; the adapters. @throws as `runPhase` does, and ArgumentError for pipelines without a U-Net */
export async function* trainLora(inputs: LoraInputs): Work<LoraAdapters> {
  const { stage, pipeline, source, settings, folder, saveEvery, lookEvery, look, threads, signal } = inputs;
  const { rank, alpha, layers, seed } = settings;
  const objective = objectiveOf(pipeline.scheduler);
  const net = addLora(unetOf(pipeline), { rank, alpha, match: LORA_LAYERS[layers], rng: createRng(seed) });
  const batches = yield* adaptBatches(pipeline, source, settings, signal);
  const withAdapters = (adapters: Readonly<Record<string, Tensor>>): PipelineComponents => ({
    ...pipeline,
    unet: { ...pipeline.unet!, model: withLoraParameters(net, adapters) },
  });
  const { final } = yield* runPhase<Record<string, Tensor>, LoraBatch>({
    stage,
    settings: { ...settings, unet: pipeline.unet!.config } as PhaseSettings,
    model: loraParameters(net),
    loss: (adapters, { net: base, ...batch }) => {
      const adapted = withLoraParameters(base, adapters);
      return diffusionLoss((x, t, condition) => predictWith(adapted, x, t, condition), batch, { objective });
    },
    batch: async (step) => ({ ...(await batches(step)), net }),
    ...(look && { look: ({ model }: TrainState<Record<string, Tensor>>) => look(withAdapters(model)) }),
    validateEvery: lookEvery,
    folder,
    saveEvery,
    threads,
    signal,
  });
  return { unet: attachedAdapters(withLoraParameters(net, final)) };
}

/** Writes adapters as one file with the names of diffusers, f32. The file is replaced whole. */
export async function saveLora(
  path: string,
  adapters: LoraAdapters,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const tensors = writeLora(adapters, "diffusers");
  await evaluate([...tensors.values()]);
  const entries = new Map<string, HostTensor>();
  for (const [name, t] of tensors)
    entries.set(name, { dtype: t.dtype, shape: t.shape, data: await t.data() });
  await writeSafetensors(path, entries, { format: "pt", ...metadata });
}
