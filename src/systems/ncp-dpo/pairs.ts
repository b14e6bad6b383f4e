/** Pairs of pictures of which one was preferred: from tables, from two folders; and which of them are worth their time. */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, isAbsolute, join, relative } from "node:path";
import { listPictures, type Row, readTable } from "../../data/index.ts";
import { ArgumentError, FormatError } from "../../errors.ts";
import { decodePicture, encodePicture, writeFileAtomic } from "../../io/index.ts";
import { promptOfName } from "../inputs.ts";

/** A picture by its path, or as an encoded file. */
export type PictureSource = string | Uint8Array;

/** An answer: which of two pictures of a prompt is better. */
export interface Comparison {
  readonly prompt: string;
  readonly pictures: readonly [PictureSource, PictureSource];
  /** What tells pictures of a prompt apart. */
  readonly ids: readonly [string, string];
  /** Share of the first: 1, 0, or 0.5 for a tie. */
  readonly label: number;
}

/** A pair that can be trained on. */
export interface PreferencePair {
  readonly prompt: string;
  readonly winner: PictureSource;
  readonly loser: PictureSource;
}

/** What came of reading. */
export interface PairSet {
  readonly pairs: readonly PreferencePair[];
  /** Pairs with no winner, which teach nothing. */
  readonly ties: number;
  /** Pictures that are named and are not there: their pairs are left out. */
  readonly missing: readonly string[];
}

const field = (row: Row, ...names: readonly string[]): unknown =>
  names.map((name) => row[name]).find((value) => value !== undefined && value !== null && value !== "");

/** Begins a picture that is kept in the table itself. */
const INLINE = "data:image/png;base64,";

function sourceOf(value: unknown, folder: string, where: string): PictureSource {
  const plain = value instanceof Uint8Array ? value : ((value as { bytes?: unknown } | null)?.bytes ?? value);
  if (plain instanceof Uint8Array) return plain;
  if (typeof plain === "string" && plain.startsWith(INLINE))
    return Buffer.from(plain.slice(INLINE.length), "base64");
  if (typeof plain === "string") return isAbsolute(plain) ? plain : join(folder, plain);
  throw new FormatError(`${where}: expected the path or the bytes of a picture`);
}

const idOf = (source: PictureSource): string =>
  typeof source === "string" ? source : createHash("sha256").update(source).digest("hex");

function labelOf(row: Row, where: string): number {
  const label = field(row, "label_0", "label");
  if (label === undefined) return 1; // the first is the winner
  const share = Number(label);
  if (share === 0 || share === 0.5 || share === 1) return share;
  throw new FormatError(`${where}: expected a label of 1, 0 or 0.5, got ${JSON.stringify(label)}`);
}

/** Names that the two pictures of a row go by. The last are those of Pick-a-Pic, which keeps the files in the table. */
const NAMES = [
  ["winner", "loser"],
  ["chosen", "rejected"],
  ["jpg_0", "jpg_1"],
] as const;

function comparisonOf(row: Row, folder: string, where: string): Comparison {
  const [first, second] = NAMES.find(([one]) => field(row, one) !== undefined) ?? NAMES[0];
  const [one, other] = [field(row, first), field(row, second)];
  const prompt = field(row, "prompt", "caption");
  if (one === undefined || other === undefined || typeof prompt !== "string") {
    const names = NAMES.map((pair) => pair.join(" and ")).join(", or ");
    throw new FormatError(`${where}: expected a prompt (or caption), and the pictures as ${names}`);
  }
  const pictures = [sourceOf(one, folder, where), sourceOf(other, folder, where)] as const;
  const given = [field(row, "image_0_uid"), field(row, "image_1_uid")];
  const ids = pictures.map((source, i) => String(given[i] ?? idOf(source))) as [string, string];
  return { prompt, pictures, ids, label: labelOf(row, where) };
}

/** Answers of a table: CSV, TSV, JSON lines or Parquet. Paths are relative to it. @throws FormatError naming the row */
export async function readComparisons(path: string): Promise<Comparison[]> {
  const rows = await readTable(path);
  if (rows.length === 0) throw new FormatError(`${path}: no pairs`);
  return rows.map((row, i) => comparisonOf(row, dirname(path), `${path}: row ${i + 1}`));
}

/** The prompt of a picture without a table: a `.txt` beside it, else its name without the number at its end. */
async function promptOf(path: string): Promise<string> {
  const stem = path.slice(0, -extname(path).length || undefined);
  const text = await readFile(`${stem}.txt`, "utf8").catch(() => undefined);
  if (text !== undefined) return text.trim();
  return promptOfName(basename(path));
}

