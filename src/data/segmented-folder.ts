/** A folder of pictures or volumes with masks, as people have them. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { ArgumentError, FormatError } from "../errors.ts";
import type { Picture } from "../io/index.ts";
import { type Dataset, dataset } from "./dataset.ts";
import { naturalOrder } from "./files.ts";
import { binaryLabels, isPictureName, openMasked } from "./folders.ts";
import { alignedTo, readNifti, readTiffStack } from "./formats/volumes.ts";
import type { SegmentedPicture } from "./picture-set.ts";
import { inUnits } from "./units.ts";

/** Whether there is a folder at a path. */
export const isFolder = async (path: string): Promise<boolean> =>
  stat(path).then(
    (s) => s.isDirectory(),
    () => false,
  );

/** Names that people give to the two folders. */
const IMAGE_FOLDERS = ["images", "image", "imgs"];
const MASK_FOLDERS = ["masks", "mask", "labels", "label", "annotations"];

async function firstFolder(folder: string, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) if (await isFolder(join(folder, name))) return join(folder, name);
  return undefined;
}

const NIFTI = /\.nii(\.gz)?$/i;
const VOLUME = /\.(nii|nii\.gz|tiff?)$/i;

export interface SegmentedOptions {
  /** 2: above half is foreground; more: masks hold class numbers. Default 2. */
  readonly classes?: number;
  readonly colour?: "gray" | "rgb";
}

/**
 * A folder with `images/` and `masks/` (or names like these): pictures of any kind, or volumes (NIfTI, TIFF stacks),
 * whose slices count as one. @throws ArgumentError when the folders are not there or hold pictures beside volumes,
 * FormatError for damaged files
 */
export async function openSegmented(
  folder: string,
  options: SegmentedOptions = {},
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
    .filter((name) => isPictureName(name) || (NIFTI.test(name) && !name.startsWith(".")))
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
    const image = await read(join(images, name));
    const mask = alignedTo(await read(join(masks, name)), image, join(masks, name));
    const sizes = [image, mask].map(
      (volume) => `${volume.slices[0]!.width}x${volume.slices[0]!.height}x${volume.slices.length}`,
    );
    if (sizes[0] !== sizes[1])
      throw new FormatError(`${join(masks, name)}: is ${sizes[1]}, its picture is ${sizes[0]}`);
    const labels = volumeLabels(mask.slices, classes, join(masks, name));
    inUnits(image.slices, join(images, name)).forEach((slice, z) => {
      slices.push({ name: `${name} slice ${z}`, image: slice, labels: labels[z]!, volume: name });
    });
  }
  return dataset(slices.length, (i) => slices[i]!);
}
