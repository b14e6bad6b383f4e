/** Finds the model folder that a sampling or training case names. */
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { FormatError } from "../../src/errors.ts";
import type { Tensor } from "../../src/tensor/index.ts";
import {
  type CaseFolder,
  type Config,
  findCases,
  type Network,
  readConfig,
  readTensors,
  recogniseNetwork,
} from "./cases.ts";

/** A network's configuration and weights. */
export interface ModelFolder {
  readonly path: string;
  readonly network: Network;
  readonly config: Config;
  readonly weights: ReadonlyMap<string, Tensor>;
}

const WEIGHTS = "model.safetensors";

/** Reads a model folder. Throws `FormatError` when its class is unknown. */
export async function readModel(path: string): Promise<ModelFolder> {
  const config = await readConfig(path);
  const network = recogniseNetwork(config);
  if (!network) throw new FormatError(`${path}/config.json: its class cannot be told from its fields`);
  return { path, network, config, weights: await readTensors(join(path, WEIGHTS)) };
}

/** Whether a denoiser takes what the case feeds it. */
function fits(config: Config, inputs: CaseFolder["expected"]): boolean {
  const context = inputs.get("in.encoder_hidden_states") ?? inputs.get("in.cond");
  const sample = inputs.get("in.x0") ?? inputs.get("in.latents");
  const network = recogniseNetwork(config);
  if (network !== "UNet2DConditionModel" && network !== "UNet2DModel") return false;
  const takesContext = network === "UNet2DConditionModel";
  return (
    takesContext === (context !== undefined) &&
    config.in_channels === sample?.shape[1] &&
    (!context || config.cross_attention_dim === context.shape[2])
  );
}

/**
 * The model that a case names (`model` or `unet` in config.json): its own folder, one beside it, or one of that name
 * below `root`. Where folders were renamed, the only one whose inputs fit is taken.
 */
export async function findModel(folder: CaseFolder, root: string): Promise<ModelFolder> {
  if (existsSync(join(folder.path, WEIGHTS))) return readModel(folder.path);
  const named = [folder.config.model, folder.config.unet].find((name) => typeof name === "string");
  const beside = named === undefined ? undefined : join(dirname(folder.path), named);
  if (beside && existsSync(join(beside, WEIGHTS))) return readModel(beside);
  const near = [...new Set([...(await findCases(root)), ...(await findCases(dirname(folder.path)))])];
  const models = near.filter((path) => existsSync(join(path, WEIGHTS)));
  const byName = models.find((path) => basename(path) === named);
  if (byName) return readModel(byName);
  const configs = await Promise.all(models.map(async (path) => ({ path, config: await readConfig(path) })));
  const fitting = configs.filter(({ config }) => fits(config, folder.expected));
  if (fitting.length === 1) return readModel(fitting[0]!.path);
  throw new FormatError(
    `config.json names the model folder "${named ?? ""}", which is neither beside the case nor under ${root}; ` +
      `${fitting.length} folders there would fit its inputs`,
  );
}
