/** `tweedie train lora` and `tweedie train controlnet`: what is added to a pipeline that stays as it is. */
import { basename, join } from "node:path";
import {
  type CaptionedSet,
  type Dataset,
  decodedPictures,
  mapDataset,
  openCaptioned,
} from "../data/index.ts";
import { ArgumentError } from "../errors.ts";
import { shellLine } from "../io/shell-line.ts";
import {
  loadPipelineComponents,
  ownSize,
  type PipelineComponents,
  saveModel,
  unknownWords,
} from "../pipelines/index.ts";
import type { ActionContext, ActionResult } from "../systems/system.ts";
import {
  type AdaptSettings,
  type ControlledPicture,
  saveLora,
  trainControlNet,
  trainLora,
} from "../training/index.ts";
import { told, type Work, type WorkEvent } from "../work.ts";
import type { ControlNetOptions, LoraOptions } from "./options.ts";
import { firstOf, setFingerprint } from "./text-to-picture.ts";

/** A pipeline with the set that it is adapted to. */
interface Opened {
  readonly pipeline: PipelineComponents;
  readonly set: CaptionedSet;
  readonly source: Dataset<ControlledPicture>;
  readonly side: number;
}

async function* opened(options: LoraOptions | ControlNetOptions): Work<Opened> {
  const { model, data, limit, captions: wanted } = options;
  const pipeline = await loadPipelineComponents(model, { precision: "f32" });
  const own = ownSize(pipeline);
  const side = options.size ?? own.width;
  if (side % own.multiple !== 0)
    throw new ArgumentError(`size: expected a multiple of ${own.multiple} for ${model}, got ${side}`);
  const all = await openCaptioned(data, { captions: wanted, size: { width: side, height: side } });
  for (const text of all.warnings) yield { type: "warning", text };
  const set = limit === undefined ? all : firstOf(all, limit);
  const captions = set.captions.flat();
  const unknown = pipeline.tokenizers[0] ? unknownWords(pipeline.tokenizers[0], captions) : [];
  if (unknown.length > 0)
    yield { type: "warning", text: `words that the model has never seen in training: ${unknown.join(", ")}` };
  const source = mapDataset(set, ({ image, captions: own }) => ({ image, caption: own[0] ?? "" }));
  yield { type: "message", text: `${data}: ${set.length} pictures of ${side}x${side} pixels for ${model}` };
  return { pipeline, set, source, side };
}

const settingsOf = ({
  steps,
  batch,
  learningRate,
  seed,
}: LoraOptions | ControlNetOptions): AdaptSettings => ({
  ...{ steps, batch, learningRate, seed },
  warmup: Math.min(100, Math.ceil(steps / 20)),
  schedule: "cosine",
  clip: 1,
  dropCaptions: 0.1,
});

/** Work with the last loss that it told, beside its result. */
async function* withLoss<R>(work: Work<R>): AsyncGenerator<WorkEvent, readonly [R, number]> {
  let loss = Number.NaN;
  const result = yield* told(work, (event) => {
    if (event.type === "metrics") loss = event.values.loss ?? loss;
    return event;
  });
  return [result, loss];
}

const summaryOf = (
  what: string,
  options: LoraOptions | ControlNetOptions,
  loss: number,
  next: readonly string[],
): ActionResult => ({
  summary: `Trained ${what} on ${options.data}: ${options.steps} steps, last loss ${loss.toFixed(4)}. Pictures:\n  ${shellLine(["tweedie", "generate", "--model", options.model, ...next])}`,
  metrics: { loss },
});

const promptOf = ({ captions }: CaptionedSet): string[] => {
  const [first] = captions.flat();
  return first === undefined ? [] : ["--prompt", first];
};

/** Trains a LoRA, and writes it as `lora.safetensors` in the run folder. */
export async function* trainLoraAction(options: LoraOptions, { signal }: ActionContext): Work<ActionResult> {
  const { out, rank, alpha = rank, layers, threads, data } = options;
  const { pipeline, set, source, side } = yield* opened(options);
  const settings = { ...settingsOf(options), rank, alpha, layers, side, data: setFingerprint(set) };
  const [adapters, loss] = yield* withLoss(
    trainLora({ stage: "LoRA", pipeline, source, settings, folder: join(out, "run"), threads, signal }),
  );
  const file = join(out, "lora.safetensors");
  await saveLora(file, adapters, {
    training: `${basename(data)}, rank ${rank}, ${options.steps} steps, seed ${options.seed}`,
  });
  yield { type: "file", path: file, about: "the adapters, for generate --lora" };
  return summaryOf("a LoRA", options, loss, [...promptOf(set), "--lora", file]);
}

/** The pictures of a set with the maps that control them. @throws ArgumentError naming pictures without a map */
async function controlled(
  { set, source, side }: Opened,
  folder: string,
): Promise<Dataset<ControlledPicture>> {
  const maps = await decodedPictures(folder, { size: { width: side, height: side } });
  const stem = (name: string): string => basename(name).replace(/\.[^.]+$/, "");
  const places = new Map(maps.names.map((name, i) => [stem(name), i]));
  const without = set.names.filter((name) => !places.has(stem(name)));
  if (without.length > 0)
    throw new ArgumentError(
      `${folder}: ${without.length} of ${set.length} pictures have no map of their name: ${without.slice(0, 8).join(", ")}`,
    );
  return mapDataset(source, async (sample, i) => {
    const { image: control } = await maps.get(places.get(stem(set.names[i]!))!);
    return { ...sample, control };
  });
}

/** Trains a ControlNet, and writes it as the folder `controlnet` in the run folder. */
export async function* trainControlNetAction(
  options: ControlNetOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { out, threads, controls } = options;
  const found = yield* opened(options);
  const { pipeline, set, side } = found;
  const source = await controlled(found, controls);
  const settings = { ...settingsOf(options), side, data: setFingerprint(set) };
  const [trained, loss] = yield* withLoss(
    trainControlNet({
      stage: "ControlNet",
      pipeline,
      source,
      settings,
      folder: join(out, "run"),
      threads,
      signal,
    }),
  );
  const folder = join(out, "controlnet");
  await saveModel(folder, trained, { overwrite: true });
  yield { type: "file", path: folder, about: "the ControlNet, for generate --control" };
  return summaryOf("a ControlNet", options, loss, [...promptOf(set), "--control", `${folder}:MAP.png`]);
}
