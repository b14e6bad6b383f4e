/** `tweedie train | evaluate sdseg`; `run` is in `run.ts`. */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Dataset, intensityRange, maskColours, subset } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/index.ts";
import { describeMeasurement, type Measurement } from "../../metrics/index.ts";
import { told, type Work, type WorkEvent, watched } from "../../work.ts";
import { modelPath } from "../shipped.ts";
import { type ActionContext, type ActionResult, defined } from "../system.ts";
import { type Sample, statisticsOf } from "./data.ts";
import {
  createSDSeg,
  type Origin,
  PRESETS,
  type SDSeg,
  type SDSegConfig,
  sdsegFile,
  withClasses,
} from "./model.ts";
import { openReleased, withAutoencoderWeights, withDenoiserWeights } from "./official.ts";
import {
  CHECKPOINTS,
  type EvaluateActionOptions,
  type RunActionOptions,
  type TrainActionOptions,
} from "./options.ts";
import { evaluateOn, predictWith, runSeeds, stabilityOf } from "./scores.ts";
import { type DataMeaning, openData, readSamples } from "./sets.ts";
import { TRAINING, type TrainSettings, trainSDSeg, VALIDATED } from "./train.ts";
import { openSegmenter } from "./use.ts";

/** File of a model by name or path. @throws ArgumentError when there is none */
export const fileOf = (name: string): Promise<string> => modelPath("SDSeg", CHECKPOINTS, name);

/** What a checkpoint says of where it comes from; files of other programs say nothing. */
type Notes = Partial<Origin>;

/** A model by name or file, of SDSeg's own code too. @throws ArgumentError when there is none */
export async function openModel(name: string): Promise<{ model: SDSeg; notes: Notes }> {
  const path = await fileOf(name);
  const released = await openReleased(path);
  return released ? { model: released, notes: {} } : sdsegFile.load(path);
}

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

/** How many pictures there are, and of how many volumes. */
async function counted(data: Dataset<Sample>): Promise<string> {
  const volumes = new Set<string>();
  for (let i = 0; i < data.length; i++) volumes.add((await data.get(i)).volume ?? "");
  const of = volumes.has("") ? "" : ` of ${volumes.size} volume${volumes.size === 1 ? "" : "s"}`;
  return `${data.length} pictures${of}`;
}

/** What the values of pictures and masks mean, from the options and from what the checkpoint says. */
const dataOf = (
  { maskColours: colours, invertMasks, foreground }: TrainActionOptions | EvaluateActionOptions,
  range: string | undefined,
): DataMeaning => ({
  ...(range !== undefined && { range: intensityRange(range) }),
  ...(colours !== undefined && { colours: maskColours(colours) }),
  inverted: invertMasks,
  foreground,
});

/** The model that training begins with, and the resize factor that it was trained with. */
async function startingModel(
  options: TrainActionOptions,
): Promise<{ model: SDSeg; trained: boolean; notes: Notes }> {
  const { from, classes, seed, initAutoencoder, initDenoiser } = options;
  if (from !== undefined) {
    const { model, notes } = await openModel(from);
    if (classes === 2 && model.config.classes !== 2)
      throw new ArgumentError(
        `train sdseg: ${from} tells ${model.config.classes} classes apart; say --classes ${model.config.classes}`,
      );
    // A binary model is where a multi-class one begins.
    const fits = model.config.classes === classes;
    return { model: fits ? model : withClasses(model, classes, seed), trained: true, notes };
  }
  let model = createSDSeg(configOf(options), seed);
  if (initAutoencoder !== undefined) model = await withAutoencoderWeights(model, initAutoencoder);
  if (initDenoiser !== undefined) model = await withDenoiserWeights(model, initDenoiser);
  return { model, trained: false, notes: {} };
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
  const { model, trained, notes } = await startingModel(options);
  const settings = settingsOf(options);
  const range = options.range ?? notes.range;
  const {
    title,
    source,
    scale: own,
  } = await openData(options.data, model.config, "train", dataOf(options, range));
  const scale = options.scale ?? notes.scale ?? own;
  const all = yield* readSamples(source, { config: model.config, scale });
  await checkForeground(all);
  const { train, validation } = await parted(all);
  const text = `${title}: ${await counted(train)}, ${validation ? await counted(validation) : "none"} for validation`;
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
    seen: await statisticsOf(train),
    ...(range !== undefined && { range }),
  });
  yield { type: "file", path, about: "the model, in half precision" };
  yield { type: "file", path: join(out, "denoiser", "report.html"), about: "curves" };
  const measured =
    dice === undefined
      ? ""
      : ` Validation Dice ${dice.toFixed(4)} on ${Math.min(VALIDATED, validation!.length)} pictures.`;
  return { summary: `Trained.${measured}`, metrics: dice === undefined ? {} : { dice } };
}

/** Steps that give noise. */
export function* stepWarnings({ mode, steps, spacing }: EvaluateActionOptions | RunActionOptions) {
  const text =
    "one leading step begins at t = 1, where there is almost no noise: the mask is noise; --spacing trailing begins at the last";
  if (mode !== "direct" && steps === 1 && spacing === "leading") yield { type: "warning", text } as const;
}

/** Lesions are the data when none are given; models of other pictures find nothing in them. */
const foreign = ({ data, model }: EvaluateActionOptions, { name }: Notes): boolean =>
  data === undefined &&
  model !== "lesions" &&
  CHECKPOINTS.some((one) => one.name === name && name !== "lesions");

/** Scores of a model on pictures with masks, and on request their spread over seeds. */
export async function* evaluateAction(
  options: EvaluateActionOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { convention, stability, limit, mode, steps, spacing, eta, seed, ensemble } = options;
  yield* stepWarnings(options);
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
  const { title, source } = await openData(
    options.data,
    model.config,
    "test",
    dataOf(options, options.range ?? notes.range),
  );
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
