/** `tweedie doctor`: its declaration. What it does is in `../doctor/`, loaded when it runs. */
import { DOCTOR_OPTIONS } from "../doctor/options.ts";
import type { HelpfulCommand } from "../help.ts";

export const doctor: HelpfulCommand = {
  meta: {
    name: "doctor",
    description:
      "Says what devices, threads, memory, versions and checkpoints there are, and tests in a few seconds whether they work. Exit code 1 when something does not.",
  },
  args: DOCTOR_OPTIONS,
  examples: ["tweedie doctor", "tweedie doctor --json", "tweedie doctor --device webgpu"],
  run: async ({ rawArgs }) => (await import("../doctor/index.ts")).doctor(rawArgs),
};
