/** Finds the case folders under a folder and tells what each of them is: from its files alone, never from its name. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { FormatError } from "../../src/errors.ts";
import { isRawTensor, readSafetensors } from "../../src/io/index.ts";
import { fromHost, type Tensor } from "../../src/tensor/index.ts";

export type Config = Readonly<Record<string, unknown>>;

/** What a case can prove. */
export const NETWORKS = [
  "UNet2DConditionModel",
  "UNet2DModel",
  "ControlNetModel",
  "AutoencoderKL",
  "Transformer2DModel",
] as const;
export type Network = (typeof NETWORKS)[number];
export type Kind = Network | "ddim loop" | "training" | "random numbers";

export interface CaseFolder {
  readonly path: string;
  readonly config: Config;
  /** Tensors of expected.safetensors. */
  readonly expected: ReadonlyMap<string, Tensor>;
  /** Contents of expected.json, when there is one. */
  readonly numbers: Config;
}

/** Files that make a folder a case. */
const MARKS = ["expected.safetensors", "model.safetensors", "config.json"];

/** Folders under `root` (itself included) that hold a case, in the order of their names. */
export async function findCases(root: string): Promise<string[]> {
  const entries = await readdir(root, { withFileTypes: true });
  const own = entries.some((e) => e.isFile() && MARKS.includes(e.name)) ? [root] : [];
  const folders = entries.filter((e) => e.isDirectory() || e.isSymbolicLink()).map((e) => e.name);
  const below = await Promise.all(
    folders.sort().map((name) => findCases(join(root, name)).catch((error) => ignoreFiles(error))),
  );
  return [...own, ...below.flat()];
}

/** A link may lead to a file. */
function ignoreFiles(error: unknown): string[] {
  if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return [];
  throw error;
}

async function readJson(path: string, required: boolean): Promise<Config> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (!required && (error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new FormatError(`${path}: ${(error as Error).message}`, { cause: error });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FormatError(`${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Config;
  throw new FormatError(`${path}: expected a JSON object, got ${text.slice(0, 40)}`);
}

/** All tensors of a safetensors file by name. */
export async function readTensors(path: string): Promise<Map<string, Tensor>> {
  if (!existsSync(path)) throw new FormatError(`there is no file ${path}`);
  const { tensors } = await readSafetensors(path);
  return new Map(
    [...tensors].map(([name, t]) => {
      if (isRawTensor(t)) throw new FormatError(`${path}: "${name}" is of type ${t.dtype}`);
      return [name, fromHost(t.dtype, t.shape, t.data)];
    }),
  );
}

export const readConfig = (path: string): Promise<Config> => readJson(join(path, "config.json"), true);

/** Reads a case. Only random numbers need no config.json. */
export async function readCase(path: string): Promise<CaseFolder> {
  const expected = await readTensors(join(path, "expected.safetensors"));
  const config = await readJson(join(path, "config.json"), false);
  return { path, config, expected, numbers: await readJson(join(path, "expected.json"), false) };
}

/** The class that a configuration is of: by `_class_name`, otherwise by the fields that only it has. */
export function recogniseNetwork(config: Config): Network | undefined {
  const name = config._class_name;
  if (name === "DiTTransformer2DModel") return "Transformer2DModel";
  if (name !== undefined) return NETWORKS.find((network) => network === name);
  const has = (key: string): boolean => config[key] !== undefined;
  if (has("conditioning_embedding_out_channels") || has("controlnet_conditioning_channel_order"))
    return "ControlNetModel";
  if (has("latent_channels")) return "AutoencoderKL";
  if (has("patch_size") && !has("down_block_types")) return "Transformer2DModel";
  if (!has("down_block_types")) return undefined;
  return has("cross_attention_dim") || has("mid_block_type") ? "UNet2DConditionModel" : "UNet2DModel";
}

/** What a case is, or why that cannot be told. */
export function recognise({ config, expected }: Pick<CaseFolder, "config" | "expected">): Kind {
  const names = [...expected.keys()];
  if (Array.isArray(config.losses)) return "training";
  if (config.scheduler !== undefined && names.some((name) => /^out\.step\d+$/.test(name))) return "ddim loop";
  if (names.length > 0 && names.every((name) => /^(randn?|randperm|randint)\./.test(name)))
    return "random numbers";
  const network = recogniseNetwork(config);
  if (network) return network;
  const fields = Object.keys(config).slice(0, 8).join(", ") || "nothing";
  const name = config._class_name === undefined ? "" : `the class "${String(config._class_name)}" and `;
  throw new FormatError(
    `this is no case that can be run: config.json has ${name}${fields}; expected a ${NETWORKS.join(", ")}, ` +
      `a sampling loop (scheduler, out.step0 …), a training run (losses) or random numbers (randn.SEED.COUNT …)`,
  );
}

/** A number of the configuration. */
export function numberOf(config: Config, key: string): number {
  const value = config[key];
  if (typeof value === "number") return value;
  throw new FormatError(`config.json: expected a number for "${key}", got ${JSON.stringify(value)}`);
}

/** A list of numbers of the configuration. */
export function numbersOf(config: Config, key: string): readonly number[] {
  const value = config[key];
  if (Array.isArray(value) && value.every((v) => typeof v === "number")) return value;
  throw new FormatError(`config.json: expected numbers for "${key}", got ${JSON.stringify(value)}`);
}

/** A tensor that the case must have. */
export function tensorOf(expected: ReadonlyMap<string, Tensor>, name: string): Tensor {
  const found = expected.get(name);
  if (found) return found;
  throw new FormatError(`expected.safetensors: no "${name}", only ${[...expected.keys()].join(", ")}`);
}
