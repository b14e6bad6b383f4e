/** Models by name, and the real side of distances. */
import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ArgumentError } from "../../../errors.ts";
import { openFeatureNetwork } from "../../../metrics/index.ts";
import { type LoadedDiT, loadDiT } from "../checkpoint.ts";
import { readPictures } from "../data.ts";
import { type RealSide, realSide } from "../study.ts";

const SHIPPED = ["fashion", "fashion-w4a8", "fashion-w8a8"];

export const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** A shipped file: the folder `checkpoints` lies beside `src/` or `dist/`, whichever this file lies in. */
async function shipped(name: string): Promise<string> {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!(await exists(join(folder, "checkpoints", name)))) {
    const above = dirname(folder);
    if (above === folder) throw new ArgumentError(`Q-DiT: the shipped checkpoint ${name} is not there`);
    folder = above;
  }
  return join(folder, "checkpoints", name);
}

/** File of a model by name or path. @throws ArgumentError when there is none */
export async function modelFile(name: string): Promise<string> {
  if (SHIPPED.includes(name)) return shipped(`q-dit-${name}.safetensors`);
  if (await exists(name)) return name;
  throw new ArgumentError(`Q-DiT: no model "${name}": expected ${SHIPPED.join(", ")}, or a checkpoint file`);
}

export const openModel = async (name: string): Promise<LoadedDiT> => loadDiT(await modelFile(name));

/** Real test pictures of a data folder behind the shipped feature network. */
export async function openReal(folder: string): Promise<RealSide> {
  const extractor = await openFeatureNetwork(await shipped("fashion-features.safetensors"));
  return realSide(extractor, (await readPictures(folder, "t10k")).values);
}
