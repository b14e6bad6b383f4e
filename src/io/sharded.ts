/**
 * Weights split over several safetensors files, with an index (`model.safetensors.index.json`) that says which
 * tensor is in which file.
 */

import { basename, dirname, join, lstat, realpath, sep, stat } from "#node";
import { ArgumentError, FormatError, LifetimeError } from "../errors.ts";
import { writeFileAtomic } from "./atomic.ts";
import { isPlainFileName } from "./file-names.ts";
import { JsonScanner, quote } from "./json-scanner.ts";
import { readFileBytes } from "./read-bytes.ts";
import {
  compareCodePoints,
  isRawTensor,
  type NamedTensors,
  readEntry,
  type SafetensorsEntry,
  type StoredTensor,
} from "./safetensors.ts";
import { openFileSource, openSafetensors, writeSafetensors } from "./safetensors-file.ts";

/** Largest index that is read, in bytes. */
const MAX_INDEX_BYTES = 100_000_000;
/** Most shards that an index may name. */
const MAX_SHARDS = 10_000;

/** Where a tensor lies in a set of shards. */
export interface ShardedEntry extends SafetensorsEntry {
  /** Path of the shard, behind links. */
  readonly path: string;
}

/** An open set of shards whose tensors are read one by one. */
export interface ShardedReader {
  /** Metadata of all shards together; where shards disagree, the last one in the index counts. */
  readonly metadata: ReadonlyMap<string, string>;
  readonly entries: ReadonlyMap<string, ShardedEntry>;
  /** Reads one tensor. @throws {ArgumentError} when there is none of that name */
  read(name: string): Promise<StoredTensor>;
  /** Reads every tensor, one after the other. */
  readAll(): Promise<Map<string, StoredTensor>>;
  /** Closes the files; reads fail from then on. */
  close(): Promise<void>;
}

/**
 * Reads an index: tensor name to file name. Only names of files in the index's own folder are accepted.
 *
 * @throws {FormatError} for malformed JSON, a tensor given twice, or a file name that is not a plain name
 */
export function parseShardIndex(bytes: Uint8Array, source = "index"): Map<string, string> {
  const fail = (message: string): never => {
    throw new FormatError(`${source}: malformed shard index: ${message}`);
  };
  const scanner = new JsonScanner(decodeUtf8(bytes, fail), fail);
  let weights: Map<string, string> | undefined;
  scanner.object('"{"', (key) => {
    if (key !== "weight_map") return scanner.skip();
    if (weights !== undefined) fail('the key "weight_map" comes twice');
    weights = scanWeightMap(scanner, fail);
  });
  scanner.end();
  return weights ?? fail('expected an object "weight_map", got none');
}

function decodeUtf8(bytes: Uint8Array, fail: (message: string) => never): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return fail("expected UTF-8 text, got bytes that are not");
  }
}

function scanWeightMap(scanner: JsonScanner, fail: (message: string) => never): Map<string, string> {
  const weights = new Map<string, string>();
  const files = new Set<string>();
  scanner.object('an object as "weight_map"', (tensor) => {
    const file = scanner.string("a file name");
    if (weights.has(tensor)) fail(`tensor ${quote(tensor)} comes twice`);
    if (!files.has(file)) {
      if (!isPlainFileName(file)) {
        fail(`expected the plain name of a file next to the index, got ${quote(file)} for ${quote(tensor)}`);
      }
      if (files.size === MAX_SHARDS) fail(`expected at most ${MAX_SHARDS} shards, got more`);
      files.add(file);
    }
    weights.set(tensor, file);
  });
  return weights;
}

/**
 * Opens an index and checks the header of every shard: each tensor must be in the shard that the index names, and
 * in no other. Shards are opened again for each read, so many shards do not hold many open files.
 *
 * @param indexPath path of `model.safetensors.index.json`
 * @throws {FormatError} for a malformed index or shard, a missing shard, or a link that leaves the model's folder
 */
export async function openSharded(indexPath: string): Promise<ShardedReader> {
  const weights = parseShardIndex(await readIndex(indexPath), indexPath);
  const folder = dirname(indexPath);
  const metadata = new Map<string, string>();
  const entries = new Map<string, ShardedEntry>();
  const sizes = new Map<string, number>();
  for (const file of new Set(weights.values())) {
    const target = await resolveShard(folder, file);
    const shard = await openSafetensors(target);
    await shard.close();
    for (const [key, value] of shard.metadata) metadata.set(key, value);
    for (const [name, entry] of shard.entries) {
      checkPlace(indexPath, weights.get(name), file, name);
      entries.set(name, { ...entry, path: target });
    }
    sizes.set(target, (await stat(target)).size);
  }
  for (const [name, file] of weights) {
    if (!entries.has(name))
      throw new FormatError(`${indexPath}: tensor ${quote(name)} is not in its shard ${file}`);
  }
  return reader(indexPath, metadata, entries, sizes);
}

async function readIndex(path: string): Promise<Uint8Array> {
  const info = await stat(path);
  if (!info.isFile()) throw new FormatError(`${path}: expected a regular file`);
  if (info.size > MAX_INDEX_BYTES) {
    throw new FormatError(`${path}: expected an index of at most ${MAX_INDEX_BYTES} bytes, got ${info.size}`);
  }
  return readFileBytes(path);
}

