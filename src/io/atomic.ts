/** Files that appear whole or not at all, whatever moment the process dies or the power fails. */

import {
  dirname,
  type FileHandle,
  fsync,
  join,
  open,
  promisify,
  randomBytes,
  readdir,
  rename,
  resolve,
  rm,
  stat,
} from "#node";

/** Content of a file: bytes, or chunks that are written in order without being gathered first. */
export type FileContent = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** Most bytes per system call: the kernel caps one read or write a little below 2 GiB. */
export const MAX_TRANSFER_BYTES = 2 ** 30;

const TEMPORARY = /^\.tweedie-\d+-[0-9a-f]{12}\.tmp$/;
/** A write that takes longer than this, in milliseconds, was killed: a living one changes its file all the time. */
const ABANDONED = 24 * 60 * 60 * 1000;
/** Folders that this process has cleared. */
const cleared = new Set<string>();

/** Removes what killed processes left in a folder, once for each process. What cannot be removed stays. */
async function clearAbandoned(folder: string): Promise<void> {
  if (cleared.has(folder)) return;
  cleared.add(folder);
  for (const name of await readdir(folder).catch(() => [])) {
    if (!TEMPORARY.test(name)) continue;
    const path = join(folder, name);
    const age = Date.now() - (await stat(path).catch(() => ({ mtimeMs: Date.now() }))).mtimeMs;
    if (age > ABANDONED) await rm(path, { force: true }).catch(() => undefined);
  }
}

/**
 * Writes a file under a temporary name in the same folder, flushes it to the disk, renames it over `path`, and
 * flushes the folder, so that readers see either the old file or the whole new one. When anything fails, the
 * temporary file is removed and the old one stays; after a hard kill it is removed by a later write to the folder, when
 * it is a day old. If `path` is a symbolic link, the link itself is replaced.
 *
 * @throws the error of the file system, such as `ENOSPC` or `EROFS`, or of `content` itself
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  const folder = resolve(dirname(path));
  await clearAbandoned(folder);
  const temporary = join(folder, `.tweedie-${process.pid}-${randomBytes(6).toString("hex")}.tmp`);
  try {
    await writeFileSynced(temporary, content);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined); // the first error is the one to report
    throw error;
  }
  await syncDirectory(folder);
}

/** `FileHandle.sync` by its number: the file systems that package managers put in between (Yarn's PnP) lack the method. */
const flush = (file: FileHandle): Promise<void> => promisify(fsync)(file.fd);

/** Creates a new file, which must not exist yet, and flushes it to the disk before returning. */
export async function writeFileSynced(path: string, content: FileContent): Promise<void> {
  const file = await open(path, "wx");
  try {
    if (content instanceof Uint8Array) await writeAll(file, content);
    else for await (const chunk of content) await writeAll(file, chunk);
    await flush(file);
  } finally {
    await file.close();
  }
}

/** Flushes a folder, which makes the creation, renaming and removal of its files durable. */
export async function syncDirectory(path: string): Promise<void> {
  if (process.platform === "win32") return; // folders cannot be opened there; NTFS journals renames itself
  const folder = await open(path, "r");
  try {
    await flush(folder);
  } finally {
    await folder.close();
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    const length = Math.min(bytes.length - at, MAX_TRANSFER_BYTES);
    at += (await file.write(bytes, at, length)).bytesWritten;
  }
}
