/** Converts pipelines between layouts and widths, from file to file: one tensor is in memory at a time. */
import { join, mkdir } from "#node";
import { ArgumentError } from "../errors.ts";
import { safetensorsName, safetensorsStream, writeFileAtomic } from "../io/index.ts";
import { parameters } from "../nn/index.ts";
import { convertHost, isFloat } from "../tensor/index.ts";
import { buildNetwork } from "./build-network.ts";
import type { Config } from "./components.ts";
import { type OpenOptions, openModel, openPipeline } from "./load.ts";
import type { OpenNetwork, OpenPipeline } from "./open-pipeline.ts";
import { originalWeights } from "./original/open.ts";
import type { Family, FamilyConfigs } from "./original-configs.ts";
import { networkClass } from "./registry.ts";
import { type SaveOptions, writeFolderAtomic, writeIndex, writeNetworkConfig } from "./save.ts";
import { partsOf } from "./single-file.ts";
import { merged, renamed, selected, type WeightSource } from "./weights.ts";

export interface ConvertOptions extends OpenOptions, Pick<SaveOptions, "dtype" | "overwrite"> {
  /** Called with the names of the tensors as they are written. */
  readonly onTensor?: (name: string) => void;
}

const FLOAT_NAME = /^(?:F64|F32|F16|BF16)$/;

/** The same tensors in another width. */
function recast(source: WeightSource, { dtype, onTensor }: ConvertOptions): WeightSource {
  const name = dtype && safetensorsName(dtype);
  const entryOf = (entry: { dtype: string; shape: readonly number[] }) =>
    name && FLOAT_NAME.test(entry.dtype) ? { ...entry, dtype: name } : entry;
  return {
    ...source,
    entries: new Map([...source.entries].map(([key, entry]) => [key, entryOf(entry)])),
    read: async (key) => {
      const t = await source.read(key);
      onTensor?.(key);
      const to = dtype && t.dtype !== "i64" && isFloat(t.dtype) ? dtype : t.dtype;
      return { ...t, dtype: to, data: convertHost(t.data, t.dtype, to) };
    },
  };
}

/** The weights of a network, which are known to fit it, without what it does not use. */
function checkedWeights(network: OpenNetwork): WeightSource {
  const names = parameters(buildNetwork(network).module);
  return selected(network.weights, (key) => (names.has(key) ? key : undefined));
}

const checked = ({ networks }: OpenPipeline): Map<string, WeightSource> =>
  new Map([...networks].map(([name, network]) => [name, checkedWeights(network)]));

const writeWeights = (
  path: string,
  { entries, read }: WeightSource,
  metadata: Record<string, string>,
): Promise<void> => writeFileAtomic(path, safetensorsStream(entries, read, metadata));

/**
 * Writes a pipeline as a folder in diffusers' layout, whole or not at all.
 *
 * @param from a single file, or a folder (to change the width)
 * @throws {FormatError | ArgumentError} when the pipeline does not check, or the folder may not be replaced
 */
export async function convertToFolder(
  from: string,
  folder: string,
  options: ConvertOptions = {},
): Promise<void> {
  const pipeline = await openPipeline(from, options);
  try {
    const weights = checked(pipeline);
    await writeFolderAtomic(folder, options.overwrite ?? false, async (temporary) => {
      for (const [name, { className, config }] of pipeline.networks) {
        await mkdir(join(temporary, name));
        await writeNetworkConfig(join(temporary, name), className, config);
        const file = `${networkClass(className, name).weights}.safetensors`;
        await writeWeights(join(temporary, name, file), recast(weights.get(name)!, options), {
          format: "pt",
        });
      }
      await writeIndex(temporary, pipeline);
    });
  } finally {
    await pipeline.close();
  }
}

/** @throws ArgumentError for packed layers, for whose codes, scales and zeros other layouts have no names */
function refusePacked(
  path: string,
  networks: Iterable<readonly [string, Pick<OpenNetwork, "config">]>,
): void {
  for (const [name, { config }] of networks)
    if (config.quantization_config !== undefined)
      throw new ArgumentError(
        `${path}: the linear layers of ${name} are packed integers, which the original layout has no place for; convert the model that it was packed from, or write a folder (--to diffusers) or ONNX (--to onnx)`,
      );
}

/** The family whose single files a pipeline can be written as. */
function familyOf({ kind, className, networks }: OpenPipeline, wanted: Family | undefined): Family {
  if (wanted) return wanted;
  if (kind === "sdxl") return "sdxl";
  if (kind !== "sd")
    throw new ArgumentError(`${className}: single files are of Stable Diffusion 1.x, 2.x and XL only`);
  return networks.get("unet")?.config.use_linear_projection === true ? "sd2" : "sd1";
}

/**
 * Writes a pipeline as one file with the names of the original code, as A1111 and ComfyUI read it.
 *
 * @throws {FormatError | ArgumentError} when the pipeline does not check, or is of no family that has such files
 */
export async function convertToSingleFile(
  from: string,
  file: string,
  options: ConvertOptions = {},
): Promise<void> {
  const pipeline = await openPipeline(from, options);
  try {
    refusePacked(from, pipeline.networks);
    const family = familyOf(pipeline, options.family);
    const weights = checked(pipeline);
    const config = (name: string): Config => pipeline.networks.get(name)?.config ?? {};
    const configs: FamilyConfigs = {
      pipeline: pipeline.className,
      unet: config("unet"),
      vae: config("vae"),
      scheduler: pipeline.scheduler,
      textEncoders: ["text_encoder", "text_encoder_2"].map(config),
    };
    const parts = [...partsOf(family, configs)].map(([name, { place }]) => {
      const source = weights.get(name);
      if (!source)
        throw new ArgumentError(`${from}: expected a component "${name}" for a single file of ${family}`);
      const part = renamed(source, { rules: place.rules, to: "original", below: place.prefix });
      if (part.unknown.length > 0)
        throw new ArgumentError(
          `${from}: "${name}" has no place in a single file of ${family}: ${part.unknown.slice(0, 5).join(", ")}`,
        );
      return part;
    });
    const source = recast(merged(from, parts), options);
    await writeWeights(file, source, { format: "pt", ...predictionMetadata(pipeline.scheduler) });
  } finally {
    await pipeline.close();
  }
}

/**
 * Writes one network as a file with its authors' names: CompVis' of an autoencoder or a ControlNet, those of TAESD (both
 * halves in one file), DiT, ViT, MAE, guided-diffusion.
 *
 * @param from a folder with `config.json`, or a file
 * @throws {FormatError | ArgumentError} when the network does not check, or has no such layout
 */
export async function convertToOriginalFile(
  from: string,
  file: string,
  options: ConvertOptions = {},
): Promise<void> {
  const network = await openModel(from, options);
  try {
    const { className, config } = network;
    refusePacked(from, [[className, network]]);
    const source = await originalWeights(checkedWeights(network), className, config);
    await writeWeights(file, recast(source, options), { format: "pt" });
  } finally {
    await network.weights.close();
  }
}

/** What single files say of the prediction by the model-spec standard, since their tensors do not. */
const predictionMetadata = ({ prediction_type: type }: Config): Record<string, string> =>
  type === "v_prediction" || type === "epsilon"
    ? { "modelspec.prediction_type": type === "epsilon" ? "epsilon" : "v" }
    : {};
