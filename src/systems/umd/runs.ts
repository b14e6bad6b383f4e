/** The cells of the study: a model is pre-trained, probed, fine-tuned and sampled; floors and ceilings are measured alike. */
import { classMeans, type Labelled, type LabelledPictures, slicePictures } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import {
  type FeatureNetwork,
  LAMBDAS,
  openFeatureNetwork,
  type ProbeResult,
  type Quality,
  qualityOf,
  referenceOf,
  saveFeatureNetwork,
  trainClassifier,
} from "../../metrics/index.ts";
import { fingerprint, type Made, type Study } from "../../study/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import { MIXTURES, type Mixture } from "./method.ts";
import { initUMD, PRESETS, trainingFlops, type UMD, type UMDConfig, umdFile } from "./model.ts";
import type { ReproduceActionOptions } from "./options.ts";
import { finetuning, pretraining, shortEma, type TrainSettings, trainUMD, withLabels } from "./train.ts";
import {
  bestReading,
  NOISY_INDEX,
  probeModel,
  probePixels,
  type Reading,
  reconstruct,
  sampleUMD,
} from "./use.ts";

/** One of the trainings that are compared. */
export interface Variant {
  readonly mixture: Mixture;
  readonly conditioning: UMDConfig["conditioning"];
  /** The class tokens begin at zero. Default false. */
  readonly zeroClassTokens?: boolean;
}

export const VARIANTS = {
  UMD: { mixture: MIXTURES.umd, conditioning: "adaLN" },
  DiT: { mixture: MIXTURES.dit, conditioning: "adaLN" },
  MaskDiT: { mixture: MIXTURES.maskdit, conditioning: "adaLN" },
  MAE: { mixture: MIXTURES.mae, conditioning: "token" },
  "MAE-adaLN": { mixture: MIXTURES.mae, conditioning: "adaLN" },
} as const satisfies Record<string, Variant>;

/** At equal pictures all have the same number of steps; at equal arithmetic as many as DiT's steps pay for. */
export type Equal = "images" | "flops";

/** Number of training pictures that probes learn from. */
const SUPPORT = 4000;
export const SHOTS = [10, 100, "all"] as const;
/** Peak learning rate of pre-training. */
const RATE = 1e-3;
/** Hidden share of pictures that are filled in. */
const HIDDEN = 0.75;

/** What all cells share. */
export interface Context {
  readonly study: Study;
  readonly options: ReproduceActionOptions;
  readonly title: string;
  readonly train: Labelled;
  readonly test: Labelled;
  /** Training pictures that probes learn from. */
  readonly support: Labelled;
  /** Test pictures that samples are compared with, as many as there are samples. */
  readonly reference: LabelledPictures;
  readonly signal?: AbortSignal | undefined;
}

/** @throws ArgumentError where there are too few pictures for the protocol */
export function contextOf(
  given: Pick<Context, "study" | "options" | "title" | "train" | "test" | "signal">,
): Context {
  const { train, test, options } = given;
  const { samples, tuneSteps } = options;
  for (const [k, name] of train.classes.entries()) {
    const count = train.labels.filter((label) => label === k).length;
    if (count < 100)
      throw new ArgumentError(
        `UMD: 100 shots of each class are needed, "${name}" has ${count} training pictures`,
      );
  }
  if (tuneSteps > 0 && samples > test.count)
    throw new ArgumentError(
      `UMD: ${samples} samples are compared with as many test pictures, there are ${test.count}`,
    );
  const support = slicePictures(train, 0, SUPPORT) as Labelled;
  return { ...given, support, reference: slicePictures(test, 0, samples) };
}

const prints = new WeakMap<LabelledPictures, string>();

/** What pictures and labels are, in a few digits. */
function printOf(pictures: LabelledPictures): string {
  const { values, labels, size } = pictures;
  const print = prints.get(pictures) ?? fingerprint({ values, labels, size });
  prints.set(pictures, print);
  return print;
}

export const configOf = ({ options, train }: Context, { conditioning }: Variant): UMDConfig => ({
  ...PRESETS[options.preset],
  size: train.size,
  channels: train.channels,
  conditioning,
});

/** Steps of a variant: all alike, or as many as the arithmetic of DiT's steps pays for. */
function stepsFor(context: Context, variant: Variant, equal: Equal): number {
  const { steps } = context.options;
  if (equal === "images") return steps;
  const { DiT } = VARIANTS;
  const dit = trainingFlops(configOf(context, DiT), DiT.mixture);
  return Math.round((steps * dit) / trainingFlops(configOf(context, variant), variant.mixture));
}

