/**
 * Codec of safetensors, the weight format of Hugging Face: strict reader, deterministic writer. Pure bytes, no
 * file system, so it also runs in browsers; `safetensors-file.ts` adds the file functions. Typed arrays are read
 * and written in the machine's byte order, which is little-endian wherever Node and browsers run on x86 and ARM.
 */

import { MAGIC_BYTES } from "../disguise.ts";
import { ArgumentError, DTypeError, LifetimeError, MemoryError, ShapeError } from "../errors.ts";
import { DTYPES, type DType, f16ToNumber, type HostArray } from "../tensor/dtype.ts";
import { hasLoneSurrogate, quote } from "./json-scanner.ts";
import {
  headerLength,
  LENGTH_BYTES,
  MAX_HEADER_BYTES,
  METADATA_KEY,
  parseHeader,
  SAFETENSORS_BITS,
  type SafetensorsEntry,
  spanOf,
} from "./safetensors-header.ts";

export type { SafetensorsEntry } from "./safetensors-header.ts";

/** A tensor on the host: row-major `data` of `dtype` with `product(shape)` elements. */
export interface HostTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: HostArray;
}

/** A tensor of an element type that has no {@link DType}, kept as the bytes of the file. */
export interface RawTensor {
  /** Name in the format, such as `F8_E4M3` or `I16`. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** What a file can hold. */
export type StoredTensor = HostTensor | RawTensor;

/** Tensors by name. A `Map` can also hold names such as `__proto__` and integers without reordering. */
export type NamedTensors = ReadonlyMap<string, StoredTensor> | Readonly<Record<string, StoredTensor>>;

/** A whole file in memory. */
export interface Safetensors {
  readonly metadata: Map<string, string>;
  readonly tensors: Map<string, StoredTensor>;
}

/** Bytes that can be read in ranges: a file, a blob, a server that answers range requests. */
export interface ByteSource {
  /** Name for error messages. */
  readonly name: string;
  /** Total size in bytes. */
  readonly size: number;
  /** Fills `into` with the bytes from `offset` on, or throws. */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** Closes what it reads from. */
  close(): Promise<void>;
}

/** An open file whose tensors are read one by one. */
export interface SafetensorsReader {
  readonly metadata: ReadonlyMap<string, string>;
  /** Where each tensor lies; `offset` counts bytes from the start of the file. */
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  /** Names that the header gives more than once; the last one counts. */
  readonly duplicates: readonly string[];
  /** Reads one tensor. @throws {ArgumentError} when there is none of that name */
  read(name: string): Promise<StoredTensor>;
  /** Reads every tensor, one after the other. */
  readAll(): Promise<Map<string, StoredTensor>>;
  /** Closes the source; reads fail from then on. */
  close(): Promise<void>;
}

const NAMES: Readonly<Record<DType, string>> = {
  f32: "F32",
  f64: "F64",
  f16: "F16",
  bf16: "BF16",
  i8: "I8",
  u8: "U8",
  i32: "I32",
  u32: "U32",
  i64: "I64",
  u64: "U64",
  bool: "BOOL",
};
const BY_NAME = new Map(Object.entries(NAMES).map(([dtype, name]) => [name, dtype as DType]));
const RANK = new Map([...SAFETENSORS_BITS.keys()].map((name, rank) => [name, rank]));

/** Our element type of a name in the format, or undefined where there is none. */
export const dtypeNamed = (name: string): DType | undefined => BY_NAME.get(name);

/** True for a tensor that is kept as bytes because its element type has no {@link DType}. */
export const isRawTensor = (tensor: StoredTensor): tensor is RawTensor => "bytes" in tensor;

/**
 * Opens a source and checks its whole header; no tensor data is read yet. The source is closed when this fails.
 *
 * @throws {FormatError} when the header is malformed, or does not describe exactly the bytes of the source
 */
export async function openSafetensorsSource(source: ByteSource): Promise<SafetensorsReader> {
  try {
    const head = new Uint8Array(Math.min(MAGIC_BYTES, source.size));
    await source.read(0, head);
    const header = new Uint8Array(headerLength(head, source.size, source.name));
    await source.read(LENGTH_BYTES, header);
    const { metadata, entries, duplicates } = parseHeader(header, source.size, source.name);
    return reader(source, metadata, entries, duplicates);
  } catch (error) {
    await source.close();
    throw error;
  }
}

function reader(
  source: ByteSource,
  metadata: ReadonlyMap<string, string>,
  entries: ReadonlyMap<string, SafetensorsEntry>,
  duplicates: readonly string[],
): SafetensorsReader {
  let closed = false;
  const read = async (name: string): Promise<StoredTensor> => {
    if (closed) throw new LifetimeError(`${source.name}: read of tensor ${quote(name)} after close()`);
    const entry = entries.get(name);
    if (entry === undefined) throw new ArgumentError(`${source.name}: no tensor is named ${quote(name)}`);
    return readEntry(source, name, entry);
  };
  return {
    metadata,
    entries,
    duplicates,
    read,
    async readAll() {
      const tensors = new Map<string, StoredTensor>();
      for (const name of entries.keys()) tensors.set(name, await read(name));
      return tensors;
    },
    async close() {
      if (closed) return;
      closed = true;
      await source.close();
    },
  };
}

/** Reads the tensor of one entry from its source. @throws {MemoryError} when its bytes cannot be allocated */
export async function readEntry(
  source: ByteSource,
  name: string,
  entry: SafetensorsEntry,
): Promise<StoredTensor> {
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(entry.bytes);
  } catch {
    throw new MemoryError(`${source.name}: cannot allocate ${entry.bytes} bytes for tensor ${quote(name)}`);
  }
  await source.read(entry.offset, bytes);
  return stored(entry, bytes);
}

