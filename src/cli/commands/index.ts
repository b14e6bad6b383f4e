/** All commands, each loaded when it is called. */
import { type CommandDef, defineCommand } from "citty";
import manifest from "../../../package.json" with { type: "json" };

/** Commands by name; those behind `generate` are made of what the systems declare. */
const commands: Readonly<Record<string, () => Promise<CommandDef>>> = {
  generate: async () => (await import("./generate.ts")).generate,
  systems: async () => (await import("./systems.ts")).systems,
  train: async () => (await import("./train.ts")).train,
  run: async () => (await import("./run.ts")).run,
  evaluate: async () => (await import("./evaluate.ts")).evaluate,
  reproduce: async () => (await import("./reproduce.ts")).reproduce,
  quantize: async () => (await import("./quantize.ts")).quantize,
  models: async () => (await import("./models.ts")).models,
  studio: async () => (await import("./studio.ts")).studio,
};

/** The command `tweedie` itself. */
export const tweedie: CommandDef = defineCommand({
  meta: { name: "tweedie", version: manifest.version, description: manifest.description },
  subCommands: commands,
});
