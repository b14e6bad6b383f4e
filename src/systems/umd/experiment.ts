/** The claim in miniature: UMD and what it is compared with, trained alike, probed and sampled alike. */
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Labelled } from "../../data/picture-set.ts";
import { type LabelledPictures, slicePictures } from "../../data/picture-set.ts";
import { ArgumentError } from "../../errors.ts";
import { type FeatureNetwork, openFeatureNetwork, saveFeatureNetwork } from "../../metrics/index.ts";
import { type Quality, qualityOf, referenceOf, trainClassifier } from "../../metrics/sample-quality.ts";
import type { TrainEvent } from "../../nn/index.ts";
import { openKept } from "../kept.ts";
import { loadUMD, saveUMD } from "./checkpoint.ts";
import { PRESETS, type UMDConfig } from "./config.ts";
import { reconstruct } from "./features.ts";
import { trainingFlops } from "./flops.ts";
import { initUMD, type UMD } from "./model.ts";
import { MIXTURES, type Mixture } from "./objective.ts";
import { bestOf, type ProbeResult, probeModel } from "./probe.ts";
import { sampleUMD } from "./sample.ts";
import { finetuning, pretraining, trainedModel, trainUMD, withLabels } from "./train.ts";

/** One of the trainings that are compared; its name in small letters is what files in the work folder begin with. */
export interface Variant {
  readonly name: string;
  readonly mixture: Mixture;
  readonly conditioning: UMDConfig["conditioning"];
  /** The class tokens begin at zero. Default false. */
  readonly zeroClassTokens?: boolean;
}

export const VARIANTS = [
  { name: "UMD", mixture: MIXTURES.umd, conditioning: "adaLN" },
  { name: "DiT", mixture: MIXTURES.dit, conditioning: "adaLN" },
  { name: "MaskDiT", mixture: MIXTURES.maskdit, conditioning: "adaLN" },
  { name: "MAE", mixture: MIXTURES.mae, conditioning: "token" },
  { name: "MAE-adaLN", mixture: MIXTURES.mae, conditioning: "adaLN" },
] as const satisfies readonly Variant[];

