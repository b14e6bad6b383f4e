/** Loads networks and whole pipelines from folders and single files. Everything is checked before a weight is read. */
import { dirname, join } from "node:path";
import { ArgumentError, FormatError } from "../errors.ts";
import type { Config, LoadedModel, PipelineComponents } from "./components.ts";
import type { ReadOptions } from "./load-weights.ts";
import {
  classNameOf,
  findWeights,
  kindOf,
  type ModelIndex,
  readConfig,
  readModelIndex,
  SCHEDULER_NAME,
} from "./model-files.ts";
import { loadAll, type Prepared, prepare, prepareAll } from "./prepare.ts";
import { networkClass, pipelineKind, type Role, roleOf } from "./registry.ts";
import { loadSingleFile, loadSingleModel, type SingleFileOptions } from "./single-file.ts";
import { readTokenizer } from "./tokenizer-files.ts";
import { openWeights } from "./weights.ts";

export interface LoadModelOptions extends ReadOptions {
  /** Variant of the weights, such as "fp16". */
  readonly variant?: string;
}

export interface LoadPipelineOptions extends LoadModelOptions, SingleFileOptions {}

/** A network's folder: `config.json` and weights. The class is that of the configuration, else `className`. */
async function prepareFolder(folder: string, variant?: string, className?: string): Promise<Prepared> {
  const path = join(folder, "config.json");
  const config = await readConfig(path);
  const name = className ?? classNameOf(config);
  networkClass(name, path); // before the weights are looked for, so that the message is about the class
  const source = await openWeights(await findWeights(folder, variant));
  return prepare(name, config, source, path);
}

/**
 * Loads one network: a folder with `config.json` and weights, a weight file with its `config.json` beside it, or an
 * original single file of an autoencoder or a ControlNet. All or nothing.
 *
 * @throws {FormatError | ArgumentError} when a file is malformed or missing, the class is unknown, the configuration
 *   cannot be, or names and shapes differ from what it asks for (listed)
 */
export async function loadModel(path: string, options: LoadPipelineOptions = {}): Promise<LoadedModel> {
  const kind = await kindOf(path);
  if (kind === "pipeline")
    throw new ArgumentError(
      `${path}: this is a whole pipeline: give the folder of one network in it, such as ${join(path, "unet")}`,
    );
  if (kind === "file") {
    const single = await loadSingleModel(path, options);
    if (single) return single;
    const config = await readConfig(join(dirname(path), "config.json"));
    const prepared = await prepare(classNameOf(config), config, await openWeights(path), path);
    return finish(prepared, options);
  }
  return finish(await prepareFolder(path, options.variant), options);
}

async function finish(prepared: Prepared, options: ReadOptions): Promise<LoadedModel> {
  return (await loadAll(new Map([["model", prepared]]), options)).get("model")!;
}

/**
 * Loads a pipeline: a folder with `model_index.json`, or a single file with the names of the original code. All or
 * nothing: every component is checked before the first weight is read.
 *
 * @throws {FormatError | ArgumentError} as {@link loadModel}
 */
export async function loadPipelineComponents(
  path: string,
  options: LoadPipelineOptions = {},
): Promise<PipelineComponents> {
  switch (await kindOf(path)) {
    case "pipeline":
      return loadFolder(path, options);
    case "file":
      return loadSingleFile(path, options);
    case "model":
      throw new ArgumentError(
        `${path}: this is one network, not a pipeline: a pipeline's folder holds model_index.json`,
      );
    default:
      throw new FormatError(
        `${path}: expected a folder with model_index.json, or a single .safetensors file; found neither`,
      );
  }
}

/** Components of the index that play a role, in the order of their names (`text_encoder` before `text_encoder_2`). */
function componentsOf(index: ModelIndex, where: string): Map<Role, [name: string, className: string][]> {
  const byRole = new Map<Role, [string, string][]>();
  for (const [name, className] of [...index.components].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const role = roleOf(name, where);
    byRole.set(role, [...(byRole.get(role) ?? []), [name, className]]);
  }
  return byRole;
}

const NETWORK_ROLES: readonly Role[] = ["unet", "transformer", "vae", "textEncoder"];

async function loadFolder(folder: string, options: LoadPipelineOptions): Promise<PipelineComponents> {
  const index = await readModelIndex(folder);
  const where = join(folder, "model_index.json");
  const kind = pipelineKind(index.className, where);
  const byRole = componentsOf(index, where);
  const of = (role: Role) => byRole.get(role) ?? [];
  const networks = NETWORK_ROLES.flatMap(of);
  for (const [name, className] of networks) networkClass(className, `${where}: component "${name}"`);
  if (of("unet").length + of("transformer").length !== 1)
    throw new FormatError(
      `${where}: expected a component "unet" or "transformer", got ${[...index.components.keys()].join(", ")}`,
    );

  const scheduler = await readConfig(join(folder, of("scheduler")[0]?.[0] ?? "scheduler", SCHEDULER_NAME));
  const tokenizers = await Promise.all(of("tokenizer").map(([name]) => readTokenizer(join(folder, name))));
  const prepared = await prepareAll(
    new Map(
      networks.map(([name, className]): [string, () => Promise<Prepared>] => [
        name,
        () => prepareFolder(join(folder, name), options.variant, className),
      ]),
    ),
  );
  const loaded = await loadAll(prepared, options);
  const first = (role: Role): LoadedModel | undefined => of(role).map(([name]) => loaded.get(name)!)[0];
  return {
    kind,
    className: index.className,
    path: folder,
    unet: first("unet"),
    transformer: first("transformer"),
    vae: first("vae"),
    textEncoders: of("textEncoder").map(([name]) => loaded.get(name)!),
    tokenizers,
    scheduler,
    labels: labelsOf(index.config),
  };
}

/** Names of classes, as `id2label` of the index gives them. */
function labelsOf({ id2label }: Config): Map<number, string> | undefined {
  if (typeof id2label !== "object" || id2label === null) return undefined;
  const pairs = Object.entries(id2label).map(([id, label]): [number, string] => [Number(id), String(label)]);
  return new Map(pairs.filter(([id]) => Number.isInteger(id)));
}
