/** The data sets of the study, with their splits by fixed lists, and any folder of pictures or volumes with masks. */
import { basename, dirname, join } from "node:path";
import {
  type Dataset,
  fromArray,
  isFolder,
  type MaskMeaning,
  mapDataset,
  openMasked,
  openSegmented,
  readAll,
  type SegmentedOptions,
  type SegmentedPicture,
  type Split,
  subset,
} from "../../data/index.ts";
import { lesions } from "../../data/world/lesions.ts";
import { shapes } from "../../data/world/plain-shapes.ts";
import { ArgumentError, FormatError } from "../../errors.ts";
import type { Work } from "../../work.ts";
import { type Sample, type SampleOptions, samplesOf, toSample } from "./data.ts";
import type { SDSegConfig } from "./model.ts";

/** A data set as it lies in its folder. */
export interface KnownSet {
  readonly name: string;
  readonly title: string;
  /** One word, for tables and files. */
  readonly short: string;
  readonly images: string;
  readonly masks: string;
  readonly meaning: MaskMeaning;
  /** What is to be segmented is 0 in the masks, and darker than the rest. */
  readonly inverted?: boolean;
  /** Resize factor: size of what the model sees / size of the files. */
  readonly scale: number;
  readonly colour: "gray" | "rgb";
  /** Split of file `index` of `count` in natural order of the names; undefined: not used. */
  readonly split: (index: number, count: number) => Split | undefined;
  /** Size that pictures must have to be used. */
  readonly size?: readonly [width: number, height: number];
  /** All pictures of a split are slices of one volume. */
  readonly volume?: boolean;
}

/** Neighbouring frames are alike: the last ones are the test split, those before them validation. */
const byBlocks =
  (val: number, test: number) =>
  (index: number, count: number): Split =>
    index >= count - test ? "test" : index >= count - test - val ? "val" : "train";

/** Of unrelated pictures, every eleventh for validation and two of eleven for the test. */
const byElevenths = (index: number): Split => (index % 11 === 2 ? "val" : index % 11 < 2 ? "test" : "train");

export const KNOWN_SETS: readonly KnownSet[] = [
  {
    name: "em-membrane",
    title: "membranes (ISBI 2012 electron microscopy)",
    short: "membranes",
    images: "image",
    masks: "label",
    meaning: "binary",
    inverted: true,
    scale: 1,
    colour: "gray",
    split: byBlocks(3, 3),
    volume: true,
  },
  {
    name: "dsb2018-nuclei",
    title: "cell nuclei (Data Science Bowl 2018, fluorescence)",
    short: "nuclei",
    images: "image",
    masks: "label",
    meaning: "instances",
    scale: 1,
    colour: "gray",
    split: byElevenths,
    size: [256, 256],
  },
  {
    name: "cvc-clinicdb",
    title: "polyps (CVC-ClinicDB)",
    short: "polyps",
    images: "image",
    masks: "mask",
    meaning: "binary",
    scale: 0.5,
    colour: "rgb",
    split: byBlocks(4, 8),
  },
  {
    name: "drive-retina",
    title: "retinal vessels (DRIVE)",
    short: "vessels",
    images: "image",
    masks: "vessel",
    meaning: "binary",
    scale: 1,
    colour: "rgb",
    split: byBlocks(1, 1),
  },
];

export const knownSet = (name: string): KnownSet | undefined => KNOWN_SETS.find((set) => set.name === name);

/** Whether a folder holds a known set below `root`. */
const hasSet = (root: string, { name, images, masks }: KnownSet): Promise<boolean> =>
  Promise.all([isFolder(join(root, name, images)), isFolder(join(root, name, masks))]).then((both) =>
    both.every(Boolean),
  );

/** One split of a known set in `root`. @throws ArgumentError when it is not there */
async function openKnown(root: string, set: KnownSet, split: Split): Promise<Dataset<SegmentedPicture>> {
  const folder = join(root, set.name);
  const { meaning, colour } = set;
  const all = await openMasked(join(folder, set.images), join(folder, set.masks), { meaning, colour });
  const used = await indicesOfSize(all, set.size);
  const chosen = used.filter((_, place) => set.split(place, used.length) === split);
  return mapDataset(subset(all, chosen), ({ name, image, labels }) => ({
    name,
    image,
    labels: labels.map((v) => (v > 0 !== (set.inverted ?? false) ? 1 : 0)),
    ...(set.volume && { volume: `${set.name} ${split}` }),
  }));
}