function checkPlace(indexPath: string, expected: string | undefined, found: string, name: string): void {
  if (expected === found) return;
  const claim = expected === undefined ? "not in the index" : `in ${expected} by the index`;
  throw new FormatError(`${indexPath}: tensor ${quote(name)} is in shard ${found}, but ${claim}`);
}

/**
 * The real path of a shard. A link is followed only to a regular file in the model's own folder or, in the layout
 * of the Hugging Face cache (`snapshots/<revision>/...` linking to `blobs/<hash>`), in that cache entry's blobs.
 */
async function resolveShard(folder: string, file: string): Promise<string> {
  const path = join(folder, file);
  let target: string;
  try {
    if (!(await lstat(path)).isSymbolicLink()) return path;
    target = await realpath(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new FormatError(`${path}: the shard is missing`, { cause: error });
    if (code === "ELOOP")
      throw new FormatError(`${path}: the shard is a link that leads to itself`, { cause: error });
    throw error;
  }
  const real = await realpath(folder);
  const blobs = blobFolder(real);
  const inside = target.startsWith(real + sep) || (blobs !== undefined && dirname(target) === blobs);
  if (!inside)
    throw new FormatError(`${path}: the shard is a link that leaves the model's folder, to ${target}`);
  return target;
}

/** `<root>/blobs` for a folder `<root>/snapshots/<revision>[/...]`. */
function blobFolder(folder: string): string | undefined {
  for (let at = folder; dirname(at) !== at; at = dirname(at)) {
    const parent = dirname(at);
    if (basename(parent) === "snapshots") return join(dirname(parent), "blobs");
  }
  return undefined;
}

function reader(
  indexPath: string,
  metadata: ReadonlyMap<string, string>,
  entries: ReadonlyMap<string, ShardedEntry>,
  sizes: ReadonlyMap<string, number>,
): ShardedReader {
  let closed = false;
  const read = async (name: string): Promise<StoredTensor> => {
    if (closed) throw new LifetimeError(`${indexPath}: read of tensor ${quote(name)} after close()`);
    const entry = entries.get(name);
    if (entry === undefined) throw new ArgumentError(`${indexPath}: no tensor is named ${quote(name)}`);
    const source = await openFileSource(entry.path);
    try {
      if (source.size !== sizes.get(entry.path)) {
        throw new FormatError(`${entry.path}: the shard changed its size since the index was opened`);
      }
      return await readEntry(source, name, entry);
    } finally {
      await source.close();
    }
  };
  return {
    metadata,
    entries,
    read,
    async readAll() {
      const tensors = new Map<string, StoredTensor>();
      for (const name of entries.keys()) tensors.set(name, await read(name));
      return tensors;
    },
    async close() {
      closed = true;
    },
  };
}

/**
 * Writes tensors as shards `<name>-00001-of-0000N.safetensors` and, last, their index `<name>.safetensors.index.json`.
 * Tensors are packed in the order of their names; a tensor larger than the limit gets a shard of its own. Write
 * into a fresh folder: shards of an earlier, different split are not removed.
 *
 * @param folder existing folder
 * @param options `maxShardBytes`: most bytes of tensor data per shard, 5 GB by default; `name`: `model` by default
 * @returns path of the index
 */
export async function writeSharded(
  folder: string,
  tensors: NamedTensors,
  {
    maxShardBytes = 5_000_000_000,
    name = "model",
    metadata = {},
  }: {
    maxShardBytes?: number;
    name?: string;
    metadata?: ReadonlyMap<string, string> | Readonly<Record<string, string>>;
  } = {},
): Promise<string> {
  if (!(maxShardBytes > 0)) throw new ArgumentError(`expected maxShardBytes above 0, got ${maxShardBytes}`);
  if (!isPlainFileName(name)) throw new ArgumentError(`expected a plain file name, got ${quote(name)}`);
  const shards = splitTensors(tensors, maxShardBytes);
  const members: string[] = [];
  let total = 0;
  for (const [i, shard] of shards.entries()) {
    const file = `${name}-${pad(i + 1)}-of-${pad(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, file), shard, metadata);
    for (const [tensor, value] of shard) {
      total += bytesOfTensor(value);
      members.push(`    ${JSON.stringify(tensor)}: ${JSON.stringify(file)}`);
    }
  }
  const path = join(folder, `${name}.safetensors.index.json`);
  const map = members.length === 0 ? "{}" : `{\n${members.join(",\n")}\n  }`;
  const json = `{\n  "metadata": {\n    "total_size": ${total}\n  },\n  "weight_map": ${map}\n}\n`;
  await writeFileAtomic(path, new TextEncoder().encode(json));
  return path;
}

const pad = (n: number): string => String(n).padStart(5, "0");

const bytesOfTensor = (tensor: StoredTensor): number =>
  isRawTensor(tensor) ? tensor.bytes.byteLength : tensor.data.byteLength;

function splitTensors(tensors: NamedTensors, maxShardBytes: number): Map<string, StoredTensor>[] {
  const pairs: [string, StoredTensor][] =
    tensors instanceof Map ? [...tensors] : Object.entries(tensors as Record<string, StoredTensor>);
  pairs.sort(([a], [b]) => compareCodePoints(a, b));
  const shards: Map<string, StoredTensor>[] = [];
  let room = -1;
  for (const [name, tensor] of pairs) {
    const bytes = bytesOfTensor(tensor);
    if (bytes > room || shards.length === 0) {
      shards.push(new Map());
      room = maxShardBytes;
    }
    shards.at(-1)!.set(name, tensor);
    room -= bytes;
  }
  return shards;
}
