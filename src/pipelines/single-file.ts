/** Single files with the names of the original code: checkpoints as A1111 reads them, autoencoders, ControlNets. */
import { dirname, join } from "#node";
import { ArgumentError, FormatError } from "../errors.ts";
import type { Config, TokenizerFiles } from "./components.ts";
import { detectFile, type FileKind } from "./detect.ts";
import { isUnused, type Place, textPlaces, unetPlace, vaePlace } from "./key-maps/layouts.ts";
import { refuse } from "./load-weights.ts";
import { classNameOf, readConfigIfThere, SCHEDULER_NAME } from "./model-files.ts";
import type { OpenNetwork, OpenPipeline } from "./open-pipeline.ts";
import { classOf, type OriginalKind, openOriginal } from "./original/open.ts";
import { FAMILIES, type Family, type FamilyConfigs } from "./original-configs.ts";
import { pipelineKind } from "./registry.ts";
import { readTokenizer } from "./tokenizer-files.ts";
import { kindOfPath, openWeights, renamed, type WeightSource } from "./weights.ts";

/** What a single file does not say. */
export interface SingleFileOptions {
  /** The family, for files of unusual size; default: told by the file's names and shapes. */
  readonly family?: Family;
  /** Folder in diffusers' layout whose configurations and tokenizers are taken instead of the family's. */
  readonly base?: string;
  /** Tokenizer: a folder, or a `merges.txt`; one for all text encoders. */
  readonly tokenizer?: string;
  /** What the denoiser predicts; default: the family's, v for SD2. */
  readonly predictionType?: "epsilon" | "v_prediction" | "sample";
  /** Configuration of a lone network; for DiT, ViT, MAE and TAESD what of it the shapes do not tell, or tell wrongly. */
  readonly config?: Config;
  /** File of the other half of a tiny autoencoder; default: the one beside it, by its name. */
  readonly pair?: string;
}

/** A component of a single file, by the name of its folder in diffusers' layout. */
export interface Part {
  readonly config: Config;
  readonly place: Place;
}

type Checkpoint = Extract<FileKind, { kind: "checkpoint" }>;

/** Configurations of a checkpoint: of the base folder where it has them, else of the family. */
export async function configsOf(
  { family, inChannels }: Checkpoint,
  base: string | undefined,
): Promise<FamilyConfigs> {
  const known = FAMILIES[family];
  const own = async (name: string, config: Config, file = "config.json"): Promise<Config> =>
    (base !== undefined && (await readConfigIfThere(join(base, name, file)))) || config;
  const [index] = base === undefined ? [] : [await readConfigIfThere(join(base, "model_index.json"))];
  const textNames = ["text_encoder", "text_encoder_2"];
  return {
    pipeline: (index && classNameOf(index)) ?? known.pipeline,
    unet: await own("unet", { ...known.unet, in_channels: inChannels }),
    vae: await own("vae", known.vae),
    scheduler: await own("scheduler", known.scheduler, SCHEDULER_NAME),
    textEncoders: await Promise.all(known.textEncoders.map((config, i) => own(textNames[i]!, config))),
  };
}

/** The parts of a checkpoint, by component. */
export function partsOf(family: Family, configs: FamilyConfigs): Map<string, Part> {
  const text = textPlaces(family, configs.textEncoders).map((place, i): [string, Part] => [
    i === 0 ? "text_encoder" : `text_encoder_${i + 1}`,
    { config: configs.textEncoders[i]!, place },
  ]);
  return new Map<string, Part>([
    ["unet", { config: configs.unet, place: unetPlace(configs.unet) }],
    ["vae", { config: configs.vae, place: vaePlace(configs.vae) }],
    ...text,
  ]);
}

/**
 * Every part under diffusers' names but those that are given `apart`, which may be there or not. @throws {FormatError}
 * listing names that belong to no part, and parts that are not there
 */
export function splitCheckpoint(
  source: WeightSource,
  parts: ReadonlyMap<string, Part>,
  apart: ReadonlySet<string> = new Set(),
): Map<string, WeightSource> {
  const split = new Map<string, WeightSource>();
  const layers = Number(parts.get("text_encoder")?.config.num_hidden_layers ?? 0);
  const problems: string[] = [];
  const claimed: string[] = [];
  for (const [name, { place }] of parts) {
    claimed.push(`${place.prefix}.`);
    if (apart.has(name)) continue;
    const part = renamed(source, { rules: place.rules, to: "diffusers", from: place.prefix });
    split.set(name, part);
    if (part.entries.size === 0)
      problems.push(`missing ${name}: expected tensors below "${place.prefix}"${elsewhere(name)}`);
    problems.push(...part.unknown.filter((n) => !isUnused(n, layers)).map((n) => `unexpected "${n}"`));
  }
  for (const name of source.entries.keys())
    if (!claimed.some((prefix) => name.startsWith(prefix)) && !isUnused(name, layers))
      problems.push(`unexpected "${name}"`);
  refuse(source.path, `the layout of ${[...parts.keys()].join(", ")}`, problems);
  return split;
}

/** What to do about a part that is not there. */
const elsewhere = (name: string): string =>
  name === "unet" ? "" : `, or one from elsewhere (--${name === "vae" ? name : "text-encoder"})`;

/** What the file itself says of the prediction: by a marker tensor, or by metadata of the model-spec standard. */
function saidPrediction(source: WeightSource): string | undefined {
  const said = source.metadata.get("modelspec.prediction_type");
  if (source.entries.has("v_pred") || said === "v") return "v_prediction";
  return said === "epsilon" ? "epsilon" : undefined;
}

