/** Where the captions of pictures are: in a table, in text files beside them, in the names of folders or of the files. */
import { basename } from "#node";
import { FormatError } from "../../errors.ts";
import { readJson } from "../files.ts";
import { type Row, readTable } from "../formats/tables.ts";
import {
  CAPTION_COLUMNS,
  type CaptionedFile,
  columnAmong,
  FILE_COLUMNS,
  type PictureFiles,
} from "./pictures.ts";

/** Where captions are taken from. */
export const CAPTION_SOURCES = ["table", "text files", "folders", "names", "none"] as const;
/** Name of a place of captions. */
export type CaptionSource = (typeof CAPTION_SOURCES)[number];

/** Captions by picture, and what does not go together. */
export interface FoundCaptions {
  readonly source: CaptionSource;
  /** All captions of each picture, in the order of the pictures; none: []. */
  readonly captions: readonly (readonly string[])[];
  /** Files that a table names and that are not there. */
  readonly strangers: readonly string[];
}

const clean = (text: string): string => text.replace(/\s+/g, " ").trim();
const stem = (name: string): string => name.replace(/\.[^./]+$/, "");

/** A value of a caption's cell: one, or several in a list. */
const textsOf = (cell: unknown): string[] =>
  (Array.isArray(cell) ? cell : [cell]).map((one) => clean(String(one ?? ""))).filter((text) => text !== "");

/** Pairs of file and captions. Undefined: the file says nothing of pictures. */
type Listing = [file: string, captions: string[]][] | undefined;

function ofRows(rows: readonly Row[]): Listing {
  const [first] = rows;
  const file = first && columnAmong(first, FILE_COLUMNS);
  const caption =
    first &&
    columnAmong(
      first,
      CAPTION_COLUMNS.filter((name) => name !== file),
    );
  if (file === undefined || caption === undefined) return undefined;
  return rows.map((row) => [String(row[file]), textsOf(row[caption])]);
}

/** Objects of files and captions, lists of records, and COCO's annotations. */
function ofJson(value: unknown): Listing {
  if (Array.isArray(value)) return ofRows(value as Row[]);
  if (typeof value !== "object" || value === null) return undefined;
  const { images, annotations } = value as { images?: unknown; annotations?: unknown };
  if (Array.isArray(images) && Array.isArray(annotations)) {
    const names = new Map((images as Row[]).map((image) => [image.id, String(image.file_name)]));
    return (annotations as Row[]).map((a) => [
      names.get(a.image_id) ?? `image ${a.image_id}`,
      textsOf(a.caption),
    ]);
  }
  const entries = Object.entries(value);
  const plain = entries.every(([, v]) => typeof v === "string" || Array.isArray(v));
  return plain && entries.length > 0 ? entries.map(([file, v]) => [file, textsOf(v)]) : undefined;
}

async function listingOf(path: string): Promise<Listing> {
  if (/\.json(\.gz)?$/i.test(path)) return ofJson(await readJson(path));
  return ofRows(await readTable(path));
}

/** Names that a picture goes by in tables: its path, its file name, both without ending. */
function index(pictures: readonly CaptionedFile[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const spelled of [(n: string) => n, basename, stem, (n: string) => stem(basename(n))])
    pictures.forEach(({ name }, i) => {
      if (!found.has(spelled(name))) found.set(spelled(name), i);
    });
  return found;
}

