/** `tweedie generate`: its declaration. What it does is in `../generate/`, loaded when it runs. */
import { GENERATE_OPTIONS } from "../generate/options.ts";
import type { HelpfulCommand } from "../help.ts";

export const generate: HelpfulCommand = {
  meta: {
    name: "generate",
    description: "Makes pictures from a text, a class, another picture, or from nothing but noise.",
  },
  args: GENERATE_OPTIONS,
  examples: [
    'tweedie generate --model models/sd15 --prompt "a lighthouse at dusk" --seed 7',
    'tweedie generate --model models/sd15 --prompt "the same in winter" --init-image a.png --strength 0.6',
    "tweedie generate --model models/dit --class 207 --count 4 --batch 4",
    "tweedie generate --from out/00000-7.png --steps 100",
  ],
  run: async ({ rawArgs }) => (await import("../generate/index.ts")).generate(rawArgs),
};
