/** SDSeg as the rest of Tweedie sees it. */
import { z } from "zod";
import { action, hinted, type System } from "../system.ts";

const DATA = "Data";
const MODEL = "Model";
const HOW = "How";
const OUTPUT = "Output";

const seed = hinted(z.int().min(0).default(0).describe("seed of all randomness"), { group: HOW, hint: "S" });
const threads = hinted(
  z.int().min(1).max(256).optional().describe("processor threads (default: all cores)"),
  { group: HOW, hint: "N" },
);
const model = hinted(
  z.string().default("membranes").describe("membranes, nuclei, lesions, or a checkpoint file"),
  { group: MODEL, hint: "NAME|FILE", path: "file" },
);
const classes = hinted(
  z.int().min(2).max(256).default(2).describe("classes in the masks, the background included"),
  { group: DATA, hint: "N" },
);

const inference = {
  mode: hinted(
    z
      .enum(["direct", "ddim", "plms", "ddpm", "dpm-solver"])
      .default("direct")
      .describe("one call of the denoiser, or a reverse process of several steps"),
    { group: HOW },
  ),
  steps: hinted(z.int().min(1).max(1000).default(50).describe("steps of a reverse process"), {
    group: HOW,
    hint: "N",
  }),
  spacing: hinted(
    z
      .enum(["leading", "trailing"])
      .default("leading")
      .describe("which timesteps are visited: as released, or from the noisiest on"),
    { group: HOW },
  ),
  eta: hinted(z.number().min(0).max(1).default(1).describe("fresh noise of DDIM"), { group: HOW, hint: "E" }),
  ensemble: hinted(z.int().min(1).max(1000).default(1).describe("samples whose probabilities are averaged"), {
    group: HOW,
    hint: "M",
  }),
  seed,
};

const trainOptions = z.object({
  data: hinted(
    z
      .string()
      .optional()
      .describe("folder with images/ and masks/, or of a known data set; procedural lesions by default"),
    { group: DATA, hint: "DIR", path: "folder" },
  ),
  classes,
  colour: hinted(z.enum(["gray", "rgb"]).optional().describe("what the model sees (default: the preset's)"), {
    group: DATA,
  }),
  scale: hinted(
    z.number().min(0.01).max(16).optional().describe("size of what the model sees over the files'"),
    {
      group: DATA,
      hint: "F",
    },
  ),
  preset: hinted(
    z.enum(["mini", "paper", "smoke"]).default("mini").describe("sizes of networks and length of training"),
    { group: MODEL },
  ),
  head: hinted(
    z
      .enum(["raw", "vskip", "image-only"])
      .optional()
      .describe("what the denoiser predicts: the noise (paper), v (mini), or the mask without diffusion"),
    { group: MODEL },
  ),
  from: hinted(
    z.string().optional().describe("checkpoint to go on from; its autoencoder and scale are kept"),
    {
      group: MODEL,
      hint: "FILE",
      path: "file",
    },
  ),
  initAutoencoder: hinted(
    z.string().optional().describe("published KL-f8 weights, as safetensors (preset paper)"),
    {
      group: MODEL,
      hint: "FILE",
      path: "file",
    },
  ),
  initDenoiser: hinted(
    z.string().optional().describe("published LSUN-churches LDM weights, as safetensors (preset paper)"),
    { group: MODEL, hint: "FILE", path: "file" },
  ),
  steps: hinted(z.int().min(1).optional().describe("steps of the denoiser (default: the preset's)"), {
    group: HOW,
    hint: "N",
  }),
  autoencoderSteps: hinted(
    z.int().min(1).optional().describe("steps of the autoencoder (default: the preset's)"),
    {
      group: HOW,
      hint: "N",
    },
  ),
  batch: hinted(z.int().min(1).max(4096).optional().describe("pictures per step (default: the preset's)"), {
    group: HOW,
    hint: "N",
  }),
  learningRate: hinted(
    z.number().min(0).optional().describe("rate of the denoiser (default: the preset's)"),
    {
      group: HOW,
      hint: "R",
    },
  ),
  lambda: hinted(
    z.number().min(0).default(1).describe("weight of the latent loss; 0 trains the noise alone"),
    {
      group: HOW,
      hint: "L",
    },
  ),
  crop: hinted(z.int().min(8).optional().describe("side of the training crops (default: the preset's)"), {
    group: HOW,
    hint: "PX",
  }),
  augment: hinted(z.enum(["none", "flips", "turns"]).optional().describe("how crops are varied"), {
    group: HOW,
  }),
  seed,
  threads,
  out: hinted(z.string().default("out/sdseg").describe("run folder; a run that was stopped goes on"), {
    group: OUTPUT,
    hint: "DIR",
    path: "output",
  }),
});

