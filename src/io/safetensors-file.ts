/** Reads and writes safetensors files in Node; the format itself is in `safetensors.ts`. */

import { type FileHandle, open, stat } from "node:fs/promises";
import { FormatError } from "../errors.ts";
import { MAX_TRANSFER_BYTES, writeFileAtomic } from "./atomic.ts";
import {
  type ByteSource,
  decodeSafetensors,
  type NamedTensors,
  openSafetensorsSource,
  type Safetensors,
  type SafetensorsReader,
  safetensorsChunks,
} from "./safetensors.ts";

/**
 * Opens a file and checks its header; tensors are then read one by one, so the file may be larger than memory.
 * Close the result when done.
 *
 * @throws {FormatError} when the file is malformed, truncated or of another format; file system errors as they are
 */
export async function openSafetensors(path: string): Promise<SafetensorsReader> {
  return openSafetensorsSource(await openFileSource(path));
}

/** Reads a whole file, given by path or as bytes (which are copied). */
export async function readSafetensors(input: string | Uint8Array): Promise<Safetensors> {
  if (typeof input !== "string") return decodeSafetensors(input);
  const file = await openSafetensors(input);
  try {
    return { metadata: new Map(file.metadata), tensors: await file.readAll() };
  } finally {
    await file.close();
  }
}

/**
 * Writes a file atomically and flushes it to the disk. Tensors are streamed from their own memory. The bytes
 * depend only on the tensors and the metadata; see `safetensorsChunks`.
 */
export async function writeSafetensors(
  path: string,
  tensors: NamedTensors,
  metadata: ReadonlyMap<string, string> | Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeFileAtomic(path, safetensorsChunks(tensors, metadata));
}

/** Opens a regular file for range reads. @throws {FormatError} for a folder, pipe or device */
export async function openFileSource(path: string): Promise<ByteSource> {
  // Asked before opening, because opening a pipe would wait for a writer.
  if (!(await stat(path)).isFile()) throw new FormatError(`${path}: expected a regular file`);
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    return {
      name: path,
      size,
      read: (offset, into) => readFully(file, path, offset, into),
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readFully(file: FileHandle, path: string, offset: number, into: Uint8Array): Promise<void> {
  let at = 0;
  while (at < into.length) {
    const length = Math.min(into.length - at, MAX_TRANSFER_BYTES);
    const { bytesRead } = await file.read(into, at, length, offset + at);
    if (bytesRead === 0) {
      throw new FormatError(
        `${path}: expected ${into.length} bytes at byte ${offset}, got ${at}: the file shrank while it was open`,
      );
    }
    at += bytesRead;
  }
}