/** Training steps of Stable Diffusion 2's base model, the one of its family that predicts noise; as diffusers tells it. */
const SD2_BASE_STEPS = 875_000;

/** What models of a family predict that say nothing. */
async function usualPrediction(source: WeightSource, { family, inChannels }: Checkpoint): Promise<string> {
  if (family !== "sd2" || inChannels !== 4) return "epsilon";
  const steps = source.entries.has("global_step") ? (await source.read("global_step")).data[0] : undefined;
  return Number(steps) === SD2_BASE_STEPS ? "epsilon" : "v_prediction";
}

async function schedulerOf(
  source: WeightSource,
  kind: Checkpoint,
  configs: FamilyConfigs,
  { predictionType, base }: SingleFileOptions,
): Promise<Config> {
  const said = predictionType ?? saidPrediction(source);
  const type = said ?? (base === undefined ? await usualPrediction(source, kind) : undefined);
  return {
    ...configs.scheduler,
    ...(type !== undefined && { prediction_type: type }),
    ...(source.entries.has("ztsnr") && { rescale_betas_zero_snr: true }),
  };
}

/** Opens a whole checkpoint. @throws {FormatError | ArgumentError} when it is none, saying what it is */
export async function openSingleFile(
  path: string,
  options: SingleFileOptions,
  apart?: ReadonlySet<string>,
): Promise<OpenPipeline> {
  const source = await openWeights(path);
  try {
    const kind = detectFile(source, options.family);
    if (kind.kind !== "checkpoint") throw new ArgumentError(`${path}: ${notAPipeline(kind)}`);
    const configs = await configsOf(kind, options.base);
    const parts = partsOf(kind.family, configs);
    const split = splitCheckpoint(source, parts, apart);
    const networks = new Map<string, OpenNetwork>();
    for (const [name, weights] of split) {
      const { config } = parts.get(name)!;
      networks.set(name, { className: classNameOf(config)!, config, weights, where: `${path} (${name})` });
    }
    return {
      kind: pipelineKind(configs.pipeline, path),
      className: configs.pipeline,
      path,
      networks,
      tokenizers: await tokenizersOf(path, configs, options),
      scheduler: await schedulerOf(source, kind, configs, options),
      metadata: source.metadata,
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

const WHAT = {
  vae: "an autoencoder",
  controlnet: "a ControlNet",
  dit: "a DiT",
  vit: "a vision transformer",
  mae: "a masked autoencoder",
  guided: "a network of guided-diffusion",
  taesd: "a tiny autoencoder",
} as const;

function notAPipeline(kind: Exclude<FileKind, Checkpoint>): string {
  const what = kind.kind === "diffusers" ? kind.what : WHAT[kind.kind];
  return `this file holds ${what} and not a pipeline: loadModel reads it`;
}

/** Tokenizers: the one asked for, those of the base folder, or those that lie beside the file; else none. */
async function tokenizersOf(
  path: string,
  { textEncoders }: FamilyConfigs,
  { tokenizer, base }: SingleFileOptions,
): Promise<TokenizerFiles[]> {
  if (tokenizer !== undefined && !(await kindOfPath(tokenizer)))
    throw new FormatError(`${tokenizer}: expected a tokenizer's folder or merges.txt, found nothing there`);
  const beside = dirname(path);
  const found: TokenizerFiles[] = [];
  for (const name of ["tokenizer", "tokenizer_2"].slice(0, textEncoders.length)) {
    const folders = [...(base === undefined ? [] : [join(base, name)]), join(beside, name)];
    const own = await firstTokenizer(tokenizer === undefined ? folders : []);
    const shared = own
      ? undefined
      : (found[0] ?? (await firstTokenizer([tokenizer ?? join(beside, "merges.txt")])));
    const files = own ?? shared;
    // SDXL's second tokenizer is the first but for its padding.
    if (files) found.push(own || name === "tokenizer" ? files : padded(files));
  }
  return found;
}

async function firstTokenizer(paths: readonly string[]): Promise<TokenizerFiles | undefined> {
  for (const path of paths) if (await kindOfPath(path)) return readTokenizer(path);
  return undefined;
}

const padded = (files: TokenizerFiles): TokenizerFiles => ({
  ...files,
  config: { ...files.config, pad_token: "!" },
});

/** The configuration that is given, or that lies beside the file and is of this class. */
async function toldConfig(path: string, kind: OriginalKind, given?: Config): Promise<Config | undefined> {
  if (given) return given;
  const beside = await readConfigIfThere(join(dirname(path), "config.json"));
  return beside && classNameOf(beside) === classOf(kind) ? beside : undefined;
}

/** Opens a file of one network with its authors' names; undefined for a network of diffusers. */
export async function openSingleModel(
  path: string,
  options: SingleFileOptions,
): Promise<OpenNetwork | undefined> {
  const source = await openWeights(path);
  try {
    const kind = detectFile(source, options.family);
    if (kind.kind === "diffusers") {
      await source.close();
      return undefined;
    }
    if (kind.kind === "checkpoint")
      throw new ArgumentError(`${path}: this is a whole pipeline: loadPipelineComponents reads it`);
    const config = await toldConfig(path, kind, options.config);
    const { className, unknown, ...rest } = await openOriginal(source, kind, { ...options, config });
    const strangers = unknown.filter((name) => !isUnused(name, 0));
    refuse(
      path,
      `the layout of ${className}`,
      strangers.map((name) => `unexpected "${name}"`),
    );
    const close = async (): Promise<void> => {
      await rest.weights.close();
      await source.close();
    };
    return { className, config: rest.config, where: path, weights: { ...rest.weights, close } };
  } catch (error) {
    await source.close();
    throw error;
  }
}
