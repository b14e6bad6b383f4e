/** Checkpoints of small DiTs, in floats or packed: one safetensors file; sizes, origin and packing are in its metadata. */
import { FormatError } from "../../errors.ts";
import { isRawTensor, readSafetensors, writeSafetensors } from "../../io/index.ts";
import { type DiTConfig, DiTTransformer2DModel } from "../../networks/index.ts";
import {
  blankRng,
  isQuantized,
  loadParameters,
  modules,
  parameters,
  quantizationConfig,
  withPackedLayers,
} from "../../nn/index.ts";
import { convertHost, evaluate, fromHost, type HostArray, type Tensor } from "../../tensor/index.ts";

export const FORMAT = "tweedie.dit";

/** Notes that are kept with the weights: on what and how the model was trained, how it was quantised. */
export type Notes = Readonly<Record<string, string>>;

export interface LoadedDiT {
  readonly model: DiTTransformer2DModel;
  readonly notes: Notes;
}

/** Writes a model: floats in half precision, codes as they are. The file is replaced whole. */
export async function saveDiT(path: string, model: DiTTransformer2DModel, notes: Notes): Promise<void> {
  const weights = parameters(model);
  await evaluate([...weights.values()]);
  const tensors = new Map<
    string,
    { dtype: "f16" | "u8" | "i8"; shape: readonly number[]; data: HostArray }
  >();
  for (const [key, t] of weights) {
    const dtype = t.dtype === "u8" || t.dtype === "i8" ? t.dtype : "f16";
    tensors.set(key, { dtype, shape: t.shape, data: convertHost(await t.data(), t.dtype, dtype) });
  }
  const packed = [...modules(model).values()].some(isQuantized);
  await writeSafetensors(path, tensors, {
    format: FORMAT,
    config: JSON.stringify(model.config),
    notes: JSON.stringify(notes),
    ...(packed && { quantization_config: JSON.stringify(quantizationConfig(model)) }),
  });
}

/** Reads a model. Throws `FormatError` for other files, and `TreeError` listing names that do not fit. */
export async function loadDiT(path: string): Promise<LoadedDiT> {
  const { metadata, tensors } = await readSafetensors(path);
  const [config, packing] = [metadata.get("config"), metadata.get("quantization_config")];
  if (metadata.get("format") !== FORMAT || !config)
    throw new FormatError(
      `${path}: is no checkpoint of a small DiT (format ${JSON.stringify(metadata.get("format"))})`,
    );
  const blank = new DiTTransformer2DModel(JSON.parse(config) as DiTConfig, blankRng);
  const weights = new Map<string, Tensor>();
  for (const [key, t] of tensors) {
    if (isRawTensor(t)) throw new FormatError(`${path}: tensor "${key}" is of type ${t.dtype}`);
    weights.set(key, fromHost(t.dtype, t.shape, t.data));
  }
  const module = packing ? withPackedLayers(blank, JSON.parse(packing)) : blank;
  const model = loadParameters(module, weights, { widen: true });
  await evaluate([...parameters(model).values()]);
  return { model, notes: JSON.parse(metadata.get("notes") ?? "{}") as Notes };
}
