/** Text files of tokenizers: `merges.txt`, `vocab.json`, `tokenizer_config.json`, or all of it in `tokenizer.json`. */
import { join } from "#node";
import { FormatError } from "../errors.ts";
import type { TokenizerFiles } from "./components.ts";
import { readConfig, readConfigIfThere, readText } from "./model-files.ts";
import { kindOfPath } from "./weights.ts";

/**
 * Reads the tokenizer of a folder, or from the path of a `merges.txt` alone.
 *
 * @throws {FormatError} when there is none
 */
export async function readTokenizer(path: string): Promise<TokenizerFiles> {
  if ((await kindOfPath(path)) === "file") return { config: {}, merges: await readMerges(path) };
  const config = (await readConfigIfThere(join(path, "tokenizer_config.json"))) ?? {};
  const merges = join(path, "merges.txt");
  if ((await kindOfPath(merges)) === "file") {
    const vocabulary = await readConfigIfThere(join(path, "vocab.json"));
    return {
      config,
      merges: await readMerges(merges),
      ...(vocabulary && { vocabulary: vocabulary as Record<string, number> }),
    };
  }
  const whole = join(path, "tokenizer.json");
  if ((await kindOfPath(whole)) === "file")
    return { config, ...fromTokenizerJson(await readConfig(whole), whole) };
  throw new FormatError(`${path}: expected a tokenizer: merges.txt (with vocab.json), or tokenizer.json`);
}

async function readMerges(path: string): Promise<string> {
  const text = await readText(path);
  if (text.trim() === "") throw new FormatError(`${path}: the file is empty; expected merges of a tokenizer`);
  return text;
}

/** The `model` of a `tokenizer.json`, whose merges are "a b" or ["a", "b"]. */
function fromTokenizerJson(
  { model }: Readonly<Record<string, unknown>>,
  path: string,
): Pick<TokenizerFiles, "merges" | "vocabulary"> {
  const { vocab, merges } = (model ?? {}) as { vocab?: unknown; merges?: unknown };
  if (typeof vocab !== "object" || vocab === null || !Array.isArray(merges))
    throw new FormatError(`${path}: expected a byte-pair encoding with "vocab" and "merges"`);
  const lines = merges.map((pair: unknown) => (Array.isArray(pair) ? pair.join(" ") : String(pair)));
  return { merges: ["#version: 0.2", ...lines].join("\n"), vocabulary: vocab as Record<string, number> };
}
