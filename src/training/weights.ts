/** Weights of a system's model as one safetensors file: half precision by default, read back widened. */
import { z } from "zod";
import { FormatError, TreeError } from "../errors.ts";
import { isRawTensor, readSafetensors, writeSafetensors } from "../io/index.ts";
import { heldType, loadParameters, parameters } from "../nn/index.ts";
import { convertHost, evaluate, fromHost, type HostArray, type Tensor } from "../tensor/index.ts";

/** How wide the floats of a file are. */
export type FloatWidth = "f16" | "bf16" | "f32";

/** Writes all tensors of a model with its metadata: floats as `dtype` (see `heldType`), codes of integers as they are. The file is replaced whole. */
export async function writeWeights(
  path: string,
  model: object,
  metadata: Readonly<Record<string, string>>,
  dtype: FloatWidth = "f16",
): Promise<void> {
  await writeTensors(path, parameters(model), metadata, dtype);
}

/** Tensors by name as one safetensors file, as `writeWeights` does. */
export async function writeTensors(
  path: string,
  weights: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>>,
  dtype: FloatWidth = "f16",
): Promise<void> {
  await evaluate([...weights.values()]);
  const tensors = new Map<string, { dtype: Tensor["dtype"]; shape: readonly number[]; data: HostArray }>();
  for (const [key, t] of weights) {
    const isFloat = t.dtype.startsWith("f") || t.dtype === "bf16";
    const values = await t.data();
    const kept = isFloat ? heldType(key, values, dtype) : t.dtype;
    tensors.set(key, { dtype: kept, shape: t.shape, data: convertHost(values, t.dtype, kept) });
  }
  await writeSafetensors(path, tensors, metadata);
}

/** The tensors of a safetensors file, halves widened. @throws FormatError for types that are no weights */
export async function readWeights(path: string) {
  const file = await readSafetensors(path);
  const weights = new Map<string, Tensor>();
  for (const [name, t] of file.tensors) {
    if (isRawTensor(t)) throw new FormatError(`${path}: tensor "${name}" is of type ${t.dtype}`);
    const wide = t.dtype === "f16" || t.dtype === "bf16";
    const data = wide ? convertHost(t.data, t.dtype, "f32") : t.data;
    checkFinite(data, path, name);
    weights.set(name, fromHost(wide ? "f32" : t.dtype, t.shape, data));
  }
  return { weights, metadata: file.metadata };
}

/** Weights that are no numbers give results that look like some. @throws FormatError naming the first tensor with any */
function checkFinite(data: HostArray, path: string, name: string): void {
  if (!(data instanceof Float32Array || data instanceof Float64Array)) return;
  const bad = data.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0) throw new FormatError(`${path}: tensor "${name}" has ${data[bad]} at element ${bad}`);
}

/** What `read` makes of a file's metadata. @throws FormatError when the file is of another kind or damaged */
export function describedBy<T>(
  path: string,
  metadata: ReadonlyMap<string, string>,
  { format, name }: { readonly format: string; readonly name: string },
  read: (field: (key: string) => string | undefined) => T,
): T {
  if (metadata.get("format") !== format)
    throw new FormatError(
      `${path}: is no ${name} checkpoint (format ${JSON.stringify(metadata.get("format") ?? "not said")})`,
    );
  try {
    return read((key) => metadata.get(key));
  } catch (cause) {
    const reason =
      cause instanceof z.ZodError ? z.prettifyError(cause).replaceAll("\n", " ") : (cause as Error).message;
    throw new FormatError(`${path}: the configuration in its metadata is damaged (${reason})`, { cause });
  }
}

/** `loadParameters` for a file. @throws FormatError listing names that are missing, unexpected or mis-shaped */
export function loadWeights<T extends object>(
  path: string,
  blank: T,
  weights: ReadonlyMap<string, Tensor>,
): T {
  try {
    return loadParameters(blank, weights);
  } catch (error) {
    if (error instanceof TreeError) throw new FormatError(`${path}: ${error.message}`, { cause: error });
    throw error;
  }
}
