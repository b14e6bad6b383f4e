/** `tweedie quantize`. */
import { deferredAction } from "../../systems/system.ts";
import { quantizeOptions } from "../quantize/options.ts";
import { declaredCommand } from "../systems/command.ts";

/** What is declared of the command; what it does is loaded when it runs. */
export const quantizeAction = deferredAction({
  about: "rounds the linear layers of a network to packed integers that run on integer kernels",
  options: quantizeOptions,
  examples: [
    "tweedie quantize models/dit/transformer --method q-dit --out models/dit-w4a8",
    "tweedie quantize models/dit/transformer --method q-dit --search --samples 64 --out models/dit-w4a8",
    "tweedie quantize models/sd15/unet --weights 8 --activations 16 --out models/unet-w8",
  ],
  load: async () => (await import("../quantize/index.ts")).quantizeNetwork,
});

export const quantize = declaredCommand(["quantize"], quantizeAction);
