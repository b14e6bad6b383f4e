/** Pictures of a captioned set as files, whether they lie in a folder, in a zip archive or in a Parquet table. */
import { basename, join, relative, sep } from "#node";
import { ArgumentError, FormatError } from "../../errors.ts";
import { naturalOrder, readBytes } from "../files.ts";
import { isPictureName, listPictures, namesIn } from "../folders.ts";
import { type Row, readParquet } from "../formats/tables.ts";
import { unzip } from "../formats/zip.ts";

/** A file of a set. */
export interface CaptionedFile {
  /** Path below the set's folder, with forward slashes. */
  readonly name: string;
  read(): Promise<Uint8Array>;
}

/** Files of a set before captions are looked for. */
export interface PictureFiles {
  /** Named in messages. */
  readonly path: string;
  /** In natural order. */
  readonly pictures: readonly CaptionedFile[];
  /** Text files beside the pictures. */
  readonly texts: readonly CaptionedFile[];
  /** Paths of tables that lie at the top. */
  readonly tables: readonly string[];
  /** Captions that come with the pictures, in their order. */
  readonly captions?: readonly string[];
}

const TABLE = /\.(csv|tsv|jsonl|ndjson|json)(\.gz)?$/i;
const isText = (name: string): boolean => /\.txt$/i.test(name) && !basename(name).startsWith(".");

/** Names that columns of captions and of files have, the likeliest first. */
export const CAPTION_COLUMNS = [
  "caption",
  "text",
  "prompt",
  "description",
  "captions",
  "title",
  "name",
  "label",
];
/** Of files. */
export const FILE_COLUMNS = ["file", "file_name", "filename", "image", "path", "image_path", "picture"];

/** The first of the names that a table has, whatever the capitals. */
export const columnAmong = (row: Row, names: readonly string[]): string | undefined => {
  const own = Object.keys(row);
  return names
    .map((name) => own.find((one) => one.toLowerCase() === name))
    .find((found) => found !== undefined);
};

async function inArchive(path: string): Promise<Pick<PictureFiles, "pictures" | "texts">> {
  const files = [...unzip(await readBytes(path), path)]
    .sort(([a], [b]) => naturalOrder(a, b))
    .map(([name, bytes]): CaptionedFile => ({ name, read: async () => bytes }));
  return {
    pictures: files.filter(({ name }) => isPictureName(name)),
    texts: files.filter(({ name }) => isText(name)),
  };
}

/** Encoded bytes of a picture in a cell, as Hugging Face's data sets have it or alone. */
function cellBytes(cell: unknown): Uint8Array | undefined {
  if (cell instanceof Uint8Array) return cell;
  const { bytes } = (cell ?? {}) as { bytes?: unknown };
  return bytes instanceof Uint8Array ? bytes : undefined;
}

const decoded = (cell: unknown): string =>
  cell instanceof Uint8Array ? new TextDecoder().decode(cell) : String(cell ?? "");

/** @throws FormatError for tables without encoded pictures, and for rows that have none */
async function inParquet(paths: readonly string[], path: string): Promise<PictureFiles> {
  const pictures: CaptionedFile[] = [];
  const captions: string[] = [];
  let text: string | undefined;
  for (const file of paths) {
    const rows = await readParquet(file);
    if (rows.length === 0) throw new FormatError(`${file}: the table is empty`);
    const column = Object.keys(rows[0]!).find(
      (name) => cellBytes(rows[0]![name]) && /image|picture|bytes|png|jpe?g/i.test(name),
    );
    if (column === undefined)
      throw new FormatError(
        `${file}: expected a column with encoded pictures, such as "image"; it has ${Object.keys(rows[0]!).join(", ")}`,
      );
    text = columnAmong(
      rows[0]!,
      CAPTION_COLUMNS.filter((name) => name !== column),
    );
    for (const [i, row] of rows.entries()) {
      const bytes = cellBytes(row[column]);
      if (!bytes) throw new FormatError(`${file}: row ${i + 1} has no picture in "${column}"`);
      pictures.push({ name: `${basename(file)} row ${i + 1}`, read: async () => bytes });
      if (text !== undefined) captions.push(decoded(row[text]));
    }
  }
  return { path, pictures, texts: [], tables: [], ...(text !== undefined && { captions }) };
}

async function inFolder(folder: string): Promise<PictureFiles> {
  const top = (await namesIn(folder)).filter((name) => !name.startsWith("."));
  const at = (pattern: RegExp): string[] =>
    top
      .filter((name) => pattern.test(name))
      .sort(naturalOrder)
      .map((name) => join(folder, name));
  const tables = at(TABLE);
  const parquet = at(/\.parquet$/i);
  const paths = await listPictures(folder, isText).catch((error) => {
    if (error instanceof ArgumentError && /no pictures/.test(error.message)) return [];
    throw error;
  });
  const files = paths.map(
    (path): CaptionedFile => ({
      name: relative(folder, path).split(sep).join("/"),
      read: () => readBytes(path),
    }),
  );
  const pictures = files.filter(({ name }) => isPictureName(name));
  if (pictures.length > 0)
    return { path: folder, pictures, texts: files.filter(({ name }) => isText(name)), tables };
  if (parquet.length > 0) return inParquet(parquet, folder);
  const [archive, ...others] = at(/\.zip$/i);
  if (archive === undefined || others.length > 0)
    throw new ArgumentError(
      `${folder}: no pictures (png, jpeg, webp, tiff, gif, bmp, avif), no Parquet table and no single zip archive of pictures`,
    );
  return { path: folder, tables, ...(await inArchive(archive)) };
}

/** The files of a folder, of a zip archive (tables beside it count) or of a Parquet table. @throws ArgumentError without pictures */
export async function pictureFiles(path: string): Promise<PictureFiles> {
  if (/\.parquet$/i.test(path)) return inParquet([path], path);
  const found: PictureFiles = /\.zip$/i.test(path)
    ? { path, tables: [], ...(await inArchive(path)) }
    : await inFolder(path);
  if (found.pictures.length === 0)
    throw new ArgumentError(`${path}: no pictures (png, jpeg, webp, tiff, gif, bmp, avif)`);
  return found;
}
