/** Loads networks and whole pipelines from folders and single files. Everything is checked before a weight is read. */
import { dirname, join } from "#node";
import { ArgumentError, FormatError } from "../errors.ts";
import { loadNetworks } from "./build-network.ts";
import type { LoadedModel, PipelineComponents } from "./components.ts";
import { type HubOptions, resolveModelPath } from "./hub.ts";
import type { ReadOptions } from "./load-weights.ts";
import { INDEX_NAME, kindOf, readConfig } from "./model-files.ts";
import {
  type OpenNetwork,
  type OpenPipeline,
  openNetwork,
  openNetworkFolder,
  openPipelineFolder,
} from "./open-pipeline.ts";
import { type PartOptions, partsApart, withPartsApart } from "./parts-apart.ts";
import { openSingleFile, openSingleModel, type SingleFileOptions } from "./single-file.ts";

/** Which files are meant, where there is a choice. */
export interface OpenOptions extends SingleFileOptions, HubOptions, PartOptions {
  /** Variant of the weights, such as "fp16". */
  readonly variant?: string;
}

export interface LoadOptions extends OpenOptions, ReadOptions {}

/** Looks at a network without reading its weights; see {@link loadModel}. Close its weights when done. */
export async function openModel(given: string, options: OpenOptions = {}): Promise<OpenNetwork> {
  const path = await resolveModelPath(given, options);
  switch (await kindOf(path)) {
    case "pipeline":
      throw new ArgumentError(
        `${path}: this is a whole pipeline: give the folder of one network in it, such as ${join(path, "unet")}`,
      );
    case "file": {
      const single = await openSingleModel(path, options);
      if (single) return single;
      const config = options.config ?? (await readConfig(join(dirname(path), "config.json")));
      return openNetwork(config, path, path);
    }
    default:
      return openNetworkFolder(path, options.variant);
  }
}

/**
 * Looks at a pipeline without reading its weights; see {@link loadPipelineComponents}. Networks that `vae` and
 * `textEncoders` name need not be in it. Close it when done.
 */
export async function openPipeline(given: string, options: OpenOptions = {}): Promise<OpenPipeline> {
  const apart = partsApart(options);
  const own = await openOwn(given, options, new Set(apart.keys()));
  if (apart.size === 0) return own;
  try {
    return await withPartsApart(own, apart, (path, part) => openModel(path, { ...options, ...part }));
  } catch (error) {
    await own.close();
    throw error;
  }
}

/** What the pipeline brings itself, but for the networks that are given apart. */
async function openOwn(
  given: string,
  options: OpenOptions,
  apart: ReadonlySet<string>,
): Promise<OpenPipeline> {
  const path = await resolveModelPath(given, options);
  switch (await kindOf(path)) {
    case "pipeline":
      return openPipelineFolder(path, options.variant, apart);
    case "file":
      return openSingleFile(path, options, apart);
    case "model":
      throw new ArgumentError(
        `${path}: this is one network, not a pipeline: a pipeline's folder holds ${INDEX_NAME}`,
      );
    default:
      throw new FormatError(
        `${path}: expected a folder with ${INDEX_NAME}, or a single .safetensors file; found neither`,
      );
  }
}

/**
 * Loads one network: a folder with `config.json` and weights, a weight file with its `config.json` beside it, or an
 * original single file of an autoencoder or a ControlNet; also `hub:owner/name/folder`. All or nothing.
 *
 * @throws {FormatError | ArgumentError} when a file is malformed or missing, the class is unknown, the configuration
 *   cannot be, or names and shapes differ from what it asks for (listed)
 */
export async function loadModel(path: string, options: LoadOptions = {}): Promise<LoadedModel> {
  const network = await openModel(path, options);
  try {
    return (await loadNetworks(new Map([["model", network]]), options)).get("model")!;
  } finally {
    await network.weights.close();
  }
}

/**
 * Loads a pipeline: a folder with `model_index.json`, or a single file with the names of the original code; also
 * `hub:owner/name`, from the cache or (with `download`) the Hugging Face hub. All or nothing: every component is checked
 * before the first weight is read.
 *
 * @throws {FormatError | ArgumentError} as {@link loadModel}
 */
export async function loadPipelineComponents(
  path: string,
  options: LoadOptions = {},
): Promise<PipelineComponents> {
  const pipeline = await openPipeline(path, options);
  try {
    return componentsOf(pipeline, await loadNetworks(pipeline.networks, options));
  } finally {
    await pipeline.close();
  }
}

function componentsOf(
  { kind, className, path, tokenizers, scheduler, labels, zerosForEmptyPrompt, defaults }: OpenPipeline,
  loaded: ReadonlyMap<string, LoadedModel>,
): PipelineComponents {
  const textEncoders = ["text_encoder", "text_encoder_2"].flatMap((name) => loaded.get(name) ?? []);
  const unet = loaded.get("unet");
  const transformer = loaded.get("transformer");
  const vae = loaded.get("vae") ?? loaded.get("vqvae");
  const networks = { unet, transformer, vae, textEncoders };
  return {
    kind,
    className,
    path,
    ...networks,
    tokenizers,
    scheduler,
    labels,
    zerosForEmptyPrompt,
    ...(defaults && { defaults }),
  };
}
