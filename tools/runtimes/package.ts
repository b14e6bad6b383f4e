/** The tarball that `npm run package` makes. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Its path. @throws when it was not made */
export async function packedTarball(): Promise<string> {
  const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
  const path = join(ROOT, "dist", `tweedie-${version}.tgz`);
  if (!existsSync(path)) throw new Error(`expected the packed package at ${path}; run npm run package`);
  return path;
}
