/** The data sets of the reproduction, with their splits by fixed lists, and any folder of pictures with masks. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import {
  type Dataset,
  dataset,
  fromArray,
  listPictures,
  type MaskMeaning,
  mapDataset,
  naturalOrder,
  openMasked,
  readAll,
  readNifti,
  readTiffStack,
  subset,
} from "../../data/index.ts";
import type { Split } from "../../data/picture-set.ts";
import { lesions } from "../../data/world/lesions.ts";
import { ArgumentError, FormatError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { type LabelledPicture, type Sample, type SampleOptions, samplesOf } from "./samples.ts";

/** A data set as it lies in its folder. */
export interface KnownSet {
  readonly name: string;
  readonly title: string;
  readonly images: string;
  readonly masks: string;
  readonly meaning: MaskMeaning;
  /** What is to be segmented is 0 in the masks. */
  readonly inverted?: boolean;
  /** Size of what the model sees over that of the files. */
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
): Promise<Dataset<LabelledPicture>> {
  const folder = join(root, set.name);
  const { meaning, colour } = set;
  const all = await openMasked(join(folder, set.images), join(folder, set.masks), { meaning, colour });
  const paths = await listPictures(join(folder, set.images));
  const used = set.size ? await indicesOfSize(all, set.size) : paths.map((_, i) => i);
  const chosen = used.filter((_, place) => set.split(place, used.length) === split);
  return mapDataset(subset(all, chosen), ({ name, image, labels }) => ({
    name,
    image,
    labels: labels.map((v) => (v > 0 !== (set.inverted ?? false) ? 1 : 0)),
    ...(set.volume && { volume: `${set.name} ${split}` }),
  }));
}

async function indicesOfSize(
  all: Dataset<{ image: { width: number; height: number } }>,
  [width, height]: readonly [number, number],
): Promise<number[]> {
  const found: number[] = [];
  for (let i = 0; i < all.length; i++) {
    const { image } = await all.get(i);
    if (image.width === width && image.height === height) found.push(i);
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

const VOLUME = /\.(nii|nii\.gz|tiff?)$/i;

export interface FolderOptions {
  /** 2: above half is foreground; more: masks hold class numbers. Default 2. */
  readonly classes?: number;
  readonly colour?: "gray" | "rgb";
}

/**
 * A folder with `images/` and `masks/` (or names like these): pictures of any kind, or volumes (NIfTI, TIFF stacks),
 * whose slices count as one. @throws ArgumentError when the folders are not there, FormatError for damaged files
 */
export async function openFolder(
  folder: string,
  options: FolderOptions = {},
): Promise<Dataset<LabelledPicture>> {
  const { classes = 2, colour = "gray" } = options;
  const [images, masks] = [await firstFolder(folder, IMAGE_FOLDERS), await firstFolder(folder, MASK_FOLDERS)];
  if (!images || !masks)
    throw new ArgumentError(
      `${folder}: expected the folders images/ and masks/ (or ${[...IMAGE_FOLDERS, ...MASK_FOLDERS].join(", ")}) in it`,
    );
  const volumes = await volumePairs(images, masks);
  if (volumes.length > 0) return openVolumes(volumes, classes);
  return openMasked(images, masks, { meaning: classes > 2 ? { classes } : "binary", colour });
}

/** Volumes of both folders by name. */
async function volumePairs(
  images: string,
  masks: string,
): Promise<[name: string, image: string, mask: string][]> {
  const { readdir } = await import("node:fs/promises");
  const names = (await readdir(images)).filter((name) => VOLUME.test(name)).sort(naturalOrder);
  const stacks: [string, string, string][] = [];
  for (const name of names) {
    const [image, mask] = [join(images, name), join(masks, name)];
    if (/\.nii(\.gz)?$/i.test(name) || (await readTiffStack(image)).slices.length > 1)
      stacks.push([name, image, mask]);
  }
  return stacks;
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

/** Labels of the slices of a mask. @throws FormatError for values that are no labels, or more of them than declared */
function volumeLabels(slices: readonly Picture[], classes: number, path: string): Int32Array[] {
  const values = new Set<number>();
  for (const { data } of slices) for (const v of data) values.add(v);
  const found = [...values].sort((a, b) => a - b);
  const wrong = found.find((v) => !Number.isInteger(v) || v < 0);
  if (classes > 2 ? wrong !== undefined : found.length > 2)
    throw new FormatError(
      classes > 2
        ? `${path}: ${wrong} is no class number`
        : `${path}: ${found.length} values (${found.slice(0, 5).join(", ")}${found.length > 5 ? ", …" : ""}) where two labels are declared`,
    );
  return slices.map(({ data }) => Int32Array.from(data, (v) => (classes > 2 ? v : v > 0 ? 1 : 0)));
}

async function openVolumes(
  pairs: readonly (readonly [string, string, string])[],
  classes: number,
): Promise<Dataset<LabelledPicture>> {
  const slices: LabelledPicture[] = [];
  for (const [name, imagePath, maskPath] of pairs) {
    const read = /\.nii(\.gz)?$/i.test(name) ? readNifti : readTiffStack;
    const [image, mask] = [await read(imagePath), await read(maskPath)];
    const sizes = [image, mask].map(
      (volume) => `${volume.slices[0]!.width}x${volume.slices[0]!.height}x${volume.slices.length}`,
    );
    if (sizes[0] !== sizes[1])
      throw new FormatError(`${maskPath}: is ${sizes[1]}, its picture is ${sizes[0]}`);
    const labels = volumeLabels(mask.slices, classes, maskPath);
    asBrightness(image.slices).forEach((slice, z) => {
      slices.push({ name: `${name} slice ${z}`, image: slice, labels: labels[z]!, volume: name });
    });
  }
  return dataset(slices.length, (i) => slices[i]!);
}

/** All samples in memory: small sets are read once. */
export const inMemory = async (
  source: Dataset<LabelledPicture>,
  options: SampleOptions,
): Promise<Dataset<Sample>> => fromArray(await readAll(samplesOf(source, options)));

/** A split by name: `lesions`, or a known set in a folder of sets. */
export async function openSplit(
  name: string,
  split: Split,
  options: SampleOptions & { readonly root?: string; readonly count?: number },
): Promise<Dataset<Sample>> {
  if (name === "lesions") return inMemory(lesions(split, options.count), options);
  const set = knownSet(name);
  if (!set || options.root === undefined)
    throw new ArgumentError(
      `SDSeg: unknown data set "${name}"; known are lesions${options.root ? `, ${KNOWN_SETS.map((s) => s.name).join(", ")}` : " (others need a folder of data sets)"}`,
    );
  return inMemory(await openKnown(options.root, set, split), { ...options, scale: set.scale });
}
