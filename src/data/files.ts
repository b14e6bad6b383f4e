/** Reading files whole or as text, gzip undone, with errors that name the file. */
import { gunzipSync } from "#node";
import { FormatError } from "../errors.ts";
import { readFileBytes } from "../io/read-bytes.ts";

/** Most bytes a compressed file may grow to. */
export const MAX_INFLATED = 4 * 1024 ** 3 - 1;

/** The bytes of a file; of a `.gz` file, what it holds. @throws ArgumentError when there is none to read. */
export async function readBytes(path: string): Promise<Uint8Array> {
  const bytes = await readFileBytes(path);
  if (!(bytes[0] === 0x1f && bytes[1] === 0x8b)) return bytes;
  try {
    return gunzipSync(bytes, { maxOutputLength: MAX_INFLATED });
  } catch (cause) {
    throw new FormatError(`${path}: the gzip data is damaged (${(cause as Error).message})`, { cause });
  }
}

/** A file as UTF-8 text, without a byte-order mark. @throws FormatError for bytes that are no UTF-8. */
export async function readText(path: string): Promise<string> {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await readBytes(path));
  } catch (cause) {
    if (cause instanceof TypeError) throw new FormatError(`${path}: is not UTF-8 text`, { cause });
    throw cause;
  }
}

/** Lines of a text file, empty ones left out. */
export const readLines = async (path: string): Promise<string[]> =>
  (await readText(path)).split(/\r?\n/).filter((line) => line.trim() !== "");

/** A file as JSON. @throws FormatError that names the file. */
export async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readText(path));
  } catch (cause) {
    if (cause instanceof SyntaxError)
      throw new FormatError(`${path}: is not JSON (${cause.message})`, { cause });
    throw cause;
  }
}

/** Orders file names as people count: `2` before `10`. */
export const naturalOrder = (a: string, b: string): number => collator.compare(a, b) || (a < b ? -1 : 1);
const collator = new Intl.Collator("en", { numeric: true });
