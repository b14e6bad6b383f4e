/** `tweedie evaluate SYSTEM`. */
import { actionCommand } from "../systems/command.ts";

export const evaluate = actionCommand("evaluate", "Measures a system on data with known answers.");
