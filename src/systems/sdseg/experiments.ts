/** The models that the claim needs: each is trained once, goes on after an interruption, and is kept as a file. */
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { concatDatasets, type Dataset, fromArray, mapDataset, readAll } from "../../data/index.ts";
import { SHAPE_CLASSES, SHAPE_SIZE, shapes } from "../../data/world/plain-shapes.ts";
import { type PixelKind, type PixelNetwork, trainPixelNetwork } from "./baselines.ts";
import { loadSDSeg, type Origin, saveSDSeg } from "./checkpoint.ts";
import { PRESETS, type SDSegConfig } from "./config.ts";
import { createSDSeg, type SDSeg, withClasses, withParts } from "./model.ts";
import { type Sample, samplesOf } from "./samples.ts";
import type { Head } from "./schedule.ts";
import { knownSet, openSplit } from "./sets.ts";
import {
  TRAINING,
  type TrainInputs,
  type TrainProgress,
  type TrainSettings,
  trainAutoencoder,
  trainDecoder,
  trainDenoiser,
} from "./train.ts";

/** One of the trainings that are compared. */
export interface Variant {
  readonly name: string;
  readonly head: Head;
  readonly lambda: number;
  readonly trainVision?: boolean;
}

/** What is compared: the method, the method without its latent loss, and the control without noise. */
export const VARIANTS = [
  { name: "lambda-1", head: "vskip", lambda: 1 },
  { name: "lambda-0", head: "vskip", lambda: 0 },
  { name: "image-only", head: "image-only", lambda: 1 },
  { name: "raw-head", head: "raw", lambda: 1 },
  { name: "frozen-vision", head: "vskip", lambda: 1, trainVision: false },
] as const satisfies readonly Variant[];

