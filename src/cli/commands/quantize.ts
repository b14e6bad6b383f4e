/** `tweedie quantize`: its declaration. What it does is in `../quantize/`, loaded when it runs. */
import type { HelpfulCommand } from "../help.ts";
import { QUANTIZE_OPTIONS } from "../quantize/options.ts";

export const quantize: HelpfulCommand = {
  meta: {
    name: "quantize",
    description: "Rounds the linear layers of a network to packed integers that run on integer kernels.",
  },
  args: QUANTIZE_OPTIONS,
  examples: [
    "tweedie quantize models/dit/transformer --weights 4 --activations 8 --group 64 --out models/dit-w4a8",
    "tweedie quantize models/sd15/unet --weights 8 --activations 16 --out models/unet-w8",
  ],
  run: async ({ rawArgs }) => (await import("../quantize/index.ts")).quantize(rawArgs),
};
