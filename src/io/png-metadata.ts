/**
 * Text in PNG files: `tEXt`, `zTXt` and `iTXt` chunks (PNG, third edition, section 11.3.3), read and written. The
 * pixels are not touched, so a picture keeps its bytes when its text changes. Files are taken as hostile: lengths,
 * checksums and the size of what is compressed are checked before anything is believed.
 */
import { crc32, inflateSync, stat } from "#node";
import { disguiseHint, MAGIC_BYTES } from "../disguise.ts";
import { ArgumentError, FormatError, MemoryError } from "../errors.ts";
import { latin1Bytes, latin1Text } from "./latin1.ts";
import { readFileBytes } from "./read-bytes.ts";

/** One text of a PNG: a keyword of 1 to 79 Latin-1 characters, and any text. */
export interface PngText {
  readonly keyword: string;
  readonly text: string;
}

/** A text to write. */
export interface NewPngText extends PngText {
  /** Writes UTF-8 (`iTXt`) even where Latin-1 would do. */
  readonly utf8?: boolean;
}

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
/** Most characters and bytes of text that are taken from one file, after decompression. */
const MAX_TEXT_BYTES = 16 * 2 ** 20;
/** Largest file that is read for its text. */
const MAX_FILE_BYTES = 2 ** 30;
/** Length, type and checksum around a chunk's data. */
const CHUNK_OVERHEAD = 12;

interface Chunk {
  readonly type: string;
  readonly data: Uint8Array;
  /** The whole chunk in the file. */
  readonly bytes: Uint8Array;
}

const latin1 = new TextDecoder("latin1");

/** The chunks of a PNG in order, checked up to IEND. What follows IEND is ignored, as all readers do. */
function* chunksOf(png: Uint8Array, source: string): Generator<Chunk> {
  const fail = (problem: string): never => {
    throw new FormatError(`${source}: ${problem}`);
  };
  if (!SIGNATURE.every((byte, i) => png[i] === byte)) {
    const isPngCutShort = png.length < SIGNATURE.length && png.every((byte, i) => byte === SIGNATURE[i]);
    fail(
      `not a PNG file${isPngCutShort ? ", only its beginning" : disguiseHint(png.subarray(0, MAGIC_BYTES))}`,
    );
  }
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  for (let at = SIGNATURE.length; ; ) {
    if (png.length - at < CHUNK_OVERHEAD)
      fail(`the PNG is cut off: no end (IEND) in its ${png.length} bytes`);
    const length = view.getUint32(at);
    const type = latin1.decode(png.subarray(at + 4, at + 8));
    if (!/^[A-Za-z]{4}$/.test(type))
      fail(`byte ${at + 4}: expected the type of a PNG chunk, got bytes that are not`);
    const room = png.length - at - CHUNK_OVERHEAD;
    if (length > room)
      fail(
        `chunk ${type} at byte ${at} claims ${length} bytes, but only ${room} are left: the PNG is cut off`,
      );
    const end = at + CHUNK_OVERHEAD + length;
    if (crc32(png.subarray(at + 4, end - 4)) !== view.getUint32(end - 4))
      fail(`chunk ${type} at byte ${at} is damaged: its checksum does not match`);
    if ((at === SIGNATURE.length) !== (type === "IHDR"))
      fail(`expected the chunk IHDR first and once, got ${type}`);
    yield { type, data: png.subarray(at + 8, end - 4), bytes: png.subarray(at, end) };
    if (type === "IEND") return;
    at = end;
  }
}

/** Splits at the next zero byte. */
function untilZero(data: Uint8Array, what: string): [before: Uint8Array, after: Uint8Array] {
  const zero = data.indexOf(0);
  if (zero < 0) throw new FormatError(`expected a zero byte after the ${what}, got none`);
  return [data.subarray(0, zero), data.subarray(zero + 1)];
}

/** Decompresses at most `limit` bytes. */
function inflate(data: Uint8Array, method: number | undefined, limit: number): Uint8Array {
  if (method !== 0) throw new FormatError(`expected compression method 0, got ${method}`);
  try {
    return inflateSync(data, { maxOutputLength: Math.max(1, limit) });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE")
      throw new FormatError(`its text is larger than ${MAX_TEXT_BYTES} bytes when decompressed`);
    throw new FormatError(`its compressed text is damaged (${(error as Error).message})`);
  }
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new FormatError("expected UTF-8 text, got bytes that are not");
  }
}

