/**
 * One job over a folder of pictures, for any number of machines: each takes a shard, what is done and valid is passed
 * over, and a run that was killed goes on where it was. A result is a PNG that says in a text of its own what it was
 * made from; so nothing but the results is needed to know what is left to do.
 */
import { mkdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, join, relative, resolve, sep } from "node:path";
import { listPictures, type WrittenSlice } from "../data/index.ts";
import { AbortError, ArgumentError, FormatError, NonFiniteError } from "../errors.ts";
import {
  decodePicture,
  encodePicture,
  hashFile,
  type Picture,
  readPngText,
  withPngText,
  writeFileAtomic,
} from "../io/index.ts";
import { partOf, shardOf } from "../study/shard.ts";
import type { Work } from "../work.ts";
import type { ActionContext } from "./system.ts";

/** Keyword of the text in a result. */
const KEYWORD = "tweedie-run";

/** A picture, and what its results are called. */
export interface BatchItem {
  readonly path: string;
  /** Path below the folder, with forward slashes. */
  readonly source: string;
  /** The same without its ending, unless two differ in nothing else. Results are `NAME-KIND.png`. */
  readonly name: string;
  /** Page of a file with several, or slice of a volume, that is meant alone. */
  readonly page?: number;
}

const withoutEnding = (path: string): string =>
  path.replace(/\.nii\.gz$/i, "").slice(0, -extname(path.replace(/\.nii\.gz$/i, "")).length || undefined);

/** Names that differ whatever the file system does with capitals: of two that collide, both keep their endings. */
function namesOf(sources: readonly string[]): string[] {
  const key = (text: string): string => text.toLowerCase();
  const stems = new Map<string, number>();
  for (const source of sources)
    stems.set(key(withoutEnding(source)), (stems.get(key(withoutEnding(source))) ?? 0) + 1);
  const whole = new Set(sources.map(key));
  return sources.map((source) => {
    const stem = withoutEnding(source);
    return stems.get(key(stem))! > 1 || whole.has(key(stem)) ? source : stem;
  });
}

/** Whether a path lies in a folder or is the folder. */
const isIn = (path: string, folder: string): boolean =>
  resolve(path) === resolve(folder) || resolve(path).startsWith(resolve(folder) + sep);

/** What counts beside pictures, and which pages are meant. */
export interface BatchChoice {
  /** Whether a file counts that is no picture by its name, such as a volume. */
  readonly also?: (name: string) => boolean;
  /** First and last page, from 0, each an item of its own. */
  readonly pages?: readonly [first: number, last: number];
}

const paged = (items: readonly BatchItem[], { pages }: BatchChoice): BatchItem[] =>
  pages
    ? items.flatMap((item) =>
        Array.from({ length: pages[1] - pages[0] + 1 }, (_, i) => pages[0] + i).map((page) => ({
          ...item,
          ...{ page, name: `${item.name}-page-${page}`, source: `${item.source}, page ${page}` },
        })),
      )
    : [...items];

/**
 * The pictures of a folder and below, in the order of their relative names by code unit, which no locale changes;
 * results in a folder within it are not taken for pictures. A single file is a job of one.
 *
 * @throws ArgumentError when there are no pictures, or when the results would lie among them
 */
export async function listBatch(input: string, out: string, choice: BatchChoice = {}): Promise<BatchItem[]> {
  if (!(await stat(input)).isDirectory())
    return paged([{ path: input, source: basename(input), name: withoutEnding(basename(input)) }], choice);
  if (resolve(input) === resolve(out))
    throw new ArgumentError(
      `${out}: results would lie among the pictures and be taken for some: choose another folder`,
    );
  const all = (await listPictures(input, choice.also)).filter((path) => !isIn(path, out));
  if (all.length === 0) throw new ArgumentError(`${input}: no pictures but those in ${out}`);
  const paths = new Map(all.map((path) => [relative(input, path).split(sep).join("/"), path]));
  const sources = [...paths.keys()].sort((a, b) => (a < b ? -1 : 1));
  const names = namesOf(sources);
  return paged(
    sources.map((source, i) => ({ path: paths.get(source)!, source, name: names[i]! })),
    choice,
  );
}

/** A picture, or the slices of a volume. */
export type Result = Picture | readonly WrittenSlice[];

/** Which results there are of an item, how they are written, and how they are known again. */
export interface ResultFormat {
  readonly kinds: readonly string[];
  /** Of their files, such as ".png". */
  readonly ending: string;
  /** What of a stamp the files keep. Default: all of it. */
  readonly stamp?: (stamp: string) => string;
  encode(result: Result, stamp: string): Promise<Uint8Array>;
  /** What a file says that it was made from; undefined when it says nothing. @throws FormatError when it is damaged */
  stampIn(bytes: Uint8Array, path: string): Promise<string | undefined>;
}

/** Results as PNG files, which keep the whole stamp in a text. */
const pngFormat = (kinds: readonly string[]): ResultFormat => ({
  kinds,
  ending: ".png",
  encode: async (result, text) =>
    withPngText(await encodePicture(result as Picture), [{ keyword: KEYWORD, text, utf8: true }]),
  stampIn: async (bytes, path) => {
    await decodePicture(bytes, { colour: "as-is", name: path });
    return readPngText(bytes, path).find(({ keyword }) => keyword === KEYWORD)?.text;
  },
});

