/** Loads everything that a request names: the model with its adapters, pictures at the output size. */
import { stat } from "node:fs/promises";
import { AbortError } from "../../errors.ts";
import { pictureSize, readMask, readPicture } from "../../io/index.ts";
import type { ControlNetModel } from "../../networks/index.ts";
import {
  type Control,
  type LoadOptions,
  loadModel,
  loadPipelineComponents,
  ownSize,
  type PictureOptions,
  type PipelineComponents,
  withLoras,
} from "../../pipelines/index.ts";
import { UsageError } from "../errors.ts";
import { suggestion } from "../nearest.ts";
import { type ProgressBar, progressBar } from "../progress.ts";
import type { Size } from "../values.ts";
import type { GenerateRequest } from "./request.ts";

/** What a request needs to become a plan. */
export interface Inputs {
  readonly components: PipelineComponents;
  readonly options: Omit<PictureOptions, "seeds" | "batch">;
}

/** Output size: the option; else the start picture's, cropped to a valid size; else the model's. */
async function wantedSize(
  { size, initImage }: GenerateRequest,
  components: PipelineComponents,
): Promise<Size> {
  const { multiple, ...own } = ownSize(components);
  if (size) return size;
  if (initImage === undefined) return own;
  const { width, height } = await pictureSize(initImage);
  const cut = { width: width - (width % multiple), height: height - (height % multiple) };
  if (cut.width > 0 && cut.height > 0) return cut;
  throw new UsageError(
    `--init-image ${initImage}: ${width}x${height} pixels are fewer than this model makes; give --size`,
  );
}

/** A class by number, or by one of its names. */
function labelOf(text: string, labels: ReadonlyMap<number, string> | undefined): number {
  if (/^\d+$/.test(text)) return Number(text);
  const names = new Map(
    [...(labels ?? [])].flatMap(([id, name]) =>
      name.split(",").map((n) => [n.trim().toLowerCase(), id] as const),
    ),
  );
  const found = names.get(text.trim().toLowerCase());
  if (found !== undefined) return found;
  const hint = names.size === 0 ? "; this model's classes have numbers only" : suggestion(text, names.keys());
  throw new UsageError(`--class does not know "${text}"${hint}`);
}

async function loadControls({ controls, hub }: GenerateRequest, size: Size): Promise<Control[]> {
  const loaded: Control[] = [];
  for (const { path, image, scale } of controls) {
    const { className, model } = await loadModel(await modelPath(path, hub), { download: hub });
    if (className !== "ControlNetModel")
      throw new UsageError(`--control ${path}: expected a ControlNetModel, got a ${className}`);
    const picture = await readPicture(image, { size });
    loaded.push({ model: model as ControlNetModel, image: await picture.add(1).div(2).eval(), scale });
  }
  return loaded;
}

const HUB_NAME = /^[\w.-]+\/[\w.-]+(?:@[\w./-]+)?$/;

/** A path, or with leave to download the name of a model on the hub, with or without `hub:` before it. */
async function modelPath(name: string, hub: boolean): Promise<string> {
  if (!hub || !HUB_NAME.test(name)) return name;
  const isThere = await stat(name).then(
    () => true,
    () => false,
  );
  return isThere ? name : `hub:${name}`;
}

/** A progress bar over the values of all weights; small models need none. */
function readingBar(): { onProgress: LoadOptions["onProgress"]; finish(): void } {
  let bar: ProgressBar | undefined;
  let shown = -1;
  return {
    onProgress: (read, total) => {
      const millions = Math.floor(read / 1e6);
      if (total < BAR_FROM || millions === shown) return;
      shown = millions;
      bar ??= progressBar("read", Math.floor(total / 1e6));
      bar.update(millions, "million values");
    },
    finish: () => bar?.finish(),
  };
}

/** Values from which reading takes long enough for a bar. */
const BAR_FROM = 20e6;

async function loadComponents(request: GenerateRequest, signal: AbortSignal): Promise<PipelineComponents> {
  const { model, hub, variant, tokenizer, base, family, predictionType, vae } = request;
  const { onProgress, finish } = readingBar();
  const onFile: LoadOptions["onFile"] = (file, i, count) =>
    console.error(`download ${i + 1} of ${count}: ${file}`);
  try {
    const path = await modelPath(model, hub);
    return await loadPipelineComponents(path, {
      ...(vae !== undefined && { vae: await modelPath(vae, hub) }),
      textEncoders: await Promise.all(request.textEncoders.map((name) => modelPath(name, hub))),
      download: hub,
      variant,
      tokenizer,
      base,
      family,
      predictionType,
      signal,
      onProgress,
      onFile,
    });
  } finally {
    finish();
  }
}

/** Loads what a request names. @throws {UsageError} and the errors of the loaders, naming the file */
export async function loadInputs(request: GenerateRequest, signal: AbortSignal): Promise<Inputs> {
  const loaded = await loadComponents(request, signal);
  const components = await withLoras(loaded, request.loras);
  if (signal.aborted) throw new AbortError();
  const size = await wantedSize(request, components);
  const { initImage, mask } = request;
  return {
    components,
    options: {
      ...size,
      prompt: request.prompt,
      negative: request.negative,
      label: request.class === undefined ? undefined : labelOf(request.class, components.labels),
      steps: request.steps,
      sampler: request.sampler,
      schedule: request.schedule,
      eta: request.eta,
      guidance: request.guidance,
      guidanceRescale: request.guidanceRescale,
      clipSkip: request.clipSkip,
      emphasis: request.emphasis,
      longPrompts: request.longPrompt,
      rng: request.rng,
      strength: request.strength,
      init: initImage === undefined ? undefined : await readPicture(initImage, { size }),
      mask: mask === undefined ? undefined : await readMask(mask, { size }),
      controls: await loadControls(request, size),
    },
  };
}