async function indicesOfSize(all: Dataset<SegmentedPicture>, size: KnownSet["size"]): Promise<number[]> {
  const found: number[] = [];
  for (let i = 0; i < all.length; i++) {
    const { width, height } = size ? (await all.get(i)).image : { width: 0, height: 0 };
    if (!size || (width === size[0] && height === size[1])) found.push(i);
  }
  return found;
}

/** Where the data of the study comes from. */
export interface Sources {
  has(set: string): Promise<boolean>;
  open(set: string, split: Split, config: SampleOptions["config"]): Promise<Dataset<Sample>>;
}

/** Procedural sets, and the known ones in a folder of sets. */
export function sourcesIn(root: string | undefined): Sources {
  return {
    async has(name) {
      const set = knownSet(name);
      return !set || (root !== undefined && (await hasSet(root, set)));
    },
    async open(name, split, config) {
      const set = knownSet(name);
      const pictures = set
        ? await openKnown(root ?? ".", set, split)
        : name === "shapes"
          ? shapes(split)
          : lesions(split);
      return fromArray(await readAll(samplesOf(pictures, { config, scale: set?.scale ?? 1 })));
    },
  };
}

/** Data as the actions take it: what it is called, its pictures, and the resize factor that belongs to it. */
export interface OpenedData {
  readonly title: string;
  readonly source: Dataset<SegmentedPicture>;
  readonly scale: number;
}

/** What values of pictures and masks mean, where their files do not say it. */
export interface DataMeaning extends Pick<SegmentedOptions, "range" | "colours" | "inverted"> {
  /** Every class of the masks is foreground. */
  readonly foreground?: boolean;
}

/** Classes that masks may have of which only the foreground counts. */
const ANY_CLASSES = 256;

/**
 * Data from a folder: a known set by its folder's name, or `images/` and `masks/`; without a folder, lesions. @throws
 * ArgumentError for a meaning of masks that a known set has already
 */
export async function openData(
  folder: string | undefined,
  { classes, imageChannels }: Pick<SDSegConfig, "classes" | "imageChannels">,
  split: Split,
  meaning: DataMeaning = {},
): Promise<OpenedData> {
  if (folder === undefined) return { title: "procedural lesions", source: lesions(split), scale: 1 };
  const set = knownSet(basename(folder));
  if (set && (await hasSet(dirname(folder), set))) {
    if (meaning.range || meaning.colours || meaning.inverted || meaning.foreground)
      throw new ArgumentError(
        `${folder}: ${set.title} is known; ranges and meanings of masks cannot be given`,
      );
    return { title: set.title, source: await openKnown(dirname(folder), set, split), scale: set.scale };
  }
  const colour = imageChannels === 3 ? "rgb" : "gray";
  const { foreground, ...values } = meaning;
  if (!foreground)
    return { title: folder, source: await openSegmented(folder, { classes, colour, ...values }), scale: 1 };
  if (classes !== 2)
    throw new ArgumentError(`${folder}: --foreground is for two classes, the model has ${classes}`);
  const all = values.colours?.length ?? ANY_CLASSES;
  const source = mapDataset(await openSegmented(folder, { classes: all, colour, ...values }), (sample) => ({
    ...sample,
    labels: sample.labels.map((label) => (label > 0 ? 1 : 0)),
  }));
  return { title: `${folder}, foreground`, source, scale: 1 };
}

/** A file that cannot be decoded, as opposed to one that says what it must not. */
const isBroken = (error: unknown): error is FormatError =>
  error instanceof FormatError && error.cause !== undefined;

/**
 * All samples of a dataset in memory. A file that cannot be decoded is left out with a warning; a mask with values that
 * were not declared ends the work. @throws FormatError when nothing is left
 */
export async function* readSamples(
  source: Dataset<SegmentedPicture>,
  options: SampleOptions & { readonly limit?: number | undefined },
): Work<Dataset<Sample>> {
  const total = Math.min(source.length, options.limit ?? source.length);
  const samples: Sample[] = [];
  let first: FormatError | undefined;
  for (let i = 0; i < total; i++) {
    try {
      samples.push(toSample(await source.get(i), options));
    } catch (error) {
      if (!isBroken(error)) throw error;
      first ??= error;
      yield { type: "warning", text: `left out: ${error.message}` };
    }
    yield { type: "progress", stage: "read", done: i + 1, total };
  }
  if (samples.length === 0) throw first ?? new ArgumentError("SDSeg: the data has no pictures");
  return fromArray(samples);
}
