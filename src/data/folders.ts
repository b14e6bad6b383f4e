/** Folders of pictures as people have them: plain, one folder per class, pairs, pictures with masks. */
import { basename, join, readdir, realpath, relative, sep, stat } from "#node";
import { ArgumentError, FormatError } from "../errors.ts";
import { type DecodeOptions, decodePicture, type Picture, probePicture } from "../io/picture-codec.ts";
import { type Dataset, dataset } from "./dataset.ts";
import { naturalOrder, readBytes } from "./files.ts";
import { inUnits, type UnitOptions } from "./units.ts";

const PICTURES = /\.(png|jpe?g|webp|tiff?|gif|bmp|avif)$/i;

/** Whether a file's name ends as pictures do, and it is not hidden. */
export const isPictureName = (name: string): boolean =>
  PICTURES.test(name) && !basename(name).startsWith(".");

const refused =
  (folder: string) =>
  (cause: NodeJS.ErrnoException): never => {
    const why = { ENOENT: "there is no such folder", ENOTDIR: "this is a file, a folder was expected" };
    const said = why[cause.code as keyof typeof why] ?? `cannot be read as a folder (${cause.code})`;
    throw new ArgumentError(`${folder}: ${said}`, { cause });
  };

/** Names in a folder. @throws ArgumentError that says why it cannot be read as one */
export const namesIn = (folder: string): Promise<string[]> => readdir(folder).catch(refused(folder));

/**
 * Paths of all files below a folder. Links count as what they lead to (data sets of DVC, git-annex and the like are trees of
 * links); one that leads nowhere is a path whose reading fails. A folder that links lead back to is read once.
 */
async function filesBelow(folder: string, seen = new Set<string>()): Promise<string[]> {
  const real = await realpath(folder).catch(refused(folder));
  if (seen.has(real)) return [];
  seen.add(real);
  const entries = await readdir(folder, { withFileTypes: true }).catch(refused(folder));
  const found = entries.map(async (entry): Promise<string[]> => {
    const path = join(entry.parentPath, entry.name);
    const target = entry.isSymbolicLink() ? await stat(path).catch(() => undefined) : entry;
    if (target?.isDirectory()) return filesBelow(path, seen);
    return target === undefined || target.isFile() ? [path] : [];
  });
  return (await Promise.all(found)).flat();
}

/**
 * Paths of all pictures in a folder and below, and of files that `also` names, in natural order. @throws ArgumentError when
 * there are none
 */
export async function listPictures(
  folder: string,
  also: (name: string) => boolean = () => false,
): Promise<string[]> {
  const paths = (await filesBelow(folder))
    .filter((path) => isPictureName(basename(path)) || also(basename(path)))
    .sort(naturalOrder);
  if (paths.length === 0)
    throw new ArgumentError(`${folder}: no pictures (png, jpeg, webp, tiff, gif, bmp, avif)`);
  return paths;
}

/** One picture file. @throws FormatError that names the file. */
export const readPictureFile = async (path: string, options: DecodeOptions = {}): Promise<Picture> =>
  decodePicture(await readBytes(path), { name: path, ...options });

/** A picture and the name of its file. */
export interface NamedPicture {
  /** Path below the folder, with forward slashes. */
  readonly name: string;
  readonly image: Picture;
}

const nameIn = (folder: string, path: string): string => relative(folder, path).split(sep).join("/");

/** All pictures of a folder. */
export async function openPictureFolder(
  folder: string,
  options: DecodeOptions = {},
): Promise<Dataset<NamedPicture>> {
  const paths = await listPictures(folder);
  return dataset(paths.length, async (i) => ({
    name: nameIn(folder, paths[i]!),
    image: await readPictureFile(paths[i]!, options),
  }));
}

/** A picture of a class. */
export interface ClassPicture extends NamedPicture {
  readonly label: number;
}

/** One folder per class; labels follow the natural order of the folders' names. */
export async function openClassFolders(
  folder: string,
  options: DecodeOptions = {},
): Promise<Dataset<ClassPicture> & { readonly classes: readonly string[] }> {
  const paths = await listPictures(folder);
  const classOf = (path: string): string => nameIn(folder, path).split("/")[0]!;
  const loose = paths.find((path) => !nameIn(folder, path).includes("/"));
  if (loose) throw new ArgumentError(`${loose}: lies in no class folder of ${folder}`);
  const classes = [...new Set(paths.map(classOf))].sort(naturalOrder);
  const samples = dataset(paths.length, async (i) => ({
    name: nameIn(folder, paths[i]!),
    image: await readPictureFile(paths[i]!, options),
    label: classes.indexOf(classOf(paths[i]!)),
  }));
  return { ...samples, classes };
}