const runOptions = z.object({
  image: hinted(z.string().describe("picture, or a folder of them"), {
    group: DATA,
    hint: "FILE|DIR",
    path: "file-or-folder",
  }),
  maxPixels: hinted(z.int().min(1).default(100_000_000).describe("most pixels that a picture may have"), {
    group: DATA,
    hint: "N",
  }),
  model,
  ...inference,
  tile: hinted(z.int().min(16).max(8192).default(512).describe("larger pictures go in tiles of this side"), {
    group: HOW,
    hint: "PX",
  }),
  overlap: hinted(z.int().min(0).optional().describe("pixels that tiles share (default: a quarter)"), {
    group: HOW,
    hint: "PX",
  }),
  out: hinted(z.string().default("out/sdseg").describe("where masks, probability maps and overlays go"), {
    group: OUTPUT,
    hint: "DIR",
    path: "output",
  }),
});

const evaluateOptions = z.object({
  data: hinted(
    z
      .string()
      .optional()
      .describe(
        "folder with images/ and masks/, or of a known data set (its test split); lesions by default",
      ),
    { group: DATA, hint: "DIR", path: "folder" },
  ),
  limit: hinted(z.int().min(1).optional().describe("only the first so many pictures"), {
    group: DATA,
    hint: "N",
  }),
  model,
  ...inference,
  convention: hinted(
    z
      .enum(["standard", "sdseg"])
      .default("standard")
      .describe("Dice of empty masks: 1 when both are empty, or as in the released code"),
    { group: HOW },
  ),
  stability: hinted(z.int().min(0).max(1000).default(0).describe("seeds over which to measure the spread"), {
    group: HOW,
    hint: "M",
  }),
  out: hinted(z.string().optional().describe("file for the numbers, as JSON"), {
    group: OUTPUT,
    hint: "FILE",
    path: "output",
  }),
});

const reproduceOptions = z.object({
  data: hinted(
    z
      .string()
      .optional()
      .describe("folder that holds em-membrane/ and dsb2018-nuclei/; without it lesions alone"),
    { group: DATA, hint: "DIR", path: "folder" },
  ),
  steps: hinted(
    z.int().min(1).default(1200).describe("denoiser steps on lesions; half as many on the others"),
    {
      group: HOW,
      hint: "N",
    },
  ),
  autoencoderSteps: hinted(z.int().min(1).default(800).describe("steps of the shared autoencoder"), {
    group: HOW,
    hint: "N",
  }),
  test: hinted(z.int().min(1).max(400).default(400).describe("lesions in the test split"), {
    group: DATA,
    hint: "N",
  }),
  window: hinted(
    z
      .int()
      .min(64)
      .optional()
      .describe("side of the middle of test pictures that is measured (default: all of them)"),
    { group: DATA, hint: "PX" },
  ),
  seeds: hinted(z.int().min(2).max(100).default(10).describe("seeds over which the spread is measured"), {
    group: HOW,
    hint: "M",
  }),
  extras: hinted(
    z
      .boolean()
      .default(false)
      .describe("also the raw head, a frozen vision encoder, and diffusion in pixels"),
    { group: HOW },
  ),
  seed,
  threads,
  work: hinted(
    z.string().default("out/sdseg/reproduce").describe("runs and models; what is there is not redone"),
    {
      group: OUTPUT,
      hint: "DIR",
      path: "output",
    },
  ),
  out: hinted(z.string().default("results/sdseg").describe("tables and figures"), {
    group: OUTPUT,
    hint: "DIR",
    path: "output",
  }),
});

