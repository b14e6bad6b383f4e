/** Looks for what makes a model file dangerous or broken. Nothing is executed, nothing is unpickled. */
import { basename, join, open, readdir, relative, stat } from "#node";
import { FormatError, TweedieError } from "../errors.ts";
import { openSafetensors } from "../io/index.ts";
import { DTYPES, type DType, elementToNumber, type HostArray } from "../tensor/index.ts";
import { resolveModelPath } from "./hub.ts";
import { readConfig } from "./model-files.ts";
import { kindOfPath, openWeights, type WeightSource } from "./weights.ts";

/** What is wrong with one file. */
export interface Finding {
  /** From the folder that was checked. */
  readonly file: string;
  /** `danger`: reading it elsewhere can run code. `broken`: it cannot be read. `note`: worth knowing. */
  readonly level: "danger" | "broken" | "note";
  readonly message: string;
}

/** What was found in a model. */
export interface CheckReport {
  readonly path: string;
  /** Files that were looked at. */
  readonly files: number;
  readonly findings: readonly Finding[];
  /** Whether there is neither danger nor breakage. */
  readonly safe: boolean;
}

/** Options of `checkModel`. */
export interface CheckOptions {
  /** Also read every value, and look for NaN and infinity. Default false. */
  readonly values?: boolean;
  readonly cacheDir?: string;
}

/** Most files of a folder that are looked at. */
const MAX_FILES = 10_000;
const HEAD_BYTES = 16;

const PICKLE_NAME = /\.(?:bin|ckpt|pt|pth|pkl|pickle|joblib|npy|npz)$/i;
const CODE_NAME = /\.(?:py|pyc|so|dll|dylib|sh|exe|bat|js|mjs)$/i;
const ZIP = [0x50, 0x4b, 0x03, 0x04];

async function headOf(path: string): Promise<Uint8Array> {
  const file = await open(path, "r");
  try {
    const head = new Uint8Array(HEAD_BYTES);
    return head.subarray(0, (await file.read(head, 0, HEAD_BYTES, 0)).bytesRead);
  } finally {
    await file.close();
  }
}

/** A pickle begins with its protocol, PyTorch's newer files are zip archives of pickles. */
const isPickle = (head: Uint8Array): boolean =>
  (head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5) || ZIP.every((byte, i) => head[i] === byte);

const isWeights = (name: string): boolean =>
  /\.safetensors$|\.safetensors\.index(?:\.[\w-]+)?\.json$/i.test(name);

function countBad(dtype: DType, data: HostArray): number {
  if (DTYPES[dtype].kind !== "float") return 0;
  let bad = 0;
  for (let i = 0; i < data.length; i++) if (!Number.isFinite(elementToNumber(dtype, data[i]!))) bad++;
  return bad;
}

async function nonFinite(source: WeightSource): Promise<string[]> {
  const found: string[] = [];
  for (const name of source.entries.keys()) {
    const { dtype, data } = await source.read(name);
    const bad = countBad(dtype, data);
    if (bad > 0) found.push(`tensor "${name}" holds ${bad} of ${data.length} values that are not finite`);
  }
  return found;
}

type Say = (level: Finding["level"], message: string) => void;

async function checkWeightFile(path: string, { values }: CheckOptions, say: Say): Promise<void> {
  const isIndex = path.endsWith(".json");
  if (!isIndex) {
    const file = await openSafetensors(path);
    await file.close();
    if (file.duplicates.length > 0)
      say("broken", `tensors are named twice: ${file.duplicates.slice(0, 5).join(", ")}`);
    if (file.entries.size === 0) say("note", "it holds no tensors");
  }
  if (!isIndex && !values) return;
  const source = await openWeights(path); // an index is compared with its shards
  try {
    if (values && !isIndex) for (const message of await nonFinite(source)) say("broken", message);
  } finally {
    await source.close();
  }
}

/** Configurations that ask diffusers to import code. */
async function checkConfig(path: string, say: Say): Promise<void> {
  const config = await readConfig(path);
  if ("auto_map" in config || "custom_pipeline" in config)
    say("danger", "it asks for code of its own (auto_map, custom_pipeline), which other programs may run");
}

async function checkFile(path: string, options: CheckOptions, say: Say): Promise<void> {
  const name = basename(path);
  if (!(await stat(path)).isFile()) return say("broken", "it is no regular file");
  if (isWeights(name)) return checkWeightFile(path, options, say);
  if (/^(?:model_index|config)\.json$/.test(name)) return checkConfig(path, say);
  if (CODE_NAME.test(name)) return say("danger", "it is a program; models need none");
  const head = await headOf(path);
  if (isPickle(head) && !/\.(?:zip|docx|jar)$/i.test(name))
    return say("danger", "it is a pickle, and reading a pickle can run any code; it is never read here");
  if (PICKLE_NAME.test(name)) say("note", "its name is that of a pickle, but its content is not");
}

async function* filesOf(path: string): AsyncGenerator<string> {
  if ((await kindOfPath(path)) === "file") return yield path;
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const inside = join(path, entry.name);
    if (entry.name === ".git" || entry.name === "node_modules") continue;
    if (entry.isDirectory()) yield* filesOf(inside);
    else yield inside;
  }
}

/**
 * Checks a file, or every file of a folder: safetensors headers and shard indexes against the bytes that are there,
 * configurations, pickles and programs by their first bytes.
 *
 * @throws {FormatError} when there is nothing at the path
 */
export async function checkModel(given: string, options: CheckOptions = {}): Promise<CheckReport> {
  const path = await resolveModelPath(given, options);
  if (!(await kindOfPath(path))) throw new FormatError(`${path}: there is no such file or folder`);
  const findings: Finding[] = [];
  let files = 0;
  for await (const file of filesOf(path)) {
    if (++files > MAX_FILES) throw new FormatError(`${path}: expected at most ${MAX_FILES} files`);
    const shown = relative(path, file) || basename(file);
    const say: Say = (level, message) => findings.push({ file: shown, level, message });
    try {
      await checkFile(file, options, say);
    } catch (error) {
      const reason = (error as Error).message.replace(`${file}: `, "");
      if (!(error instanceof TweedieError) && !("code" in (error as object))) throw error;
      say("broken", reason);
    }
  }
  return { path, files, findings, safe: findings.every(({ level }) => level === "note") };
}
