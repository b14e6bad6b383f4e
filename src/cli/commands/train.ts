/** `tweedie train SYSTEM`, and the trainings that belong to no system. */
import { SYSTEMS } from "../../systems/index.ts";
import { TRAININGS } from "../../trainings/index.ts";
import { actionCommand, declaredCommand } from "../systems/command.ts";

export const train = actionCommand(
  "train",
  "Trains a system, or a model that makes pictures, on data of yours or on its own.",
  SYSTEMS,
  Object.fromEntries(
    TRAININGS.map(({ name, action }) => [name, () => declaredCommand(["train", name], action, true)]),
  ),
);
