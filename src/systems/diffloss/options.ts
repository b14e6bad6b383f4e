/** What the actions of DiffLoss take, and the checkpoints that ship. */
import { z } from "zod";
import { DEGRADATION_NAMES } from "../../data/index.ts";
import {
  beside,
  count,
  data,
  dataFolder,
  how,
  limit,
  model,
  modelNamed,
  outFolder,
  runFolder,
  seed,
  startingCheckpoint,
  studyShard,
  threads,
  workFolder,
} from "../options.ts";
import { restoringEvaluateOptions, restoringRunOptions } from "../restoring-options.ts";

export const RESTORERS_SHIPPED = [
  {
    name: "denoise",
    file: "checkpoints/diffloss-denoise.safetensors",
    about: "white noise of sigma 5 to 50, learned on our own pictures",
  },
  {
    name: "derain",
    file: "checkpoints/diffloss-derain.safetensors",
    about: "dense streaks of rain, learned on our own pictures",
  },
] as const;

export const PRIORS = [
  {
    name: "mini",
    file: "checkpoints/diffloss-prior.safetensors",
    about: "diffusion model of our own clean pictures, 1.07 million parameters",
  },
] as const;

export const CHECKPOINTS = [...RESTORERS_SHIPPED, ...PRIORS];

const NETWORK = { part: ["network"] };
const LOSS = { diffloss: [true] };

const task = data(z.enum(DEGRADATION_NAMES).default("noise"), "what happens to clean pictures");
const clean = dataFolder("folder of clean pictures, degraded on the spot; our own by default");
const pairs = (about: string) => dataFolder(about);
const prior = modelNamed(PRIORS, "mini, or a prior's file");
const timestep = (about: string, standard: number) =>
  how(z.int().min(0).max(100_000).default(standard), about, "T");

export const trainOptions = z.object({
  part: model(z.enum(["network", "prior"]).default("network"), "what is trained"),
  data: clean,
  limit,
  ...beside(NETWORK, {
    task,
    pairs: pairs("folder of degraded pictures and their truth instead, such as rainy/ and clean/"),
    network: model(z.enum(["unet", "nafnet", "dncnn"]).default("unet"), "network that restores"),
    from: startingCheckpoint("network to begin with"),
    pixel: how(z.enum(["l1", "mse", "charbonnier"]).default("l1"), "loss of the pixels"),
    diffloss: how(z.boolean().default(false), "the prior's loss beside that of the pixels"),
  }),
  ...beside(
    { ...NETWORK, ...LOSS },
    {
      prior,
      strength: how(
        z.number().min(0).max(100).default(1),
        "pull of the prior's loss relative to that of the pixels, as measured before the first step",
        "R",
      ),
      published: how(
        z.boolean().default(false),
        "the published weights, 1e-3 and 1e-6, instead of measured ones",
      ),
      tMin: timestep("least timestep of its noise", 10),
      tMax: timestep("largest timestep of its noise", 999),
      detachPrior: how(
        z.boolean().default(false),
        "no gradient through the prior, as in the published code: a control, which trains as without it",
      ),
      recompute: how(
        z.boolean().default(false),
        "compute the prior's blocks twice in place of keeping them, for large priors",
      ),
    },
  ),
  ...beside(
    { part: ["prior"] },
    { size: model(z.enum(["mini", "smoke"]).default("mini"), "size of the prior") },
  ),
  pictures: data(z.int().min(8).max(1_000_000).default(3000), "number of our own pictures", "N"),
  steps: count(5000, "training steps"),
  batch: count(16, "crops per step"),
  crop: how(z.int().min(8).max(1024).default(48), "side of a crop", "PX"),
  learningRate: how(z.number().positive().default(1e-3), "peak of the learning rate", "R"),
  seed,
  threads,
  out: runFolder("out/diffloss"),
});

export const runOptions = restoringRunOptions("diffloss", RESTORERS_SHIPPED);

export const evaluateOptions = restoringEvaluateOptions(RESTORERS_SHIPPED);

export const reproduceOptions = z.object({
  data: dataFolder("folder with bsds500 and rain100h; without it, our own pictures alone"),
  tasks: model(z.string().default("noise,rain"), "tasks, with commas between", "NAMES"),
  arms: model(z.string().default("core"), "core, all, or arms with commas between", "NAMES"),
  seeds: count(3, "seeds"),
  steps: count(2000, "steps of every arm, from the shipped network"),
  batch: count(16, "crops per step"),
  crop: how(z.int().min(16).max(64).default(48), "side of a crop", "PX"),
  strength: how(
    z.number().positive().max(100).default(1),
    "pull of every further loss relative to the pixels",
    "R",
  ),
  test: data(z.int().min(8).max(4096).default(128), "test pictures", "N"),
  measure: how(z.boolean().default(true), "make what is missing; off: a page of what is there"),
  shard: studyShard,
  threads,
  work: workFolder("out/diffloss/reproduce"),
  out: outFolder("out/diffloss-results", "tables"),
});

export type TrainActionOptions = z.output<typeof trainOptions>;
export type ReproduceActionOptions = z.output<typeof reproduceOptions>;