/** The text of a chunk, of which at most `limit` bytes are decompressed; undefined for a chunk of another kind. */
function textOf({ type, data }: Chunk, limit: number): PngText | undefined {
  if (type !== "tEXt" && type !== "zTXt" && type !== "iTXt") return undefined;
  const [name, rest] = untilZero(data, "keyword");
  const keyword = latin1Text(name);
  if (!isKeyword(keyword))
    throw new FormatError(`expected a keyword of 1 to 79 characters, got ${name.length}`);
  if (type === "tEXt") return { keyword, text: latin1Text(rest) };
  if (type === "zTXt") return { keyword, text: latin1Text(inflate(rest.subarray(1), rest[0], limit)) };
  const [, afterLanguage] = untilZero(rest.subarray(2), "language");
  const [, body] = untilZero(afterLanguage, "translated keyword");
  if (rest[0]! > 1) throw new FormatError(`expected compression flag 0 or 1, got ${rest[0]}`);
  return { keyword, text: decodeUtf8(rest[0] === 1 ? inflate(body, rest[1], limit) : body) };
}

const isKeyword = (text: string): boolean => /^[\x20-\x7e\xa1-\xff]{1,79}$/.test(text);

const isLatin1 = (text: string): boolean => /^[\t\n\r\x20-\x7e\xa0-\xff]*$/.test(text);

/**
 * All texts of a PNG in the order of the file.
 *
 * @throws {FormatError} for a file that is no PNG, is cut off or damaged, or holds more than 16 MiB of text
 */
export function readPngText(png: Uint8Array, source = "PNG"): PngText[] {
  const texts: PngText[] = [];
  let left = MAX_TEXT_BYTES;
  for (const chunk of chunksOf(png, source)) {
    try {
      const text = textOf(chunk, left);
      if (!text) continue;
      left -= text.text.length;
      if (left < 0) throw new FormatError(`more than ${MAX_TEXT_BYTES} bytes of text`);
      texts.push(text);
    } catch (error) {
      if (error instanceof FormatError)
        throw new FormatError(`${source}: chunk ${chunk.type}: ${error.message}`);
      throw error;
    }
  }
  return texts;
}

/** All texts of a PNG file. @throws {FormatError} as `readPngText` does, {MemoryError} for a file above 1 GiB */
export async function readPngTextFile(path: string): Promise<PngText[]> {
  const { size } = await stat(path).catch(() => ({ size: 0 })); // reading says what is wrong
  if (size > MAX_FILE_BYTES)
    throw new MemoryError(`${path}: ${size} bytes are more than a picture should have`);
  return readPngText(await readFileBytes(path), path);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function encodeChunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(data.length + CHUNK_OVERHEAD);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(latin1Bytes(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** Latin-1 goes into `tEXt`, which every reader knows; anything else is UTF-8 in `iTXt`. */
function encodeText({ keyword, text, utf8 = false }: NewPngText): Uint8Array {
  if (!isKeyword(keyword))
    throw new ArgumentError(`a PNG keyword has 1 to 79 Latin-1 characters, got ${JSON.stringify(keyword)}`);
  if (!utf8 && isLatin1(text)) return encodeChunk("tEXt", latin1Bytes(`${keyword}\0${text}`));
  const head = latin1Bytes(`${keyword}\0\0\0\0\0`); // not compressed, no language, no translation
  return encodeChunk("iTXt", joined([head, new TextEncoder().encode(text)]));
}

/**
 * A PNG with texts added behind its header; texts of the same keywords that it had are dropped.
 *
 * @throws {FormatError} for a file that is no PNG, {ArgumentError} for a keyword that PNG does not allow
 */
export function withPngText(png: Uint8Array, texts: readonly NewPngText[], source = "PNG"): Uint8Array {
  const added = texts.map(encodeText);
  const replaced = new Set(texts.map((t) => t.keyword));
  const parts: Uint8Array[] = [SIGNATURE];
  for (const chunk of chunksOf(png, source)) {
    if (
      /^[tzi](?:EXt|TXt)$/.test(chunk.type) &&
      replaced.has(latin1Text(untilZero(chunk.data, "keyword")[0]))
    )
      continue;
    parts.push(chunk.bytes);
    if (chunk.type === "IHDR") parts.push(...added);
  }
  return joined(parts);
}
