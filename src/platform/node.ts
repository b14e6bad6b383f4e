/**
 * What the library takes of Node, in one place: `#node`. Bundlers for browsers take `web.ts` instead, so that an entry whose
 * functions partly need files can be bundled, and the functions that do not need them run.
 */
export { createHash, type Hash, randomBytes } from "node:crypto";
export { createReadStream, fsync } from "node:fs";
export {
  appendFile,
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
export { createRequire } from "node:module";
export { homedir, hostname } from "node:os";
export { basename, dirname, extname, join, relative, resolve, sep } from "node:path";
export { setTimeout as delay } from "node:timers/promises";
export { pathToFileURL } from "node:url";
export { promisify } from "node:util";
export { Worker } from "node:worker_threads";
export { crc32, deflateSync, gunzipSync, inflateSync } from "node:zlib";

/** The client of the Hugging Face hub, which is an optional dependency. */
export const hubClient = (): Promise<typeof import("@huggingface/hub")> => import("@huggingface/hub");
