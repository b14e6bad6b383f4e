/** All commands, each loaded when it is called. */
import { type CommandDef, defineCommand } from "citty";
import manifest from "../../../package.json" with { type: "json" };

/** Commands by name. What the systems declare (train, evaluate, reproduce) joins this table as it is generated. */
const commands: Readonly<Record<string, () => Promise<CommandDef>>> = {
  generate: async () => (await import("./generate.ts")).generate,
  models: async () => (await import("./models.ts")).models,
};

/** The command `tweedie` itself. */
export const tweedie: CommandDef = defineCommand({
  meta: { name: "tweedie", version: manifest.version, description: manifest.description },
  subCommands: commands,
});
