/**
 * Header of a safetensors file: 8 bytes of little-endian header length, then UTF-8 JSON that maps each tensor's
 * name to its dtype, shape and byte span, then the data.
 */

import { disguiseHint } from "../disguise.ts";
import { FormatError } from "../errors.ts";
import { JsonScanner, quote } from "./json-scanner.ts";

/** Largest header that is read, in bytes; the same limit as the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Bytes of the length field at the start of the file. */
export const LENGTH_BYTES = 8;

/** Key of the header that holds text metadata instead of a tensor. */
export const METADATA_KEY = "__metadata__";

/**
 * Bits per element of every dtype of the format, in the reference's order. The order is part of the written
 * bytes: the writer sorts by it, last one first, so that wide elements come first and all stay aligned.
 */
export const SAFETENSORS_BITS: ReadonlyMap<string, number> = new Map([
  ["BOOL", 8],
  ["F4", 4],
  ["F6_E2M3", 6],
  ["F6_E3M2", 6],
  ["U8", 8],
  ["I8", 8],
  ["F8_E5M2", 8],
  ["F8_E4M3", 8],
  ["F8_E8M0", 8],
  ["F8_E4M3FNUZ", 8],
  ["F8_E5M2FNUZ", 8],
  ["I16", 16],
  ["U16", 16],
  ["F16", 16],
  ["BF16", 16],
  ["I32", 32],
  ["U32", 32],
  ["F32", 32],
  ["C64", 64],
  ["F64", 64],
  ["I64", 64],
  ["U64", 64],
]);

/** Where one tensor lies in a file. */
export interface SafetensorsEntry {
  /** Name of the element type in the format, such as `F32` or `F8_E4M3`. */
  readonly dtype: string;
  /** Extent of each dimension; `[]` for a scalar. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  /** Length in bytes. */
  readonly bytes: number;
}

/** A header that passed every check. */
export interface SafetensorsHeader {
  readonly metadata: Map<string, string>;
  /** Tensors in the order of the file's data. */
  readonly entries: Map<string, SafetensorsEntry>;
  /** Names that the header gives more than once. The last one counts, as in the reference implementation. */
  readonly duplicates: readonly string[];
}

/**
 * Bytes of a tensor of the format. `undefined` when the count overflows 2^53 or when elements narrower than a
 * byte do not fill whole bytes.
 */
export function spanOf(shape: readonly number[], bits: number): number | undefined {
  let elements = 1;
  for (const extent of shape) {
    elements *= extent;
    if (!Number.isSafeInteger(elements)) return undefined;
  }
  const total = elements * bits;
  return Number.isSafeInteger(total) && total % 8 === 0 ? total / 8 : undefined;
}

/**
 * Header length from the first bytes of a file.
 *
 * @param head the first 8 bytes or more (64 allow a better hint), fewer when the file is shorter
 * @param fileBytes size of the whole file
 * @param source name of the file for messages
 * @throws {FormatError} when the length is above the limit or past the end of the file
 */
export function headerLength(head: Uint8Array, fileBytes: number, source: string): number {
  const fail = (message: string): never => {
    throw new FormatError(`${source}: not a safetensors file: ${message}${disguiseHint(head)}`);
  };
  if (fileBytes < LENGTH_BYTES || head.length < LENGTH_BYTES) {
    return fail(`expected at least ${LENGTH_BYTES} bytes, got ${fileBytes}`);
  }
  const length = new DataView(head.buffer, head.byteOffset, head.byteLength).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    return fail(`expected a header of at most ${MAX_HEADER_BYTES} bytes, got a length of ${length}`);
  }
  if (Number(length) > fileBytes - LENGTH_BYTES) {
    return fail(`expected a header inside the file of ${fileBytes} bytes, got a header length of ${length}`);
  }
  const first = head[LENGTH_BYTES];
  if (length === 0n || (first !== undefined && first !== 0x7b)) {
    const got = length === 0n ? "an empty header" : `byte 0x${first!.toString(16).padStart(2, "0")}`;
    return fail(`expected a header that starts with "{", got ${got}`);
  }
  return Number(length);
}

