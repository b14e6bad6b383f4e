/** `tweedie train SYSTEM`. */
import { actionCommand } from "../systems/command.ts";

export const train = actionCommand("train", "Trains a system on data of yours, or on its own.");
