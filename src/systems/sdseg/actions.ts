/** `tweedie train | run | evaluate sdseg`. */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  type Dataset,
  type FloatPicture,
  inUnits,
  readPictureFile,
  resizeLabels,
  resizePicture,
  subset,
  toFloatPicture,
} from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { hashFile, type Picture, writeFileAtomic } from "../../io/index.ts";
import { describeMeasurement, type Measurement } from "../../metrics/index.ts";
import { overlay } from "../../report/index.ts";
import { told, type Work, type WorkEvent, watched } from "../../work.ts";
import { type BatchItem, batchSummary, runBatch } from "../batch.ts";
import { modelPath } from "../shipped.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { type Sample, toInput } from "./data.ts";
import {
  createSDSeg,
  type Origin,
  PRESETS,
  type SDSeg,
  type SDSegConfig,
  sdsegFile,
  withClasses,
} from "./model.ts";
import { withAutoencoderWeights, withDenoiserWeights } from "./official.ts";
import {
  CHECKPOINTS,
  type EvaluateActionOptions,
  type RunActionOptions,
  type TrainActionOptions,
} from "./options.ts";
import { evaluateOn, predictWith, runSeeds, stabilityOf } from "./scores.ts";
import { openData, readSamples } from "./sets.ts";
import { TRAINING, type TrainSettings, trainSDSeg, VALIDATED } from "./train.ts";
import { openSegmenter, type Segmenter } from "./use.ts";

/** File of a model by name or path. @throws ArgumentError when there is none */
const fileOf = (name: string): Promise<string> => modelPath("SDSeg", CHECKPOINTS, name);

/** A model by name or file. @throws ArgumentError when there is none */
export const openModel = async (name: string) => sdsegFile.load(await fileOf(name));

const defined = <T extends object>(values: T): Partial<T> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;

function configOf({ preset, classes, colour, head }: TrainActionOptions): SDSegConfig {
  return {
    ...PRESETS[preset],
    classes,
    ...(colour && { imageChannels: colour === "rgb" ? 3 : 1 }),
    ...(head && { head }),
  };
}

function settingsOf(options: TrainActionOptions): TrainSettings {
  const base = TRAINING[options.preset];
  const { steps, batch, learningRate, autoencoderSteps, decoderSteps, lambda, crop, augment, seed } = options;
  return {
    ...base,
    ...defined({ crop, augment }),
    seed,
    lambda,
    autoencoder: { ...base.autoencoder, ...defined({ steps: autoencoderSteps, batch }) },
    decoder: { ...base.decoder, ...defined({ steps: decoderSteps }) },
    denoiser: { ...base.denoiser, ...defined({ steps, batch, learningRate }) },
  };
}

/** Which pictures are kept for validation: every tenth; of volumes, the last whole ones. Too few: none. */
async function parted(
  all: Dataset<Sample>,
): Promise<{ train: Dataset<Sample>; validation?: Dataset<Sample> }> {
  const volumes: (string | undefined)[] = [];
  for (let i = 0; i < all.length; i++) volumes.push((await all.get(i)).volume);
  const names = [...new Set(volumes)];
  const kept = new Set(
    names.filter((name, k) => name !== undefined && k >= names.length - Math.floor(names.length / 5)),
  );
  const isVolume = volumes.every((name) => name !== undefined);
  const held = (i: number): boolean => (isVolume ? kept.has(volumes[i]) : all.length >= 10 && i % 10 === 9);
  const indices = volumes.map((_, i) => i);
  const validation = indices.filter(held);
  if (validation.length === 0) return { train: all };
  return {
    train: subset(
      all,
      indices.filter((i) => !held(i)),
    ),
    validation: subset(all, validation),
  };
}

