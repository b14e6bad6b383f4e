/** What the actions of Q-DiT take, and the checkpoints that ship. */
import { z } from "zod";
import {
  beside,
  count as counted,
  how,
  limit,
  modelNamed,
  neededDataFolder,
  outFile,
  outFolder,
  runFolder,
  seed,
  startingCheckpoint,
  threads,
  workFolder,
} from "../options.ts";

export const CHECKPOINTS = [
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
    name: "fashion-w4a8-searched",
    file: "checkpoints/q-dit-fashion-w4a8-searched.safetensors",
    about: "W4A8, packed, with group sizes that were searched for",
  },
  {
    name: "fashion-w8a8",
    file: "checkpoints/q-dit-fashion-w8a8.safetensors",
    about: "the same, W8A8, packed",
  },
] as const;

const data = neededDataFolder("folder of Fashion-MNIST, or of pictures in its format, 28x28 in ten classes");
const model = modelNamed(CHECKPOINTS);
const count = (standard: number, about: string) => counted(standard, about, 100_000);
const guidance = how(z.number().min(0).max(20).default(1.5), "guidance scale; 1: none", "W");

export const trainOptions = z.object({
  data,
  limit,
  steps: count(2400, "training steps"),
  batch: count(32, "pictures per step"),
  learningRate: how(z.number().positive().default(1e-3), "peak of the learning rate", "R"),
  dropLabels: how(z.number().min(0).max(1).default(0.1), "share of labels dropped, for guidance", "P"),
  from: startingCheckpoint("checkpoint to begin with"),
  seed,
  threads,
  out: runFolder("out/q-dit"),
});

export const runOptions = z.object({
  model,
  label: how(z.int().min(0).optional(), "class of the pictures (default: all in turn)", "N"),
  count: count(50, "pictures"),
  steps: count(50, "DDIM steps"),
  guidance,
  seed,
  threads,
  out: outFile("out/q-dit-run/pictures.png", "picture file with all of them"),
});

export const evaluateOptions = z.object({
  data,
  limit,
  model,
  count: count(1000, "pictures to draw"),
  steps: count(20, "DDIM steps"),
  guidance: guidance.default(1),
  seed,
  threads,
});

export const reproduceOptions = z.object({
  data,
  model: modelNamed(CHECKPOINTS, "full-precision model to quantise"),
  pictures: count(1000, "pictures for each of three seeds"),
  steps: count(10, "DDIM steps of the pictures"),
  ...beside(
    { further: [true] },
    { stepPictures: count(200, "pictures for each seed where guidance, and 10 to 100 steps, are compared") },
  ),
  searchPictures: count(500, "pictures by which the search judges a candidate"),
  searchSteps: count(10, "DDIM steps of those pictures"),
  population: count(16, "candidates of a generation"),
  generations: count(6, "generations of the search"),
  samples: count(128, "samples of a calibration set, a multiple of 32"),
  judgeSteps: count(1000, "training steps of the second judge, which no search uses"),
  rounds: count(100, "rounds in which steps and layers are timed"),
  further: how(z.boolean().default(false), "also other bits, guidance, and other numbers of steps"),
  measure: how(z.boolean().default(true), "off: only writes the tables of what was measured"),
  threads,
  work: workFolder("out/q-dit/reproduce", "measured cells; what is there is not redone"),
  out: outFolder("out/q-dit-results", "tables"),
});

export type TrainActionOptions = z.output<typeof trainOptions>;
export type RunActionOptions = z.output<typeof runOptions>;
export type EvaluateActionOptions = z.output<typeof evaluateOptions>;
export type ReproduceActionOptions = z.output<typeof reproduceOptions>;
