/** `tweedie quantize`. */
import { quantizeAction } from "../quantize/options.ts";
import { declaredCommand } from "../systems/command.ts";

export const quantize = declaredCommand(["quantize"], quantizeAction);