/** Options of a fresh model that a checkpoint to go on from decides itself. @throws ArgumentError naming one that is given */
function checkFrom(options: TrainActionOptions, model: SDSeg): void {
  const { from, head, colour, initAutoencoder, initDenoiser, autoencoderSteps, decoderSteps, classes } =
    options;
  const given = Object.entries({
    head,
    colour,
    "init-autoencoder": initAutoencoder,
    "init-denoiser": initDenoiser,
    "autoencoder-steps": autoencoderSteps,
    "decoder-steps": decoderSteps,
  });
  const without = given.find(([, value]) => value !== undefined);
  if (without)
    throw new ArgumentError(
      `train sdseg: --${without[0]} has no effect with --from: ${from} decides it already`,
    );
  if (classes === 2 && model.config.classes !== 2)
    throw new ArgumentError(
      `train sdseg: ${from} tells ${model.config.classes} classes apart; say --classes ${model.config.classes}`,
    );
}

/** The model that training begins with, and the resize factor that it was trained with. */
async function startingModel(
  options: TrainActionOptions,
): Promise<{ model: SDSeg; trained: boolean; scale?: number | undefined }> {
  const { from, classes, seed, initAutoencoder, initDenoiser } = options;
  if (from !== undefined) {
    const { model, notes } = await sdsegFile.load(from);
    checkFrom(options, model);
    // A binary model is where a multi-class one begins.
    const fits = model.config.classes === classes;
    return { model: fits ? model : withClasses(model, classes, seed), trained: true, scale: notes.scale };
  }
  let model = createSDSeg(configOf(options), seed);
  if (initAutoencoder !== undefined) model = await withAutoencoderWeights(model, initAutoencoder);
  if (initDenoiser !== undefined) model = await withDenoiserWeights(model, initDenoiser);
  return { model, trained: false };
}

async function checkForeground(data: Dataset<Sample>): Promise<void> {
  for (let i = 0; i < data.length; i++) if ((await data.get(i)).labels.some((label) => label > 0)) return;
  throw new ArgumentError(
    `SDSeg: none of ${data.length} masks has any foreground: there is nothing to learn`,
  );
}

/** Trains, and writes `model.safetensors` in the run folder. */
export async function* trainAction(
  options: TrainActionOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { out, threads, initAutoencoder } = options;
  const { model, trained, scale: before } = await startingModel(options);
  const settings = settingsOf(options);
  const { title, source, scale: own } = await openData(options.data, model.config, "train");
  const scale = options.scale ?? before ?? own;
  const all = yield* readSamples(source, { config: model.config, scale });
  await checkForeground(all);
  const { train, validation } = await parted(all);
  const text = `${title}: ${train.length} pictures, ${validation?.length ?? 0} for validation`;
  yield { type: "message", text };
  let dice: number | undefined;
  const training = trainSDSeg(
    { model, settings, data: train, validation, folder: out, threads, signal },
    { keepAutoencoder: trained, measureOnly: initAutoencoder !== undefined && !trained },
  );
  const final = yield* told(training, (event) => {
    if (event.type === "metrics" && event.values.dice !== undefined) dice = event.values.dice;
    return event;
  });
  const path = join(out, "model.safetensors");
  await sdsegFile.save(path, final, {
    name: "model",
    training: `${title}, ${settings.denoiser.steps} steps of ${settings.denoiser.batch}`,
    seed: String(options.seed),
    date: new Date().toISOString().slice(0, 10),
    scale,
  });
  yield { type: "file", path, about: "the model, in half precision" };
  yield { type: "file", path: join(out, "denoiser", "report.html"), about: "curves" };
  const measured =
    dice === undefined
      ? ""
      : ` Validation Dice ${dice.toFixed(4)} on ${Math.min(VALIDATED, validation!.length)} pictures.`;
  return { summary: `Trained.${measured}`, metrics: dice === undefined ? {} : { dice } };
}

/** Options of a reverse process that say nothing in the mode that is chosen, or give noise. */
function* modeWarnings({ mode, steps, spacing, eta }: EvaluateActionOptions | RunActionOptions) {
  const warning = (text: string) => ({ type: "warning", text }) as const;
  if (mode === "direct" && (steps !== 50 || spacing !== "leading"))
    yield warning("--steps and --spacing have no effect with --mode direct, which takes one step");
  if (mode !== "ddim" && eta !== 1) yield warning(`--eta has no effect with --mode ${mode}`);
  if (mode !== "direct" && steps === 1 && spacing === "leading")
    yield warning(
      "one leading step begins at t = 1, where there is almost no noise: the mask is noise; --spacing trailing begins at the last",
    );
}

