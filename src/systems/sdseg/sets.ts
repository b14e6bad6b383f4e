/** The data sets of the study, with their splits by fixed lists, and any folder of pictures or volumes with masks. */
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import {
  binaryLabels,
  type Dataset,
  dataset,
  fromArray,
  isPictureName,
  type MaskMeaning,
  mapDataset,
  naturalOrder,
  openMasked,
  readAll,
  readNifti,
  readTiffStack,
  type SegmentedPicture,
  type Split,
  subset,
} from "../../data/index.ts";
import { lesions } from "../../data/world/lesions.ts";
import { shapes } from "../../data/world/plain-shapes.ts";
import { ArgumentError, FormatError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
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

const isFolder = async (path: string): Promise<boolean> =>
  stat(path).then(
    (s) => s.isDirectory(),
    () => false,
  );

/** Whether a folder holds a known set below `root`. */
export const hasSet = (root: string, { name, images, masks }: KnownSet): Promise<boolean> =>
  Promise.all([isFolder(join(root, name, images)), isFolder(join(root, name, masks))]).then((both) =>
    both.every(Boolean),
  );

/** One split of a known set in `root`. @throws ArgumentError when it is not there */
export async function openKnown(
  root: string,
  set: KnownSet,
  split: Split,
): Promise<Dataset<SegmentedPicture>> {
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

/** Names that people give to the two folders. */
const IMAGE_FOLDERS = ["images", "image", "imgs"];
const MASK_FOLDERS = ["masks", "mask", "labels", "label", "annotations"];

async function firstFolder(folder: string, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) if (await isFolder(join(folder, name))) return join(folder, name);
  return undefined;
}

const NIFTI = /\.nii(\.gz)?$/i;
const VOLUME = /\.(nii|nii\.gz|tiff?)$/i;

export interface FolderOptions {
  /** 2: above half is foreground; more: masks hold class numbers. Default 2. */
  readonly classes?: number;
  readonly colour?: "gray" | "rgb";
}

/**
 * A folder with `images/` and `masks/` (or names like these): pictures of any kind, or volumes (NIfTI, TIFF stacks),
 * whose slices count as one. @throws ArgumentError when the folders are not there or hold pictures beside volumes,
 * FormatError for damaged files
 */
export async function openFolder(
  folder: string,
  options: FolderOptions = {},
): Promise<Dataset<SegmentedPicture>> {
  const { classes = 2, colour = "gray" } = options;
  const [images, masks] = [await firstFolder(folder, IMAGE_FOLDERS), await firstFolder(folder, MASK_FOLDERS)];
  if (!images || !masks)
    throw new ArgumentError(
      `${folder}: expected the folders images/ and masks/ (or ${[...IMAGE_FOLDERS, ...MASK_FOLDERS].join(", ")}) in it`,
    );
  const volumes = await volumesIn(images);
  if (volumes.length > 0) return openVolumes(images, masks, volumes, classes);
  return openMasked(images, masks, { meaning: classes > 2 ? { classes } : "binary", colour });
}

/** Names of the volumes in a folder; empty when it holds pictures. @throws ArgumentError when it holds both */
async function volumesIn(images: string): Promise<string[]> {
  const names = (await readdir(images))
    .filter((name) => isPictureName(name) || NIFTI.test(name))
    .sort(naturalOrder);
  const volumes: string[] = [];
  for (const name of names.filter((one) => VOLUME.test(one)))
    if (NIFTI.test(name) || (await readTiffStack(join(images, name))).slices.length > 1) volumes.push(name);
  const other = names.find((name) => !volumes.includes(name));
  if (volumes.length > 0 && other !== undefined)
    throw new ArgumentError(
      `${images}: ${volumes[0]} is a volume and ${other} is not; expected volumes alone, or pictures alone`,
    );
  return volumes;
}

/** Voxels of any unit, such as Hounsfield's, as brightness in [0, 1] over the whole volume; whole numbers stay. */
function asBrightness(slices: readonly Picture[]): readonly Picture[] {
  if (!slices.every(({ data }) => data instanceof Float32Array)) return slices;
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const { data } of slices)
    for (const v of data) {
      low = Math.min(low, v);
      high = Math.max(high, v);
    }
  const scale = high > low ? 1 / (high - low) : 0;
  return slices.map((slice) => ({ ...slice, data: Float32Array.from(slice.data, (v) => (v - low) * scale) }));
}

/** Labels of the slices of a mask. @throws FormatError for values that are no labels, or other than declared */
function volumeLabels(slices: readonly Picture[], classes: number, path: string): Int32Array[] {
  const values = new Set<number>();
  for (const { data } of slices) for (const v of data) values.add(v);
  const wrong = [...values].find((v) => !Number.isInteger(v) || v < 0);
  if (wrong !== undefined) throw new FormatError(`${path}: ${wrong} is no class number`);
  if (classes === 2) binaryLabels(Int32Array.from(values), path); // throws for more than 0 and one other value
  return slices.map(({ data }) => Int32Array.from(data, (v) => (classes > 2 ? v : v > 0 ? 1 : 0)));
}

async function openVolumes(
  images: string,
  masks: string,
  names: readonly string[],
  classes: number,
): Promise<Dataset<SegmentedPicture>> {
  const slices: SegmentedPicture[] = [];
  for (const name of names) {
    const read = NIFTI.test(name) ? readNifti : readTiffStack;
    const [image, mask] = [await read(join(images, name)), await read(join(masks, name))];
    const sizes = [image, mask].map(
      (volume) => `${volume.slices[0]!.width}x${volume.slices[0]!.height}x${volume.slices.length}`,
    );
    if (sizes[0] !== sizes[1])
      throw new FormatError(`${join(masks, name)}: is ${sizes[1]}, its picture is ${sizes[0]}`);
    const labels = volumeLabels(mask.slices, classes, join(masks, name));
    asBrightness(image.slices).forEach((slice, z) => {
      slices.push({ name: `${name} slice ${z}`, image: slice, labels: labels[z]!, volume: name });
    });
  }
  return dataset(slices.length, (i) => slices[i]!);
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

/** Data from a folder: a known set by its folder's name, or `images/` and `masks/`; without a folder, lesions. */
export async function openData(
  folder: string | undefined,
  { classes, imageChannels }: Pick<SDSegConfig, "classes" | "imageChannels">,
  split: Split,
): Promise<OpenedData> {
  if (folder === undefined) return { title: "procedural lesions", source: lesions(split), scale: 1 };
  const set = knownSet(basename(folder));
  if (set && (await hasSet(dirname(folder), set)))
    return { title: set.title, source: await openKnown(dirname(folder), set, split), scale: set.scale };
  const colour = imageChannels === 3 ? "rgb" : "gray";
  return { title: folder, source: await openFolder(folder, { classes, colour }), scale: 1 };
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
