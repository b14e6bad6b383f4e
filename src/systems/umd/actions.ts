/** What `train`, `run` and `evaluate` do. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { checkPictures, type Labelled, type LabelledPictures, tensorToPictures } from "../../data/index.ts";
import { type Autoencoder, openAutoencoder } from "../../data/latent-pictures.ts";
import { ArgumentError } from "../../errors.ts";
import { encodePicture, type Picture, writeFileAtomic, writeSafetensors } from "../../io/index.ts";
import { linearProbeAccuracy, type ProbeResult, ridgeProbes, shotsName } from "../../metrics/index.ts";
import { grid } from "../../report/index.ts";
import { tableOf } from "../../study/index.ts";
import { readWeights } from "../../training/weights.ts";
import { drained, told, type Work, type WorkEvent } from "../../work.ts";
import { modelPath } from "../shipped.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { autoencoderFor, openInputs, toPictures } from "./data.ts";
import { MIXTURES } from "./method.ts";
import { checkConfig, initUMD, PRESETS, type UMD, type UMDConfig, umdFile, withSize } from "./model.ts";
import { maeFeatures, publishedMAE, type Weights, withMAEEncoder } from "./official.ts";
import type { EvaluateActionOptions, RunActionOptions, TrainActionOptions } from "./options.ts";
import { CHECKPOINTS } from "./options.ts";
import { finetuning, pretraining, shortEma, type TrainSettings, trainUMD, withLabels } from "./train.ts";
import {
  bestReading,
  labelled,
  probeModel,
  readingName,
  reconstruct,
  type SampleOptions,
  sampleUMD,
  umdFeatures,
  visible,
} from "./use.ts";

/** A model by the name of a checkpoint that ships, or by its file. */
export const modelOf = async (name: string): Promise<UMD> =>
  (await umdFile.load(await modelPath("UMD", CHECKPOINTS, name))).model;

// ---- train

function configOf(options: TrainActionOptions, autoencoder: Autoencoder | undefined): UMDConfig {
  const { method, preset, size, colour = "rgb", patch, initEncoder } = options;
  const base: UMDConfig = PRESETS[preset];
  if (base.domain === "latents" && !autoencoder)
    throw new ArgumentError(`UMD: preset ${preset} is of latents: it needs an autoencoder`);
  const factor = autoencoder?.sizeFactor ?? 1;
  return checkConfig({
    ...base,
    size: (size ?? base.size * factor) / factor,
    channels: autoencoder?.latentChannels ?? (colour === "gray" ? 1 : 3),
    patch: patch ?? base.patch,
    conditioning: options.conditioning ?? (method === "mae" ? "token" : "adaLN"),
    domain: autoencoder ? "latents" : "pixels",
    ...(initEncoder !== undefined && { classTokens: 1, activation: "gelu" }),
  });
}

interface Start {
  readonly model: UMD;
  readonly autoencoder: Autoencoder | undefined;
}

/** What training begins with. */
async function startOf(options: TrainActionOptions): Promise<Start> {
  const { from, initEncoder, zeroClassTokens, size, seed, autoencoder: path } = options;
  if (from !== undefined) {
    const { model } = await umdFile.load(from);
    const autoencoder = await autoencoderFor(model.config.domain, path);
    const side = size === undefined ? model.config.size : size / (autoencoder?.sizeFactor ?? 1);
    return { model: withSize(model, side), autoencoder };
  }
  const autoencoder = path === undefined ? undefined : await openAutoencoder(path);
  const fresh = initUMD(configOf(options, autoencoder), seed, { zeroClassTokens });
  const weights = initEncoder === undefined ? undefined : (await readWeights(initEncoder)).weights;
  return { model: weights ? withMAEEncoder(fresh, weights) : fresh, autoencoder };
}

