/** Files that ship: the folder `checkpoints` lies beside `src/` or `dist/`, whichever this file lies in. */
import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ArgumentError } from "../errors.ts";
import type { Checkpoint } from "./system.ts";

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Folder that the paths of checkpoints begin in; undefined when nothing ships with this installation. */
export async function shippedRoot(): Promise<string | undefined> {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    if (await exists(join(folder, "checkpoints"))) return folder;
    if (dirname(folder) === folder) return undefined;
  }
}

/** Path of a file that ships, such as `checkpoints/a.safetensors`. @throws ArgumentError when it is not there */
export async function shippedFile(file: string): Promise<string> {
  const root = await shippedRoot();
  const path = root === undefined ? undefined : join(root, file);
  if (path !== undefined && (await exists(path))) return path;
  throw new ArgumentError(`${file}: it ships with Tweedie, but is not there`);
}

/**
 * File of a model, given by the name of a checkpoint that ships or by its path; `system` is named in errors.
 *
 * @throws ArgumentError when there is no such model
 */
export async function modelPath(
  system: string,
  checkpoints: readonly Checkpoint[],
  model: string,
): Promise<string> {
  const shipped = checkpoints.find(({ name }) => name === model);
  if (shipped) return shippedFile(shipped.file);
  if (await exists(model)) return model;
  const names = checkpoints.map(({ name }) => name).join(", ");
  throw new ArgumentError(`${system}: no model "${model}": expected ${names}, or a checkpoint file`);
}
