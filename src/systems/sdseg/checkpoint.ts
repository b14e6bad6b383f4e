/** Checkpoints: one safetensors file with all weights; configuration, scale and origin are in its metadata. */
import { blankRng } from "../../nn/index.ts";
import { describedBy, loadWeights, readWeights, writeWeights } from "../../training/weights.ts";
import { configSchema } from "./config.ts";
import { SDSeg, withParts } from "./model.ts";

const KIND = { format: "tweedie.sdseg", name: "SDSeg" };

/** Where a model comes from: printed by `tweedie systems`, kept with the weights. */
export interface Origin {
  readonly name: string;
  /** What it was trained on and how, in words. */
  readonly training: string;
  readonly seed: string;
  readonly date: string;
  /** Size of what the model sees over that of the data's files. */
  readonly scale: number;
  /** The command that made it. */
  readonly command?: string;
  /** What was measured of it, on pictures that it was not trained on. */
  readonly metrics?: Readonly<Record<string, number>>;
}

export interface Loaded {
  readonly model: SDSeg;
  readonly origin: Origin;
}

/** Writes a model, in half precision by default. The file is replaced whole. */
export const saveSDSeg = (path: string, model: SDSeg, origin: Origin, dtype?: "f16" | "f32"): Promise<void> =>
  writeWeights(
    path,
    model,
    {
      format: KIND.format,
      config: JSON.stringify(model.config),
      scale_factor: String(model.scaleFactor),
      origin: JSON.stringify(origin),
    },
    dtype,
  );

/** Reads a model. @throws FormatError for other files, and listing names that are missing, unexpected or mis-shaped */
export async function loadSDSeg(path: string): Promise<Loaded> {
  const { weights, metadata } = await readWeights(path);
  const { config, origin, scaleFactor } = describedBy(path, metadata, KIND, (field) => ({
    config: configSchema.parse(JSON.parse(field("config") ?? "")),
    origin: JSON.parse(field("origin") ?? "{}") as Origin,
    scaleFactor: Number(field("scale_factor")),
  }));
  const model = loadWeights(path, new SDSeg(config, blankRng), weights);
  return { model: withParts(model, { scaleFactor }), origin };
}