export interface BatchOptions extends BatchChoice {
  /** A picture, or a folder of them. */
  readonly image: string;
  /** Folder for the results. */
  readonly out: string;
  /** `I/N`: only this part of the job. */
  readonly shard?: string | undefined;
  /** Also makes again what is done already. */
  readonly force: boolean;
  /** What decides the results beside the picture, a hash of the model's weights included. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** What there is for each picture, as PNG. */
  readonly kinds: readonly string[];
  /** The format of what is no single picture; undefined: `kinds` as PNG. */
  readonly formatOf?: (item: BatchItem) => Promise<ResultFormat | undefined>;
}

export interface BatchResult {
  readonly done: number;
  /** Were done before. */
  readonly kept: number;
  /** Pictures that could not be used, by their names in the folder. */
  readonly failed: readonly string[];
}

/** What a result says of itself: hash of the picture, and the settings. */
async function stampOf({ path, page }: BatchItem, settings: BatchOptions["settings"]): Promise<string> {
  const picture = await hashFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new ArgumentError(`${path}: cannot be read (${cause.code})`, { cause });
  });
  return JSON.stringify({ picture, ...(page !== undefined && { page }), settings });
}

/** What is known of a result: nothing is there, it is damaged, somebody else's, of other settings, or as it should be. */
async function stateOf(
  path: string,
  stamp: string,
  { stampIn, stamp: keptOf = (text) => text }: ResultFormat,
): Promise<"missing" | "damaged" | "foreign" | "other" | "done"> {
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (bytes === undefined) return "missing";
  try {
    const found = await stampIn(bytes, path);
    if (found === undefined) return "foreign";
    return found === keptOf(stamp) ? "done" : "other";
  } catch (error) {
    if (error instanceof FormatError) return "damaged";
    throw error;
  }
}

/** Whether all results of a picture are there. @throws ArgumentError when one would replace a picture of the user's */
async function isDone(paths: readonly string[], stamp: string, format: ResultFormat): Promise<boolean> {
  const states = await Promise.all(paths.map((path) => stateOf(path, stamp, format)));
  const foreign = states.indexOf("foreign");
  if (foreign >= 0)
    throw new ArgumentError(
      `${paths[foreign]}: this picture is not a result of such a run; --force replaces it, another --out keeps it`,
    );
  return states.every((state) => state === "done");
}

/** An error that says something of one picture and not of the job. */
const isOfPicture = (error: unknown): error is Error =>
  error instanceof FormatError ||
  error instanceof NonFiniteError ||
  (error instanceof ArgumentError && error.cause instanceof Error && "code" in error.cause);

/** Makes the results of one picture, and writes them. */
async function* makeOne(
  item: BatchItem,
  paths: readonly string[],
  stamp: string,
  { kinds, encode }: ResultFormat,
  { work, watched }: { readonly work: MakeResults; readonly watched: boolean },
): Work<void> {
  const made = yield* work(item);
  await mkdir(dirname(paths[0]!), { recursive: true });
  for (const [i, kind] of kinds.entries()) {
    const result = made[kind]!;
    await writeFileAtomic(paths[i]!, await encode(result, stamp));
    if (watched && "channels" in result) yield { type: "picture", name: kind, picture: result };
  }
}

/** Makes the results of a picture, by kind. */
export type MakeResults = (item: BatchItem) => Work<Readonly<Record<string, Result>>>;

/** Names the picture in a message that does not. */
const naming = ({ source, path }: BatchItem, { message }: Error): string =>
  message.includes(path) || message.includes(source) ? message : `${source}: ${message}`;

/**
 * Does the work for every picture whose results are not there. A picture that cannot be used is reported and passed
 * over, unless it is the only one or none can be used.
 *
 * @throws AbortError when the signal fires; what is written stays, and the picture at hand is left out
 */
export async function* runBatch(
  options: BatchOptions,
  { signal, previews = false }: ActionContext,
  work: MakeResults,
): Work<BatchResult> {
  const { image, out, shard, force, settings, kinds, formatOf } = options;
  const all = await listBatch(image, out, options);
  const items = shard === undefined ? all : partOf(all, shardOf(shard));
  const isFolder = all[0]!.path !== image || all.length > 1;
  let [done, kept] = [0, 0];
  let first: Error | undefined;
  const failed: string[] = [];
  for (const [i, item] of items.entries()) {
    try {
      if (signal?.aborted) throw new AbortError();
      const format = (await formatOf?.(item)) ?? pngFormat(kinds);
      const paths = format.kinds.map((kind) => join(out, `${item.name}-${kind}${format.ending}`));
      const stamp = await stampOf(item, settings);
      if (!force && (await isDone(paths, stamp, format))) kept++;
      else {
        yield* makeOne(item, paths, stamp, format, { work, watched: previews });
        done++;
      }
    } catch (error) {
      if (error instanceof AbortError)
        throw new AbortError(`stopped: ${done + kept} of ${items.length} pictures are done`);
      if (!isFolder || !isOfPicture(error)) throw error;
      first ??= error;
      failed.push(item.source);
      yield { type: "warning", text: naming(item, error) };
    }
    yield { type: "progress", stage: "pictures", done: i + 1, total: items.length, note: item.source };
  }
  if (first && done + kept === 0) throw first;
  return { done, kept, failed };
}

/** What came of a batch, in a sentence or three; `verb` such as "segmented". */
export function batchSummary({ done, kept, failed }: BatchResult, verb: string): string {
  const counted = (n: number): string => `${n} picture${n === 1 ? "" : "s"}`;
  const shown = failed.slice(0, 20).join(", ") + (failed.length > 20 ? ", …" : "");
  return [
    `${counted(done)} ${verb}`,
    ...(kept > 0 ? [`${counted(kept)} done before`] : []),
    ...(failed.length > 0 ? [`${counted(failed.length)} could not be used: ${shown}`] : []),
  ].join("; ");
}