function settingsOf(options: TrainActionOptions): TrainSettings {
  const { phase, method, steps, batch, seed, crop, cleanShare, noisedMask, cleanMask } = options;
  const learningRate = options.learningRate ?? (phase === "pretrain" ? 1e-3 : 5e-4);
  const augment = { flip: true, ...(crop !== undefined && { crop: [crop, 1] as const }) };
  const given = { steps, batch, seed, learningRate, augment };
  const settings =
    phase === "pretrain"
      ? pretraining(MIXTURES[method], given)
      : finetuning(MIXTURES[method], { ...given, ema: shortEma(steps) });
  const { mixture } = settings;
  return {
    ...settings,
    mixture: {
      cleanShare: cleanShare ?? mixture.cleanShare,
      noisedMask: noisedMask ?? mixture.noisedMask,
      cleanMask: cleanMask ?? mixture.cleanMask,
    },
  };
}

/** Pictures for curves that training does not see; none where a folder has none to spare. */
async function* heldOutOf(
  request: Omit<Parameters<typeof openInputs>[0], "half">,
): Work<LabelledPictures | undefined> {
  try {
    return (await openInputs({ ...request, half: "test", limit: 256 })).pictures;
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    yield { type: "message", text: `no held-out curves: ${error.message}` };
    return undefined;
  }
}

/** Shows what a model draws while it is trained: the same noise every time. */
async function* drawn(model: UMD, autoencoder: Autoencoder | undefined, threads?: number): Work<void> {
  const samples = await drained(sampleUMD(model, { count: 20, steps: 25, seed: 0, threads }));
  const picture = grid(await toPictures(samples, autoencoder), { columns: 10 });
  yield { type: "picture", name: "samples of the training", picture };
}

/** Trains, and writes `model.safetensors` in the run folder. */
export async function* trainAction(
  options: TrainActionOptions,
  { signal, previews }: ActionContext,
): Work<ActionResult> {
  const { data: folder, limit, phase, method, out, seed, threads } = options;
  const { model: start, autoencoder } = await startOf(options);
  const { size, channels, classes } = start.config;
  const request = { folder, size, channels, autoencoder };
  const { title, pictures } = await openInputs({ ...request, half: "train", limit });
  const warning = checkPictures(pictures, start.config);
  if (warning) yield { type: "warning", text: warning };
  const fresh = phase === "finetune" && classes === 0;
  const settings = settingsOf(options);
  yield { type: "message", text: `${title}: ${pictures.count} pictures` };
  let loss = Number.NaN;
  const training = trainUMD({
    stage: phase,
    model: fresh ? withLabels(start, pictures.classes.length, seed) : start,
    pictures,
    settings,
    heldOut: yield* heldOutOf(request),
    folder: join(out, phase),
    lookEvery: Math.max(50, Math.ceil(settings.steps / 20)),
    ...(previews && method !== "mae" && { look: (model: UMD) => drawn(model, autoencoder, threads) }),
    threads,
    signal,
  });
  const { final } = yield* told(training, (event) => {
    if (event.type === "metrics") loss = event.values.loss ?? loss;
    return event;
  });
  const path = join(out, "model.safetensors");
  const about = `${method}, ${phase}, ${settings.steps} steps of ${settings.batch} on ${title}, seed ${seed}`;
  await umdFile.save(path, final, { training: about });
  yield { type: "file", path, about: "the model, in half precision" };
  yield { type: "file", path: join(out, phase, "report.html"), about: "curves" };
  return { summary: `Trained: ${about}. Last loss ${loss.toFixed(4)}.`, metrics: { loss } };
}

// ---- run

async function* save(out: string, name: string, picture: Picture, about: string): Work<void> {
  await mkdir(out, { recursive: true });
  const path = join(out, `${name}.png`);
  await writeFileAtomic(path, await encodePicture(picture));
  yield { type: "picture", name, picture };
  yield { type: "file", path, about };
}

/** Pictures in the making, of a batch of samples. */
const PREVIEWS = 20;