/** @throws FormatError for tables of which none says anything of these pictures */
async function fromTables({ path, pictures, tables }: PictureFiles): Promise<FoundCaptions> {
  const places = index(pictures);
  const captions: string[][] = pictures.map(() => []);
  const strangers: string[] = [];
  let used = 0;
  for (const table of tables) {
    const listing = await listingOf(table);
    if (!listing) continue;
    used++;
    for (const [file, texts] of listing) {
      const name = file.replaceAll("\\", "/").replace(/^\.\//, "");
      const at = places.get(name) ?? places.get(basename(name));
      if (at === undefined) strangers.push(file);
      else captions[at]!.push(...texts);
    }
  }
  if (used === 0)
    throw new FormatError(
      `${tables.join(", ") || path}: expected a table with a file (${FILE_COLUMNS.slice(0, 4).join(", ")}) and a caption (${CAPTION_COLUMNS.slice(0, 4).join(", ")}) in each row${tables.length > 0 ? "; it is empty or has other columns" : ""}`,
    );
  if (captions.every((own) => own.length === 0))
    throw new FormatError(
      `${tables.join(", ")}: no caption for any of the ${pictures.length} pictures${
        strangers.length > 0
          ? `: it names ${strangers.slice(0, 3).join(", ")}, the pictures are called ${pictures
              .slice(0, 3)
              .map(({ name }) => name)
              .join(", ")}`
          : ": the captions are empty"
      }`,
    );
  return { source: "table", captions, strangers };
}

/** One caption a line. @throws FormatError when all files are empty, or none belongs to a picture */
async function fromTexts({ path, pictures, texts }: PictureFiles): Promise<FoundCaptions> {
  const byStem = new Map(texts.map((file) => [stem(file.name), file]));
  const captions = await Promise.all(
    pictures.map(async ({ name }) => {
      const file = byStem.get(stem(name)) ?? byStem.get(name);
      byStem.delete(stem(name));
      const bytes = await file?.read();
      return bytes ? new TextDecoder().decode(bytes).split(/\r?\n/).map(clean).filter(Boolean) : [];
    }),
  );
  if (captions.every((own) => own.length === 0))
    throw new FormatError(
      `${path}: the text files beside the pictures are empty, or none has the name of a picture`,
    );
  return { source: "text files", captions, strangers: [...byStem.values()].map(({ name }) => name) };
}

/** Words that cameras and programs give to files. */
const NO_WORDS =
  /^(img|image|images|dsc|dscn|dscf|pxl|mvi|vid|photo|picture|pic|frame|screenshot|untitled|file|copy|wa|emoji|png|jpe?g)$/;

/** A file's name as words: `red-fox_02.png` is "red fox". */
export function captionOfName(name: string): string {
  const own = stem(basename(name));
  if (/^[0-9a-f-]{12,}$/i.test(own)) return ""; // a hash
  const words =
    own
      .replace(/(\p{Ll})(\p{Lu})/gu, "$1 $2")
      .toLowerCase()
      .match(/\p{L}+/gu) ?? [];
  return words.filter((word) => !NO_WORDS.test(word)).join(" ");
}

const folderOf = (name: string): string => name.split("/").slice(0, -1).at(-1) ?? "";
const some = (texts: readonly string[]): (readonly string[])[] =>
  texts.map((text) => (text === "" ? [] : [text]));

const fromFolders = ({ pictures }: PictureFiles): FoundCaptions => ({
  source: "folders",
  captions: some(pictures.map(({ name }) => clean(folderOf(name).replace(/[_\-.]+/g, " ")))),
  strangers: [],
});

const fromNames = ({ pictures }: PictureFiles): FoundCaptions => ({
  source: "names",
  captions: some(pictures.map(({ name }) => captionOfName(name))),
  strangers: [],
});

/** Whether names say what is in the pictures: most have words, and not all the same. */
function telling(texts: readonly string[]): boolean {
  const said = texts.filter((text) => text !== "");
  return said.length > texts.length / 2 && new Set(said).size > 1;
}

/** The captions of a set from where it has them; `wanted` says where to look. @throws FormatError when there are none */
export async function findCaptions(
  files: PictureFiles,
  wanted: CaptionSource | "auto" = "auto",
): Promise<FoundCaptions> {
  const { pictures, texts, tables, captions, path } = files;
  const none: FoundCaptions = { source: "none", captions: pictures.map(() => []), strangers: [] };
  if (wanted === "none") return none;
  if (captions && (wanted === "auto" || wanted === "table")) {
    if (captions.every((caption) => clean(caption) === ""))
      throw new FormatError(`${path}: all captions are empty`);
    return { source: "table", captions: captions.map(textsOf), strangers: [] };
  }
  if (wanted === "table" || (wanted === "auto" && tables.length > 0)) return fromTables(files);
  if (wanted === "text files" || (wanted === "auto" && texts.length > 0)) return fromTexts(files);
  const folders = pictures.map(({ name }) => folderOf(name));
  if (wanted === "folders" || (wanted === "auto" && !folders.includes("") && new Set(folders).size > 1))
    return fromFolders(files);
  const names = pictures.map(({ name }) => captionOfName(name));
  if (wanted === "names" && !names.some(Boolean))
    throw new FormatError(`${path}: the names of the pictures have no words, such as ${pictures[0]!.name}`);
  return wanted === "names" || telling(names) ? fromNames(files) : none;
}
