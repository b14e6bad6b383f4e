/** Writes networks and pipelines as folders in diffusers' layout, whole or not at all. */
import { basename, dirname, join, mkdir, randomBytes, readdir, rename, resolve, rm } from "#node";
import { ArgumentError } from "../errors.ts";
import {
  type HostTensor,
  syncDirectory,
  writeFileAtomic,
  writeSafetensors,
  writeSharded,
} from "../io/index.ts";
import { heldType, parameters } from "../nn/index.ts";
import { bytesOf, convertHost, type DType, storedOf } from "../tensor/index.ts";
import type { Config, LoadedModel, PipelineComponents, TokenizerFiles } from "./components.ts";
import { INDEX_NAME, SCHEDULER_NAME } from "./model-files.ts";
import { networkClass } from "./registry.ts";

/** Options of `moduleWeights`, `writeNetworkConfig` and `saveModel`. */
export interface SaveOptions {
  /** Width of the weights; default: as they are in memory. What f16 cannot hold stays f32 (`heldType`). */
  readonly dtype?: "f32" | "f16" | "bf16";
  /** Put into the names of the weight files, such as "fp16". */
  readonly variant?: string;
  /** Most bytes per weight file; larger models are split. Default 10 GB, as in diffusers. */
  readonly maxShardBytes?: number;
  /** Replace a folder that is there. Default false: a folder that is not empty is an error. */
  readonly overwrite?: boolean;
}