async function* sampleMode(
  model: UMD,
  options: RunActionOptions,
  autoencoder: Autoencoder | undefined,
  { signal, previews }: ActionContext,
): Work<ActionResult> {
  const { count, steps, guidance, label, out } = options;
  const labels: SampleOptions["label"] = label === undefined ? label : label < 0 ? "none" : () => label;
  const run = sampleUMD(model, { ...options, label: labels, signal });
  for (;;) {
    const { done, value } = await run.next();
    if (done) {
      yield* save(out, "samples", grid(await toPictures(value, autoencoder)), `${count} samples`);
      return { summary: `${count} pictures drawn in ${steps} strides, guidance ${guidance}.` };
    }
    const { step, steps: total, finished, denoised } = value;
    yield { type: "progress", stage: `sample from ${finished}`, done: step, total };
    // Latents are left out: decoding them takes as long as many steps.
    if (previews && !autoencoder && step % Math.ceil(total / PREVIEWS) === 0)
      yield { type: "preview", picture: grid(await tensorToPictures(denoised)) };
  }
}

async function* reconstructMode(
  model: UMD,
  pictures: LabelledPictures,
  { ratio, seed, threads, out }: RunActionOptions,
  autoencoder: Autoencoder | undefined,
): Work<ActionResult> {
  const { filled, hidden, ...errors } = await reconstruct(model, pictures, { ratio, seed, threads });
  const sets = [pictures, visible(pictures, hidden), { ...pictures, values: filled }];
  const rows = await Promise.all(sets.map((set) => toPictures(set, autoencoder)));
  const shown = Array.from({ length: pictures.count * 3 }, (_, k) => rows[k % 3]![Math.floor(k / 3)]!);
  const about = "pictures, what was seen of them, and how they were filled in";
  yield* save(out, "reconstructed", grid(shown, { columns: 12 }), about);
  const { error, meanColourError } = errors;
  return {
    summary: `Mean squared error over hidden pixels ${error.toFixed(4)}; the mean colour of what is visible gives ${meanColourError.toFixed(4)}.`,
    metrics: { hiddenError: error, meanColourError },
  };
}

async function* featureMode(
  model: UMD,
  pictures: LabelledPictures,
  { index, seed, threads, out }: RunActionOptions,
): Work<ActionResult> {
  const { width, representation, pooled } = await umdFeatures(model, pictures, { seed, index, threads });
  await mkdir(out, { recursive: true });
  const path = join(out, "features.safetensors");
  const { count, labels } = pictures;
  const table = (data: Float32Array) => ({ dtype: "f32" as const, shape: [count, width], data });
  await writeSafetensors(path, {
    representation: table(representation),
    pooled: table(pooled),
    ...(labels && { labels: { dtype: "i32" as const, shape: [count], data: labels } }),
  });
  yield { type: "file", path, about: "class tokens' mean and mean of all tokens, with labels" };
  return { summary: `Features of ${count} pictures, ${width} numbers each.` };
}

/** Draws, fills in, or describes pictures. */
export async function* runAction(options: RunActionOptions, context: ActionContext): Work<ActionResult> {
  const { mode, data: folder, limit = mode === "reconstruct" ? 16 : undefined } = options;
  const model = await modelOf(options.model);
  const { size, channels, domain } = model.config;
  const autoencoder = await autoencoderFor(domain, options.autoencoder);
  if (mode === "sample") return yield* sampleMode(model, options, autoencoder, context);
  const { pictures } = await openInputs({ folder, half: "test", size, channels, limit, autoencoder });
  return mode === "reconstruct"
    ? yield* reconstructMode(model, pictures, options, autoencoder)
    : yield* featureMode(model, pictures, options);
}

// ---- evaluate

/** Shots that every class of the support can give. */
function possibleShots({ labels, classes }: Labelled): (number | "all")[] {
  const counts = classes.map((_, k) => labels.filter((label) => label === k).length);
  return [...[10, 100].filter((n) => counts.every((c) => c >= n)), "all"];
}

