/** What the actions of Noise-DA take, and the checkpoints that ship. */
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
  neededDataFolder,
  outFolder,
  runFolder,
  seed,
  startingCheckpoint,
  studyShard,
  threads,
  workFolder,
} from "../options.ts";
import { restoringEvaluateOptions, restoringRunOptions } from "../restoring-options.ts";

export const CHECKPOINTS = [
  {
    name: "adapted",
    file: "checkpoints/noise-da-adapted.safetensors",
    about: "learned weak noise with a truth and strong camera noise without one, by Noise-DA",
  },
  {
    name: "vanilla",
    file: "checkpoints/noise-da-vanilla.safetensors",
    about: "its twin, which learned weak noise alone: equal steps, equal pictures",
  },
] as const;

const METHOD = { mode: ["1", "2"] };

export const trainOptions = z.object({
  synthetic: neededDataFolder("folder of clean pictures, degraded on the spot"),
  real: neededDataFolder("folder of real degraded pictures, which need no truth"),
  task: data(z.enum(DEGRADATION_NAMES).default("noise"), "what happens to the clean pictures"),
  limit,
  network: model(z.enum(["unet", "nafnet", "dncnn"]).default("unet"), "network that restores"),
  from: startingCheckpoint("network to begin with, of this system or another that restores"),
  mode: how(
    z.enum(["0", "1", "2"]).default("1"),
    "0: synthetic pairs alone; 1: the method; 2: noise on other clean pictures",
  ),
  ...beside(METHOD, {
    diffusion: model(z.enum(["mini", "published", "smoke"]).default("mini"), "size of the diffusion model"),
    alpha: how(z.number().min(0).max(100).default(0.2), "weight of its loss at the end of the ramp", "R"),
    ramp: how(z.number().gt(0).max(1).default(0.5), "share of the steps over which that weight grows", "R"),
    tMin: how(z.int().min(1).max(999).default(1), "least timestep of the noise", "T"),
    tMax: how(z.int().min(1).max(999).default(999), "largest timestep of the noise", "T"),
    shuffle: how(z.boolean().default(true), "coins decide which of both pictures comes first"),
    swap: how(z.boolean().default(true), "pictures with each other's residual must be worse conditions"),
    conditions: how(
      z.enum(["both", "synthetic", "real"]).default("both"),
      "what the diffusion model sees: controls of the method",
    ),
    margin: how(z.number().min(0).max(100).default(0.1), "by how much they must be worse", "R"),
    diffusionRate: how(
      z.number().min(0).max(100).default(2),
      "learning rate of the diffusion model over that of the network",
      "R",
    ),
  }),
  range: how(
    z.enum(["auto", "unit", "signed"]).default("auto"),
    "values of the losses: [0, 1] (noise), [-1, 1] (rain, blur); auto: by the task",
  ),
  steps: count(3000, "training steps"),
  batch: count(8, "crops of each folder per step"),
  crop: how(z.int().min(8).max(1024).default(48), "side of a crop", "PX"),
  learningRate: how(z.number().positive().default(1e-3), "peak of the learning rate", "R"),
  ema: how(
    z.number().min(0).max(0.99999).default(0),
    "decay of averaged weights, which are kept; 0: none",
    "R",
  ),
  seed,
  threads,
  out: runFolder("out/noise-da"),
});

export const runOptions = restoringRunOptions("noise-da", CHECKPOINTS);
export const evaluateOptions = restoringEvaluateOptions(CHECKPOINTS);

export const reproduceOptions = z.object({
  data: dataFolder(
    "folder with bsds500, real-noise, rain100h, blur and weights; without it, our own pictures",
  ),
  worlds: data(z.string().default("own"), "own, photographs, or both with a comma between", "NAMES"),
  domains: data(z.string().default("noise"), "domains, with commas between", "NAMES"),
  arms: model(z.string().default("core"), "core, all, gap, or arms with commas between", "NAMES"),
  seeds: count(3, "seeds"),
  startSteps: count(3000, "steps of the network that all arms begin with"),
  steps: count(1500, "steps of every arm"),
  batch: count(8, "crops of each domain per step"),
  crop: how(z.int().min(16).max(64).default(48), "side of a crop", "PX"),
  pictures: data(z.int().min(8).max(100_000).default(2000), "pictures of each domain", "N"),
  test: data(z.int().min(8).max(4096).default(256), "test pictures", "N"),
  diffusion: model(z.enum(["mini", "smoke"]).default("mini"), "size of the diffusion model"),
  measure: how(z.boolean().default(true), "make what is missing; off: a page of what is there"),
  shard: studyShard,
  threads,
  work: workFolder("out/noise-da/reproduce"),
  out: outFolder("out/noise-da-results", "tables"),
});

export type TrainActionOptions = z.output<typeof trainOptions>;
export type ReproduceActionOptions = z.output<typeof reproduceOptions>;
