/** What files and models are recognised by: the SHA-256 of their bytes. */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

async function update(hash: Hash, path: string): Promise<Hash> {
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer);
  return hash;
}

/** SHA-256 of a file, in hexadecimal. */
export const hashFile = async (path: string): Promise<string> =>
  (await update(createHash("sha256"), path)).digest("hex");

/**
 * SHA-256 of a model: of a single file as a whole, as other programs have it, of a folder's denoiser with the weight
 * files in the order of their names. Undefined when there are none.
 */
export async function hashModel(path: string): Promise<string | undefined> {
  if ((await stat(path)).isFile()) return hashFile(path);
  for (const name of ["unet", "transformer"]) {
    const folder = join(path, name);
    const files = await readdir(folder).catch(() => [] as string[]);
    const weights = files.filter((file) => file.endsWith(".safetensors")).sort();
    if (weights.length === 0) continue;
    const hash = createHash("sha256");
    for (const file of weights) await update(hash, join(folder, file));
    return hash.digest("hex");
  }
  return undefined;
}
