/** Files as bytes, with errors that say in words which file and what is wrong with it. */
import { readFile } from "#node";
import { disguiseHint, isStandIn, MAGIC_BYTES } from "../disguise.ts";
import { ArgumentError, FormatError } from "../errors.ts";

/** The file system's codes, in words. */
const WORDS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  ENOTDIR: "there is no such file",
  EISDIR: "this is a folder, a file was expected",
  EACCES: "access is denied",
};

/** The bytes of a file. @throws ArgumentError when there is none to read, FormatError for what only stands in for a file */
export async function readFileBytes(path: string): Promise<Uint8Array> {
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    const code = cause.code ?? cause.message;
    throw new ArgumentError(`${path}: ${WORDS[code] ?? `cannot be read (${code})`}`, { cause });
  });
  const head = bytes.subarray(0, MAGIC_BYTES);
  if (isStandIn(head)) {
    const cause = new Error("another file than was asked for");
    throw new FormatError(`${path}: not the file that was expected${disguiseHint(head)}`, { cause });
  }
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength); // whose `slice` copies, unlike a Buffer's
}
