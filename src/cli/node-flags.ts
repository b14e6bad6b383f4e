/** Processes of our own, from sources or built. */
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

/** Flags for Node: sources in TypeScript run through tsx. */
export const nodeFlags = (entry: string): string[] =>
  entry.endsWith(".ts")
    ? ["--import", pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href]
    : [];
