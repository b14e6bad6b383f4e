/** Options of `tweedie completion`. */
import type { Options } from "../options.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;

export const COMPLETION_OPTIONS = {
  shell: { type: "positional", values: SHELLS, description: "bash, zsh or fish" },
} as const satisfies Options;
