/**
 * `#node` in browsers: what `node.ts` exports, under the same names. Compression works there, too; files, hashes and threads
 * do not exist, and whoever asks for them is told so.
 */
import { Gunzip, Unzlib, zlibSync } from "fflate";
import { DeviceError } from "../errors.ts";

/** A function, or class, that says that it needs Node. */
const absent = (name: string) =>
  function refuse(): never {
    throw new DeviceError(
      `${name}: this needs Node, there are no files and threads of its kind in browsers. Give bytes instead of paths, or compute on a server`,
    );
  };

export const createHash = absent("createHash");
export const randomBytes = absent("randomBytes");
export const createReadStream = absent("createReadStream");
export const fsync = absent("fsync");
export const appendFile = absent("appendFile");
export const lstat = absent("lstat");
export const mkdir = absent("mkdir");
export const open = absent("open");
export const readdir = absent("readdir");
export const readFile = absent("readFile");
export const realpath = absent("realpath");
export const rename = absent("rename");
export const rm = absent("rm");
export const stat = absent("stat");
export const writeFile = absent("writeFile");
export const createRequire = absent("createRequire");
export const homedir = absent("homedir");
export const hostname = absent("hostname");
export const basename = absent("basename");
export const dirname = absent("dirname");
export const extname = absent("extname");
export const join = absent("join");
export const relative = absent("relative");
export const resolve = absent("resolve");
export const sep = "/";
export const delay = absent("delay");
export const pathToFileURL = absent("pathToFileURL");
export const promisify = absent("promisify");
export const Worker = absent("Worker");
export const hubClient = absent("@huggingface/hub");

interface Limit {
  readonly maxOutputLength?: number;
}
type Inflating = new (ondata: (part: Uint8Array) => void) => { push(data: Uint8Array, final: boolean): void };

/** Bytes that are decompressed at a time: what they grow to (1,032 times as much) is held before it is counted. */
const PIECE = 2 ** 14;

/** Decompresses piece by piece, so that a bomb is found before it fills the memory. Checksums are not looked at. */
const inflating =
  (Stream: Inflating) =>
  (data: Uint8Array, { maxOutputLength = 2 ** 31 }: Limit = {}): Uint8Array => {
    const parts: Uint8Array[] = [];
    let total = 0;
    const stream = new Stream((part) => {
      total += part.length;
      if (total > maxOutputLength)
        throw Object.assign(new RangeError(`more than ${maxOutputLength} bytes when decompressed`), {
          code: "ERR_BUFFER_TOO_LARGE",
        });
      parts.push(part);
    });
    for (let at = 0; at < data.length; at += PIECE)
      stream.push(data.subarray(at, at + PIECE), at + PIECE >= data.length);
    const out = new Uint8Array(total);
    let at = 0;
    for (const part of parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  };

const gunzip = inflating(Gunzip);
export function gunzipSync(data: Uint8Array, limit?: Limit): Uint8Array {
  if (data.length < 18 || data[0] !== 0x1f || data[1] !== 0x8b) throw new Error("no gzip data");
  return gunzip(data, limit);
}

export const inflateSync = inflating(Unzlib);
export const deflateSync = (data: Uint8Array): Uint8Array => zlibSync(data);

/** Remainders of single bytes for CRC-32 (PNG, third edition, annex D). */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let c = byte;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

export function crc32(data: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of data) c = CRC_TABLE[(c ^ byte) & 0xff]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
