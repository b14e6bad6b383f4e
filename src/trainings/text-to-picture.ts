/** `tweedie train text-to-picture`: a text-to-picture model from nothing, of a captioned set or of the shape world. */
import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  type CaptionedSet,
  type Dataset,
  openCaptioned,
  readAll,
  subset,
  tensorToPictures,
} from "../data/index.ts";
import { ArgumentError } from "../errors.ts";
import { encodePicture, writeFileAtomic } from "../io/index.ts";
import { shellLine } from "../io/shell-line.ts";
import { type CaptionAgreement, openFeatureNetwork } from "../metrics/index.ts";
import { parameterCount } from "../nn/index.ts";
import { loadPipelineComponents, type PipelineComponents, savePipeline } from "../pipelines/index.ts";
import { grid } from "../report/index.ts";
import { shippedFile } from "../systems/shipped.ts";
import type { ActionContext, ActionResult } from "../systems/system.ts";
import {
  type CaptionedPicture,
  captionAccuracy,
  drawPrompts,
  emaFor,
  heldOutShapes,
  loadedSet,
  newPipeline,
  SHAPES_TEXT,
  setDefaults,
  type TextToPictureSettings,
  trainingShapes,
  trainTextToPicture,
} from "../training/index.ts";
import { told, type Work } from "../work.ts";
import type { TextToPictureOptions } from "./options.ts";

/** What a training learns from. */
interface Material {
  readonly title: string;
  readonly source: Dataset<CaptionedPicture>;
  /** All captions; undefined: the pictures have none. */
  readonly captions: readonly string[] | undefined;
  /** Captions whose pictures are drawn on the way. */
  readonly shown: readonly string[];
  readonly channels: readonly number[];
  readonly steps: number;
  /** Tells one set from another, when a run goes on. */
  readonly fingerprint: string;
}

/** Pictures of a sheet. */
const SHEET = 16;
/** Sheets of a training. */
const LOOKS = 10;

/** Captions spread over all of them, without repeats. */
function spread(captions: readonly string[]): string[] {
  const different = [...new Set(captions)];
  return Array.from(
    { length: Math.min(SHEET, different.length) },
    (_, i) => different[Math.floor((i * different.length) / Math.min(SHEET, different.length))]!,
  );
}

async function shapeWorld({ seed }: TextToPictureOptions): Promise<Material> {
  const source = trainingShapes(seed);
  const captions = (await readAll(source)).map(({ caption }) => caption!);
  const held = await readAll(heldOutShapes(SHEET));
  return {
    title: "the shape world",
    source,
    captions,
    shown: held.map(({ caption }) => caption),
    channels: SHAPES_TEXT.channels,
    steps: 8000,
    fingerprint: `shape world, seed ${seed}`,
  };
}

const WORDS = {
  table: "captions from a table",
  "text files": "captions from the text files beside them",
  folders: "the names of their folders as captions",
  names: "their file names as captions",
  none: "no captions: the model will make pictures from noise alone",
} as const;

/** The first pictures of a set. */
export const firstOf = (set: CaptionedSet, limit: number): CaptionedSet => {
  const indices = Array.from({ length: Math.min(limit, set.length) }, (_, i) => i);
  const some = <T>(all: readonly T[]): T[] => all.slice(0, limit);
  return { ...set, ...subset(set, indices), names: some(set.names), captions: some(set.captions) };
};

/** Tells sets of other names or captions apart: a run that goes on must have the same. */
export const setFingerprint = ({ names, captions }: CaptionedSet): string =>
  createHash("sha256")
    .update(JSON.stringify([names, captions]))
    .digest("hex")
    .slice(0, 16);

async function* ofData(data: string, options: TextToPictureOptions, signal?: AbortSignal): Work<Material> {
  const { size, limit, seed, captions: wanted } = options;
  const all = await openCaptioned(data, { captions: wanted, size: { width: size, height: size } });
  for (const text of all.warnings) yield { type: "warning", text };
  const set = limit === undefined ? all : firstOf(all, limit);
  const captions = set.captions.flat();
  yield { type: "message", text: `${data}: ${set.length} pictures, ${WORDS[set.source]}` };
  const { flip: standard, ...defaults } = setDefaults(set.length, captions);
  const flip = options.flip === "auto" ? standard : options.flip === "yes";
  const source = yield* loadedSet(set, { size, flip, seed, signal });
  return {
    title: data,
    source,
    captions: captions.length > 0 ? captions : undefined,
    shown: captions.length > 0 ? spread(captions) : new Array<string>(SHEET).fill(""),
    ...defaults,
    fingerprint: setFingerprint(set),
  };
}

/** Pixels per latent point: latents of about 16 points a side keep the work the same for all sizes. */
const factorFor = (size: number): number => 2 ** Math.max(0, Math.round(Math.log2(size / 16)));