async function* trained(
  { train: pictures, options: { threads }, signal }: Context,
  stage: string,
  model: UMD,
  settings: TrainSettings,
  folder: string,
): Work<UMD> {
  return (yield* trainUMD({ stage, model, pictures, settings, folder, threads, signal })).final;
}

/** A classifier by its seed: its features measure distances, its labels say what is seen. */
async function* classifierOf({ study, options, train }: Context, seed: number): Work<Made<FeatureNetwork>> {
  const { classifierSteps: steps, threads } = options;
  const name = `classifier, seed ${seed}`;
  return yield* study.model<FeatureNetwork>(name, {
    given: { steps, seed, data: printOf(train) },
    async *make() {
      yield { type: "progress", stage: name, done: 0, total: 1 };
      return await trainClassifier(train, { steps, seed, ...(threads && { threads }) });
    },
    save: saveFeatureNetwork,
    load: async (path) => (await openFeatureNetwork(path)).network,
  });
}

/** Two classifiers of different seeds: the second took no part in anything that the first has judged. */
export type Judges = readonly [first: Made<FeatureNetwork>, second: Made<FeatureNetwork>];

export async function* judgesOf(context: Context): Work<Judges> {
  return [yield* classifierOf(context, 0), yield* classifierOf(context, 1)];
}

/** Quality by both judges. */
export type Judged = readonly [first: Quality, second: Quality];

/** Pictures judged against as many others. */
async function judgedBy(
  judges: Judges,
  reference: LabelledPictures,
  pictures: LabelledPictures,
): Promise<Judged> {
  const by = async ({ value }: Made<FeatureNetwork>) =>
    qualityOf(value, await referenceOf(value, reference), pictures);
  return [await by(judges[0]), await by(judges[1])];
}

type Readings = readonly (Reading & ProbeResult)[];

/** How features are probed. */
const probing = ({ support, test }: Context, seed: number) => {
  const prints = { support: printOf(support), query: printOf(test) };
  return { shots: SHOTS, lambdas: LAMBDAS, noisyIndex: NOISY_INDEX, seed, ...prints };
};

const probed = (
  { support, test, options: { threads }, signal }: Context,
  model: UMD,
  seed: number,
): Promise<Readings> => probeModel(model, support, test, { shots: SHOTS, seed, threads, signal });

/** What is known of one variant with one seed. */
export interface Run {
  readonly steps: number;
  /** Arithmetic of a pre-training step, from the sizes of the model that was measured. */
  readonly gigaflops: number;
  readonly readings: Readings;
  /** Accuracy by shots, of the reading that is best on the support. */
  readonly probe: Readonly<Record<string, number>>;
  readonly hiddenError: number;
  /** By guidance; empty without fine-tuning. */
  readonly quality: Readonly<Record<string, Judged>>;
}

async function* samplesOf(
  context: Context,
  { judges, name, seed, guidance }: { judges: Judges; name: string; seed: number; guidance: number },
  tuned: Made<UMD>,
): Work<Judged> {
  const { study, options, reference, signal } = context;
  const { samples: count, sampleSteps: steps, threads } = options;
  const stage = `samples of ${name}, guidance ${guidance}`;
  const made = yield* study.measure<Judged>(stage, {
    given: { count, steps, eta: 1, guidance, seed, reference: printOf(reference) },
    from: [tuned, ...judges],
    async *measure() {
      const run = sampleUMD(tuned.value, { count, steps, guidance, seed, threads, signal });
      const drawn = yield* told(run, ({ step, steps: total, finished }): WorkEvent | undefined =>
        step === total ? { type: "progress", stage, done: finished, total: count } : undefined,
      );
      return await judgedBy(judges, reference, drawn);
    },
  });
  return made.value;
}

