/** Folders in diffusers' layout: `model_index.json`, a folder per component, each with a configuration and weights. */
import { basename, join, readdir, stat } from "#node";
import { CONVERT_RECIPE, disguiseHint, MAGIC_BYTES } from "../disguise.ts";
import { FormatError } from "../errors.ts";
import { readFileBytes } from "../io/read-bytes.ts";
import type { Config } from "./components.ts";
import { kindOfPath } from "./weights.ts";

/** Largest JSON file that is read, in bytes: vocabularies have a few million. */
const MAX_JSON_BYTES = 50_000_000;

export const INDEX_NAME = "model_index.json";
export const SCHEDULER_NAME = "scheduler_config.json";
/** Weight files without ending: those of diffusers' networks and of transformers'. */
export const WEIGHT_NAMES = ["diffusion_pytorch_model", "model"] as const;

/** Endings of files with weights that can run code when they are read, or are of other frameworks. */
const OTHER_WEIGHTS = /\.(?:bin|ckpt|pt|pth|pkl|msgpack|h5|onnx|gguf)$/i;
/** Variants that are only weights of another width, which are taken when there is nothing else. */
const WIDTHS = ["fp16", "bf16", "fp32"];

/** Reads a text file of bounded size. @throws {FormatError} when it is missing or larger */
export async function readText(path: string): Promise<string> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT" && error.code !== "ENOTDIR") throw error;
    throw new FormatError(`${path}: expected a file, found none`, { cause: error });
  });
  if (!found.isFile()) throw new FormatError(`${path}: expected a file, found a folder`);
  const { size } = found;
  if (size > MAX_JSON_BYTES)
    throw new FormatError(`${path}: expected at most ${MAX_JSON_BYTES} bytes, got ${size}`);
  return new TextDecoder().decode(await readFileBytes(path));
}

/** Reads a JSON object. @throws {FormatError} for anything else, saying what it looks like */
export async function readConfig(path: string): Promise<Config> {
  const text = await readText(path);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const hint = disguiseHint(new TextEncoder().encode(text.slice(0, MAGIC_BYTES)));
    throw new FormatError(`${path}: expected JSON, but its text does not parse${hint}`, { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new FormatError(`${path}: expected a JSON object, got ${JSON.stringify(value)?.slice(0, 40)}`);
  return value as Config;
}

/** A configuration when it is there. */
export async function readConfigIfThere(path: string): Promise<Config | undefined> {
  return (await kindOfPath(path)) === "file" ? readConfig(path) : undefined;
}

/** The class that a configuration says it is of: `_class_name`, or the first of `architectures`. */
export function classNameOf(config: Config): string | undefined {
  const { _class_name: name, architectures } = config;
  const [first] = Array.isArray(architectures) ? architectures : [];
  return typeof name === "string" ? name : typeof first === "string" ? first : undefined;
}

/** What `model_index.json` says. */
export interface ModelIndex {
  readonly className: string;
  /** Class of each component; components that are `[null, null]` are left out. */
  readonly components: ReadonlyMap<string, string>;
  readonly config: Config;
}

/** Reads `model_index.json`. @throws {FormatError} when it is malformed */
export async function readModelIndex(folder: string): Promise<ModelIndex> {
  const path = join(folder, INDEX_NAME);
  const config = await readConfig(path);
  const { _class_name: className } = config;
  if (typeof className !== "string")
    throw new FormatError(`${path}: expected a string "_class_name", got ${typeof className}`);
  const components = new Map<string, string>();
  for (const [name, value] of Object.entries(config)) {
    if (!Array.isArray(value) || value.length !== 2) continue;
    const [library, component] = value as unknown[];
    if (library === null && component === null) continue;
    if (typeof component !== "string")
      throw new FormatError(
        `${path}: component "${name}": expected [library, class], got ${JSON.stringify(value)}`,
      );
    if (!/^[a-z0-9_]+$/.test(name))
      throw new FormatError(`${path}: expected a folder's name for a component, got ${JSON.stringify(name)}`);
    components.set(name, component);
  }
  return { className, components, config };
}

/** The names that weights of a variant may have, the usual one first. */
const namesOf = (base: string, variant: string | undefined): string[] =>
  variant === undefined
    ? [`${base}.safetensors`, `${base}.safetensors.index.json`]
    : [
        `${base}.${variant}.safetensors`,
        `${base}.safetensors.index.${variant}.json`,
        `${base}.${variant}.safetensors.index.json`,
      ];

/**
 * The weights in a component's folder: one file, or the index of shards. The variant is preferred; without one, the
 * plain file, then one of another width (fp16).
 *
 * @throws {FormatError} when there are none, naming what is there instead
 */
export async function findWeights(folder: string, variant?: string): Promise<string> {
  let files: string[];
  try {
    files = (await readdir(folder)).sort();
  } catch (error) {
    throw new FormatError(`${folder}: expected a folder with weights`, { cause: error });
  }
  const there = new Set(files);
  const variants = [...(variant === undefined ? [] : [variant]), undefined, ...WIDTHS];
  for (const wanted of variants)
    for (const base of WEIGHT_NAMES)
      for (const name of namesOf(base, wanted)) if (there.has(name)) return join(folder, name);
  const lone = files.filter((name) => name.endsWith(".safetensors"));
  if (lone.length === 1 && variant === undefined) return join(folder, lone[0]!);
  throw new FormatError(`${folder}: ${whyNoWeights(files)}`);
}

function whyNoWeights(files: readonly string[]): string {
  const expected = `expected ${WEIGHT_NAMES.map((name) => `${name}.safetensors`).join(" or ")}`;
  const others = files.filter((name) => OTHER_WEIGHTS.test(name));
  if (others.length === 0) return `${expected}, found ${files.slice(0, 8).join(", ") || "an empty folder"}`;
  return (
    `${expected}, found ${others.slice(0, 4).join(", ")}, which is never read here: loading a pickle can run any code. ` +
    `Download the .safetensors files of the model (most are published in both forms), or convert it once with ` +
    `PyTorch: ${CONVERT_RECIPE}`
  );
}

/** What a path holds. */
export type PathKind =
  /** A pipeline: a folder with `model_index.json`. */
  | "pipeline"
  /** One network: a folder with `config.json`. */
  | "model"
  /** A folder of neither kind. */
  | "folder"
  /** A file, such as a single-file checkpoint. */
  | "file";

/** Tells pipelines, networks and files apart. @throws {FormatError} when nothing is there */
export async function kindOf(path: string): Promise<PathKind> {
  const kind = await kindOfPath(path);
  if (kind === undefined)
    throw new FormatError(
      `${path}: there is no such file or folder (a model of the Hugging Face hub is written hub:${basename(path) === path ? "owner/name" : path})`,
    );
  if (kind === "file") return "file";
  if ((await kindOfPath(join(path, INDEX_NAME))) === "file") return "pipeline";
  return (await kindOfPath(join(path, "config.json"))) === "file" ? "model" : "folder";
}