/** Options of `openPairs` and `openMasked`. */
export interface PairOptions {
  /** Turns a file's name (without folder and ending) into the key that both sides share. Default: the name itself. */
  readonly keyA?: (stem: string) => string;
  /** The same for files of B. */
  readonly keyB?: (stem: string) => string;
}

const stemOf = (path: string): string => basename(path).replace(/\.[^.]+$/, "");

/** Paths of two folders by their common key. @throws ArgumentError that lists files without a partner. */
async function pairPaths(
  folderA: string,
  folderB: string,
  { keyA = (s) => s, keyB = (s) => s }: PairOptions,
): Promise<[key: string, a: string, b: string][]> {
  const byKey = async (folder: string, key: (stem: string) => string): Promise<Map<string, string>> => {
    const found = new Map<string, string>();
    for (const path of await listPictures(folder)) {
      const id = key(stemOf(path));
      if (found.has(id)) throw new ArgumentError(`${path} and ${found.get(id)} both stand for "${id}"`);
      found.set(id, path);
    }
    return found;
  };
  const [a, b] = [await byKey(folderA, keyA), await byKey(folderB, keyB)];
  const lonely = [...[...a].filter(([k]) => !b.has(k)), ...[...b].filter(([k]) => !a.has(k))].map(
    ([, p]) => p,
  );
  if (lonely.length > 0)
    throw new ArgumentError(
      `${folderA} and ${folderB}: ${lonely.length} files have no partner: ${lonely.slice(0, 5).join(", ")}${lonely.length > 5 ? ", …" : ""}`,
    );
  return [...a].map(([key, path]) => [key, path, b.get(key)!]);
}

function checkSameSize(path: string, a: Picture, b: Picture): void {
  if (a.width !== b.width || a.height !== b.height)
    throw new FormatError(`${path}: is ${b.width}x${b.height}, its partner ${a.width}x${a.height}`);
}

/** Pictures of two folders that belong together, of one size: degraded and clean, input and target. */
export async function openPairs(
  folderA: string,
  folderB: string,
  options: PairOptions & DecodeOptions = {},
): Promise<Dataset<{ name: string; a: Picture; b: Picture }>> {
  const pairs = await pairPaths(folderA, folderB, options);
  return dataset(pairs.length, async (i) => {
    const [name, pathA, pathB] = pairs[i]!;
    const [a, b] = await Promise.all([readPictureFile(pathA, options), readPictureFile(pathB, options)]);
    checkSameSize(pathB, a, b);
    return { name, a, b };
  });
}

/** Red, green and blue, 0 to 255. */
export type MaskColour = readonly [r: number, g: number, b: number];