/** Trains, probes, fine-tunes and samples one variant with one seed. */
export async function* runOf(
  context: Context,
  judges: Judges,
  { name: of, variant, seed, equal }: { name: string; variant: Variant; seed: number; equal: Equal },
): Work<Run> {
  const { study, options, train, test, signal } = context;
  const { batch, tuneSteps, tuneRate, threads } = options;
  const { mixture, zeroClassTokens = false } = variant;
  const config = configOf(context, variant);
  const steps = stepsFor(context, variant, equal);
  const name = `${of}, ${steps} steps, seed ${seed}`;
  const common = { batch, seed, augment: { flip: true } };
  const settings = pretraining(mixture, {
    ...{ ...common, steps, learningRate: RATE },
    warmup: Math.min(200, Math.ceil(steps / 10)),
  });
  const model = yield* study.model<UMD>(name, {
    given: { settings, config, zeroClassTokens, data: printOf(train) },
    make: (folder) => trained(context, name, initUMD(config, seed, { zeroClassTokens }), settings, folder),
    ...umdFile.cell,
  });
  const probes = yield* study.measure(`probes of ${name}`, {
    given: probing(context, seed),
    from: [model],
    measure: () => probed(context, model.value, seed),
  });
  const hidden = yield* study.measure(`pictures filled in by ${name}`, {
    given: { ratio: HIDDEN, seed, test: printOf(test) },
    from: [model],
    measure: async () =>
      (await reconstruct(model.value, test, { ratio: HIDDEN, seed, threads, signal })).error,
  });
  const quality: Record<string, Judged> = {};
  if (tuneSteps > 0) {
    const tune = finetuning(mixture, {
      ...{ ...common, steps: tuneSteps, learningRate: tuneRate },
      ema: shortEma(tuneSteps),
    });
    const { length: classes } = train.classes;
    const tuned = yield* study.model<UMD>(`${name}, tuned`, {
      given: { settings: tune, classes, data: printOf(train) },
      from: [model],
      make: (folder) =>
        trained(context, `${name}, tuned`, withLabels(model.value, classes, seed), tune, folder),
      ...umdFile.cell,
    });
    for (const guidance of guidancesOf(options))
      quality[guidance] = yield* samplesOf(context, { judges, name, seed, guidance }, tuned);
  }
  const gigaflops = (trainingFlops(model.value.config, mixture) * batch) / 1e9;
  const probe = bestReading(probes.value);
  return { steps, gigaflops, readings: probes.value, probe, hiddenError: hidden.value, quality };
}

export const guidancesOf = ({ guidances }: ReproduceActionOptions): number[] => [
  ...new Set(guidances.split(",").map(Number)),
];

/** What stands beside every method: numbers by seed, or of all seeds. */
export interface Bounds {
  readonly chance: number;
  readonly pixels: Readonly<Record<string, ProbeResult>>;
  /** Features of models that nothing has trained, best reading. */
  readonly untrained: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Accuracy of the classifiers on the test pictures. */
  readonly supervised: Judged;
  /** One mean picture per class, drawn again and again. Absent without fine-tuning. */
  readonly classMeans?: Judged;
  /** One half of the test pictures against the other. */
  readonly testHalves?: Judged;
  readonly trainingPictures?: Judged;
}

/** Floors and ceilings, by the same probes and judges as the methods. */
export async function* boundsOf(context: Context, judges: Judges): Work<Bounds> {
  const { study, options, train, test, support, reference } = context;
  const { samples: count, tuneSteps } = options;
  const [pixels, untrained]: [Record<string, ProbeResult>, Record<string, Record<string, number>>] = [{}, {}];
  const config = configOf(context, VARIANTS.UMD);
  for (let seed = 0; seed < options.seeds; seed++) {
    const given = probing(context, seed);
    const ofPixels = yield* study.measure(`probes of pixels, seed ${seed}`, {
      given,
      measure: async () => probePixels(support, test, { shots: SHOTS, seed }),
    });
    const ofNothing = yield* study.measure(`probes of an untrained model, seed ${seed}`, {
      given: { ...given, config },
      measure: () => probed(context, initUMD(config, seed), seed),
    });
    pixels[seed] = ofPixels.value;
    untrained[seed] = bestReading(ofNothing.value);
  }
  const seen = async function* (
    name: string,
    reference: LabelledPictures,
    pictures: LabelledPictures,
  ): Work<Judged> {
    const given = { reference: printOf(reference), pictures: printOf(pictures) };
    const measure = () => judgedBy(judges, reference, pictures);
    return (yield* study.measure(name, { given, from: judges, measure })).value;
  };
  const half = Math.floor(test.count / 2);
  return {
    chance: 1 / train.classes.length,
    pixels,
    untrained,
    supervised: yield* seen("test pictures", test, test),
    ...(tuneSteps > 0 && {
      classMeans: yield* seen("one mean picture per class", reference, classMeans(train, count)),
      testHalves: yield* seen(
        "test pictures, one half against the other",
        slicePictures(test, 0, half),
        slicePictures(test, half, 2 * half),
      ),
      trainingPictures: yield* seen("training pictures", reference, slicePictures(train, 0, count)),
    }),
  };
}
