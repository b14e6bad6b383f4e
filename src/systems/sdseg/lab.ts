/** The trainings of the study: where their data comes from, and every model with all that decides it. */
import {
  centreCrop,
  concatDatasets,
  createDraw,
  type Dataset,
  mapDataset,
  type Split,
  subset,
} from "../../data/index.ts";
import { SHAPE_CLASSES, SHAPE_SIZE } from "../../data/world/plain-shapes.ts";
import { fingerprint, type Made, type Study } from "../../study/index.ts";
import type { Seed } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import {
  type PixelKind,
  type PixelNetwork,
  pixelFile,
  pixelSettings,
  trainPixelNetwork,
} from "./baselines.ts";
import { VARIANTS, type Variant } from "./compared.ts";
import type { Sample, SampleOptions } from "./data.ts";
import {
  createSDSeg,
  PRESETS,
  type SDSeg,
  type SDSegConfig,
  sdsegFile,
  withClasses,
  withParts,
} from "./model.ts";
import type { ReproduceActionOptions } from "./options.ts";
import { knownSet, type Sources } from "./sets.ts";
import {
  denoiserSettings,
  TRAINING,
  type TrainInputs,
  type TrainSettings,
  trainAutoencoder,
  trainDecoder,
  trainDenoiser,
} from "./train.ts";
import { openSegmenter } from "./use.ts";

/** Sizes of the models that are compared. */
const CONFIG = PRESETS.mini;
/** Sets whose masks the shared autoencoder is trained on, where they are there, whichever sets are measured. */
const MASK_SETS = ["lesions", "em-membrane", "dsb2018-nuclei"];

/** What was read, and the fingerprint of its content. */
interface Read {
  readonly data: Dataset<Sample>;
  readonly print: string;
}

/** What all cells need. */
export interface Lab {
  readonly study: Study;
  readonly options: ReproduceActionOptions;
  readonly signal?: AbortSignal | undefined;
  /** Makes a trained model ready to segment. */
  readonly open: typeof openSegmenter;
  /** Pictures of a split, read once. */
  read(set: string, split: Split, config?: SampleOptions["config"]): Promise<Read>;
  /** What is measured on: the first lesions, the middles of pictures when a window is asked for. */
  test(set: string, config?: SampleOptions["config"]): Promise<Read>;
  /** Sets that the shared autoencoder is trained on. */
  readonly maskSets: readonly string[];
}

/** Content of samples: another picture, label, size or volume is another fingerprint. */
export async function printOf(data: Dataset<Sample>): Promise<string> {
  const rows: unknown[] = [];
  for (let i = 0; i < data.length; i++) {
    const { image, labels, volume } = await data.get(i);
    rows.push({ image, labels, volume });
  }
  return fingerprint(rows);
}

export const firstOf = (data: Dataset<Sample>, count: number): Dataset<Sample> =>
  subset(
    data,
    Array.from({ length: Math.min(count, data.length) }, (_, i) => i),
  );

/** The square in the middle; a smaller picture stays as it is. */
export const middleOf = (sample: Sample, side: number): Sample | Promise<Sample> => {
  const { width, height } = sample.image;
  return centreCrop(Math.min(side, width), Math.min(side, height))(sample, createDraw(0, 0));
};

/** What tests put in the place of data and of networks. */
export interface LabParts {
  readonly sources: Sources;
  readonly open?: typeof openSegmenter;
}

export async function openLab({
  study,
  options,
  sources,
  signal,
  open = openSegmenter,
}: Pick<Lab, "study" | "options" | "signal"> & LabParts): Promise<Lab> {
  const known = new Map<string, Promise<Read>>();
  const once = (key: string, read: () => Promise<Dataset<Sample>>): Promise<Read> => {
    const found = known.get(key) ?? read().then(async (data) => ({ data, print: await printOf(data) }));
    known.set(key, found);
    return found;
  };
  const read: Lab["read"] = (set, split, config = CONFIG) =>
    once(`${set} ${split} ${config.normalise} ${config.classes}`, () => sources.open(set, split, config));
  const { window, test: count } = options;
  const there = await Promise.all(MASK_SETS.map((set) => sources.has(set)));
  return {
    study,
    options,
    signal,
    open,
    read,
    test: (set, config = CONFIG) =>
      once(`${set} measured ${config.normalise}`, async () => {
        const { data } = await read(set, "test", config);
        const chosen = set === "lesions" ? firstOf(data, count) : data;
        return window === undefined ? chosen : mapDataset(chosen, (sample) => middleOf(sample, window));
      }),
    maskSets: MASK_SETS.filter((_, i) => there[i]),
  };
}

/** Settings of every training of the study; the sets differ in the length of the denoiser's. */
function settingsOf({ options }: Lab, set: string): TrainSettings {
  const { seed, autoencoderSteps, decoderSteps, realSteps } = options;
  const { autoencoder, decoder, denoiser, ...others } = TRAINING.mini;
  return {
    ...others,
    seed,
    autoencoder: { ...autoencoder, steps: autoencoderSteps },
    decoder: { ...decoder, steps: decoderSteps },
    denoiser: { ...denoiser, steps: knownSet(set) ? realSteps : options.steps },
  };
}

const working = ({ options: { threads }, signal }: Lab, folder: string) => ({
  folder,
  threads,
  signal,
  saveEvery: 250,
});

