/** A pipeline that has been looked at but not read: its configurations, and its weights under diffusers' names. */
import { join } from "#node";
import { FormatError } from "../errors.ts";
import { COUNT, Fields, NUMBER } from "../io/fields.ts";
import type { Config, PipelineDefaults, PipelineKind, TokenizerFiles } from "./components.ts";
import {
  classNameOf,
  findWeights,
  INDEX_NAME,
  type ModelIndex,
  readConfig,
  readModelIndex,
  SCHEDULER_NAME,
} from "./model-files.ts";
import { networkClass, pipelineKind, type Role, roleOf } from "./registry.ts";
import { readTokenizer } from "./tokenizer-files.ts";
import { openWeights, selected, type WeightSource } from "./weights.ts";

/** A network's class, configuration and weights. */
export interface OpenNetwork {
  readonly className: string;
  readonly config: Config;
  readonly weights: WeightSource;
  /** Where it came from, for messages. */
  readonly where: string;
}

export interface OpenPipeline {
  readonly kind: PipelineKind;
  readonly className: string;
  readonly path: string;
  /** By the name of the component's folder, such as `text_encoder_2`. */
  readonly networks: ReadonlyMap<string, OpenNetwork>;
  readonly tokenizers: readonly TokenizerFiles[];
  readonly scheduler: Config;
  readonly labels?: ReadonlyMap<number, string>;
  /** See `PipelineComponents`. */
  readonly defaults?: PipelineDefaults;
  readonly zerosForEmptyPrompt?: boolean;
  readonly metadata: ReadonlyMap<string, string>;
  close(): Promise<void>;
}

/** Weights whose older names are those of today. */
function modern(source: WeightSource, className: string, where: string): WeightSource {
  const { modernName } = networkClass(className, where);
  return modernName ? { ...selected(source, modernName), close: () => source.close() } : source;
}

/** A network from a configuration and the path of its weights. */
export async function openNetwork(
  config: Config,
  weights: string,
  where: string,
  className = classNameOf(config),
): Promise<OpenNetwork> {
  networkClass(className, where);
  return {
    className: className!,
    config,
    where,
    weights: modern(await openWeights(weights), className!, where),
  };
}

/**
 * Opens a network's folder: `config.json` and weights.
 *
 * @param className the class that `model_index.json` gives; default: the configuration's own
 */
export async function openNetworkFolder(
  folder: string,
  variant?: string,
  className?: string,
): Promise<OpenNetwork> {
  const path = join(folder, "config.json");
  const config = await readConfig(path);
  networkClass(className ?? classNameOf(config), path); // before the weights are looked for: the message is about the class
  return openNetwork(config, await findWeights(folder, variant), path, className);
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

/** Networks that pictures cannot be made without, by kind. */
const NEEDED: Readonly<Record<PipelineKind, readonly Role[]>> = {
  sd: ["vae", "textEncoder"],
  sdxl: ["vae", "textEncoder"],
  dit: ["vae"],
  unconditional: [],
};

/** @throws {FormatError} for a network that is neither in the index nor given apart, or given to a model of pixels */
function checkNeeded(
  kind: PipelineKind,
  found: (role: Role) => readonly unknown[],
  apart: ReadonlySet<string>,
  where: string,
): void {
  const options = { vae: "vae", textEncoder: "text_encoder" } as const;
  for (const [role, name] of Object.entries(options) as ["vae" | "textEncoder", string][])
    if (NEEDED[kind].includes(role) && found(role).length === 0 && !apart.has(name))
      throw new FormatError(
        `${where}: expected a component "${name}", or one from elsewhere (--${name.replace("_", "-")})`,
      );
  if (kind === "unconditional" && apart.has("vae") && found("vae").length === 0)
    throw new FormatError(
      `${where}: the model makes pixels and has no autoencoder that another could replace`,
    );
}

/**
 * Opens a folder with `model_index.json`, but for the components that are given `apart`. Every class is looked up before
 * the first file is opened.
 */
export async function openPipelineFolder(
  folder: string,
  variant?: string,
  apart: ReadonlySet<string> = new Set(),
): Promise<OpenPipeline> {
  const index = await readModelIndex(folder);
  const where = join(folder, INDEX_NAME);
  const kind = pipelineKind(index.className, where);
  const byRole = componentsOf(index, where);
  const of = (role: Role) => byRole.get(role) ?? [];
  checkNeeded(kind, of, apart, where);
  const own = NETWORK_ROLES.flatMap(of).filter(
    ([name]) => !apart.has(name) && !(apart.has("vae") && roleOf(name, where) === "vae"),
  );
  for (const [name, className] of own) networkClass(className, `${where}: component "${name}"`);
  if (of("unet").length + of("transformer").length !== 1)
    throw new FormatError(
      `${where}: expected a component "unet" or "transformer", got ${[...index.components.keys()].join(", ")}`,
    );
  const schedulerFolder = of("scheduler")[0]?.[0] ?? "scheduler";
  const scheduler = await readConfig(join(folder, schedulerFolder, SCHEDULER_NAME));
  const tokenizers = await Promise.all(of("tokenizer").map(([name]) => readTokenizer(join(folder, name))));
  const networks = new Map<string, OpenNetwork>();
  const close = async (): Promise<void> => {
    for (const { weights } of networks.values()) await weights.close();
  };
  try {
    for (const [name, className] of own)
      networks.set(name, await openNetworkFolder(join(folder, name), variant, className));
  } catch (error) {
    await close();
    throw error;
  }
  const labels = labelsOf(index.config);
  const { className } = index;
  const metadata = new Map<string, string>();
  const zerosForEmptyPrompt = index.config.force_zeros_for_empty_prompt !== false;
  const defaults = defaultsOf(index.config);
  const rest = { labels, zerosForEmptyPrompt, metadata, close, ...(defaults && { defaults }) };
  return { kind, className, path: folder, networks, tokenizers, scheduler, ...rest };
}

/** @throws {FormatError} for steps or a guidance that cannot be */
function defaultsOf(config: Config): PipelineDefaults | undefined {
  const fields = new Fields(INDEX_NAME, config);
  const [steps, guidance] = [
    fields.optional("num_inference_steps", COUNT),
    fields.optional("guidance_scale", NUMBER),
  ];
  if (steps === undefined && guidance === undefined) return undefined;
  return { ...(steps !== undefined && { steps }), ...(guidance !== undefined && { guidance }) };
}

/** Names of classes, as `id2label` of the index gives them. */
function labelsOf({ id2label }: Config): Map<number, string> | undefined {
  if (typeof id2label !== "object" || id2label === null) return undefined;
  const pairs = Object.entries(id2label).map(([id, label]): [number, string] => [Number(id), String(label)]);
  return new Map(pairs.filter(([id]) => Number.isInteger(id)));
}