/**
 * Decodes a whole file in memory.
 *
 * @param bytes the file
 * @param options `source`: name for messages; `share`: let aligned tensors be views of `bytes` instead of copies
 * @throws {FormatError} when the bytes are no valid safetensors file
 */
export function decodeSafetensors(
  bytes: Uint8Array,
  { source = "bytes", share = false }: { source?: string; share?: boolean } = {},
): Safetensors {
  const length = headerLength(bytes.subarray(0, MAGIC_BYTES), bytes.length, source);
  const header = bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
  const { metadata, entries } = parseHeader(header, bytes.length, source);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of entries) {
    const span = bytes.subarray(entry.offset, entry.offset + entry.bytes);
    // BOOL is always copied, because `stored` may rewrite its bytes.
    const view = share && span.byteOffset % 8 === 0 && entry.dtype !== "BOOL";
    tensors.set(name, stored(entry, view ? span : new Uint8Array(span)));
  }
  return { metadata, tensors };
}

/** The tensor over bytes that are aligned and, for BOOL, ours to change. */
function stored({ dtype: name, shape }: SafetensorsEntry, bytes: Uint8Array): StoredTensor {
  const dtype = BY_NAME.get(name);
  if (dtype === undefined) return { dtype: name, shape, bytes };
  const info = DTYPES[dtype];
  const data = new info.array(bytes.buffer, bytes.byteOffset, bytes.byteLength / info.bytes);
  // The format does not forbid other bytes than 0 and 1; the library does, so any other counts as true.
  if (dtype === "bool") for (let i = 0; i < data.length; i++) if (data[i]! > 1) data[i] = 1;
  return { dtype, shape, data };
}

/** Name of a dtype in the format. */
export const safetensorsName = (dtype: DType): string => NAMES[dtype];

