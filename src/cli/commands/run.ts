/** `tweedie run SYSTEM`. */
import { actionCommand } from "../systems/command.ts";

export const run = actionCommand("run", "Runs a system: on pictures, or to draw some.");
