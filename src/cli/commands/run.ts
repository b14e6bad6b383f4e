/** `tweedie run SYSTEM`. */
import { actionCommand } from "../systems/command.ts";

export const run = actionCommand("run", "runs a system on pictures");