const percent = (value: number | undefined): string => (value === undefined ? "–" : (100 * value).toFixed(1));

interface Halves {
  readonly title: string;
  readonly train: Labelled;
  readonly test: Labelled;
  readonly shots: readonly (number | "all")[];
}

async function halvesOf(
  { data: folder, limit = 4000 }: EvaluateActionOptions,
  rest: { size: number; channels: number; autoencoder?: Autoencoder | undefined },
): Promise<Halves> {
  const open = (half: "train" | "test") => openInputs({ folder, half, limit, ...rest });
  const [{ title, pictures }, tested] = [await open("train"), await open("test")];
  const train = labelled(pictures);
  return { title, train, test: labelled(tested.pictures), shots: possibleShots(train) };
}

/** A row for each kind of features: its name and what probes found in it. */
function* probeTable(
  { title, train, test, shots }: Halves,
  rows: ReadonlyMap<string, ProbeResult>,
): Generator<WorkEvent> {
  const columns = Object.fromEntries(
    shots.map((n) => [
      n === "all" ? "all labels %" : `${shotsName(n)} %`,
      ({ accuracies }: ProbeResult) => percent(accuracies[shotsName(n)]),
    ]),
  );
  const heading = `${title}: ridge on ${train.count} pictures, ${test.count} tested`;
  yield { type: "table", title: heading, table: tableOf("features", rows, columns) };
}

/** The encoder of a published MAE. */
async function* evaluateMAE(options: EvaluateActionOptions, weights: Weights): Work<ActionResult> {
  if (options.linear) throw new ArgumentError("UMD: --linear is for models of UMD, not for a published MAE");
  const model = publishedMAE(weights);
  const { imageSize: size, inChannels: channels, dim: width } = model.config;
  const halves = await halvesOf(options, { size, channels });
  const { train, test, shots } = halves;
  const of = async (set: Labelled) => ({ rows: await maeFeatures(model, set), width, labels: set.labels });
  const settings = { shots, seed: options.seed, classes: train.classes.length };
  const found = ridgeProbes(await of(train), await of(test), settings);
  yield* probeTable(halves, new Map([["class token", found]]));
  return { summary: `Probe on all labels: ${percent(found.accuracies.all)} %.`, metrics: found.accuracies };
}

/** Probes a model of one's own, at both levels of noise and by both kinds of features, or a published MAE. */
export async function* evaluateAction(
  options: EvaluateActionOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { seed, threads, linear, linearRate: learningRate } = options;
  const path = await modelPath("UMD", CHECKPOINTS, options.model);
  const { weights, metadata } = await readWeights(path);
  if (!umdFile.matches(metadata)) return yield* evaluateMAE(options, weights);
  const { model } = await umdFile.load(path);
  const { size, channels, domain } = model.config;
  const autoencoder = await autoencoderFor(domain, options.autoencoder);
  const halves = await halvesOf(options, { size, channels, autoencoder });
  const { train, test, shots } = halves;
  const results = await probeModel(model, train, test, { shots, seed, threads, signal });
  yield* probeTable(halves, new Map(results.map((result) => [readingName(result), result])));
  const metrics: Record<string, number> = { ridge: bestReading(results).all! };
  if (linear) {
    const of = async (set: Labelled) => {
      const { width, representation } = await umdFeatures(model, set, { threads });
      return { rows: representation, width, labels: set.labels };
    };
    const { length: classes } = train.classes;
    const rules = { classes, batch: 256, learningRate, seed, ...(threads && { threads }) };
    metrics.linear = await linearProbeAccuracy(await of(train), await of(test), rules);
    const text = `linear layer on class tokens, 100 epochs of LARS: ${percent(metrics.linear)} %`;
    yield { type: "message", text };
  }
  return { summary: `Best probe on all labels: ${percent(metrics.ridge)} %.`, metrics };
}
