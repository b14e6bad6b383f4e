/** SHA-256 hashes that identify files and models. */
import { createHash } from "node:crypto";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { hashFile, hashInto } from "../../io/index.ts";

/** SHA-256 of the weight files in a folder, in the order of their names; undefined when there are none. */
async function hashFolder(folder: string): Promise<string | undefined> {
  const files = await readdir(folder).catch(() => [] as string[]);
  const weights = files.filter((file) => file.endsWith(".safetensors")).sort();
  if (weights.length === 0) return undefined;
  const hash = createHash("sha256");
  for (const file of weights) await hashInto(hash, join(folder, file));
  return hash.digest("hex");
}

/** SHA-256 of a file, or of the weights in a folder; undefined for what is not on this machine, such as a hub's name. */
export async function hashPath(path: string): Promise<string | undefined> {
  const there = await stat(path).catch(() => undefined);
  return there && (there.isDirectory() ? hashFolder(path) : hashFile(path));
}

/**
 * SHA-256 of a model: of a single file as a whole, as other programs have it, of a folder's denoiser with the weight
 * files in the order of their names. Undefined when there are none.
 */
export async function hashModel(path: string): Promise<string | undefined> {
  if ((await stat(path)).isFile()) return hashFile(path);
  for (const name of ["unet", "transformer"]) {
    const hash = await hashFolder(join(path, name));
    if (hash !== undefined) return hash;
  }
  return undefined;
}
