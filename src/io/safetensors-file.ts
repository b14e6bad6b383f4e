/** Reads and writes safetensors files in Node; the format itself is in `safetensors.ts`. */

import { type FileHandle, open, resolve, stat } from "#node";
import { FormatError } from "../errors.ts";
import { fromFile, fromHost, type Tensor } from "../tensor/index.ts";
import { MAX_TRANSFER_BYTES, writeFileAtomic } from "./atomic.ts";
import {
  type ByteSource,
  decodeSafetensors,
  dtypeNamed,
  type HostTensor,
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
 * The tensors of a file by name, none of which has been read: each is read when its value is asked for, and as a
 * constant of a compiled function it is mapped into memory. Only bf16 is read at once. The file must stay as it is.
 *
 * @throws {FormatError} when the file is malformed, or a tensor's element type has no {@link Tensor} (f8, complex)
 */
export async function mapSafetensors(path: string): Promise<Map<string, Tensor>> {
  const file = await openSafetensors(path);
  try {
    const found = new Map<string, Tensor>();
    for (const [name, entry] of file.entries) {
      const dtype = dtypeNamed(entry.dtype);
      if (!dtype) throw new FormatError(`${path}: tensor "${name}" is of type ${entry.dtype}`);
      const slice = { path: resolve(path), offset: entry.offset };
      // bf16 is widened on the host when the graph is built, so its values must be there.
      const data = dtype === "bf16" ? ((await file.read(name)) as HostTensor).data : undefined;
      found.set(name, data ? fromHost(dtype, entry.shape, data) : fromFile(dtype, entry.shape, slice));
    }
    return found;
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
