/** What the actions of NCP-DPO take, and the checkpoints that ship. */
import { z } from "zod";
import {
  beside,
  count,
  data,
  how,
  model,
  modelNamed,
  optionalChoices,
  outFolder,
  results,
  runFolder,
  seed,
  studyShard,
  threads,
  workFolder,
} from "../options.ts";
import { hinted } from "../system.ts";

export const CHECKPOINTS = [
  {
    name: "ncp",
    file: "checkpoints/ncp-dpo-shapes.safetensors",
    about: "LoRA of the shape world's base, trained in features on pairs by colour",
  },
  {
    name: "dpo",
    file: "checkpoints/dpo-shapes.safetensors",
    about: "the same pairs by the error of the noise (Diffusion-DPO)",
  },
] as const;

/** The base that ships. */
export const BASE = "checkpoints/shapes-text";

const base = hinted(
  z
    .string()
    .optional()
    .describe(
      "pipeline with a U-Net and text: a folder, a file, hub:OWNER/NAME (default: the shape world's base)",
    ),
  { group: "Model", hint: "PATH", role: "command-line", path: "file-or-folder" },
);

const folder = (about: string) =>
  hinted(z.string().optional().describe(about), {
    group: "Data",
    hint: "DIR",
    role: "command-line",
    path: "folder",
  });

const guidance = how(
  z.number().min(0).max(50).optional(),
  "classifier-free guidance (default: the model's own)",
  "G",
);
const drawing = {
  steps: how(z.int().min(1).max(1000).optional(), "steps of the sampler (default: the model's own)", "N"),
  guidance,
};

const training = {
  space: how(
    z.enum(["latent", "ncp", "both"]).default("ncp"),
    "where errors are measured: of the prediction (Diffusion-DPO), of features one step later, or both",
  ),
  loss: how(
    z.enum(["dpo", "cpo", "sft", "ipo", "hinge", "orpo"]).default("dpo"),
    "what is made of a pair's errors",
  ),
  ...beside(
    { loss: ["dpo", "cpo", "ipo", "hinge"] },
    {
      beta: how(
        z.number().positive().optional(),
        "how much a difference of errors counts (default: 4000000 in features, else 2000)",
        "B",
      ),
    },
  ),
  ...beside(
    { loss: ["cpo", "orpo"] },
    {
      lambda: how(
        z.number().min(0).default(1),
        "factor of the winner's error (cpo) or of the odds (orpo)",
        "L",
      ),
    },
  ),
  ...beside(
    { space: ["both"] },
    {
      kappa: how(
        z.number().min(0).default(1),
        "factor of the error of features beside that of the prediction",
        "K",
      ),
    },
  ),
  ...beside(
    { space: ["ncp", "both"] },
    {
      tap: how(
        z.enum(["down", "mid", "multi", "identity"]).default("down"),
        "features: after the last level, the middle, every level; identity: none, a control",
      ),
      encoder: how(
        z.enum(["reference", "current", "random"]).default("reference"),
        "whose features: before training, as it is now; random: a control",
      ),
      course: how(
        z.enum(["t-1", "uniform", "0"]).default("t-1"),
        "later time of the features: one step on, any, or the clean sample",
      ),
      pooled: how(z.boolean().default(false), "features averaged over space"),
      balanced: how(z.boolean().default(false), "levels of few channels count for more (tap multi)"),
    },
  ),
  rank: model(z.int().min(1).max(1024).default(8), "rank of the LoRA", "R"),
  alpha: model(
    z.number().positive().optional(),
    "the change is scaled by alpha / rank (default: the rank)",
    "A",
  ),
  steps: count(400, "training steps"),
  batch: count(12, "pairs per step"),
  accumulate: how(
    z.int().min(1).max(1024).default(1),
    "slices that a batch is computed in: less memory",
    "N",
  ),
  recompute: how(
    z.boolean().default(false),
    "blocks keep nothing for the backward pass: less memory, more time",
  ),
  learningRate: how(
    z.number().positive().optional(),
    "learning rate (default: 0.0003 in features, else 0.0001)",
    "R",
  ),
  warmup: how(z.int().min(0).default(20), "steps of linear rise", "N"),
  flip: how(z.boolean().default(true), "pairs are mirrored with probability 1/2, both pictures alike"),
};