/** Reads "#000000,#ff0000": colours of classes, of the background first. @throws ArgumentError for anything else */
export function maskColours(text: string): MaskColour[] {
  const colours = text.split(",").map((one) => /^#?([0-9a-f]{6})$/i.exec(one.trim())?.[1]?.toLowerCase());
  if (colours.length < 2 || colours.includes(undefined) || new Set(colours).size < colours.length)
    throw new ArgumentError(
      `mask colours: expected different colours as in #000000,#ff0000, of the background first, got ${JSON.stringify(text)}`,
    );
  return colours.map((hex) => [0, 2, 4].map((at) => Number.parseInt(hex!.slice(at, at + 2), 16)) as never);
}

/** What the values of a mask file mean. */
export type MaskMeaning =
  /** Class numbers as they are, each below `classes`. */
  | { readonly classes: number }
  /** Colours, of class 0 first. */
  | { readonly colours: readonly MaskColour[] }
  /** 0 is background, the one other value foreground. */
  | "binary"
  /** Instance numbers, 0 for the background. */
  | "instances";

const some = (values: readonly number[]): string =>
  `${values.slice(0, 5).join(", ")}${values.length > 5 ? ", …" : ""}`;

/** One value per pixel of a mask. A mask of one colour that is drawn in the transparency is read from there. */
function maskValues({ width, height, channels, data }: Picture, name: string): Int32Array {
  const alpha = channels === 2 ? 1 : channels === 4 ? 3 : undefined;
  const plane = (c: number): Float64Array =>
    Float64Array.from({ length: width * height }, (_, i) => data[i * channels + c]!);
  const constant = (values: Float64Array): boolean => values.every((v) => v === values[0]);
  let values = plane(0);
  for (let c = 1; c < channels; c++) {
    if (c === alpha) continue;
    const odd = values.findIndex((value, i) => data[i * channels + c] !== value);
    if (odd >= 0) throw new FormatError(`${name}: a mask in colours, pixel ${odd} differs between channels`);
  }
  if (alpha !== undefined && constant(values) && !constant(plane(alpha))) values = plane(alpha);
  const wrong = values.find((v) => !Number.isInteger(v) || v < 0);
  if (wrong !== undefined) throw new FormatError(`${name}: ${wrong} is no label; expected 0, 1, 2, …`);
  return Int32Array.from(values);
}

/** Labels of a mask picture, one per pixel. @throws {FormatError} for a value that the meaning does not know. */
export function maskLabels(mask: Picture, meaning: MaskMeaning, name = "mask"): Int32Array {
  if (typeof meaning === "object" && "colours" in meaning) return colourLabels(mask, meaning.colours, name);
  const values = maskValues(mask, name);
  if (meaning === "instances") return values;
  if (meaning === "binary") return binaryLabels(values, name);
  const bad = values.findIndex((v) => v >= meaning.classes);
  if (bad >= 0)
    throw new FormatError(
      `${name}: label ${values[bad]} at (${bad % mask.width}, ${Math.floor(bad / mask.width)}) of ${meaning.classes} classes`,
    );
  return values;
}

/** The place of each pixel's colour in a list. @throws {FormatError} for a colour that is not in it */
function colourLabels(mask: Picture, colours: readonly MaskColour[], name: string): Int32Array {
  const { width, height, channels, data } = mask;
  const byColour = new Map(colours.map(([r, g, b], label) => [(r << 16) | (g << 8) | b, label]));
  const gray = channels < 3;
  return Int32Array.from({ length: width * height }, (_, i) => {
    const [r, g, b] = [0, 1, 2].map((c) => data[i * channels + (gray ? 0 : c)]!) as [number, number, number];
    const label = byColour.get((r << 16) | (g << 8) | b);
    if (label !== undefined) return label;
    const hex = [r, g, b].map((v) => v.toString(16).padStart(2, "0")).join("");
    throw new FormatError(
      `${name}: the colour #${hex} at (${i % width}, ${Math.floor(i / width)}) is none of the ${colours.length} declared`,
    );
  });
}

/**
 * 0 and one other value as 0 and 1. @throws {FormatError} for more than two values, and for two without 0, of which nothing
 * says which is the background
 */
export function binaryLabels(values: Int32Array, name: string): Int32Array {
  const found = [...new Set(values)].sort((a, b) => a - b);
  if (found.length > 2)
    throw new FormatError(`${name}: ${found.length} values (${some(found)}) where two labels are declared`);
  if (found.length === 2 && found[0] !== 0)
    throw new FormatError(
      `${name}: the values ${some(found)}, none of which is 0; expected 0 for the background and one other value`,
    );
  return values.map((v) => (v > 0 ? 1 : 0));
}

/** A picture and its mask. */
export interface MaskedPicture extends NamedPicture {
  /** One label per pixel. // [H, W] */
  readonly labels: Int32Array;
}

/** A mask file: a palette's indices, but the colours of a palette in black and white. */
async function readMaskFile(path: string, meaning: MaskMeaning): Promise<Picture> {
  const bytes = await readBytes(path);
  if (typeof meaning === "object" && "colours" in meaning)
    return decodePicture(bytes, { name: path, colour: "rgb" });
  const { indexed } = await probePicture(bytes, { name: path });
  if (indexed && meaning === "binary") {
    const colours = await decodePicture(bytes, { name: path, colour: "as-is" });
    const { channels, data } = colours;
    if (data.every((v, i) => i % channels === 3 || v === data[i - (i % channels)])) return colours;
  }
  return decodePicture(bytes, { name: path, colour: "labels" });
}

/**
 * Pictures with their masks from two folders, at the depth of the files and both upright; floats of other units as `inUnits`. @throws {FormatError} for a mask of
 * another size or with odd values
 */
export async function openMasked(
  images: string,
  masks: string,
  options: PairOptions & DecodeOptions & UnitOptions & { readonly meaning?: MaskMeaning } = {},
): Promise<Dataset<MaskedPicture>> {
  const pairs = await pairPaths(images, masks, options);
  const { meaning = "binary", range, otherwise, ...decode } = options;
  return dataset(pairs.length, async (i) => {
    const [name, imagePath, maskPath] = pairs[i]!;
    const [image, mask] = await Promise.all([
      readPictureFile(imagePath, { depth: "file", ...decode }),
      readMaskFile(maskPath, meaning),
    ]);
    checkSameSize(maskPath, image, mask);
    const [seen] = inUnits([image], imagePath, { range, ...(otherwise && { otherwise }) }) as [Picture];
    return { name, image: seen, labels: maskLabels(mask, meaning, maskPath) };
  });
}