/** Answers of two folders, whose pictures belong together by name. @throws ArgumentError naming those that have no partner */
export async function comparisonsOfFolders(winners: string, losers: string): Promise<Comparison[]> {
  const [won, lost] = await Promise.all([winners, losers].map((folder) => listPictures(folder)));
  const stem = (folder: string, path: string): string => relative(folder, path).replace(/\.[^.]+$/, "");
  const partners = new Map(lost!.map((path) => [stem(losers, path), path]));
  const alone = won!.filter((path) => !partners.has(stem(winners, path)));
  if (alone.length > 0 || won!.length !== lost!.length)
    throw new ArgumentError(
      `${winners} has ${won!.length} pictures, ${losers} ${lost!.length}; they belong together by name, and without a partner are ${[
        ...alone,
        ...lost!,
      ]
        .slice(0, 5)
        .map((path) => basename(path))
        .join(", ")} …`,
    );
  return Promise.all(
    won!.map(async (path) => {
      const other = partners.get(stem(winners, path))!;
      return {
        prompt: await promptOf(path),
        pictures: [path, other] as const,
        ids: [path, other] as const,
        label: 1,
      };
    }),
  );
}

/** Pairs with their pictures as one file of JSON lines, which `readComparisons` reads anywhere. */
export async function writePairs(path: string, pairs: readonly PreferencePair[]): Promise<void> {
  const inline = async (source: PictureSource): Promise<string> => {
    const bytes = typeof source === "string" ? await readFile(source) : source;
    const picture = await decodePicture(bytes, typeof source === "string" ? { name: source } : {});
    return INLINE + Buffer.from(await encodePicture(picture)).toString("base64");
  };
  const lines: string[] = [];
  for (const { prompt, winner, loser } of pairs)
    lines.push(JSON.stringify({ prompt, winner: await inline(winner), loser: await inline(loser) }));
  await writeFileAtomic(path, Buffer.from(`${lines.join("\n")}\n`));
}

const ordered = ({ prompt, pictures: [a, b], label }: Comparison): PreferencePair =>
  label > 0.5 ? { prompt, winner: a, loser: b } : { prompt, winner: b, loser: a };

const isThere = (source: PictureSource): Promise<boolean> =>
  typeof source === "string"
    ? stat(source).then(
        () => true,
        () => false,
      )
    : Promise.resolve(true);

/** What answers give to train on. @throws ArgumentError when nothing is left */
export async function pairsOf(comparisons: readonly Comparison[], where: string): Promise<PairSet> {
  const decided = comparisons.filter(({ label }) => label !== 0.5);
  const there = await Promise.all(decided.map(async ({ pictures }) => Promise.all(pictures.map(isThere))));
  const missing = decided.flatMap(({ pictures }, i) => pictures.filter((_, k) => !there[i]![k]).map(String));
  const pairs = decided.filter((_, i) => there[i]!.every(Boolean)).map(ordered);
  const ties = comparisons.length - decided.length;
  if (pairs.length === 0)
    throw new ArgumentError(
      `${where}: no pairs to train on: of ${comparisons.length}, ${ties} are ties and ${decided.length} lack a picture${missing.length > 0 ? `, such as ${missing[0]}` : ""}`,
    );
  return { pairs, ties, missing };
}

/** Which answers are kept. */
export const SELECTIONS = ["all", "absolute", "absolute+second", "absolute+third"] as const;
/** Which answers are kept. */
export type Selection = (typeof SELECTIONS)[number];

const keyOf = (prompt: string, id: string): string => JSON.stringify([prompt, id]);

/**
 * Of each prompt's absolute winners x, which never lost or drew, the first answer x > y. A picture that wins here and loses
 * there gives gradients that cancel. With `second` also x > z, and with `third` y > z, where y was preferred to z.
 */
export function selected(comparisons: readonly Comparison[], selection: Selection): Comparison[] {
  if (selection === "all") return [...comparisons];
  const lost = new Set<string>();
  const won = new Set<string>();
  for (const { prompt, ids, label } of comparisons)
    for (const [i, id] of ids.entries()) {
      const share = i === 0 ? label : 1 - label;
      if (share < 1) lost.add(keyOf(prompt, id)); // a tie is a win and a loss for both
      if (share > 0) won.add(keyOf(prompt, id));
    }
  const seen = new Set<string>();
  const best = comparisons.filter(({ prompt, ids, label }) => {
    if (label === 0.5) return false;
    const key = keyOf(prompt, ids[label === 1 ? 0 : 1]);
    if (!won.has(key) || lost.has(key) || seen.has(key)) return false;
    seen.add(key);
    return true;
  });
  if (selection === "absolute") return best;
  const further = best.flatMap((first) => {
    const [x, y] = first.label === 1 ? [0, 1] : [1, 0];
    const next = comparisons.find(
      ({ prompt, ids, label }) =>
        prompt === first.prompt && label !== 0.5 && ids[label === 1 ? 0 : 1] === first.ids[y],
    );
    if (!next) return [];
    const z = next.label === 1 ? 1 : 0;
    const from = selection === "absolute+second" ? { of: first, at: x } : { of: next, at: 1 - z };
    return [
      {
        prompt: first.prompt,
        pictures: [from.of.pictures[from.at]!, next.pictures[z]!] as const,
        ids: [from.of.ids[from.at]!, next.ids[z]!] as const,
        label: 1,
      },
    ];
  });
  return [...best, ...further];
}
