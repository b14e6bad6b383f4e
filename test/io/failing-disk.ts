/** Makes file system calls of this process fail on purpose. */

import { type FileHandle, open } from "node:fs/promises";
import { fileURLToPath } from "node:url";

type Method = "write" | "sync";

/**
 * Runs `work` while the n-th `write` or `sync` (counted together from 1) on any file fails like a full disk.
 *
 * @returns whether that call came at all
 */
export async function withFailingCall(n: number, work: () => Promise<unknown>): Promise<boolean> {
  const handle = await open(fileURLToPath(import.meta.url), "r");
  const prototype = Object.getPrototypeOf(handle) as Record<Method, (...args: unknown[]) => Promise<unknown>>;
  await handle.close();
  const original = { write: prototype.write, sync: prototype.sync };
  let calls = 0;
  for (const method of ["write", "sync"] as const) {
    prototype[method] = function (this: FileHandle, ...args: unknown[]) {
      if (++calls === n) {
        return Promise.reject(
          Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" }),
        );
      }
      return original[method].apply(this, args);
    };
  }
  try {
    await work();
  } finally {
    Object.assign(prototype, original);
  }
  return calls >= n;
}
