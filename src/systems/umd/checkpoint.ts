/** Checkpoints: one safetensors file with all weights; configuration and origin are in its metadata. */
import { ArgumentError } from "../../errors.ts";
import { mapParameters, parameters } from "../../nn/index.ts";
import { resize, type Tensor } from "../../tensor/index.ts";
import { describedBy, loadWeights, readWeights, writeWeights } from "../../training/weights.ts";
import { configSchema } from "./config.ts";
import { blankUMD, type UMD } from "./model.ts";

const KIND = { format: "tweedie.umd", name: "UMD" };

/** Notes that are kept with the weights: method, data, steps, seed. */
export type Notes = Readonly<Record<string, string>>;

export interface LoadedUMD {
  readonly model: UMD;
  readonly notes: Notes;
}

/** Writes a model, in half precision by default. The file is replaced whole. */
export const saveUMD = (path: string, model: UMD, notes: Notes, dtype?: "f16" | "f32"): Promise<void> =>
  writeWeights(
    path,
    model,
    { format: KIND.format, config: JSON.stringify(model.config), notes: JSON.stringify(notes) },
    dtype,
  );

/**
 * Reads a model. With `size` other than its own, positions are interpolated. Throws `FormatError` for other files, and
 * listing names that are missing, unexpected or mis-shaped.
 */
export async function loadUMD(path: string, options: { readonly size?: number } = {}): Promise<LoadedUMD> {
  const { weights, metadata } = await readWeights(path);
  const { config, notes } = describedBy(path, metadata, KIND, (field) => ({
    config: configSchema.parse(JSON.parse(field("config") ?? "")),
    notes: JSON.parse(field("notes") ?? "{}") as Notes,
  }));
  const model = loadWeights(path, blankUMD(config), weights);
  return { model: options.size === undefined ? model : withSize(model, options.size), notes };
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
export const isUMD = (metadata: ReadonlyMap<string, string>): boolean =>
  metadata.get("format") === KIND.format;
