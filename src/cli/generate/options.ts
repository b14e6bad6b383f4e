/** Options of `tweedie generate`. */
import type { Options } from "../options.ts";

const MODEL = "Model";
const WHAT = "What to make";
const HOW = "How";
const PICTURES = "From pictures";
const ADAPTERS = "Adapters";
const OUTPUT = "Output";

/** Everything that `tweedie generate` takes. */
export const GENERATE_OPTIONS = {
  model: {
    type: "string",
    alias: "m",
    group: MODEL,
    valueHint: "PATH|ID",
    description:
      "folder in the layout of diffusers, .safetensors file, or a name on the Hugging Face hub (with --hub)",
    path: "file-or-folder",
  },
  hub: {
    type: "boolean",
    alias: "download",
    group: MODEL,
    description: "allows downloads from the Hugging Face hub; without it nothing leaves this machine",
  },
  variant: {
    type: "string",
    group: MODEL,
    valueHint: "NAME",
    description: "variant of the weights in a folder, such as fp16",
  },
  vae: {
    type: "string",
    group: MODEL,
    valueHint: "PATH|ID",
    description: "autoencoder in place of the model's own, or of none: folder or file, also of TAESD",
    path: "file-or-folder",
  },
  "text-encoder": {
    type: "string",
    multiple: true,
    group: MODEL,
    valueHint: "PATH|ID",
    description: "text encoder likewise: folder or file; twice for the two of SDXL",
    path: "file-or-folder",
  },
  tokenizer: {
    type: "string",
    group: MODEL,
    valueHint: "PATH",
    description: "folder or merges.txt of the tokenizer, for single files, which bring none",
    path: "file-or-folder",
  },
  base: {
    type: "string",
    group: MODEL,
    valueHint: "DIR",
    description: "folder whose configurations and tokenizers a single file takes",
    path: "folder",
  },
  family: {
    type: "string",
    group: MODEL,
    valueHint: "NAME",
    description: "sd1, sd2 or sdxl, for single files of unusual size",
    values: ["sd1", "sd2", "sdxl"],
  },
  prediction: {
    type: "string",
    group: MODEL,
    valueHint: "TYPE",
    description: "epsilon, v_prediction or sample, for single files, which do not say",
    values: ["epsilon", "v_prediction", "sample"],
  },
  prompt: {
    type: "string",
    alias: "p",
    group: WHAT,
    valueHint: "TEXT",
    description: "what the picture shows; (word:1.3) weighs a word",
  },
  negative: {
    type: "string",
    alias: "n",
    group: WHAT,
    valueHint: "TEXT",
    description: "what it should not show",
  },
  class: {
    type: "string",
    group: WHAT,
    valueHint: "LABEL",
    description: "class of a class-conditional model: its number or name",
  },
  size: {
    type: "string",
    group: WHAT,
    valueHint: "WxH",
    description: "size in pixels, such as 512x768; the model's own by default",
  },
  count: {
    type: "string",
    group: WHAT,
    valueHint: "N",
    description: "pictures to make, with seeds S, S+1, … (default 1)",
  },
  seed: {
    type: "string",
    alias: "s",
    group: WHAT,
    valueHint: "S",
    description: "seed of the first picture; a new one by default, which is printed",
  },
  steps: {
    type: "string",
    group: HOW,
    valueHint: "N",
    description: "denoising steps (default 50; 1000 for DDPM)",
  },
  sampler: {
    type: "string",
    group: HOW,
    valueHint: "NAME",
    description: "ddim, euler, euler-ancestral, dpmpp-2m, …; the model's own by default",
    values: async () => (await import("../../pipelines/swap-scheduler.ts")).PIPELINE_SAMPLERS,
  },
  schedule: {
    type: "string",
    group: HOW,
    valueHint: "NAME",
    description: "noise levels: karras, exponential, …; the sampler's own by default",
    values: async () => (await import("../../pipelines/swap-scheduler.ts")).PIPELINE_SCHEDULES,
  },
  eta: {
    type: "string",
    group: HOW,
    valueHint: "E",
    description: "0 to 1: share of fresh noise in the steps of ddim and tcd (default 0)",
  },
  guidance: {
    type: "string",
    group: HOW,
    valueHint: "G",
    description: "classifier-free guidance; 1 turns it off (default 7.5, 4 for DiT)",
  },
  "guidance-rescale": {
    type: "string",
    group: HOW,
    valueHint: "F",
    description: "0 to 1: undoes overexposure by strong guidance (default 0)",
  },
  "clip-skip": {
    type: "string",
    group: HOW,
    valueHint: "N",
    description: "takes the text features N layers before the last (default 0)",
  },
  emphasis: {
    type: "boolean",
    default: true,
    group: HOW,
    description: "takes brackets in prompts literally instead of weighing words by them",
  },
  "long-prompt": {
    type: "boolean",
    group: HOW,
    description: "encodes a prompt of more than 75 tokens in several windows instead of cutting it",
  },
  rng: {
    type: "string",
    group: HOW,
    valueHint: "MODE",
    description: "torch-cpu, torch-cuda (noise as PyTorch makes it there) or philox (default torch-cpu)",
    values: ["torch-cpu", "torch-cuda", "philox"],
  },
  batch: {
    type: "string",
    group: HOW,
    valueHint: "N",
    description: "pictures computed together (default 1)",
  },
  "init-image": {
    type: "string",
    group: PICTURES,
    valueHint: "FILE",
    path: "file",
    description: "picture to start from",
  },
  strength: {
    type: "string",
    group: PICTURES,
    valueHint: "F",
    description: "0 to 1: how much of it is replaced (default 0.8; 1 with --mask)",
  },
  mask: {
    type: "string",
    group: PICTURES,
    valueHint: "FILE",
    description: "white is repainted, black is kept; needs --init-image",
    path: "file",
  },
  from: {
    type: "string",
    group: PICTURES,
    valueHint: "PNG",
    description: "repeats a picture from the settings in it; other options replace what it says",
    path: "file",
  },
  lora: {
    type: "string",
    multiple: true,
    group: ADAPTERS,
    valueHint: "FILE[:W]",
    description: "low-rank adapter and its weight (default 1); may come several times",
    path: "file",
  },
  control: {
    type: "string",
    multiple: true,
    group: ADAPTERS,
    valueHint: "PATH:IMAGE[:S]",
    description: "ControlNet, its picture and its scale (default 1); may come several times",
    path: "file-or-folder",
  },
  out: {
    type: "string",
    alias: "o",
    group: OUTPUT,
    valueHint: "PATH",
    description: "folder, or name of a .png (default out)",
    path: "output",
  },
  overwrite: {
    type: "boolean",
    group: OUTPUT,
    description: "writes over a .png that is there",
  },
  preview: {
    type: "string",
    group: OUTPUT,
    valueHint: "K",
    description: "shows the picture in the making in OUT/preview.png, every K steps",
  },
  metadata: {
    type: "boolean",
    default: true,
    group: OUTPUT,
    description: "leaves the settings out of the files",
  },
  json: { type: "boolean", group: OUTPUT, description: "prints everything as lines of JSON" },
} as const satisfies Options;

export type OptionName = keyof typeof GENERATE_OPTIONS;

/** Options by name, as texts: what a command line gives and what a picture carries. */
export type OptionValues = Readonly<Partial<Record<OptionName, readonly string[] | boolean>>>;