async function pipelineOf(options: TextToPictureOptions, material: Material): Promise<PipelineComponents> {
  const { from, size, seed, channels, data } = options;
  if (from !== undefined) {
    const loaded = await loadPipelineComponents(from, { precision: "f32" });
    if (loaded.textEncoders.length > 0 !== (material.captions !== undefined))
      throw new ArgumentError(
        `${from}: ${loaded.textEncoders.length > 0 ? "takes captions, and the pictures have none" : "takes no captions, and the pictures have some (--captions none leaves them out)"}`,
      );
    return loaded;
  }
  const given = channels?.split(",").map(Number) ?? material.channels;
  const own = { ...SHAPES_TEXT, size, factor: factorFor(size), channels: given };
  // Real pictures are drawn in more steps, from the velocity, which knows the colours of large areas early.
  const rest = data === undefined ? {} : { steps: 30, guidance: 3, prediction: "v_prediction" as const };
  return newPipeline({ ...own, ...rest }, material.captions, seed);
}

const settingsOf = (options: TextToPictureOptions, material: Material): TextToPictureSettings => {
  const { batch, learningRate, seed } = options;
  const steps = options.steps ?? material.steps;
  return {
    ...{ steps, batch, learningRate, seed },
    warmup: Math.min(200, Math.ceil(steps / 20)),
    schedule: "cosine",
    clip: 1,
    dropCaptions: 0.1,
    ema: emaFor(steps),
    weightDecay: 0.01,
  };
};

/** A sheet of the model's pictures, in the run folder and for whoever watches. */
async function* sheet(
  pipeline: PipelineComponents,
  prompts: readonly string[],
  file: string,
  name: string,
): Work<void> {
  const drawing = drawPrompts(pipeline, prompts, { seed: 7 });
  const values = yield* told(drawing, () => []);
  const picture = grid(await tensorToPictures(values), { columns: 4, scale: 3 });
  await writeFileAtomic(file, await encodePicture(picture));
  yield { type: "picture", name, picture };
}

const row = (name: string, { all, ground, count, shapes, colours }: CaptionAgreement) =>
  [name, ...[all, ground, count, shapes, colours].map((share) => Number(share.toFixed(4)))] as const;

/** How well the base follows captions that it has never seen, by the judge that ships. */
async function* judged(pipeline: PipelineComponents, options: TextToPictureOptions, signal?: AbortSignal) {
  const file = await shippedFile("checkpoints/shapes-features.safetensors");
  const { network } = await openFeatureNetwork(file, "shapes-features");
  const { model, ceiling, floor } = yield* captionAccuracy(pipeline, network, {
    threads: options.threads,
    signal,
  });
  yield {
    type: "table" as const,
    title: "Pictures that agree with captions never seen in training, of 512",
    table: {
      columns: ["pictures", "all right", "ground", "how many", "shapes", "colours"],
      rows: [
        row("this model", model),
        row("real (ceiling)", ceiling),
        row("of another caption (floor)", floor),
      ],
    },
  };
  return model.all;
}

/** Trains, and keeps the pipeline of the last look in `model` of the run folder. */
export async function* trainTextToPictureAction(
  options: TextToPictureOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { data, out, threads } = options;
  const material = data === undefined ? await shapeWorld(options) : yield* ofData(data, options, signal);
  const pipeline = await pipelineOf(options, material);
  const settings = settingsOf(options, material);
  const folder = join(out, "model");
  const samples = join(out, "samples");
  await mkdir(samples, { recursive: true });
  const millions = (parameterCount(pipeline.unet!.model) / 1e6).toFixed(1);
  yield {
    type: "message",
    text: `a U-Net of ${millions} million parameters, ${settings.steps} steps of ${settings.batch} pictures; sheets of samples in ${samples}`,
  };
  if (material.captions) {
    const list = material.shown.map((caption, i) => `${i + 1}. ${caption}\n`).join("");
    await writeFileAtomic(join(samples, "captions.txt"), new TextEncoder().encode(list));
  }
  let [loss, looks] = [Number.NaN, 0];
  const training = trainTextToPicture({
    stage: "text to picture",
    pipeline,
    source: material.source,
    settings: { ...settings, data: material.fingerprint } as TextToPictureSettings,
    folder: join(out, "run"),
    saveEvery: 250,
    lookEvery: Math.max(50, Math.ceil(settings.steps / LOOKS)),
    async *look(now) {
      await savePipeline(folder, now, { dtype: "f16", overwrite: true });
      const name = `samples-${String(++looks).padStart(2, "0")}`;
      yield* sheet(now, material.shown, join(samples, `${name}.png`), "samples of the training");
    },
    threads,
    signal,
  });
  const trained = yield* told(training, (event) => {
    if (event.type === "metrics") loss = event.values.loss ?? loss;
    return event;
  });
  await savePipeline(folder, trained, { dtype: "f16", overwrite: true });
  yield* sheet(trained, material.shown, join(samples, "last.png"), "samples");
  const accuracy = data === undefined ? yield* judged(trained, options, signal) : undefined;
  yield { type: "file", path: folder, about: "the model, for generate --model" };
  yield {
    type: "file",
    path: join(samples, "last.png"),
    about: "what it draws for the captions in captions.txt",
  };
  yield { type: "file", path: join(out, "run", "report.html"), about: "curves" };
  const prompt = material.captions ? ["--prompt", material.shown[0]!] : [];
  const next = shellLine(["tweedie", "generate", "--model", folder, ...prompt]);
  return {
    summary: `Trained on ${material.title}: ${settings.steps} steps, last loss ${loss.toFixed(4)}. Pictures:\n  ${next}`,
    metrics: { loss, ...(accuracy !== undefined && { captionAccuracy: accuracy }) },
  };
}
