/** `tweedie models`: its commands and options. What they do is in `../models/`, loaded when a command runs. */
import type { HelpfulCommand } from "../help.ts";
import type { Options } from "../options.ts";

const JSON_OPTION = { type: "boolean", description: "prints JSON instead of a table" } as const;
const HUB_OPTIONS = {
  hub: {
    type: "boolean",
    alias: "download",
    description: "allows downloads from the Hugging Face hub, for names such as hub:owner/name",
  },
  variant: {
    type: "string",
    valueHint: "NAME",
    description: "variant of the weights in a folder, such as fp16",
  },
} as const satisfies Options;
const FILE_OPTIONS = {
  family: {
    type: "string",
    valueHint: "NAME",
    description: "sd1, sd2 or sdxl, for single files of unusual size",
  },
  base: {
    type: "string",
    valueHint: "DIR",
    description: "folder whose configurations and tokenizers a single file takes",
  },
  config: {
    type: "string",
    valueHint: "FILE|NAME",
    description:
      "config.json of a file that holds one network, or a published one of guided-diffusion, such as imagenet256",
  },
  tokenizer: {
    type: "string",
    valueHint: "PATH",
    description: "folder or merges.txt of the tokenizer, for single files, which bring none",
  },
  prediction: {
    type: "string",
    valueHint: "TYPE",
    description: "epsilon, v_prediction or sample, for single files, which do not say",
  },
} as const satisfies Options;

export const LIST_OPTIONS = {
  cache: { type: "string", valueHint: "DIR", description: "cache of the hub; its usual place by default" },
  json: JSON_OPTION,
} as const satisfies Options;

export const INSPECT_OPTIONS = {
  path: { type: "positional", description: "file, folder, or name of the hub" },
  ...HUB_OPTIONS,
  family: FILE_OPTIONS.family,
  base: FILE_OPTIONS.base,
  config: FILE_OPTIONS.config,
  json: JSON_OPTION,
} as const satisfies Options;

export const CONVERT_OPTIONS = {
  from: { type: "positional", description: "file, folder, or name of the hub" },
  out: { type: "positional", description: "file or folder to write" },
  to: {
    type: "string",
    valueHint: "LAYOUT",
    description:
      "diffusers (a folder), single (one .safetensors with the names of the original code) or onnx; told by the ending of OUT by default",
  },
  dtype: { type: "string", valueHint: "TYPE", description: "f32, f16 or bf16; as it is by default" },
  size: {
    type: "string",
    valueHint: "WxH",
    description: "for onnx: size of the picture (default: the model's own)",
  },
  batch: { type: "string", valueHint: "N", description: "for onnx: samples at once (default 1)" },
  overwrite: { type: "boolean", description: "replaces what is there" },
  ...FILE_OPTIONS,
  ...HUB_OPTIONS,
  json: JSON_OPTION,
} as const satisfies Options;

export const CHECK_OPTIONS = {
  path: { type: "positional", description: "file, folder, or name of the hub" },
  values: { type: "boolean", description: "also reads every value, and looks for NaN and infinity" },
  json: JSON_OPTION,
} as const satisfies Options;

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
