/** Checkpoints: one safetensors file with all weights; configuration and origin are in its metadata. */
import { ArgumentError, FormatError, TreeError } from "../../errors.ts";
import { isRawTensor, readSafetensors, writeSafetensors } from "../../io/index.ts";
import { loadParameters, mapParameters, parameters } from "../../nn/index.ts";
import { convertHost, evaluate, fromHost, resize, type Tensor } from "../../tensor/index.ts";
import { configSchema, type UMDConfig } from "./config.ts";
import { blankUMD, type UMD } from "./model.ts";

const FORMAT = "tweedie.umd";

/** Notes that are kept with the weights: method, data, steps, seed. */
export type Notes = Readonly<Record<string, string>>;

export interface LoadedUMD {
  readonly model: UMD;
  readonly notes: Notes;
}

/** Writes a model, in half precision by default. The file is replaced whole. */
export async function saveUMD(
  path: string,
  model: UMD,
  notes: Notes,
  dtype: "f16" | "f32" = "f16",
): Promise<void> {
  const weights = parameters(model);
  await evaluate([...weights.values()]);
  const tensors = new Map<string, { dtype: "f16" | "f32"; shape: readonly number[]; data: never }>();
  for (const [key, t] of weights)
    tensors.set(key, { dtype, shape: t.shape, data: convertHost(await t.data(), t.dtype, dtype) as never });
  await writeSafetensors(path, tensors, {
    format: FORMAT,
    config: JSON.stringify(model.config),
    notes: JSON.stringify(notes),
  });
}

function described(path: string, metadata: ReadonlyMap<string, string>): { config: UMDConfig; notes: Notes } {
  if (metadata.get("format") !== FORMAT)
    throw new FormatError(`${path}: is no UMD checkpoint (format ${JSON.stringify(metadata.get("format"))})`);
  try {
    const config = configSchema.parse(JSON.parse(metadata.get("config") ?? ""));
    return { config, notes: JSON.parse(metadata.get("notes") ?? "{}") as Notes };
  } catch (cause) {
    throw new FormatError(
      `${path}: the configuration in its metadata is damaged (${(cause as Error).message})`,
      {
        cause,
      },
    );
  }
}

/** The tensors of a safetensors file, halves widened. Throws `FormatError` for types that are no weights. */
export async function readWeights(path: string) {
  const file = await readSafetensors(path);
  const weights = new Map<string, Tensor>();
  for (const [name, t] of file.tensors) {
    if (isRawTensor(t)) throw new FormatError(`${path}: tensor "${name}" is of type ${t.dtype}`);
    const wide = t.dtype === "f16" || t.dtype === "bf16";
    const data = wide ? convertHost(t.data, t.dtype, "f32") : t.data;
    weights.set(name, fromHost(wide ? "f32" : t.dtype, t.shape, data));
  }
  return { weights, metadata: file.metadata };
}

/**
 * Reads a model. With `size` other than its own, positions are interpolated. Throws `FormatError` for other files, and
 * listing names that are missing, unexpected or mis-shaped.
 */
export async function loadUMD(path: string, options: { readonly size?: number } = {}): Promise<LoadedUMD> {
  const { weights, metadata } = await readWeights(path);
  const { config, notes } = described(path, metadata);
  try {
    const model = loadParameters(blankUMD(config), weights);
    return { model: options.size === undefined ? model : withSize(model, options.size), notes };
  } catch (error) {
    if (error instanceof TreeError) throw new FormatError(`${path}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** Positions [1, L, D] of a square grid, bilinear, for a grid of another side. */
function resized(positions: Tensor, side: number): Tensor {
  const [, length, dim] = positions.shape as [number, number, number];
  const old = Math.sqrt(length);
  const grid = positions.reshape([1, old, old, dim]).transpose([0, 3, 1, 2]);
  return resize(grid, [side, side], { mode: "bilinear" })
    .reshape([1, dim, side * side])
    .transpose([0, 2, 1]);
}

/** The model for pictures of another size: its positions are interpolated. Throws `ArgumentError` when the patch does not fit. */
export function withSize(model: UMD, size: number): UMD {
  const { config } = model;
  if (size === config.size) return model;
  if (!Number.isInteger(size) || size < 1 || size % config.patch !== 0)
    throw new ArgumentError(`UMD: expected a size divisible by the patch of ${config.patch}, got ${size}`);
  const known = parameters(model);
  return mapParameters(blankUMD({ ...config, size }), (_, key) => {
    const weight = known.get(key)!;
    return key.endsWith("pos_embedding") ? resized(weight, size / config.patch) : weight;
  });
}

/** Whether a file holds a UMD checkpoint. */
export const isUMD = (metadata: ReadonlyMap<string, string>): boolean => metadata.get("format") === FORMAT;
