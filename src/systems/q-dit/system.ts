/** Q-DiT as the rest of Tweedie sees it. */
import { z } from "zod";
import { action, hinted, type System } from "../system.ts";

const [DATA, MODEL, HOW, OUTPUT] = ["Data", "Model", "How", "Output"];

const seed = hinted(z.int().min(0).default(0).describe("seed of all randomness"), { group: HOW, hint: "S" });
const threads = hinted(
  z.int().min(1).max(256).optional().describe("processor threads (default: all cores)"),
  {
    group: HOW,
    hint: "N",
  },
);
const data = hinted(
  z.string().describe("folder of Fashion-MNIST, or of pictures in its format, 28x28 in ten classes"),
  {
    group: DATA,
    hint: "DIR",
    path: "folder",
  },
);
const model = hinted(
  z.string().default("fashion").describe("fashion, fashion-w4a8, fashion-w8a8, or a checkpoint file"),
  { group: MODEL, hint: "NAME|FILE", path: "file" },
);
const count = (fallback: number, about: string) =>
  hinted(z.int().min(1).max(100_000).default(fallback).describe(about), { group: HOW, hint: "N" });
const guidance = hinted(z.number().min(0).max(20).default(1.5).describe("guidance scale; 1: none"), {
  group: HOW,
  hint: "W",
});

const trainOptions = z.object({
  data,
  steps: count(2400, "training steps"),
  batch: count(32, "pictures per step"),
  learningRate: hinted(z.number().positive().default(1e-3).describe("peak of the learning rate"), {
    group: HOW,
    hint: "R",
  }),
  dropLabels: hinted(
    z.number().min(0).max(1).default(0.1).describe("share of labels dropped, for guidance"),
    {
      group: HOW,
      hint: "P",
    },
  ),
  from: hinted(z.string().optional().describe("checkpoint to begin with"), {
    group: MODEL,
    hint: "FILE",
    path: "file",
  }),
  seed,
  threads,
  out: hinted(z.string().default("out/q-dit").describe("run folder; a run that was stopped goes on"), {
    group: OUTPUT,
    hint: "DIR",
    path: "output",
  }),
});

const runOptions = z.object({
  model,
  label: hinted(z.int().min(0).optional().describe("class of the pictures (default: all in turn)"), {
    group: HOW,
    hint: "N",
  }),
  count: count(50, "pictures"),
  steps: count(50, "DDIM steps"),
  guidance,
  seed,
  threads,
  out: hinted(z.string().default("out/q-dit/pictures.png").describe("picture file with all of them"), {
    group: OUTPUT,
    hint: "FILE",
    path: "output",
  }),
});

const evaluateOptions = z.object({
  data,
  model,
  count: count(1000, "pictures to draw"),
  steps: count(20, "DDIM steps"),
  guidance: guidance.default(1),
  seed,
  threads,
});

const reproduceOptions = z.object({
  data,
  model: hinted(z.string().default("fashion").describe("full-precision model to quantise"), {
    group: MODEL,
    hint: "NAME|FILE",
    path: "file",
  }),
  pictures: count(200, "pictures for each of three seeds"),
  steps: count(10, "DDIM steps of the pictures"),
  searchPictures: count(100, "pictures by which the search judges a candidate"),
  searchSteps: count(5, "DDIM steps of those pictures"),
  population: count(8, "candidates of a generation"),
  generations: count(3, "generations of the search"),
  further: hinted(z.boolean().default(false).describe("also other bits, and more baselines with pictures"), {
    group: HOW,
  }),
  measure: hinted(z.boolean().default(true).describe("off: only writes the tables of what was measured"), {
    group: HOW,
  }),
  threads,
  work: hinted(
    z.string().default("results/q-dit/cells").describe("measured cells; what is there is not redone"),
    {
      group: OUTPUT,
      hint: "DIR",
      path: "output",
    },
  ),
  out: hinted(z.string().default("results/q-dit").describe("tables"), {
    group: OUTPUT,
    hint: "DIR",
    path: "output",
  }),
});

export type TrainActionOptions = z.output<typeof trainOptions>;
export type RunActionOptions = z.output<typeof runOptions>;
export type EvaluateActionOptions = z.output<typeof evaluateOptions>;
export type ReproduceActionOptions = z.output<typeof reproduceOptions>;

/** The declaration. What actions do is loaded when they run. */
export const qDiT: System = {
  name: "q-dit",
  title: "Q-DiT: diffusion transformers in 4 bits",
  about: "quantises diffusion transformers after training",
  paper: {
    title: "Q-DiT: Accurate Post-Training Quantization for Diffusion Transformers",
    authors: "Chen, Meng, Tang, Ma, Jiang, X. Wang, Z. Wang, Zhu",
    venue: "CVPR",
    year: 2025,
    arxiv: "2406.17343",
  },
  claim:
    "With groups of input channels, dynamic ranges and searched group sizes, weights of 4 bits and activations of 8 keep the quality that rounding with one scale for a tensor loses.",
  checkpoints: [
    {
      name: "fashion",
      file: "checkpoints/q-dit-fashion.safetensors",
      about: "Fashion-MNIST, full precision",
    },
    {
      name: "fashion-w4a8",
      file: "checkpoints/q-dit-fashion-w4a8.safetensors",
      about: "the same, W4A8, packed",
    },
    {
      name: "fashion-w8a8",
      file: "checkpoints/q-dit-fashion-w8a8.safetensors",
      about: "the same, W8A8, packed",
    },
  ],
  actions: {
    train: action({
      about: "trains a class-conditional DiT in full precision; resumable",
      options: trainOptions,
      examples: ["tweedie train q-dit --data fashion-mnist --out out/q-dit"],
      async *run(options, context) {
        return yield* (await import("./actions/models.ts")).trainAction(options, context);
      },
    }),
    run: action({
      about: "draws pictures with a model, in floats or packed",
      options: runOptions,
      examples: ["tweedie run q-dit --model fashion-w4a8 --label 7"],
      async *run(options, context) {
        return yield* (await import("./actions/models.ts")).runAction(options, context);
      },
    }),
    evaluate: action({
      about: "distance of drawn pictures to real ones, and whether they are of their class",
      options: evaluateOptions,
      examples: ["tweedie evaluate q-dit --data fashion-mnist --model fashion-w4a8"],
      async *run(options, context) {
        return yield* (await import("./actions/models.ts")).evaluateAction(options, context);
      },
    }),
    reproduce: action({
      about: "quantises a model by every method, searches group sizes, writes the tables; resumable",
      options: reproduceOptions,
      examples: ["tweedie reproduce q-dit --data fashion-mnist"],
      async *run(options, context) {
        return yield* (await import("./actions/reproduce.ts")).reproduceAction(options, context);
      },
    }),
  },
};
