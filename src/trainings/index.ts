/** Trainings of the library itself, beside those of the systems: pipelines from nothing, and what adapts them. */
import { type Action, deferredAction } from "../systems/system.ts";
import { textToPictureOptions } from "./options.ts";

/** A training that belongs to no system. */
export interface Training {
  /** As `tweedie train` takes it. */
  readonly name: string;
  readonly title: string;
  readonly action: Action;
}

/** All of them. */
export const TRAININGS: readonly Training[] = [
  {
    name: "text-to-picture",
    title: "Text to picture",
    action: deferredAction({
      about: "trains a text-to-picture model from nothing, on pictures of yours or on the shape world",
      options: textToPictureOptions,
      examples: [
        "tweedie train text-to-picture --data my-pictures --out out/my-model",
        'tweedie generate --model out/my-model/model --prompt "a red fox"',
      ],
      load: async () => (await import("./text-to-picture.ts")).trainTextToPictureAction,
    }),
  },
];
