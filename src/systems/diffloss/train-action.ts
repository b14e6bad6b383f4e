/** `tweedie train diffloss`: a prior, or a network with or without its loss. */
import { basename, join } from "node:path";
import {
  type CleanPicture,
  type Dataset,
  DEGRADATIONS,
  folderPictures,
  type OwnUse,
  openRestorationPairs,
  ownPictures,
  type RestorationPair,
  UNCHANGED,
} from "../../data/index.ts";
import { createRestorer, type Restorer } from "../../networks/index.ts";
import { createRng } from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import {
  type CropSource,
  degradedCrops,
  type FurtherLoss,
  type LoadedModel,
  type RestorerNotes as Notes,
  pairedCrops,
  RESTORER_SIZES,
  restorationBatches,
  restorerFile,
  trainRestorer,
} from "../../training/index.ts";
import { told, type Work } from "../../work.ts";
import { commandLine } from "../command-line.ts";
import { fixedCrops, parted, restoredCrops, type Split, shortEma } from "../restoring-training.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { PUBLISHED_WEIGHTS, type Weights } from "./method.ts";
import {
  createPrior,
  type PriorNetwork,
  priorFile,
  priorPath,
  restorerPath,
  withRecomputation,
} from "./model.ts";
import { type TrainActionOptions, trainOptions } from "./options.ts";
import { calibratedWeights, diffLossOf, trainPrior } from "./train.ts";

/** Clean pictures to learn from. */
async function cleanPictures(
  { data, limit, pictures }: TrainActionOptions,
  use: OwnUse,
): Promise<Split<Dataset<CleanPicture>>> {
  if (data !== undefined) return parted(data, await folderPictures(data, limit));
  const train = ownPictures(use, limit ?? pictures);
  return { title: `${train.length} of our own pictures`, train, heldOut: ownPictures("validation", 64) };
}

/** Crops to learn from. */
async function cropsOf(options: TrainActionOptions): Promise<Split<CropSource>> {
  const { pairs, task, seed } = options;
  if (pairs !== undefined) {
    const { title, train, heldOut } = parted<RestorationPair>(pairs, await openRestorationPairs(pairs));
    return { title, train: pairedCrops(train, seed), heldOut: pairedCrops(heldOut, seed) };
  }
  const { title, train, heldOut } = await cleanPictures(options, "restorer");
  const crops = (source: Dataset<CleanPicture>) => degradedCrops(source, DEGRADATIONS[task], seed);
  return { title: `${title}, ${task}`, train: crops(train), heldOut: crops(heldOut) };
}

const settingsOf = ({ steps, batch, crop, learningRate, seed }: TrainActionOptions) => ({
  ...{ steps, batch, crop, learningRate, seed },
  warmup: Math.min(200, Math.ceil(steps / 20)),
  schedule: "cosine" as const,
  clip: 1,
  ema: shortEma(steps),
});

/** Weights of the prior's loss: as published, or measured on crops as the network leaves them. */
async function weightsOf(
  prior: PriorNetwork,
  start: LoadedModel<Restorer, Notes> | undefined,
  crops: CropSource,
  options: TrainActionOptions,
): Promise<Weights> {
  if (options.published) return PUBLISHED_WEIGHTS;
  const { strength, pixel, crop, batch, seed, threads } = options;
  if (strength === 0) return { natural: 0, semantic: 0 };
  const next = restorationBatches(crops, { batch, crop, seed });
  const batches = await Promise.all([0, 1, 2, 3].map(next));
  const restore = (y: Tensor): Tensor => start?.model.restore(y) ?? y;
  const given = { range: [options.tMin, options.tMax], seed, pixel, strength, threads } as const;
  return calibratedWeights(prior, restore, batches, given);
}

/** DiffLoss for a training, with what is to be known of it. */
async function lossOf(
  start: LoadedModel<Restorer, Notes> | undefined,
  crops: CropSource,
  options: TrainActionOptions,
): Promise<{ loss: FurtherLoss<unknown>; weights: Weights }> {
  const { tMin, tMax, seed, detachPrior, recompute } = options;
  const { model } = await priorFile.load(await priorPath(options.prior));
  const weights = await weightsOf(model, start, crops, options);
  const given = { weights, range: [tMin, tMax], seed, detachPrior } as const;
  const loss = diffLossOf(recompute ? withRecomputation(model) : model, given);
  return { loss: loss as FurtherLoss<unknown>, weights };
}

