/** What is kept of files that no job needs: not for ever, and not without bound. */
import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";

export interface Retention {
  /** Longest time that a file is kept which nothing needs. */
  readonly hours: number;
  /** Most bytes of such files; the oldest go first. */
  readonly bytes: number;
}

/**
 * Removes files of a folder that nothing needs, when they are too old or too many. One file after the other, each whole
 * or not at all: a kill in between leaves nothing half done, and the next sweep goes on. Says how many went.
 */
export function sweep(
  folder: string,
  needed: (name: string) => boolean,
  { hours, bytes }: Retention,
  now = Date.now(),
): number {
  const files = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && !needed(entry.name))
    .map(({ name }) => {
      const { size, mtimeMs } = statSync(join(folder, name));
      return { name, size, age: now - mtimeMs };
    })
    .sort((a, b) => a.age - b.age);
  let kept = 0;
  let removed = 0;
  for (const { name, size, age } of files) {
    kept += size;
    if (age <= hours * 3_600_000 && kept <= bytes) continue;
    rmSync(join(folder, name), { force: true });
    removed++;
  }
  return removed;
}
