/** All tools: every declared system, the training of a text-to-picture model, and `generate` where there are models for it. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { SYSTEMS } from "../systems/index.ts";
import { TRAININGS } from "../trainings/index.ts";
import { generateTool } from "./generate-tool.ts";
import { systemTool } from "./system-tool.ts";
import type { Catalog } from "./tool.ts";

/** Where the paths of checkpoints begin: the repository's root, or the package's. */
const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** @see Catalog */
export const catalog: Catalog = async (settings) => {
  const files = { root: ROOT, exists: existsSync };
  const systems = SYSTEMS.map((system) => systemTool(system, settings, files));
  // What adapts a model needs the model's path, which a page never sends.
  const trainings = TRAININGS.filter(({ name }) => name === "text-to-picture").map(
    ({ name, title, action }) =>
      systemTool(
        { name, title, about: action.about, actions: { train: action }, checkpoints: [] },
        settings,
        files,
      ),
  );
  const hasModels = Object.keys(settings.models).length > 0;
  return [...systems, ...trainings, ...(hasModels ? [generateTool(settings)] : [])];
};
