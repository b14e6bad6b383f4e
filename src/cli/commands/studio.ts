/** `tweedie studio`: serves the studio until Ctrl-C. */
import type { HelpfulCommand } from "../help.ts";
import { STUDIO_OPTIONS } from "../studio/options.ts";

export const studio: HelpfulCommand = {
  meta: {
    name: "studio",
    description: "Serves the studio: a page in the browser that runs and trains the systems on this machine.",
  },
  args: STUDIO_OPTIONS,
  examples: [
    "tweedie studio",
    "tweedie studio --model models/sd15 --folder cells=data/my-cells",
    "tweedie studio --host 0.0.0.0 --name workstation.local",
  ],
  run: async ({ rawArgs }) => (await import("../studio/index.ts")).studio(rawArgs),
};
