/** All tools: every declared system, and `generate` where there are models for it. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { SYSTEMS } from "../systems/index.ts";
import { generateTool } from "./generate-tool.ts";
import { systemTool } from "./system-tool.ts";
import type { Catalog } from "./tool.ts";

/** Where the paths of checkpoints begin: the repository's root, or the package's. */
const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** @see Catalog */
export const catalog: Catalog = async (settings) => {
  const systems = SYSTEMS.map((system) => systemTool(system, settings, { root: ROOT, exists: existsSync }));
  const hasModels = Object.keys(settings.models).length > 0;
  return [...systems, ...(hasModels ? [generateTool(settings)] : [])];
};