/** The picture in 8 bits for people; of 16-bit and float pictures from the darkest to the brightest value. */
function shownFrom(deep: Picture): Picture {
  const { data, ...size } = deep;
  if (data instanceof Uint8Array) return deep;
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of data) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  const scale = high > low ? 255 / (high - low) : 0;
  return { ...size, data: Uint8Array.from(data, (v) => Math.round((v - low) * scale)) };
}

/** What goes into the files, at the size of the picture. */
interface Result {
  readonly labels: Int32Array;
  readonly probability: FloatPicture;
}

async function* segmentPicture(
  segmenter: Segmenter,
  seen: Picture,
  scale: number,
  options: RunActionOptions & { signal?: AbortSignal },
): AsyncGenerator<{ done: number; total: number }, Result> {
  const { width, height } = seen;
  const { config } = segmenter.model;
  const [w, h] = [width, height].map((size) => Math.max(1, Math.round(size * scale))) as [number, number];
  const same = w === width && h === height;
  const resized = same ? seen : resizePicture(toFloatPicture(seen), w, h);
  const { mask, probability } = yield* segmenter.segmentTiled(toInput(resized, config), options);
  const map = { width: w, height: h, channels: 1, data: probability };
  if (same) return { labels: Int32Array.from(mask), probability: map };
  const full = resizePicture(map, width, height);
  const labels =
    config.classes > 2
      ? resizeLabels(Int32Array.from(mask), { width: w, height: h }, width, height)
      : Int32Array.from(full.data, (p) => (p > 0.5 ? 1 : 0));
  return { labels, probability: full };
}

const KINDS = ["mask", "probability", "overlay"];

/** The results as pictures for files. */
function picturesOf(
  seen: Picture,
  { labels, probability }: Result,
  classes: number,
): Record<string, Picture> {
  const { width, height } = seen;
  const gray = (data: Uint8Array): Picture => ({ width, height, channels: 1, data });
  return {
    mask: gray(Uint8Array.from(labels, (label) => (classes > 2 ? label : label * 255))),
    probability: gray(Uint8Array.from(probability.data, (p) => Math.round(p * 255))),
    overlay: overlay(shownFrom(seen), labels),
  };
}

/** Segments a picture or a folder. */
export async function* runAction(options: RunActionOptions, context: ActionContext): Work<ActionResult> {
  const { signal } = context;
  const { maxPixels, out, mode, steps, spacing, eta, ensemble, seed, tile, overlap } = options;
  yield* modeWarnings(options);
  const { model, notes } = await openModel(options.model);
  const { config } = model;
  const colour = config.imageChannels === 3 ? "rgb" : "gray";
  const segmenter = openSegmenter(model);
  const startedAt = performance.now();
  async function* segment({ path, source }: BatchItem): Work<Record<string, Picture>> {
    const file = await readPictureFile(path, { colour, depth: "file", maxPixels });
    const [seen] = inUnits([file], source) as [Picture];
    const run = segmentPicture(segmenter, seen, notes.scale ?? 1, { ...options, ...(signal && { signal }) });
    const result = yield* told(run, ({ done, total }) =>
      total > 1 ? ({ type: "progress", stage: `tiles of ${source}`, done, total } as const) : undefined,
    );
    return picturesOf(seen, result, config.classes);
  }
  try {
    const file = await hashFile(await fileOf(options.model));
    const settings = {
      system: "sdseg",
      model: file,
      mode,
      steps,
      spacing,
      eta,
      ensemble,
      seed,
      tile,
      overlap,
    };
    const result = yield* runBatch({ ...options, settings, kinds: KINDS }, context, segment);
    const seconds = (performance.now() - startedAt) / 1000;
    const { done, kept, failed } = result;
    return {
      summary: `${batchSummary(result, "segmented")}. ${seconds.toFixed(1)} s; masks, probabilities and overlays are in ${out}.`,
      metrics: { pictures: done, kept, broken: failed.length, seconds },
      ...(failed.length > 0 && { incomplete: true }),
    };
  } finally {
    await segmenter.close();
  }
}

