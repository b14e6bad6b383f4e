/** A folder of pictures or volumes with masks, as people have them. */
import { join, readdir, stat } from "#node";
import { ArgumentError, FormatError } from "../errors.ts";
import type { Picture } from "../io/index.ts";
import { type Dataset, dataset, mapDataset } from "./dataset.ts";
import { naturalOrder } from "./files.ts";
import { binaryLabels, isPictureName, type MaskColour, openMasked } from "./folders.ts";
import { alignedTo, isNiftiName, readTiffStack, readVolume } from "./formats/volumes.ts";
import type { SegmentedPicture } from "./picture-set.ts";
import { type IntensityRange, inUnits, ROBUST_RANGE } from "./units.ts";

/** Whether there is a folder at a path. */
export const isFolder = async (path: string): Promise<boolean> =>
  stat(path).then(
    (s) => s.isDirectory(),
    () => false,
  );

/** Names that people give to the two folders. */
const IMAGE_FOLDERS = ["images", "image", "imgs", "imagesTr"];
const MASK_FOLDERS = ["masks", "mask", "labels", "label", "annotations", "labelsTr"];

async function firstFolder(folder: string, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) if (await isFolder(join(folder, name))) return join(folder, name);
  return undefined;
}

const VOLUME = /\.(nii|nii\.gz|tiff?)$/i;

/** Options of `openSegmented`. */
export interface SegmentedOptions {
  /** 2: above half is foreground; more: masks hold class numbers. Default 2. */
  readonly classes?: number;
  readonly colour?: "gray" | "rgb";
  /** Values that become black and white. Default: those of `inUnits`, of volumes `ROBUST_RANGE`. */
  readonly range?: IntensityRange | undefined;
  /** What the colours of masks mean, of the background first; pictures alone. */
  readonly colours?: readonly MaskColour[] | undefined;
  /** Foreground is 0 in the masks, which have two values. */
  readonly inverted?: boolean;
}

/** nnU-Net numbers the channels of its pictures: `a_0000.nii.gz` belongs to the mask `a.nii.gz`. */
const CHANNEL = /_(\d{4})(?=\.|$)/;

/**
 * A folder with `images/` and `masks/` (or names like these): pictures of any kind, or volumes (NIfTI, TIFF stacks),
 * whose slices count as one. @throws ArgumentError when the folders are not there or hold pictures beside volumes,
 * FormatError for damaged files
 */
export async function openSegmented(
  folder: string,
  options: SegmentedOptions = {},
): Promise<Dataset<SegmentedPicture>> {
  const { classes = 2, colour = "gray", range, colours, inverted = false } = options;
  if (inverted && classes > 2)
    throw new ArgumentError(`${folder}: inverted masks have two values, not ${classes} classes`);
  if (colours && colours.length !== classes)
    throw new ArgumentError(`${folder}: ${colours.length} colours of masks for ${classes} classes`);
  const [images, masks] = [await firstFolder(folder, IMAGE_FOLDERS), await firstFolder(folder, MASK_FOLDERS)];
  if (!images || !masks)
    throw new ArgumentError(
      `${folder}: expected the folders images/ and masks/ (or ${[...IMAGE_FOLDERS, ...MASK_FOLDERS].join(", ")}) in it`,
    );
  const volumes = await volumesIn(images);
  if (volumes.length > 0) {
    if (colours) throw new ArgumentError(`${images}: masks of volumes have class numbers, no colours`);
    return turned(await openVolumes(images, masks, volumes, { classes, range }), inverted);
  }
  const meaning = colours ? { colours } : classes > 2 ? { classes } : "binary";
  const keyA = (await numbersChannels(images, masks))
    ? (stem: string) => stem.replace(CHANNEL, "")
    : undefined;
  return turned(await openMasked(images, masks, { meaning, colour, range, ...(keyA && { keyA }) }), inverted);
}

/** Labels with foreground and background exchanged. */
const turned = (set: Dataset<SegmentedPicture>, inverted: boolean): Dataset<SegmentedPicture> =>
  inverted
    ? mapDataset(set, (sample) => ({ ...sample, labels: sample.labels.map((label) => 1 - label) }))
    : set;

/** Whether all pictures have the number of the first channel, and no mask has. @throws ArgumentError for further channels */
async function numbersChannels(images: string, masks: string): Promise<boolean> {
  const namesIn = async (folder: string): Promise<string[]> =>
    (await readdir(folder)).filter((name) => isPictureName(name) || isNiftiName(name));
  const [pictures, labels] = [await namesIn(images), await namesIn(masks)];
  const channels = pictures.map((name) => CHANNEL.exec(name)?.[1]);
  if (channels.length === 0 || channels.includes(undefined) || labels.some((name) => CHANNEL.test(name)))
    return false;
  const further = channels.findIndex((channel) => channel !== "0000");
  if (further >= 0)
    throw new ArgumentError(
      `${join(images, pictures[further]!)}: channel ${channels[further]} of a picture; one channel (_0000) can be used`,
    );
  return true;
}

/** Names of the volumes in a folder; empty when it holds pictures. @throws ArgumentError when it holds both */
async function volumesIn(images: string): Promise<string[]> {
  const names = (await readdir(images))
    .filter((name) => isPictureName(name) || (isNiftiName(name) && !name.startsWith(".")))
    .sort(naturalOrder);
  const volumes: string[] = [];
  for (const name of names.filter((one) => VOLUME.test(one)))
    if (isNiftiName(name) || (await readTiffStack(join(images, name))).slices.length > 1) volumes.push(name);
  const other = names.find((name) => !volumes.includes(name));
  if (volumes.length > 0 && other !== undefined)
    throw new ArgumentError(
      `${images}: ${volumes[0]} is a volume and ${other} is not; expected volumes alone, or pictures alone`,
    );
  return volumes;
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
  { classes, range }: { readonly classes: number; readonly range: IntensityRange | undefined },
): Promise<Dataset<SegmentedPicture>> {
  const slices: SegmentedPicture[] = [];
  const numbered = await numbersChannels(images, masks);
  for (const name of names) {
    const maskPath = join(masks, numbered ? name.replace(CHANNEL, "") : name);
    const image = await readVolume(join(images, name));
    const mask = alignedTo(await readVolume(maskPath), image, maskPath);
    const sizes = [image, mask].map(
      (volume) => `${volume.slices[0]!.width}x${volume.slices[0]!.height}x${volume.slices.length}`,
    );
    if (sizes[0] !== sizes[1])
      throw new FormatError(`${maskPath}: is ${sizes[1]}, its picture is ${sizes[0]}`);
    const labels = volumeLabels(mask.slices, classes, maskPath);
    const units = { range, otherwise: ROBUST_RANGE };
    inUnits(image.slices, join(images, name), units).forEach((slice, z) => {
      slices.push({ name: `${name} slice ${z}`, image: slice, labels: labels[z]!, volume: name });
    });
  }
  return dataset(slices.length, (i) => slices[i]!);
}