const encode = (value: unknown): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify(value, undefined, 2)}\n`);
const isFloat = (dtype: DType): boolean => ["f16", "bf16", "f32", "f64"].includes(dtype);

/** The values of a module by checkpoint key. Half-precision weights that were never widened stay as they are. */
export async function moduleWeights(
  module: object,
  dtype?: SaveOptions["dtype"],
): Promise<Map<string, HostTensor>> {
  const weights = new Map<string, HostTensor>();
  for (const [key, parameter] of parameters(module)) {
    const stored = storedOf(parameter);
    const values = await stored.data();
    const wanted = dtype && isFloat(stored.dtype) ? dtype : stored.dtype;
    const to = wanted === stored.dtype ? wanted : heldType(key, values, wanted);
    weights.set(key, { dtype: to, shape: stored.shape, data: convertHost(values, stored.dtype, to) });
  }
  return weights;
}

/**
 * Fills a new folder beside `folder` and puts it in its place, so that readers see all of it or nothing.
 *
 * @throws {ArgumentError} when the folder is there, is not empty, and may not be replaced
 */
export async function writeFolderAtomic(
  folder: string,
  overwrite: boolean,
  fill: (temporary: string) => Promise<void>,
): Promise<void> {
  const target = resolve(folder);
  const there = await readdir(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (there && there.length > 0 && !overwrite)
    throw new ArgumentError(
      `${folder}: the folder is there already, with ${there.slice(0, 4).join(", ")}; --overwrite replaces it, or name another`,
    );
  await mkdir(dirname(target), { recursive: true });
  const beside = (what: string): string =>
    join(dirname(target), `.${basename(target)}-${randomBytes(6).toString("hex")}.${what}`);
  const [temporary, old] = [beside("tmp"), beside("old")];
  try {
    await mkdir(temporary);
    await fill(temporary);
    if (there) await rename(target, old);
    try {
      await rename(temporary, target);
    } catch (error) {
      if (there) await rename(old, target);
      throw error;
    }
    await rm(old, { recursive: true, force: true });
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  await syncDirectory(dirname(target));
}

/** Writes `config.json` with the class that it configures. */
export async function writeNetworkConfig(folder: string, className: string, config: Config): Promise<void> {
  const { library } = networkClass(className, folder);
  const named = library === "transformers" ? { architectures: [className] } : { _class_name: className };
  await writeFileAtomic(join(folder, "config.json"), encode({ ...named, ...config }));
}

/** Writes configuration and weights of one network into a folder that is there. */
async function writeModel(
  folder: string,
  { className, config, model }: LoadedModel,
  options: SaveOptions,
): Promise<void> {
  const name = networkClass(className, folder).weights;
  await writeNetworkConfig(folder, className, config);
  const weights = await moduleWeights(model, options.dtype);
  const bytes = [...weights.values()].reduce((n, t) => n + bytesOf(t.shape, t.dtype), 0);
  const { maxShardBytes = 10e9, variant } = options;
  const full = variant === undefined ? name : `${name}.${variant}`;
  const metadata = { format: "pt" }; // diffusers refuses files without it
  if (bytes <= maxShardBytes) await writeSafetensors(join(folder, `${full}.safetensors`), weights, metadata);
  else await writeSharded(folder, weights, { name: full, maxShardBytes, metadata });
}

/**
 * Writes one network as a folder with `config.json` and weights, whole or not at all.
 *
 * @throws {FormatError} for a class that the registry does not know
 */
export async function saveModel(
  folder: string,
  model: LoadedModel,
  options: SaveOptions = {},
): Promise<void> {
  await writeFolderAtomic(folder, options.overwrite ?? false, (temporary) =>
    writeModel(temporary, model, options),
  );
}

/** Files of a tokenizer's folder. */
async function writeTokenizer(folder: string, { config, merges, vocabulary }: TokenizerFiles): Promise<void> {
  const bytes = new TextEncoder();
  await writeFileAtomic(join(folder, "merges.txt"), bytes.encode(merges));
  await writeFileAtomic(join(folder, "tokenizer_config.json"), encode(config));
  if (vocabulary) await writeFileAtomic(join(folder, "vocab.json"), bytes.encode(JSON.stringify(vocabulary)));
}

const numbered = <T>(name: string, items: readonly T[]): [string, T][] =>
  items.map((item, i) => [i === 0 ? name : `${name}_${i + 1}`, item]);

/** What a pipeline has beside its networks, whether they are open or loaded. */
interface Surroundings
  extends Pick<
    PipelineComponents,
    "className" | "defaults" | "labels" | "tokenizers" | "scheduler" | "zerosForEmptyPrompt"
  > {
  /** By the name of the component's folder. */
  readonly networks: ReadonlyMap<string, { readonly className: string }>;
}

/** What `model_index.json` says of a pipeline. */
function modelIndex(pipeline: Surroundings): Config {
  const {
    className,
    defaults = {},
    labels,
    networks,
    tokenizers,
    scheduler,
    zerosForEmptyPrompt = true,
  } = pipeline;
  const classes: [string, readonly (string | null)[]][] = [
    ["scheduler", ["diffusers", String(scheduler._class_name)]],
    ...numbered("tokenizer", tokenizers).map(([name]): [string, string[]] => [
      name,
      ["transformers", "CLIPTokenizer"],
    ]),
  ];
  for (const [name, network] of networks) {
    const { library } = networkClass(network.className, name);
    classes.push([name, [library, network.className]]);
  }
  // diffusers wants every component of a pipeline's class named, also those that are not there.
  if (className.startsWith("StableDiffusion")) classes.push(["feature_extractor", [null, null]]);
  if (/^StableDiffusion(?!XL)/.test(className)) classes.push(["safety_checker", [null, null]]);
  return {
    _class_name: className,
    ...Object.fromEntries(classes.sort(([a], [b]) => (a < b ? -1 : 1))),
    ...(/^StableDiffusion(?!XL)/.test(className) && { requires_safety_checker: false }),
    ...(className.startsWith("StableDiffusionXL") && { force_zeros_for_empty_prompt: zerosForEmptyPrompt }),
    ...(defaults.steps !== undefined && { num_inference_steps: defaults.steps }),
    ...(defaults.guidance !== undefined && { guidance_scale: defaults.guidance }),
    ...(labels && { id2label: Object.fromEntries(labels) }),
  };
}

/** Writes `model_index.json`, the scheduler and the tokenizers of a pipeline into its folder. */
export async function writeIndex(folder: string, pipeline: Surroundings): Promise<void> {
  for (const [name, files] of numbered("tokenizer", pipeline.tokenizers)) {
    await mkdir(join(folder, name));
    await writeTokenizer(join(folder, name), files);
  }
  await mkdir(join(folder, "scheduler"));
  await writeFileAtomic(join(folder, "scheduler", SCHEDULER_NAME), encode(pipeline.scheduler));
  await writeFileAtomic(join(folder, INDEX_NAME), encode(modelIndex(pipeline)));
}

/** Writes a whole pipeline as a folder with `model_index.json`, whole or not at all. */
export async function savePipeline(
  folder: string,
  components: PipelineComponents,
  options: SaveOptions = {},
): Promise<void> {
  const single = (["unet", "transformer", "vae"] as const).flatMap((name): [string, LoadedModel][] => {
    const model = components[name];
    return model ? [[name, model]] : [];
  });
  const networks = new Map([...single, ...numbered("text_encoder", components.textEncoders)]);
  await writeFolderAtomic(folder, options.overwrite ?? false, async (temporary) => {
    for (const [name, model] of networks) {
      await mkdir(join(temporary, name));
      await writeModel(join(temporary, name), model, options);
    }
    await writeIndex(temporary, { ...components, networks });
  });
}