/** What a checkpoint says of itself. */
const notesOf = (training: string, options: TrainActionOptions): Notes => ({
  training,
  seed: String(options.seed),
  date: new Date().toISOString().slice(0, 10),
  command: commandLine("train diffloss", trainOptions, options),
});

async function* trainNetwork(options: TrainActionOptions, context: ActionContext): Work<ActionResult> {
  const { network, from, pixel, crop, steps, batch, seed, out, threads, task, pairs } = options;
  const start = from === undefined ? undefined : await restorerFile.load(await restorerPath(from));
  const { title, train, heldOut } = await cropsOf(options);
  yield { type: "message", text: title };
  const held = await fixedCrops(heldOut, crop);
  const further = options.diffloss ? await lossOf(start, train, options) : undefined;
  const words = further
    ? ` and DiffLoss (weights ${further.weights.natural.toPrecision(3)}, ${further.weights.semantic.toPrecision(3)})`
    : "";
  if (further) yield { type: "message", text: `loss: ${pixel}${words}` };
  let psnr = Number.NaN;
  const training = trainRestorer({
    stage: "network",
    net: start?.model ?? createRestorer(RESTORER_SIZES[network], createRng(seed)),
    source: train,
    settings: { ...settingsOf(options), pixel },
    further: further?.loss,
    furtherSettings: further && { weights: further.weights, tMin: options.tMin, tMax: options.tMax },
    heldOut: held,
    folder: join(out, "network"),
    lookEvery: Math.max(50, Math.ceil(steps / 20)),
    ...(context.previews &&
      held && { look: (net: Restorer) => restoredCrops(net, held.degraded, held.clean) }),
    threads,
    signal: context.signal,
  });
  const { final } = yield* told(training, (event) => {
    if (event.type === "metrics") psnr = event.values["held-out PSNR"] ?? psnr;
    return event;
  });
  const path = join(out, "model.safetensors");
  const about = `${pixel}${words}, ${steps} steps of ${batch} crops of ${crop} on ${title}, seed ${seed}${from === undefined ? "" : `, from ${basename(from)} (${(start!.notes as Notes).training})`}`;
  await restorerFile.save(path, final, {
    ...notesOf(about, options),
    task: pairs === undefined ? task : "pairs",
  });
  yield { type: "file", path, about: "the network, for run and evaluate" };
  const gained = Number.isFinite(psnr) ? `, held-out PSNR ${psnr.toFixed(2)} dB` : "";
  return { summary: `Trained: ${about}${gained}.`, metrics: Number.isFinite(psnr) ? { psnr } : {} };
}

async function* trainThePrior(options: TrainActionOptions, { signal }: ActionContext): Work<ActionResult> {
  const { size, crop, steps, batch, seed, out, threads } = options;
  const { title, train, heldOut } = await cleanPictures(options, "prior");
  yield { type: "message", text: title };
  const crops = (source: Dataset<CleanPicture>) => degradedCrops(source, UNCHANGED, seed);
  const held = await fixedCrops(crops(heldOut), crop);
  const bands: Record<string, number> = {};
  const training = trainPrior({
    stage: "prior",
    prior: createPrior(size, seed),
    source: crops(train),
    settings: settingsOf(options),
    heldOut: held?.clean.mul(2).sub(1),
    folder: join(out, "prior"),
    lookEvery: Math.max(50, Math.ceil(steps / 20)),
    threads,
    signal,
  });
  const { final } = yield* told(training, (event) => {
    if (event.type === "metrics")
      for (const [name, value] of Object.entries(event.values))
        if (name.startsWith("t ")) bands[name] = value;
    return event;
  });
  const path = join(out, "prior.safetensors");
  const about = `${steps} steps of ${batch} crops of ${crop} on ${title}, seed ${seed}`;
  await priorFile.save(path, final, notesOf(about, options));
  yield { type: "file", path, about: "the prior, for --prior" };
  const errors = Object.entries(bands).map(([name, value]) => `${name}: ${value.toPrecision(3)}`);
  return { summary: `Trained: ${about}. Error of the noise, ${errors.join(", ")}.`, metrics: bands };
}

/** Trains, and writes `model.safetensors` or `prior.safetensors` in the run folder. */
export async function* trainAction(options: TrainActionOptions, context: ActionContext): Work<ActionResult> {
  return yield* options.part === "prior" ? trainThePrior(options, context) : trainNetwork(options, context);
}
