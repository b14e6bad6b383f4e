/** Checkpoints: one safetensors file with all weights; configuration, scale and origin are in its metadata. */
import { FormatError, TreeError } from "../../errors.ts";
import { isRawTensor, readSafetensors, writeSafetensors } from "../../io/index.ts";
import { blankRng, loadParameters, parameters } from "../../nn/index.ts";
import { convertHost, evaluate, fromHost, type Tensor } from "../../tensor/index.ts";
import { configSchema } from "./config.ts";
import { SDSeg, withParts } from "./model.ts";

const FORMAT = "tweedie.sdseg";

/** Where a model comes from: printed by `tweedie systems`, kept with the weights. */
export interface Origin {
  readonly name: string;
  /** What it was trained on and how, in words. */
  readonly training: string;
  readonly seed: string;
  readonly date: string;
  /** Size of what the model sees over that of the data's files. */
  readonly scale: number;
}

export interface Loaded {
  readonly model: SDSeg;
  readonly origin: Origin;
}

/** Writes a model, in half precision by default. The file is replaced whole. */
export async function saveSDSeg(
  path: string,
  model: SDSeg,
  origin: Origin,
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
    scale_factor: String(model.scaleFactor),
    origin: JSON.stringify(origin),
  });
}

function metadataOf(path: string, metadata: ReadonlyMap<string, string>) {
  if (metadata.get("format") !== FORMAT)
    throw new FormatError(
      `${path}: is no SDSeg checkpoint (format ${JSON.stringify(metadata.get("format"))})`,
    );
  try {
    const config = configSchema.parse(JSON.parse(metadata.get("config") ?? ""));
    const origin = JSON.parse(metadata.get("origin") ?? "{}") as Origin;
    return { config, origin, scaleFactor: Number(metadata.get("scale_factor")) };
  } catch (cause) {
    throw new FormatError(
      `${path}: the configuration in its metadata is damaged (${(cause as Error).message})`,
      {
        cause,
      },
    );
  }
}

/** Reads a model. @throws FormatError for other files, and listing names that are missing, unexpected or mis-shaped */
export async function loadSDSeg(path: string): Promise<Loaded> {
  const file = await readSafetensors(path);
  const { config, origin, scaleFactor } = metadataOf(path, file.metadata);
  const weights = new Map<string, Tensor>();
  for (const [name, t] of file.tensors) {
    if (isRawTensor(t)) throw new FormatError(`${path}: tensor "${name}" is of type ${t.dtype}`);
    const wide = t.dtype === "f16" || t.dtype === "bf16";
    weights.set(
      name,
      fromHost(wide ? "f32" : t.dtype, t.shape, wide ? convertHost(t.data, t.dtype, "f32") : t.data),
    );
  }
  try {
    const model = loadParameters(new SDSeg(config, blankRng), weights);
    return { model: withParts(model, { scaleFactor }), origin };
  } catch (error) {
    if (error instanceof TreeError) throw new FormatError(`${path}: ${error.message}`, { cause: error });
    throw error;
  }
}
