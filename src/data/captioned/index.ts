/**
 * Pictures with captions as people have them: a folder, a zip archive or a Parquet table; captions in a table, in text files
 * beside the pictures, in the names of folders or of the files, or nowhere.
 */
import { type DecodeOptions, decodePicture, type Picture } from "../../io/picture-codec.ts";
import { type Dataset, dataset } from "../dataset.ts";
import type { NamedPicture } from "../folders.ts";
import { type CaptionSource, findCaptions } from "./captions.ts";
import { pictureFiles } from "./pictures.ts";

export { CAPTION_SOURCES, type CaptionSource, captionOfName } from "./captions.ts";

/** A picture with all its captions. */
export interface CaptionedSample {
  readonly name: string;
  /** In colours, over white where it is transparent. */
  readonly image: Picture;
  readonly captions: readonly string[];
}

/** A set with what was found out about it. */
export interface CaptionedSet extends Dataset<CaptionedSample> {
  /** Names of the pictures. */
  readonly names: readonly string[];
  /** Captions of each; none: []. */
  readonly captions: readonly (readonly string[])[];
  readonly source: CaptionSource;
  /** Pictures without caption and captions without picture, in words. */
  readonly warnings: readonly string[];
}

const LISTED = 8;
const listed = (names: readonly string[]): string =>
  `${names.slice(0, LISTED).join(", ")}${names.length > LISTED ? ", …" : ""}`;
const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;

/** All pictures of a folder, a zip archive or a Parquet table, without captions. @throws ArgumentError without pictures */
export async function decodedPictures(
  path: string,
  options: Pick<DecodeOptions, "size"> = {},
): Promise<Dataset<NamedPicture> & { readonly names: readonly string[] }> {
  const { pictures } = await pictureFiles(path);
  const read = async (i: number): Promise<NamedPicture> => {
    const { name, read: bytes } = pictures[i]!;
    return { name, image: await decodePicture(await bytes(), { name: `${path}/${name}`, ...options }) };
  };
  return { ...dataset(pictures.length, read), names: pictures.map(({ name }) => name) };
}

/** Options of `openCaptioned`. */
export interface CaptionedOptions {
  /** Where captions are. Default "auto": a table, text files, folders, names; the first that is there. */
  readonly captions?: CaptionSource | "auto";
  /** Size that pictures are decoded to, cut at the edges. Default: as they are. */
  readonly size?: DecodeOptions["size"];
}

/**
 * Opens a set; pictures are read when they are asked for. @throws ArgumentError without pictures, FormatError for captions that
 * are empty or belong to no picture
 */
export async function openCaptioned(
  path: string,
  { captions: wanted = "auto", size }: CaptionedOptions = {},
): Promise<CaptionedSet> {
  const files = await pictureFiles(path);
  const { source, captions, strangers } = await findCaptions(files, wanted);
  const { pictures } = files;
  const without = source === "none" ? [] : pictures.filter((_, i) => captions[i]!.length === 0);
  const warnings: string[] = [];
  if (without.length > 0)
    warnings.push(
      `${counted(without.length, "picture")} without caption: ${listed(without.map(({ name }) => name))}`,
    );
  if (strangers.length > 0)
    warnings.push(`${counted(strangers.length, "caption")} without picture: ${listed(strangers)}`);
  const samples = dataset(pictures.length, async (i) => {
    const { name, read } = pictures[i]!;
    const image = await decodePicture(await read(), { name: `${path}/${name}`, ...(size && { size }) });
    return { name, image, captions: captions[i]! };
  });
  return { ...samples, names: pictures.map(({ name }) => name), captions, source, warnings };
}
