/** The manifest of a checkpoint folder: which files belong to it, with their sizes and SHA-256 digests. */

import { createHash, join, lstat, readFile } from "#node";
import { FormatError } from "../errors.ts";
import { type FileContent, writeFileSynced } from "./atomic.ts";
import { isPlainFileName } from "./file-names.ts";
import { hashFile } from "./hashes.ts";
import { quote } from "./json-scanner.ts";

/** Name of the manifest in its folder. */
export const MANIFEST_NAME = "manifest.json";
/** Largest manifest that is read, in bytes. */
const MAX_MANIFEST_BYTES = 16_000_000;

/** Size in bytes and SHA-256 in lower-case hexadecimal. */
export interface FileDigest {
  readonly bytes: number;
  readonly sha256: string;
}

/** What `manifest.json` says. */
export interface Manifest {
  readonly version: 1;
  readonly step: number;
  readonly files: ReadonlyMap<string, FileDigest>;
}

/** Writes a new file, flushed to the disk, and returns its digest, computed on the way. */
export async function writeDigested(path: string, content: FileContent): Promise<FileDigest> {
  const hash = createHash("sha256");
  let bytes = 0;
  async function* watched(): AsyncGenerator<Uint8Array> {
    for await (const chunk of content instanceof Uint8Array ? [content] : content) {
      hash.update(chunk);
      bytes += chunk.length;
      yield chunk;
    }
  }
  await writeFileSynced(path, watched());
  return { bytes, sha256: hash.digest("hex") };
}

/** Writes the manifest into a folder, flushed to the disk. */
export async function writeManifest(
  folder: string,
  step: number,
  files: ReadonlyMap<string, FileDigest>,
): Promise<void> {
  const json = JSON.stringify({ version: 1, step, files: Object.fromEntries(files) }, undefined, 2);
  await writeFileSynced(join(folder, MANIFEST_NAME), new TextEncoder().encode(`${json}\n`));
}

/**
 * Checks a checkpoint folder against its manifest.
 *
 * @param options `digests`: also compare SHA-256, which reads every file; else only the sizes
 * @throws {FormatError} saying what is damaged or missing
 */
export async function verifyManifest(
  folder: string,
  step: number,
  { digests = true }: { digests?: boolean } = {},
): Promise<Manifest> {
  const manifest = parseManifest(await readManifest(folder));
  if (manifest.step !== step) throw new FormatError(`the manifest is of step ${manifest.step}`);
  for (const [name, expected] of manifest.files) {
    const path = join(folder, name);
    const info = await lstat(path).catch(missing(name));
    if (!info.isFile()) throw new FormatError(`${name} is not a regular file`);
    if (info.size !== expected.bytes) {
      throw new FormatError(`expected ${expected.bytes} bytes in ${name}, got ${info.size}`);
    }
    if (digests && (await hashFile(path)) !== expected.sha256) {
      throw new FormatError(`the SHA-256 of ${name} is not that of the manifest`);
    }
  }
  return manifest;
}

const missing = (name: string) => (error: unknown) => {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  throw new FormatError(`${name} is missing`, { cause: error });
};

async function readManifest(folder: string): Promise<string> {
  const path = join(folder, MANIFEST_NAME);
  const info = await lstat(path).catch(missing(MANIFEST_NAME));
  if (!info.isFile() || info.size > MAX_MANIFEST_BYTES) {
    throw new FormatError(`${MANIFEST_NAME} is not a regular file of at most ${MAX_MANIFEST_BYTES} bytes`);
  }
  return readFile(path, "utf8");
}

function parseManifest(text: string): Manifest {
  let value: { version?: unknown; step?: unknown; files?: unknown } | null;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FormatError(`${MANIFEST_NAME} is no JSON`, { cause: error });
  }
  const { version, step, files } = value ?? {};
  if (version !== 1) throw new FormatError(`expected manifest version 1, got ${quote(String(version))}`);
  if (typeof step !== "number" || typeof files !== "object" || files === null) {
    throw new FormatError(`expected "step" and "files" in ${MANIFEST_NAME}`);
  }
  const digests = new Map<string, FileDigest>();
  for (const [name, digest] of Object.entries(files)) digests.set(name, checkDigest(name, digest));
  return { version, step, files: digests };
}

function checkDigest(name: string, digest: unknown): FileDigest {
  if (!isPlainFileName(name))
    throw new FormatError(`expected a plain file name in the manifest, got ${quote(name)}`);
  const { bytes, sha256 } = (digest ?? {}) as { bytes?: unknown; sha256?: unknown };
  if (typeof bytes !== "number" || typeof sha256 !== "string") {
    throw new FormatError(`expected "bytes" and "sha256" of ${quote(name)} in the manifest`);
  }
  return { bytes, sha256 };
}
