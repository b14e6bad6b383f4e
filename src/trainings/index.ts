/** Trainings of the library itself, beside those of the systems: pipelines from nothing, and what adapts them. */
import { type Action, deferredAction } from "../systems/system.ts";
import { controlNetOptions, loraOptions, textToPictureOptions } from "./options.ts";

/** A training that belongs to no system. */
export interface Training {
  /** As `tweedie train` takes it. */
  readonly name: string;
  readonly title: string;
  readonly action: Action;
}

/** Pipelines that ship: folders in `checkpoints`, for `generate --model checkpoints/NAME`. */
export const SHIPPED_PIPELINES = [
  { name: "shapes-text", about: "shape world: one or two things on a ground, 32x32 pixels, by a caption" },
] as const;

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
  {
    name: "lora",
    title: "LoRA",
    action: deferredAction({
      about: "trains a LoRA for any model of a U-Net, on pictures of yours",
      options: loraOptions,
      examples: ["tweedie train lora --model models/sd15 --data my-cat --out out/my-cat"],
      load: async () => (await import("./adapt.ts")).trainLoraAction,
    }),
  },
  {
    name: "controlnet",
    title: "ControlNet",
    action: deferredAction({
      about:
        "trains a ControlNet for any model of a U-Net that is told a text, on pictures and maps of yours",
      options: controlNetOptions,
      examples: [
        "tweedie train controlnet --model models/sd15 --data photos --controls edges --out out/edges",
      ],
      load: async () => (await import("./adapt.ts")).trainControlNetAction,
    }),
  },
];
