/** All commands, each loaded when it is called. */
import type { CommandDef } from "citty";
import manifest from "../../../package.json" with { type: "json" };
import { EXIT_CODES } from "../errors.ts";
import type { HelpfulCommand } from "../help.ts";

/** Commands by name; `run` to `reproduce` are made of what the systems declare. */
const commands: Readonly<Record<string, () => Promise<CommandDef>>> = {
  systems: async () => (await import("./systems.ts")).systems,
  run: async () => (await import("./run.ts")).run,
  train: async () => (await import("./train.ts")).train,
  evaluate: async () => (await import("./evaluate.ts")).evaluate,
  reproduce: async () => (await import("./reproduce.ts")).reproduce,
  generate: async () => (await import("./generate.ts")).generate,
  quantize: async () => (await import("./quantize.ts")).quantize,
  models: async () => (await import("./models.ts")).models,
  studio: async () => (await import("./studio.ts")).studio,
  bench: async () => (await import("./bench.ts")).bench,
  doctor: async () => (await import("./doctor.ts")).doctor,
  completion: async () => (await import("./completion.ts")).completionOf(() => tweedie),
};

/** The command `tweedie` itself. */
export const tweedie: HelpfulCommand = {
  meta: { name: "tweedie", version: manifest.version, description: manifest.description },
  subCommands: commands,
  examples: [
    "tweedie doctor",
    "tweedie run sdseg --image cells.png --model nuclei",
    "tweedie train sdseg --data my-cells --out out/my-cells",
    'tweedie generate --model models/sd15 --prompt "a lighthouse at dusk"',
    "tweedie studio",
  ],
  sections: [
    ["Exit codes", EXIT_CODES],
    [
      "Everywhere",
      [
        ["--json", "one JSON object per line on standard output, progress and errors included"],
        ["--version", "prints the version"],
        ["Ctrl-C", "stops after the step at hand and says how to go on; once more stops at once"],
        ["NO_COLOR=1", "no colours, which pipes and files never get"],
        ["TWEEDIE_DEBUG=1", "shows where an error comes from"],
      ],
    ],
  ],
};
