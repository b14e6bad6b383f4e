/** Options of `tweedie models`. */
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
    values: ["sd1", "sd2", "sdxl"],
  },
  base: {
    type: "string",
    path: "folder",
    valueHint: "DIR",
    description: "folder whose configurations and tokenizers a single file takes",
  },
  config: {
    type: "string",
    path: "file",
    valueHint: "FILE|NAME",
    description:
      "config.json of a file that holds one network, or a published one of guided-diffusion, such as imagenet256",
  },
  tokenizer: {
    type: "string",
    path: "file-or-folder",
    valueHint: "PATH",
    description: "folder or merges.txt of the tokenizer, for single files, which bring none",
  },
  prediction: {
    type: "string",
    valueHint: "TYPE",
    description: "epsilon, v_prediction or sample, for single files, which do not say",
    values: ["epsilon", "v_prediction", "sample"],
  },
} as const satisfies Options;

export const LIST_OPTIONS = {
  cache: {
    type: "string",
    valueHint: "DIR",
    path: "folder",
    description: "cache of the hub; its usual place by default",
  },
  json: JSON_OPTION,
} as const satisfies Options;

export const INSPECT_OPTIONS = {
  path: { type: "positional", path: "file-or-folder", description: "file, folder, or name of the hub" },
  ...HUB_OPTIONS,
  family: FILE_OPTIONS.family,
  base: FILE_OPTIONS.base,
  config: FILE_OPTIONS.config,
  json: JSON_OPTION,
} as const satisfies Options;

export const CONVERT_OPTIONS = {
  from: { type: "positional", path: "file-or-folder", description: "file, folder, or name of the hub" },
  out: { type: "positional", path: "output", description: "file or folder to write" },
  to: {
    type: "string",
    values: ["diffusers", "single", "onnx"],
    valueHint: "LAYOUT",
    description:
      "diffusers (a folder), single (one .safetensors with the names of the original code) or onnx; told by the ending of OUT by default",
  },
  dtype: {
    type: "string",
    valueHint: "TYPE",
    values: ["f32", "f16", "bf16"],
    description: "f32, f16 or bf16; as it is by default",
  },
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
  path: { type: "positional", path: "file-or-folder", description: "file, folder, or name of the hub" },
  values: { type: "boolean", description: "also reads every value, and looks for NaN and infinity" },
  json: JSON_OPTION,
} as const satisfies Options;
