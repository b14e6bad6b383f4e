/** Measurements in a file that grows, so that a stopped reproduction goes on where it was. */
import { mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { writeFileAtomic } from "../io/index.ts";

/** Values by name. */
export interface Kept {
  /** The value of a key, measured when it is not there yet. */
  get<T>(key: string, measure: () => Promise<T>): Promise<T>;
  /** The value of a key, if it is there. */
  known<T>(key: string): T | undefined;
}

/** Opens such a file. */
export async function openKept(path: string): Promise<Kept> {
  await mkdir(dirname(path), { recursive: true });
  const text = await readFile(path, "utf8").catch(() => "{}");
  const values = JSON.parse(text) as Record<string, unknown>;
  const known = <T>(key: string): T | undefined => values[key] as T | undefined;
  return {
    known,
    async get<T>(key: string, measure: () => Promise<T>): Promise<T> {
      if (!(key in values)) {
        values[key] = await measure();
        await writeFileAtomic(path, Buffer.from(`${JSON.stringify(values, null, 1)}\n`));
      }
      return values[key] as T;
    },
  };
}