/** A view in which every set is met as often as every other, however many pictures it has. */
export function evenly(sets: readonly Dataset<Sample>[]): Dataset<Sample> {
  const most = Math.max(...sets.map(({ length }) => length));
  const repeated = sets.map((set) =>
    subset(
      set,
      Array.from({ length: most }, (_, i) => i % set.length),
    ),
  );
  return concatDatasets(...repeated);
}

/**
 * The autoencoder that all models share, as in the paper, with its scale. It is the same for every variant, so that they
 * differ in nothing else, and for every choice of sets, so that their results can be put together.
 */
export async function* sharedAutoencoder(lab: Lab): Work<Made<SDSeg>> {
  const read = await Promise.all(lab.maskSets.map((set) => lab.read(set, "train")));
  const settings = settingsOf(lab, "lesions");
  const { seed, crop, augment, autoencoder, decoder } = settings;
  return yield* lab.study.model("autoencoder", {
    given: {
      config: CONFIG,
      seed,
      crop,
      augment,
      autoencoder,
      decoder,
      data: read.map(({ print }) => print),
    },
    async *make(folder) {
      const inputs: TrainInputs = {
        ...working(lab, folder),
        model: createSDSeg(CONFIG, seed),
        settings,
        data: evenly(read.map(({ data }) => data)),
      };
      const model = yield* trainAutoencoder(inputs);
      return yield* trainDecoder({ ...inputs, model });
    },
    ...sdsegFile.cell,
  });
}

/** A denoiser with its vision encoder, beside what decides it: where it starts, its settings, its data. */
const trainedDenoiser = (
  lab: Lab,
  name: string,
  {
    from,
    start,
    settings,
    given = {},
    data,
    validation,
    print,
  }: {
    readonly from: Made<SDSeg>;
    readonly start: (base: SDSeg) => SDSeg;
    readonly settings: TrainSettings;
    readonly given?: object;
    readonly data: Dataset<Sample>;
    readonly validation: Dataset<Sample>;
    readonly print: string;
  },
): Work<Made<SDSeg>> =>
  lab.study.model(name, {
    given: { ...given, settings: denoiserSettings(settings), data: print },
    from: [from],
    make: (folder) =>
      trainDenoiser({ ...working(lab, folder), model: start(from.value), settings, data, validation }),
    ...sdsegFile.cell,
  });

/** A fresh model with the shared autoencoder. */
const freshWith = (config: SDSegConfig, seed: Seed, { autoencoder, scaleFactor }: SDSeg): SDSeg =>
  withParts(createSDSeg(config, seed), { autoencoder, scaleFactor });

/** A variant trained on a set with the shared autoencoder. */
export async function* trainedVariant(lab: Lab, set: string, variant: Variant): Work<Made<SDSeg>> {
  const from = yield* sharedAutoencoder(lab);
  const { head, ...own } = VARIANTS[variant];
  const settings = { ...settingsOf(lab, set), ...own };
  const [train, validation] = [await lab.read(set, "train"), await lab.read(set, "val")];
  return yield* trainedDenoiser(lab, `${set}, ${variant}`, {
    ...{ from, settings, given: { head }, ...train, validation: validation.data },
    start: (base) => freshWith({ ...base.config, head }, settings.seed, base),
  });
}

/** A baseline over pixels, trained with the same steps, batches and crops. */
export async function* trainedPixels(lab: Lab, set: string, kind: PixelKind): Work<Made<PixelNetwork>> {
  const { data, print } = await lab.read(set, "train");
  const settings = settingsOf(lab, set);
  return yield* lab.study.model(`${set}, U-Net over pixels, ${kind}`, {
    given: { kind, imageChannels: CONFIG.imageChannels, settings: pixelSettings(settings), data: print },
    make: (folder) => trainPixelNetwork({ ...working(lab, folder), kind, data, config: CONFIG, settings }),
    ...pixelFile.cell,
  });
}

/** Labels of any class as 1. */
const binary = (data: Dataset<Sample>): Dataset<Sample> =>
  mapDataset(data, (sample) => ({ ...sample, labels: sample.labels.map((label) => (label > 0 ? 1 : 0)) }));

export const CLASSES_CONFIG = { ...CONFIG, classes: SHAPE_CLASSES.length + 1 };

/** Three classes by the released recipe: foreground against the rest first, then with an embedding of each class. */
export async function* trainedClasses(lab: Lab): Work<Made<SDSeg>> {
  const base = yield* sharedAutoencoder(lab);
  const [{ data, print }, { data: validation }] = await Promise.all([
    lab.read("shapes", "train", CLASSES_CONFIG),
    lab.read("shapes", "val", CLASSES_CONFIG),
  ]);
  const settings = settingsOf(lab, "shapes");
  const { classes } = CLASSES_CONFIG;
  const from = yield* trainedDenoiser(lab, "shapes, foreground", {
    ...{ from: base, settings, print, data: binary(data), validation: binary(validation) },
    start: (shared) => freshWith(CONFIG, settings.seed, shared),
  });
  // What class a shape is of shows in the whole of it.
  return yield* trainedDenoiser(lab, "shapes, classes", {
    ...{ from, settings: { ...settings, crop: SHAPE_SIZE }, given: { classes }, print, data, validation },
    start: (binaryModel) => withClasses(binaryModel, classes, settings.seed),
  });
}
