/** SHA-256 of files. */
import { createHash, createReadStream, type Hash } from "#node";

/** Adds a file's bytes to a hash. */
export async function hashInto(hash: Hash, path: string): Promise<Hash> {
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer);
  return hash;
}

/** SHA-256 of a file, in hexadecimal. */
export const hashFile = async (path: string): Promise<string> =>
  (await hashInto(createHash("sha256"), path)).digest("hex");