/** How the reproduction is run. */
export interface ExperimentOptions {
  /** Where runs and models are kept. */
  readonly work: string;
  /** Folder of data sets; without it, lesions alone. */
  readonly root?: string;
  readonly seed: number;
  /** Denoiser steps by data set. */
  readonly steps: (set: string) => number;
  readonly autoencoderSteps: number;
  /** Further steps of its decoder alone. */
  readonly decoderSteps: number;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** Progress with the name of the model that it belongs to. */
export interface ExperimentProgress extends TrainProgress {
  readonly run: string;
}

const BASE: SDSegConfig = PRESETS.mini;

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

const originOf = (name: string, training: string, { seed }: ExperimentOptions, scale = 1): Origin => ({
  name,
  training,
  seed: String(seed),
  date: new Date().toISOString().slice(0, 10),
  scale,
});

async function* labelled(
  run: string,
  training: AsyncGenerator<TrainProgress, SDSeg>,
): AsyncGenerator<ExperimentProgress, SDSeg> {
  for (;;) {
    const { done, value } = await training.next();
    if (done) return value;
    yield { run, ...value };
  }
}

/** Data by set and split, read once. */
export function dataOf(options: Pick<ExperimentOptions, "root">, config: SDSegConfig = BASE) {
  const known = new Map<string, Promise<Dataset<Sample>>>();
  return (set: string, split: "train" | "val" | "test"): Promise<Dataset<Sample>> => {
    const key = `${set}/${split}`;
    const found = known.get(key) ?? openSplit(set, split, { config, root: options.root });
    known.set(key, found);
    return found;
  };
}

/**
 * The autoencoder that all models share, as in the paper, trained on the masks of all sets; with its scale. It is the
 * same for every variant, so that they differ in nothing else.
 */
export async function* sharedAutoencoder(
  sets: readonly string[],
  data: ReturnType<typeof dataOf>,
  options: ExperimentOptions,
): AsyncGenerator<ExperimentProgress, SDSeg> {
  const path = join(options.work, "autoencoder.safetensors");
  if (await exists(path)) return (await loadSDSeg(path)).model;
  const run = join(options.work, "autoencoder-run");
  await mkdir(run, { recursive: true });
  const train = concatDatasets(...(await Promise.all(sets.map((set) => data(set, "train")))));
  const { autoencoder, decoder } = TRAINING.mini;
  const settings: TrainSettings = {
    ...TRAINING.mini,
    seed: options.seed,
    autoencoder: { ...autoencoder, steps: options.autoencoderSteps },
    decoder: { ...decoder, steps: options.decoderSteps },
  };
  const inputs = {
    model: createSDSeg(BASE, options.seed),
    settings,
    data: evenly(train, sets, await sizes(sets, data)),
  };
  const { threads, signal } = options;
  const watched = { directory: run, threads, signal };
  const encoding = yield* labelled("autoencoder", trainAutoencoder({ ...inputs, ...watched }));
  const model = yield* labelled("decoder", trainDecoder({ ...inputs, ...watched, model: encoding }));
  await saveSDSeg(path, model, originOf("autoencoder", `masks of ${sets.join(", ")}`, options), "f32");
  return model;
}

const sizes = (sets: readonly string[], data: ReturnType<typeof dataOf>): Promise<number[]> =>
  Promise.all(sets.map(async (set) => (await data(set, "train")).length));

/** A view in which every set is met as often as every other, however many pictures it has. */
function evenly(all: Dataset<Sample>, sets: readonly string[], counts: readonly number[]): Dataset<Sample> {
  const starts = counts.map((_, i) => counts.slice(0, i).reduce((a, b) => a + b, 0));
  const most = Math.max(...counts);
  return {
    length: most * sets.length,
    get: (index, epoch) => {
      const set = index % sets.length;
      return all.get(starts[set]! + (Math.floor(index / sets.length) % counts[set]!), epoch);
    },
  };
}

/** Where a trained model is kept. */
export const modelPath = (work: string, set: string, variant: string): string =>
  join(work, `${set}-${variant}.safetensors`);

/** A variant trained on a set with the shared autoencoder. */
export async function* trainedVariant(
  set: string,
  variant: Variant,
  base: SDSeg,
  data: ReturnType<typeof dataOf>,
  options: ExperimentOptions,
): AsyncGenerator<ExperimentProgress, SDSeg> {
  const path = modelPath(options.work, set, variant.name);
  if (await exists(path)) return (await loadSDSeg(path)).model;
  const { threads, signal, seed } = options;
  const name = `${set}-${variant.name}`;
  const directory = join(options.work, `${name}-run`);
  await mkdir(directory, { recursive: true });
  const config: SDSegConfig = { ...base.config, head: variant.head };
  const fresh = createSDSeg(config, seed);
  const model = withParts(fresh, { autoencoder: base.autoencoder, scaleFactor: base.scaleFactor });
  const settings: TrainSettings = {
    ...TRAINING.mini,
    seed,
    lambda: variant.lambda,
    trainVision: variant.trainVision ?? true,
    denoiser: { ...TRAINING.mini.denoiser, steps: options.steps(set) },
  };
  const [train, validation] = [await data(set, "train"), await data(set, "val")];
  const inputs = { model, settings, data: train, validation, directory, threads, signal, saveEvery: 250 };
  const trained = yield* labelled(name, trainDenoiser({ ...inputs, validateEvery: 500 }));
  const training = `${knownSet(set)?.title ?? "procedural lesions"}, ${settings.denoiser.steps} steps of ${settings.denoiser.batch}`;
  await saveSDSeg(path, trained, originOf(name, training, options, knownSet(set)?.scale), "f32");
  return trained;
}

/** A baseline over pixels, trained with the same steps, batches and crops. */
export async function* trainedBaseline(
  set: string,
  kind: PixelKind,
  data: ReturnType<typeof dataOf>,
  options: ExperimentOptions,
): AsyncGenerator<ExperimentProgress, PixelNetwork> {
  const { threads, signal, seed } = options;
  const name = `${set}-pixel-${kind}`;
  const directory = join(options.work, `${name}-run`);
  await mkdir(directory, { recursive: true });
  const settings: TrainSettings = {
    ...TRAINING.mini,
    seed,
    denoiser: { ...TRAINING.mini.denoiser, steps: options.steps(set) },
  };
  const train = await data(set, "train");
  const { imageChannels } = BASE;
  const training = trainPixelNetwork({
    kind,
    data: train,
    imageChannels,
    settings,
    directory,
    threads,
    signal,
  });
  for (;;) {
    const { done, value } = await training.next();
    if (done) return value;
    yield { run: name, phase: "denoiser", event: value };
  }
}

/** Three classes by the released recipe: foreground against the rest first, then with an embedding of each class. */
export async function* trainedClasses(
  base: SDSeg,
  options: ExperimentOptions,
): AsyncGenerator<ExperimentProgress, SDSeg> {
  const path = modelPath(options.work, "shapes", "classes");
  if (await exists(path)) return (await loadSDSeg(path)).model;
  const { threads, signal, seed } = options;
  const classes = SHAPE_CLASSES.length + 1;
  const own = async (split: "train" | "val"): Promise<Dataset<Sample>> =>
    fromArray(await readAll(samplesOf(shapes(split), { config: { ...base.config, classes } })));
  const binary = (data: Dataset<Sample>): Dataset<Sample> =>
    mapDataset(data, (sample) => ({ ...sample, labels: sample.labels.map((label) => (label > 0 ? 1 : 0)) }));
  const [train, validation] = [await own("train"), await own("val")];
  const { denoiser, ...others } = TRAINING.mini;
  const steps = options.steps("shapes");
  const settings = { ...others, seed, denoiser: { ...denoiser, steps } };
  const training = (part: string, model: SDSeg, given: Partial<TrainInputs>) =>
    labelled(
      `shapes-${part}`,
      trainDenoiser({
        ...{ model, settings, data: train, validation, validateEvery: 500, saveEvery: 250, threads, signal },
        ...given,
        directory: join(options.work, `shapes-${part}-run`),
      }),
    );
  const fresh = withParts(createSDSeg(base.config, seed), {
    autoencoder: base.autoencoder,
    scaleFactor: base.scaleFactor,
  });
  const first = yield* training("binary", fresh, { data: binary(train), validation: binary(validation) });
  // What class a shape is of shows in the whole of it.
  const model = yield* training("classes", withClasses(first, classes, seed), {
    settings: { ...settings, crop: SHAPE_SIZE },
  });
  const text = `procedural ${SHAPE_CLASSES.join(", ")}, twice ${steps} steps of ${denoiser.batch}`;
  await saveSDSeg(path, model, originOf("shapes", text, options), "f32");
  return model;
}