export interface ExperimentOptions {
  readonly train: Labelled;
  readonly test: Labelled;
  /** Sizes; picture size, channels and conditioning come from the data and the variant. */
  readonly base?: UMDConfig;
  readonly variants: readonly Variant[];
  readonly seeds: readonly number[];
  readonly steps: number;
  readonly batch: number;
  readonly learningRate: number;
  /** Steps of fine-tuning; 0: generation is not measured. */
  readonly tuneSteps: number;
  /** Samples for each guidance. */
  readonly samples: number;
  readonly sampleSteps: number;
  readonly guidances: readonly number[];
  readonly classifierSteps: number;
  /** "images": the same number of steps for all; "flops": as many as DiT's arithmetic pays for. */
  readonly equal: "images" | "flops";
  /** Runs and models. */
  readonly work: string;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

export interface RunResult {
  readonly variant: string;
  readonly seed: number;
  readonly steps: number;
  readonly seconds: number;
  /** Of pre-training. */
  readonly gigaflops: number;
  readonly probes: readonly ProbeResult[];
  readonly best: Readonly<Record<string, number>>;
  readonly hiddenError: number;
  readonly quality: Readonly<Record<string, Quality>>;
}

export interface ExperimentResult {
  readonly runs: readonly RunResult[];
  readonly classifierAccuracy: number;
  /** Fréchet distance of training pictures from test pictures: what a perfect sampler would reach. */
  readonly realFid: number;
  /** Features of untrained models, best reading. */
  readonly untrained: Readonly<Record<string, number>>;
}

export interface ExperimentProgress {
  readonly run: string;
  readonly done: number;
  readonly total: number;
  readonly note?: string;
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

const configFor = ({ base = PRESETS.mini, train }: ExperimentOptions, variant: Variant): UMDConfig => ({
  ...base,
  size: train.size,
  channels: train.channels,
  conditioning: variant.conditioning,
});

/** Steps of a variant: all alike, or as many as the arithmetic of DiT's steps pays for. */
export function stepsFor(options: ExperimentOptions, variant: Variant): number {
  if (options.equal === "images") return options.steps;
  const dit = trainingFlops({ ...configFor(options, variant), conditioning: "adaLN" }, MIXTURES.dit);
  return Math.round((options.steps * dit) / trainingFlops(configFor(options, variant), variant.mixture));
}

async function* progressOf(
  run: string,
  total: number,
  training: AsyncGenerator<TrainEvent<UMD>, Parameters<typeof trainedModel>[0]>,
): AsyncGenerator<ExperimentProgress, UMD> {
  for (;;) {
    const { done, value } = await training.next();
    if (done) return trainedModel(value);
    if (value.type === "step" && (value.step % 10 === 0 || value.step === total))
      yield {
        run,
        done: value.step,
        total,
        note: `loss ${value.loss.toFixed(4)}  ${value.stepsPerSecond.toFixed(1)} steps/s`,
      };
  }
}

/** A model that is trained once and kept as a file with the time it took. */
async function* kept(
  options: ExperimentOptions,
  name: string,
  start: UMD,
  settings: ReturnType<typeof pretraining>,
): AsyncGenerator<ExperimentProgress, { model: UMD; seconds: number }> {
  const path = join(options.work, `${name}.safetensors`);
  if (await exists(path)) {
    const { model, notes } = await loadUMD(path);
    if (notes.steps !== String(settings.steps))
      throw new ArgumentError(
        `UMD: ${path} was trained for ${notes.steps} steps, expected ${settings.steps}: name another work folder`,
      );
    return { model, seconds: Number(notes.seconds) };
  }
  const { train, work, threads, signal } = options;
  const directory = join(work, `${name}-run`);
  await mkdir(directory, { recursive: true });
  const from = performance.now();
  const training = trainUMD({
    model: start,
    pictures: train,
    settings,
    directory,
    ...(threads && { threads }),
    ...(signal && { signal }),
  });
  const model = yield* progressOf(name, settings.steps, training);
  const seconds = (performance.now() - from) / 1000;
  await saveUMD(path, model, { name, steps: String(settings.steps), seconds: seconds.toFixed(1) }, "f32");
  return { model, seconds };
}

/** The classifier, trained once. */
async function keptClassifier({
  work,
  train,
  classifierSteps,
  threads,
}: ExperimentOptions): Promise<FeatureNetwork> {
  const path = join(work, "classifier.safetensors");
  if (await exists(path)) return (await openFeatureNetwork(path)).network;
  const steps = classifierSteps;
  const network = await trainClassifier(train, { steps, seed: 0, ...(threads && { threads }) });
  await saveFeatureNetwork(path, network, { steps: String(steps) });
  return network;
}

async function* samplesOf(
  model: UMD,
  name: string,
  options: ExperimentOptions,
  guidance: number,
  seed: number,
): AsyncGenerator<ExperimentProgress, LabelledPictures> {
  const { samples: count, sampleSteps: steps, threads, signal } = options;
  const run = sampleUMD(model, {
    count,
    steps,
    seed,
    guidance,
    ...(threads && { threads }),
    ...(signal && { signal }),
  });
  for (;;) {
    const { done, value } = await run.next();
    if (done) return value;
    if (value.step === value.steps)
      yield { run: `${name}: samples, guidance ${guidance}`, done: value.finished, total: count };
  }
}

/** Trains, probes, fine-tunes and samples everything. What is in the work folder is not done again. */
export async function* runExperiment(
  options: ExperimentOptions,
): AsyncGenerator<ExperimentProgress, ExperimentResult> {
  const { train, test, variants, seeds, batch, learningRate, tuneSteps, guidances } = options;
  await mkdir(options.work, { recursive: true });
  const shots = [10, 100, "all"] as const;
  const support = slicePictures(train, 0, 4000) as Labelled;
  yield { run: "classifier", done: 0, total: 1 };
  const classifier = await keptClassifier(options);
  const reference = await referenceOf(classifier, slicePictures(test, 0, options.samples));
  const real = await qualityOf(classifier, reference, slicePictures(train, 0, options.samples));
  const onTest = await qualityOf(classifier, reference, test);
  const first = variants[0] ?? VARIANTS[0];
  const untrained = bestOf(
    await probeModel(initUMD(configFor(options, first), 0), support, test, { shots, seed: 0 }),
  );
  const qualityOfSamples = (drawn: LabelledPictures) => () => qualityOf(classifier, reference, drawn);
  const runs: RunResult[] = [];
  for (const seed of seeds) {
    for (const variant of variants) {
      const name = `${variant.name.toLowerCase()}-${options.equal}-${seed}`;
      const config = configFor(options, variant);
      const { mixture } = variant;
      const steps = stepsFor(options, variant);
      const settings = pretraining(mixture, {
        steps,
        batch,
        seed,
        learningRate,
        warmup: Math.min(200, Math.ceil(steps / 10)),
        augment: { flip: true },
      });
      const { model, seconds } = yield* kept(options, name, initUMD(config, seed, variant), settings);
      const measured = await openKept(join(options.work, "measured", `${name}.json`));
      const probes = await measured.get("probes", () => probeModel(model, support, test, { shots, seed }));
      const hiddenError = await measured.get("hidden error", async () => {
        const { error } = await reconstruct(model, test, { seed });
        return error;
      });
      const quality: Record<string, Quality> = {};
      if (tuneSteps > 0) {
        const tune = finetuning(mixture, {
          steps: tuneSteps,
          batch,
          seed,
          learningRate: learningRate / 2,
          // The average forgets where it began within a tenth of the steps.
          ema: Math.max(0, Math.min(0.995, 1 - 10 / tuneSteps)),
          augment: { flip: true },
        });
        const labels = withLabels(model, train.classes.length, seed);
        const tuned = yield* kept(options, `${name}-tuned`, labels, tune);
        for (const guidance of guidances) {
          const { samples, sampleSteps } = options;
          const key = `${samples} samples in ${sampleSteps} strides, guidance ${guidance}, ${tuneSteps} steps with labels`;
          quality[String(guidance)] =
            measured.known(key) ??
            (await measured.get(
              key,
              qualityOfSamples(yield* samplesOf(tuned.model, name, options, guidance, seed)),
            ));
        }
      }
      const gigaflops = (trainingFlops(config, mixture) * batch * steps) / 1e9;
      runs.push({
        variant: variant.name,
        seed,
        steps,
        seconds,
        gigaflops,
        probes,
        best: bestOf(probes),
        hiddenError,
        quality,
      });
      yield {
        run: name,
        done: steps,
        total: steps,
        note: `probe ${(100 * (bestOf(probes).all ?? 0)).toFixed(1)} %`,
      };
    }
  }
  return { runs, classifierAccuracy: onTest.agreement ?? Number.NaN, realFid: real.fid, untrained };
}
