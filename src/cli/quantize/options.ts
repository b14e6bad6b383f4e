/** Options of `tweedie quantize`. */
import type { Options } from "../options.ts";

export const QUANTIZE_OPTIONS = {
  model: {
    type: "positional",
    path: "file-or-folder",
    description:
      "folder or file of one network (such as a pipeline's unet or transformer), or a small DiT's checkpoint",
  },
  weights: { type: "string", valueHint: "BITS", default: "4", description: "bits of the weights, 2 to 8" },
  activations: {
    type: "string",
    values: ["8", "16"],
    valueHint: "BITS",
    default: "8",
    description: "8: the kernel rounds activations too and multiplies integers; 16: they stay floats",
  },
  group: {
    type: "string",
    valueHint: "N",
    default: "64",
    description: "input channels that share a scale, a multiple of 16",
  },
  symmetric: { type: "boolean", description: "scales from the largest magnitude, without zero points" },
  exclude: { type: "string", valueHint: "REGEX", description: "layers, by name, that stay as they are" },
  dtype: {
    type: "string",
    values: ["f16", "bf16", "f32"],
    valueHint: "TYPE",
    default: "f16",
    description: "f16, bf16 or f32: width of everything that is not quantised",
  },
  out: {
    type: "string",
    path: "output",
    valueHint: "PATH",
    description: "folder to write (a file for a small DiT's checkpoint)",
  },
  overwrite: { type: "boolean", description: "replaces what is there" },
  json: { type: "boolean", description: "prints JSON instead of text" },
} as const satisfies Options;