interface Span {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** Parses and checks a header (without its 8-byte length) for a file of `fileBytes` bytes. */
export function parseHeader(header: Uint8Array, fileBytes: number, source: string): SafetensorsHeader {
  const fail = (message: string): never => {
    throw new FormatError(`${source}: malformed safetensors header: ${message}`);
  };
  const scanner = new JsonScanner(decodeUtf8(header, fail), fail);
  const spans = new Map<string, Span>();
  const duplicates: string[] = [];
  let metadata: Map<string, string> | undefined;
  scanner.object('"{"', (name) => {
    if (name === METADATA_KEY) {
      if (metadata !== undefined) fail(`the key "${METADATA_KEY}" comes twice`);
      metadata = scanMetadata(scanner);
    } else {
      if (spans.has(name)) duplicates.push(name);
      spans.set(name, scanSpan(scanner, name, fail));
    }
  });
  scanner.end();
  const dataBytes = fileBytes - LENGTH_BYTES - header.length;
  const entries = tile(spans, fileBytes - dataBytes, dataBytes, fail);
  return { metadata: metadata ?? new Map(), entries, duplicates };
}

function decodeUtf8(header: Uint8Array, fail: (message: string) => never): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
  } catch {
    return fail("expected UTF-8 text, got bytes that are not");
  }
}

function scanMetadata(scanner: JsonScanner): Map<string, string> {
  const metadata = new Map<string, string>();
  if (scanner.takeNull()) return metadata;
  scanner.object(`an object as "${METADATA_KEY}"`, (key) => {
    metadata.set(key, scanner.string(`a string as metadata ${quote(key)}`));
  });
  return metadata;
}

/** One `{"dtype", "shape", "data_offsets"}`. Unknown fields are ignored, as by the reference implementation. */
function scanSpan(scanner: JsonScanner, name: string, fail: (message: string) => never): Span {
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  const once = (field: string, value: unknown) => {
    if (value !== undefined) fail(`tensor ${quote(name)} gives "${field}" twice`);
  };
  scanner.object("an object that describes a tensor", (field) => {
    if (field === "dtype") {
      once(field, dtype);
      dtype = scanner.string("a dtype name");
    } else if (field === "shape") {
      once(field, shape);
      shape = scanIntegers(scanner, "shape");
    } else if (field === "data_offsets") {
      once(field, offsets);
      offsets = scanIntegers(scanner, "data_offsets");
    } else scanner.skip();
  });
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    return fail(
      `expected "dtype", "shape" and "data_offsets" for tensor ${quote(name)}, got only some of them`,
    );
  }
  const [begin, end] = offsets;
  if (offsets.length !== 2 || begin === undefined || end === undefined) {
    return fail(`expected two data_offsets for tensor ${quote(name)}, got ${offsets.length}`);
  }
  return { dtype, shape, begin, end };
}

function scanIntegers(scanner: JsonScanner, what: string): number[] {
  const values: number[] = [];
  scanner.array(`an array as "${what}"`, () =>
    values.push(scanner.unsignedInteger(`an element of "${what}"`)),
  );
  return values;
}

/** Checks that the spans cover the data without hole, overlap or rest: no byte of the file escapes the header. */
function tile(
  spans: Map<string, Span>,
  dataStart: number,
  dataBytes: number,
  fail: (message: string) => never,
): Map<string, SafetensorsEntry> {
  const ordered = [...spans].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  const entries = new Map<string, SafetensorsEntry>();
  let at = 0;
  for (const [name, { dtype, shape, begin, end }] of ordered) {
    if (begin !== at || end < begin) {
      fail(
        `expected tensor ${quote(name)} to start at byte ${at} of the data, got data_offsets [${begin}, ${end}]`,
      );
    }
    const bits = SAFETENSORS_BITS.get(dtype);
    if (bits === undefined) return fail(`unknown dtype ${quote(dtype)} of tensor ${quote(name)}`);
    const bytes = spanOf(shape, bits);
    if (bytes !== end - begin) {
      const shown = quote(`[${shape.slice(0, 16).join(",")}${shape.length > 16 ? ",…" : ""}]`);
      const expected = bytes === undefined ? "a whole number of bytes below 2^50" : `${bytes} bytes`;
      fail(`expected ${expected} for ${dtype} ${shown} of tensor ${quote(name)}, got ${end - begin} bytes`);
    }
    entries.set(name, { dtype, shape, offset: dataStart + begin, bytes: end - begin });
    at = end;
  }
  if (at !== dataBytes) {
    const problem = at < dataBytes ? "bytes that belong to no tensor" : "a file that was cut off";
    fail(`expected ${at} bytes of data, got ${dataBytes}: ${problem}`);
  }
  return entries;
}