/** A name and everything that the header says about its tensor. */
interface Item {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/**
 * The bytes of a file, as its header followed by one chunk per tensor. Chunks are views of the tensors' own
 * memory, so nothing is copied. Equal tensors give equal bytes whatever their order: sorted as the reference
 * implementation does, by descending dtype and then name; metadata by key; the header padded with spaces to a
 * multiple of 8 bytes. Everything is checked before the first chunk comes.
 *
 * @throws {ShapeError | DTypeError | ArgumentError} for a tensor, name or metadata that the format cannot hold
 */
export function safetensorsChunks(
  tensors: NamedTensors,
  metadata: ReadonlyMap<string, string> | Readonly<Record<string, string>> = {},
): Uint8Array[] {
  const pairs =
    tensors instanceof Map ? [...tensors] : Object.entries(tensors as Record<string, StoredTensor>);
  const items = pairs.map(([name, tensor]) => item(name, tensor)).sort(compareItems);
  const sized = items.map((item) => ({ ...item, size: item.bytes.length }));
  return [encodeHeader(sized, metadata), ...items.map(({ bytes }) => bytes)];
}

/**
 * The bytes of a file whose tensors are made one by one, so that it may be larger than memory: its header, then what
 * `read` gives for each name. The same bytes as those of {@link safetensorsChunks}.
 *
 * @param entries dtype (as the format names it) and shape of every tensor
 * @throws {ShapeError | DTypeError | ArgumentError} for a tensor, name or metadata that the format cannot hold, or a
 *   tensor that is not what its entry says
 */
export async function* safetensorsStream(
  entries: ReadonlyMap<string, { readonly dtype: string; readonly shape: readonly number[] }>,
  read: (name: string) => Promise<StoredTensor>,
  metadata: ReadonlyMap<string, string> | Readonly<Record<string, string>> = {},
): AsyncGenerator<Uint8Array> {
  const items = [...entries].map(([name, { dtype, shape }]) => {
    const bits = checkEntry(name, dtype, shape);
    return { name, dtype, shape, size: spanOf(shape, bits) ?? 0 };
  });
  items.sort(compareItems);
  yield encodeHeader(items, metadata);
  for (const { name, dtype, shape } of items) {
    const made = item(name, await read(name));
    if (made.dtype !== dtype || String(made.shape) !== String(shape))
      throw new ShapeError(
        `tensor ${quote(name)}: expected ${dtype} [${shape}], got ${made.dtype} [${made.shape}]`,
      );
    yield made.bytes;
  }
}

/** A whole file as bytes; see {@link safetensorsChunks}. */
export function encodeSafetensors(
  tensors: NamedTensors,
  metadata: ReadonlyMap<string, string> | Readonly<Record<string, string>> = {},
): Uint8Array {
  const chunks = safetensorsChunks(tensors, metadata);
  const out = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/** Bits per element. Throws for a name, dtype or shape that the format cannot hold. */
function checkEntry(name: string, dtype: string, shape: readonly number[]): number {
  if (name === METADATA_KEY) throw new ArgumentError(`a tensor cannot be named "${METADATA_KEY}"`);
  checkText(name, "tensor name");
  for (const extent of shape) {
    if (!Number.isSafeInteger(extent) || extent < 0) {
      throw new ShapeError(`tensor ${quote(name)}: expected extents from 0 to 2^53 - 1, got [${shape}]`);
    }
  }
  const bits = SAFETENSORS_BITS.get(dtype);
  if (bits === undefined) {
    throw new DTypeError(`tensor ${quote(name)}: safetensors has no dtype ${quote(String(dtype))}`);
  }
  return bits;
}

function item(name: string, tensor: StoredTensor): Item {
  const { shape } = tensor;
  const dtype = isRawTensor(tensor) ? tensor.dtype : (NAMES[tensor.dtype] ?? tensor.dtype);
  const bits = checkEntry(name, dtype, shape);
  const bytes = isRawTensor(tensor) ? tensor.bytes : bytesOfData(name, tensor);
  if (spanOf(shape, bits) !== bytes.length) {
    throw new ShapeError(
      `tensor ${quote(name)}: expected ${spanOf(shape, bits)} bytes for ${dtype} [${shape}], got ${bytes.length}`,
    );
  }
  return { name, dtype, shape, bytes };
}

function bytesOfData(name: string, { dtype, data }: HostTensor): Uint8Array {
  const { array } = DTYPES[dtype];
  if (!(data instanceof array)) {
    throw new DTypeError(`tensor ${quote(name)}: expected ${array.name} for ${dtype}, got another data type`);
  }
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

type Sized = Omit<Item, "bytes"> & { readonly size: number };

function compareItems(a: Omit<Item, "bytes">, b: Omit<Item, "bytes">): number {
  return RANK.get(b.dtype)! - RANK.get(a.dtype)! || compareCodePoints(a.name, b.name);
}

/** Order of the UTF-8 bytes, which differs from the order of UTF-16 units for characters above U+FFFF. */
export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    if (a.charCodeAt(i) !== b.charCodeAt(i)) return a.codePointAt(i)! - b.codePointAt(i)!;
  }
  return a.length - b.length;
}

function encodeHeader(
  items: readonly Sized[],
  metadata: ReadonlyMap<string, string> | Readonly<Record<string, string>>,
): Uint8Array {
  const members: string[] = [];
  const texts = metadata instanceof Map ? [...metadata] : Object.entries(metadata as Record<string, string>);
  if (texts.length > 0) {
    const sorted = texts
      .sort(([a], [b]) => compareCodePoints(a, b))
      .map(([key, value]) => {
        return `${checkText(key, "metadata key")}:${checkText(value, `metadata ${quote(key)}`)}`;
      });
    members.push(`"${METADATA_KEY}":{${sorted.join(",")}}`);
  }
  let at = 0;
  for (const { name, dtype, shape, size } of items) {
    const end = at + size;
    members.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${at},${end}]}`,
    );
    at = end;
  }
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  if (padded > MAX_HEADER_BYTES) {
    throw new ArgumentError(`expected a header of at most ${MAX_HEADER_BYTES} bytes, got ${padded}`);
  }
  const header = new Uint8Array(LENGTH_BYTES + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, LENGTH_BYTES);
  return header;
}

/** The JSON form of a text. @throws {ArgumentError} when it is no string or has no UTF-8 form */
function checkText(text: unknown, what: string): string {
  if (typeof text !== "string") throw new ArgumentError(`expected a string as ${what}, got ${typeof text}`);
  if (hasLoneSurrogate(text)) throw new ArgumentError(`${what} ${quote(text)} holds a lone surrogate`);
  return JSON.stringify(text);
}

/**
 * Decodes an 8-bit float tensor (`F8_E4M3`: no infinities, NaN is 0x7f; `F8_E5M2`: the upper half of an f16) to
 * f32, exactly.
 *
 * @throws {DTypeError} for any other dtype
 */
export function decodeFloat8({ dtype, shape, bytes }: RawTensor): HostTensor {
  if (dtype !== "F8_E4M3" && dtype !== "F8_E5M2") {
    throw new DTypeError(`expected F8_E4M3 or F8_E5M2, got ${quote(dtype)}`);
  }
  const decode = dtype === "F8_E4M3" ? e4m3ToNumber : (bits: number) => f16ToNumber(bits << 8);
  const table = Float32Array.from({ length: 256 }, (_, bits) => decode(bits));
  return { dtype: "f32", shape, data: Float32Array.from(bytes, (bits) => table[bits]!) };
}

function e4m3ToNumber(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >> 3) & 0xf;
  const fraction = bits & 7;
  if (exponent === 15 && fraction === 7) return Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -9;
  return sign * (1 + fraction / 8) * 2 ** (exponent - 7);
}
