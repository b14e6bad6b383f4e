/**
 * Files that ship. In a clone the folder `checkpoints` lies beside `src/`; it is a package of its own, `tweedie-checkpoints`,
 * so that who only needs the library does not load it.
 */
import { stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import manifest from "../../package.json" with { type: "json" };
import { ArgumentError } from "../errors.ts";
import type { Checkpoint } from "./system.ts";

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

const PACKAGE = "tweedie-checkpoints";

/** Folder of the checkpoints; undefined when none are installed. */
export async function shippedFolder(): Promise<string | undefined> {
  const own = fileURLToPath(new URL("../../checkpoints", import.meta.url)); // beside `src` or `dist`
  if (await exists(own)) return own;
  try {
    return dirname(createRequire(import.meta.url).resolve(`${PACKAGE}/package.json`));
  } catch {
    return undefined;
  }
}

/** How checkpoints that are not there are got, in words. */
export const HOW_TO_GET_SHIPPED = `the models of the demonstrations are a package of their own: npm install ${PACKAGE}@${manifest.version}`;

/** Path of a file that ships, such as `checkpoints/a.safetensors`. @throws ArgumentError when it is not there */
export async function shippedFile(file: string): Promise<string> {
  const folder = await shippedFolder();
  const path = folder === undefined ? undefined : join(folder, file.replace(/^checkpoints\//, ""));
  if (path !== undefined && (await exists(path))) return path;
  throw new ArgumentError(`${file} is not there; ${HOW_TO_GET_SHIPPED}`);
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
