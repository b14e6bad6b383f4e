/** Models by name, and the real side of distances. */
import { openFeatureNetwork } from "../../../metrics/index.ts";
import { modelPath, shippedFile } from "../../shipped.ts";
import { type LoadedDiT, loadDiT } from "../checkpoint.ts";
import { readPictures } from "../data.ts";
import { CHECKPOINTS } from "../options.ts";
import { type RealSide, realSide } from "../study.ts";

/** File of a model by name or path. @throws ArgumentError when there is none */
export const modelFile = (name: string): Promise<string> => modelPath("Q-DiT", CHECKPOINTS, name);

export const openModel = async (name: string): Promise<LoadedDiT> => loadDiT(await modelFile(name));

/** Real test pictures of a data folder behind the shipped feature network. */
export async function openReal(folder: string): Promise<RealSide> {
  const extractor = await openFeatureNetwork(await shippedFile("checkpoints/fashion-features.safetensors"));
  return realSide(extractor, (await readPictures(folder, "t10k")).values);
}
