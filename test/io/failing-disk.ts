/** Makes file system calls of this process fail on purpose. */
import fs from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { fileURLToPath } from "node:url";

const full = (): Error => Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });

/**
 * Runs `work` while the n-th write or flush (counted together from 1) of any file fails like a full disk.
 *
 * @returns whether that call came at all
 */
export async function withFailingCall(n: number, work: () => Promise<unknown>): Promise<boolean> {
  const handle = await open(fileURLToPath(import.meta.url), "r");
  const prototype = Object.getPrototypeOf(handle) as { write(...args: unknown[]): Promise<unknown> };
  await handle.close();
  const { write } = prototype;
  const { fsync } = fs;
  let calls = 0;
  prototype.write = function (this: FileHandle, ...args: unknown[]) {
    return ++calls === n ? Promise.reject(full()) : write.apply(this, args);
  };
  const failing = (file: number, done: fs.NoParamCallback): void => {
    if (++calls === n) done(full() as NodeJS.ErrnoException);
    else fsync(file, done);
  };
  Object.assign(fs, { fsync: failing });
  syncBuiltinESMExports();
  try {
    await work();
  } finally {
    prototype.write = write;
    Object.assign(fs, { fsync });
    syncBuiltinESMExports();
  }
  return calls >= n;
}
