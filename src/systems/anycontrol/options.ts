/** What the actions of AnyControl take, and the checkpoints that ship. */
import { z } from "zod";
import {
  beside,
  controlMaps,
  count,
  data,
  how,
  model,
  modelNamed,
  optionalOutFile,
  optionalPictures,
  outFolder,
  results,
  runFolder,
  seed,
  startingCheckpoint,
  studyShard,
  text,
  threads,
  workFolder,
} from "../options.ts";
import { hinted } from "../system.ts";
import { TYPES } from "./types.ts";

export const CHECKPOINTS = [
  {
    name: "shapes",
    file: "checkpoints/anycontrol-shapes.safetensors",
    about: "edges, depth, areas and pose of the shape world, over the base shapes-text",
  },
] as const;

/** The base that ships: a pipeline folder. */
export const BASES = [
  { name: "shapes-text", file: "checkpoints/shapes-text", about: "text to picture of the shape world" },
] as const;

const base = hinted(
  modelNamed(BASES, "shapes-text, or the folder of any Stable Diffusion pipeline of U-Net size"),
  { path: "folder", role: "command-line" }, // in the page the checkpoint is the adapter's
);
const sampling = {
  steps: how(z.int().min(1).max(1000).default(20), "steps of the sampler", "N"),
  guidance: how(z.number().min(0).max(30).default(2), "guidance; 1: none", "S"),
};
const which = { base, model: modelNamed(CHECKPOINTS) };

export const runOptions = z.object({
  prompt: text("what the picture shows; may be empty").default(""),
  control: controlMaps(
    TYPES,
    "a condition, TYPE=FILE, or TYPE=FILE:MASK.png where only a region counts; as often as wanted, in any order",
  ),
  ...which,
  strength: how(
    z.array(z.string()).default([]),
    "TYPE=S, or S for all: how much conditions count, 0 to 2; given once for each",
    "TYPE=S",
  ),
  levels: how(
    z.string().optional(),
    "factors of the residuals from the top to the middle, with commas",
    "A,B,…",
  ),
  extract: data(
    z.enum(["none", "canny", "sketch"]).default("none"),
    "controls of type edge are pictures, or drawings, to take edges from",
  ),
  negative: how(z.string().max(10_000).default(""), "what the picture does not show", "TEXT"),
  count: how(z.int().min(1).max(64).default(4), "pictures, with seeds from --seed on", "N"),
  ...sampling,
  seed,
  threads,
  out: results("out/anycontrol"),
});
/** Checked options of `run`. */
export type RunActionOptions = z.infer<typeof runOptions>;

export const trainOptions = z.object({
  base,
  arm: model(
    z.string().default("full"),
    "what is trained: full, or what it is compared with (see the study)",
    "NAME",
  ),
  from: startingCheckpoint("model of the same arm to begin with"),
  steps: count(3000, "training steps"),
  batch: count(16, "pictures per step"),
  learningRate: how(z.number().positive().default(1e-3), "learning rate at its peak", "R"),
  seed,
  threads,
  out: runFolder("out/anycontrol-train"),
});
/** Checked options of `train`. */
export type TrainActionOptions = z.infer<typeof trainOptions>;

const MEASURE = { part: ["measure"] };
export const evaluateOptions = z.object({
  part: model(
    z.enum(["measure", "make"]).default("measure"),
    "measure a model on unaligned conditions, or make unaligned pairs of pictures and masks",
  ),
  ...beside(MEASURE, {
    ...which,
    limit: data(z.int().min(2).max(4096).default(64), "test scenes", "N"),
    ...sampling,
    report: optionalOutFile("numbers of every scene, as JSON"),
  }),
  ...beside(
    { part: ["make"] },
    {
      pictures: optionalPictures("folder of pictures; without, scenes of the shape world are rendered"),
      backgrounds: data(
        hinted(z.string().optional(), { path: "folder", role: "command-line" }),
        "the same pictures without their near thing",
        "DIR",
      ),
      masks: data(
        hinted(z.string().optional(), { path: "folder", role: "command-line" }),
        "masks of their near things, white on them",
        "DIR",
      ),
      made: count(100, "pairs to make of the shape world", 100_000),
      out: outFolder("out/unaligned", "folder of the pairs"),
    },
  ),
  seed,
  threads,
});
/** Checked options of `evaluate`. */
export type EvaluateActionOptions = z.infer<typeof evaluateOptions>;

export const reproduceOptions = z.object({
  base,
  arms: how(z.string().default("claim"), "claim, all, or names with commas", "NAMES"),
  seeds: count(3, "trainings of each", 100),
  steps: count(3000, "training steps of each"),
  batch: count(16, "pictures per step"),
  test: data(z.int().min(2).max(4096).default(256), "test scenes", "N"),
  real: data(z.int().min(65).max(100_000).default(2000), "real scenes for the Fréchet distance", "N"),
  reader: count(500, "training steps of the network that reads classes and depth"),
  sampler: how(z.int().min(1).max(1000).default(20), "steps of the sampler", "N"),
  guidance: sampling.guidance,
  measure: how(z.boolean().default(true), "make what is missing; false: only a page of what is there"),
  shard: studyShard,
  threads,
  work: workFolder("out/anycontrol-study"),
  out: outFolder("results/anycontrol", "folder for tables and pictures"),
});
/** Checked options of `reproduce`. */
export type ReproduceActionOptions = z.infer<typeof reproduceOptions>;