/** Pairs may be given in three ways, of which the page has the first. */
export const trainOptions = z.object({
  pairs: optionalChoices(
    "table of pairs (CSV, TSV, JSON lines, Parquet; Pick-a-Pic's columns too): prompt, winner, loser",
    { action: "run", options: { mode: "pairs" }, figure: "pairs" },
  ),
  winners: folder("folder of preferred pictures; prompts from .txt files beside them, or from their names"),
  ...beside({ winners: [true] }, { losers: folder("folder of the others, by the same names") }),
  prompts: hinted(
    z
      .string()
      .optional()
      .describe("text file with a prompt per line: pairs are drawn, and the scorer chooses"),
    { group: "Data", hint: "FILE", role: "command-line", path: "file" },
  ),
  ...beside(
    { prompts: [true] },
    {
      scorer: hinted(
        z
          .string()
          .default("colours")
          .describe("colours, captions (of the shape world), or a module: (picture, prompt) => number"),
        { group: "Data", hint: "NAME|FILE", role: "command-line" },
      ),
      noisy: data(
        z.boolean().default(false),
        "all pairs of four pictures, chosen by chance after their scores",
      ),
    },
  ),
  select: data(
    z.enum(["all", "absolute", "absolute+second", "absolute+third"]).default("all"),
    "which pairs: absolute: one for each picture that never lost",
  ),
  model: base,
  ...training,
  seed,
  threads,
  out: runFolder("out/ncp-dpo"),
});

export const runOptions = z.object({
  prompt: hinted(
    z
      .string()
      .max(10_000)
      .optional()
      .describe("prompts, one per line (default: captions of the shape world)"),
    { group: "Data", hint: "TEXT", role: "text" },
  ),
  mode: how(
    z.enum(["compare", "scales", "pairs"]).default("compare"),
    "reference beside aligned; the LoRA at rising strength; or pairs to choose from",
  ),
  model: base,
  lora: modelNamed(CHECKPOINTS, "ncp, dpo, or a LoRA file of any tool; pairs are drawn without it"),
  ...beside(
    { mode: ["compare", "scales"] },
    { scale: how(z.number().min(-2).max(2).default(1), "strength of the LoRA: 0 is the reference", "S") },
  ),
  count: count(4, "pictures of a prompt (pairs: pairs of a prompt)", 64),
  ...drawing,
  seed,
  threads,
  out: results("out/ncp-dpo-run"),
});

export const evaluateOptions = z.object({
  lora: modelNamed(CHECKPOINTS, "ncp, dpo, or a LoRA file of any tool"),
  scale: how(z.number().min(-2).max(2).default(1), "strength of the LoRA: 0 is the reference", "S"),
  model: base,
  prompts: hinted(
    z
      .string()
      .optional()
      .describe("text file with a prompt per line (default: held-out captions of the shape world)"),
    { group: "Data", hint: "FILE", role: "command-line", path: "file" },
  ),
  limit: data(z.int().min(2).default(256), "prompts", "N"),
  scorer: hinted(
    z
      .string()
      .default("colours")
      .describe("colours, captions (of the shape world), or a module: (picture, prompt) => number"),
    { group: "How", hint: "NAME|FILE", role: "command-line" },
  ),
  ...drawing,
  seed,
  threads,
});

export const reproduceOptions = z.object({
  arms: model(
    z.string().default("latent-dpo,ncp-dpo,weights,random,cpo0,cpo1,sft,ncp-cpo,ncp-sft"),
    "what is compared, with commas between",
    "NAMES",
  ),
  sweep: model(
    z.boolean().default(true),
    "beta (1/4, 1, 4) and learning rate (1/3, 1, 3) of every arm, the best by validation prompts",
  ),
  seeds: count(3, "seeds"),
  steps: count(400, "training steps"),
  sweepSteps: count(200, "training steps of the sweep"),
  batch: count(12, "pairs per step"),
  prompts: data(z.int().min(8).default(2000), "prompts that pairs are drawn for", "N"),
  noisy: data(z.boolean().default(true), "latent-dpo and ncp-dpo on noisy pairs of the same prompts, too"),
  test: data(z.int().min(16).default(512), "held-out prompts", "N"),
  validation: data(z.int().min(16).default(128), "prompts that choose in the sweep", "N"),
  drawSteps: how(z.int().min(1).max(1000).default(20), "steps of the sampler", "N"),
  shard: studyShard,
  threads,
  work: workFolder("out/ncp-dpo/reproduce"),
  out: outFolder("out/ncp-dpo-results", "tables and figures"),
});

export type TrainActionOptions = z.output<typeof trainOptions>;
export type RunActionOptions = z.output<typeof runOptions>;
export type EvaluateActionOptions = z.output<typeof evaluateOptions>;
export type ReproduceActionOptions = z.output<typeof reproduceOptions>;
