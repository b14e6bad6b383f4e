/** `tweedie reproduce SYSTEM`. */
import { actionCommand } from "../systems/command.ts";

export const reproduce = actionCommand("reproduce", "Trains and measures what a paper claims.");