export type TrainActionOptions = z.output<typeof trainOptions>;
export type RunActionOptions = z.output<typeof runOptions>;
export type EvaluateActionOptions = z.output<typeof evaluateOptions>;
export type ReproduceActionOptions = z.output<typeof reproduceOptions>;

const CHECKPOINTS = [
  {
    name: "membranes",
    file: "checkpoints/sdseg-membranes.safetensors",
    about: "cell membranes in electron microscopy",
  },
  {
    name: "nuclei",
    file: "checkpoints/sdseg-nuclei.safetensors",
    about: "cell nuclei in fluorescence microscopy",
  },
  { name: "lesions", file: "checkpoints/sdseg-lesions.safetensors", about: "procedural lesions" },
] as const;

/** The declaration. What actions do is loaded when they run. */
export const sdseg: System = {
  name: "sdseg",
  title: "SDSeg: segmentation by one step of diffusion",
  about: "segments pictures by one call of a latent diffusion model",
  paper: {
    title: "Stable Diffusion Segmentation for Biomedical Images with Single-step Reverse Process",
    authors: "Lin, Chen, Yan, Yu, Zheng",
    venue: "MICCAI",
    year: 2024,
    arxiv: "2406.18361",
  },
  claim:
    "With a loss on the clean latent, one call of the denoiser segments as well as 50 steps and as an ensemble, at a fraction of the time and with little spread over seeds.",
  checkpoints: CHECKPOINTS,
  samples: [1, 2, 3].map((index) => ({
    name: `lesion-${index}`,
    label: `Lesions ${index}`,
    checkpoint: "lesions",
    make: async () => (await import("./in-page.ts")).lesionPicture(index),
  })),
  inPage: {
    label: "Segmentation by one call of the denoiser",
    sizes: [64, 128, 256],
    build: async ({ checkpoint, size }) => (await import("./in-page.ts")).buildInPage(checkpoint, size),
  },
  actions: {
    train: action({
      about: "trains the autoencoder of masks, then the denoiser; resumable",
      options: trainOptions,
      examples: ["tweedie train sdseg --data my-cells --preset mini --out out/my-cells"],
      async *run(options, context) {
        return yield* (await import("./actions/train.ts")).trainAction(options, context);
      },
    }),
    run: action({
      about: "segments a picture or a folder: masks, probability maps, overlays",
      options: runOptions,
      examples: [
        "tweedie run sdseg --image slice.png --out out/masks",
        "tweedie run sdseg --image slices --model nuclei --mode ddim --steps 10 --ensemble 3",
      ],
      async *run(options, context) {
        return yield* (await import("./actions/run.ts")).runAction(options, context);
      },
    }),
    evaluate: action({
      about: "Dice and IoU on pictures with masks, or on volumes",
      options: evaluateOptions,
      examples: ["tweedie evaluate sdseg --data my-cells --model nuclei --stability 10"],
      async *run(options, context) {
        return yield* (await import("./actions/evaluate.ts")).evaluateAction(options, context);
      },
    }),
    reproduce: action({
      about: "trains what the claim needs, measures it, writes tables and figures; resumable",
      options: reproduceOptions,
      examples: ["tweedie reproduce sdseg --data DIR"],
      async *run(options, context) {
        return yield* (await import("./actions/reproduce.ts")).reproduceAction(options, context);
      },
    }),
  },
};
