/**
 * A program that imports every entry of the installed package, and says what that does besides: it ends by itself and
 * prints nothing. zod keeps two records of its own among the globals.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

export async function importScript(folder: string): Promise<string> {
  const { exports } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const entries = Object.keys(exports)
    .filter((name) => !name.endsWith(".json"))
    .map((name) => `tweedie${name.slice(1)}`);
  return `const before = new Set(Object.getOwnPropertyNames(globalThis));
const listeners = process.eventNames().length;
for (const entry of ${JSON.stringify(entries)}) await import(entry);
const added = Object.getOwnPropertyNames(globalThis).filter((name) => !before.has(name) && !name.startsWith("__zod_"));
if (added.length > 0) console.log("globals: " + added);
if (process.eventNames().length > listeners) console.log("listeners: " + process.eventNames());
`;
}