/** Lesions are the data when none are given; models of other pictures find nothing in them. */
const foreign = ({ data, model }: EvaluateActionOptions, { name }: Partial<Origin>): boolean =>
  data === undefined &&
  model !== "lesions" &&
  CHECKPOINTS.some((one) => one.name === name && name !== "lesions");

/** Scores of a model on pictures with masks, and on request their spread over seeds. */
export async function* evaluateAction(
  options: EvaluateActionOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { convention, stability, limit, mode, steps, spacing, eta, seed, ensemble } = options;
  yield* modeWarnings(options);
  const { model, notes } = await openModel(options.model);
  const { classes } = model.config;
  if (foreign(options, notes))
    yield {
      type: "warning",
      text: `--model ${options.model} was not trained on lesions, which are the data without --data`,
    };
  if (stability === 1 || (stability > 1 && classes > 2))
    yield {
      type: "warning",
      text: "--stability has no effect: it needs two or more seeds and a model of two classes",
    };
  const { title, source } = await openData(options.data, model.config, "test");
  const data = yield* readSamples(source, { config: model.config, scale: notes.scale ?? 1, limit });
  const segmenter = openSegmenter(model);
  const inference = { ...options, signal };
  try {
    yield { type: "message", text: `${title}: ${data.length} pictures, model ${options.model}` };
    const startedAt = performance.now();
    const predict = predictWith(segmenter, inference);
    const scores = yield* watched((tell: (event: WorkEvent) => void) =>
      evaluateOn(predict, data, {
        ...{ classes, convention },
        onPicture: (done, total) => tell({ type: "progress", stage: "segment", done, total }),
      }),
    );
    const perPicture = (performance.now() - startedAt) / data.length;
    const process = mode === "direct" ? {} : { steps, spacing, ...(mode === "ddim" && { eta }) };
    const dice: Measurement = {
      value: scores.dice,
      ...(scores.interval && { interval: scores.interval }),
      recipe: {
        metric: "Dice",
        counts: { pictures: scores.pictures, units: scores.units },
        seed,
        options: { model: options.model, mode, ...process, ensemble, convention },
      },
    };
    const rows: (string | number)[][] = [
      ["Dice", scores.dice],
      ["IoU", scores.iou],
      ...(classes > 2 ? scores.perClass.map((d, k) => [`Dice of class ${k + 1}`, d]) : []),
      ["ms per picture", perPicture],
    ];
    let spread: Record<string, number> = {};
    if (stability > 1 && classes === 2) {
      const predictor = (s: number) => predictWith(segmenter, { ...inference, seed: s });
      const runs = await runSeeds(predictor, data, { seeds: stability, convention });
      spread = { ...(await stabilityOf(runs, data, model)) };
      const over = `${stability} sampling seeds of this training`;
      for (const [name, value] of Object.entries(spread)) rows.push([`${name}, ${over}`, value]);
    }
    yield { type: "table", title: describeMeasurement(dice), table: { columns: ["measure", "value"], rows } };
    const metrics = { dice: scores.dice, iou: scores.iou, millisecondsPerPicture: perPicture, ...spread };
    if (options.out !== undefined) {
      await mkdir(dirname(options.out), { recursive: true });
      const report = { title, recipe: dice.recipe, interval: scores.interval, metrics, table: scores.table };
      await writeFileAtomic(options.out, Buffer.from(`${JSON.stringify(report)}\n`));
      yield { type: "file", path: options.out, about: "numbers, with the counts of every picture" };
    }
    return { summary: `Dice ${scores.dice.toFixed(4)}, IoU ${scores.iou.toFixed(4)}.`, metrics };
  } finally {
    await segmenter.close();
  }
}
