/** `tweedie reproduce SYSTEM`. */
import { actionCommand } from "../systems/command.ts";

export const reproduce = actionCommand("reproduce", "trains and measures what a paper claims");
