/** `tweedie evaluate SYSTEM`. */
import { actionCommand } from "../systems/command.ts";

export const evaluate = actionCommand("evaluate", "measures a system on data with known answers");
