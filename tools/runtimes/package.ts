/** The tarballs that `npm run package` makes: the library, and the models of its demonstrations. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** The path of one. @throws when it was not made */
export async function packedTarball(name: "tweedie" | "tweedie-checkpoints" = "tweedie"): Promise<string> {
  const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
  const path = join(ROOT, "dist", `${name}-${version}.tgz`);
  if (!existsSync(path)) throw new Error(`expected the packed package at ${path}; run npm run package`);
  return path;
}
