/** `tweedie models`: its commands. What they do is in `../models/`, loaded when a command runs. */
import type { HelpfulCommand } from "../help.ts";
import { CHECK_OPTIONS, CONVERT_OPTIONS, INSPECT_OPTIONS, LIST_OPTIONS } from "../models/options.ts";

const list: HelpfulCommand = {
  meta: {
    name: "list",
    description: "Lists models: those that ship with Tweedie, and those in the hub's cache.",
  },
  args: LIST_OPTIONS,
  run: async ({ rawArgs }) => (await import("../models/index.ts")).list(rawArgs),
};

const inspect: HelpfulCommand = {
  meta: { name: "inspect", description: "Says what a model is made of; no weight is read." },
  args: INSPECT_OPTIONS,
  examples: ["tweedie models inspect v1-5-pruned.safetensors", "tweedie models inspect models/sd15 --json"],
  run: async ({ rawArgs }) => (await import("../models/index.ts")).inspect(rawArgs),
};

const convert: HelpfulCommand = {
  meta: {
    name: "convert",
    description: "Converts a model between layouts and widths, and to ONNX.",
  },
  args: CONVERT_OPTIONS,
  examples: [
    "tweedie models convert v1-5-pruned.safetensors models/sd15 --dtype f16",
    "tweedie models convert models/sd15 sd15.safetensors",
    "tweedie models convert models/sd15/vae vae.safetensors",
    "tweedie models convert models/sd15/vae vae-onnx --to onnx --size 512x512",
  ],
  run: async ({ rawArgs }) => (await import("../models/index.ts")).convert(rawArgs),
};

const check: HelpfulCommand = {
  meta: {
    name: "check",
    description: "Checks a file or folder for pickles, programs and damage. Exit code 2 when there are any.",
  },
  args: CHECK_OPTIONS,
  run: async ({ rawArgs }) => (await import("../models/index.ts")).check(rawArgs),
};

export const models: HelpfulCommand = {
  meta: { name: "models", description: "Lists, inspects, converts and checks models." },
  subCommands: { list, inspect, convert, check },
};
