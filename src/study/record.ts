/** Files of a study's cells: what was made, of what, when, where; with a checksum, so that damage is seen. */
import { readFile } from "node:fs/promises";
import { availableParallelism, cpus } from "node:os";
import manifest from "../../package.json" with { type: "json" };
import { ArgumentError } from "../errors.ts";
import { writeFileAtomic } from "../io/index.ts";
import { fingerprint } from "./fingerprint.ts";

/** Where numbers were made. */
export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly node: string;
}

/** Where a cell comes from. */
export interface Provenance {
  readonly name: string;
  /** Fingerprint of everything that decides it. */
  readonly id: string;
  /** When it was made, in ISO 8601: not when it was asked for again. */
  readonly date: string;
  readonly machine: Machine;
  /** Such as "0.1.0, study version 2". */
  readonly code: string;
}

export interface CellRecord extends Provenance {
  readonly given: string;
  readonly from: readonly string[];
  /** What was measured, encoded; or the fingerprint of the model's file. */
  readonly content: unknown;
}

/** This machine. */
export const thisMachine = (): Machine => ({
  processor: cpus()[0]?.model.trim() || "unknown processor",
  cores: availableParallelism(),
  node: process.versions.node,
});

/** The code that runs, with a study's version. */
export const codeVersion = (version: number): string => `${manifest.version}, study version ${version}`;

/** Name of the only field of a number that JSON does not know. */
const NUMBER = "$number";

/** Plain data as JSON keeps it: numbers that are not finite as { "number": "NaN" }. */
export function encoded(value: unknown, path: string): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) return { [NUMBER]: String(value) };
  if (value === null || ["string", "number", "boolean"].includes(typeof value)) return value;
  if (Array.isArray(value)) return value.map((item, i) => encoded(item, `${path}[${i}]`));
  if (typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    return Object.fromEntries(fields.map(([name, field]) => [name, encoded(field, `${path}.${name}`)]));
  }
  throw new ArgumentError(
    `study: ${path} cannot be kept as JSON; expected numbers, texts, lists and objects`,
  );
}

/** The inverse of `encoded`. */
export function decoded(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(decoded);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value);
  const [first] = entries;
  if (entries.length === 1 && first![0] === NUMBER && typeof first![1] === "string") return Number(first![1]);
  return Object.fromEntries(entries.map(([name, field]) => [name, decoded(field)]));
}

export const writeRecord = (path: string, record: CellRecord): Promise<void> =>
  writeFileAtomic(
    path,
    Buffer.from(`${JSON.stringify({ ...record, check: fingerprint(record) }, null, 1)}\n`),
  );

/** A record that is whole and of this cell; "damaged" when something else is there; undefined when nothing is. */
export async function readRecord(path: string, id: string): Promise<CellRecord | "damaged" | undefined> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  try {
    const { check, ...record } = JSON.parse(text) as CellRecord & { check: string };
    return check === fingerprint(record) && record.id === id ? record : "damaged";
  } catch {
    return "damaged";
  }
}
