/** What the actions of Decomp take, and the checkpoints that ship. */
import { z } from "zod";
import {
  batch as batchOptions,
  beside,
  count,
  data,
  how,
  limit,
  model,
  modelNamed,
  optionalPictures,
  outFolder,
  pictures,
  results,
  runFolder,
  seed,
  startingCheckpoint,
  studyShard,
  threads,
  workFolder,
} from "../options.ts";
import { hinted } from "../system.ts";

export const CHECKPOINTS = [
  {
    name: "blocks",
    file: "checkpoints/decomp-blocks.safetensors",
    about: "two blocks of four cells on black, 8x8, two components",
  },
] as const;

/** A made set by its name, or a folder of pictures. */
const set = (about: string) =>
  hinted(z.string().describe(about), {
    ...{ group: "Data", hint: "NAME|DIR", role: "data", path: "folder" },
    names: ["blocks2", "blocks3", "blocks2-other", "blocks3-other", "litball"],
  });

const MADE_NAMES = "blocks2, blocks3, blocks2-other, blocks3-other (in other colours), litball";

const sampling = {
  method: how(z.enum(["ddim", "ddpm"]).default("ddim"), "how pictures are drawn"),
  steps: how(z.int().min(1).max(1000).default(50), "steps of the sampler", "N"),
  ...beside(
    { method: ["ddim"] },
    { eta: how(z.number().min(0).max(1).default(0), "fresh noise; 0: deterministic", "E") },
  ),
  clip: how(
    z.enum(["signed", "unit"]).default("signed"),
    "range of the guesses: [-1, 1] as published, or [0, 1] as pictures",
  ),
};

export const trainOptions = z.object({
  data: set(`folder of pictures, or made on the spot: ${MADE_NAMES} (default: the preset's)`).optional(),
  also: set("a second set, for one model of both").optional(),
  limit,
  preset: model(
    z
      .enum(["blocks2", "blocks3", "litball", "smoke", "clevr", "celeba", "falcor3d", "tetris", "celeba-128"])
      .default("blocks2"),
    "sizes of the networks",
  ),
  ...beside(
    { from: [false] },
    {
      size: model(z.int().min(4).optional(), "side of the pictures (default: the preset's)", "PX"),
      components: model(z.int().min(1).max(64).optional(), "components, K (default: the preset's)", "K"),
      latent: model(
        z.int().min(1).max(1024).optional(),
        "numbers of a component's latent, d (default: the preset's)",
        "D",
      ),
      norm: model(z.enum(["batch", "group"]).optional(), "norm of the encoder (default: the preset's)"),
      linear: model(z.boolean().default(false), "no last ReLU in the encoder: for latents that die"),
      weighted: model(z.boolean().default(false), "learn one weight per component, in place of 1 / K"),
      schedule: model(z.enum(["cosine", "linear"]).default("cosine"), "noise schedule"),
      prediction: how(
        z.enum(["x0", "eps"]).default("x0"),
        "predict the clean picture, or the noise, which does not take apart",
      ),
    },
  ),
  from: startingCheckpoint("checkpoint to begin with; options of the networks are then its own"),
  steps: count(6000, "training steps"),
  batch: count(32, "pictures per step"),
  learningRate: how(z.number().positive().default(1e-3), "learning rate", "R"),
  fall: how(
    z.number().min(0).max(1).default(0.3),
    "share of the steps at the end over which the learning rate falls to 5 %",
    "F",
  ),
  ema: how(z.number().min(0).max(0.99999).default(0.999), "decay of the EMA", "F"),
  dropLatents: how(
    z.number().min(0).max(0.9).default(0),
    "share of pictures whose latents are dropped, which guidance needs",
    "F",
  ),
  downweight: how(z.boolean().default(false), "weights of 2 - 2^(t / T)"),
  orthogonality: how(z.number().min(0).default(0), "factor of the loss that turns latents apart", "F"),
  seed,
  threads,
  out: runFolder("out/decomp"),
});

export const runOptions = z.object({
  image: pictures("picture to take apart, or a folder of them"),
  mode: how(
    z.enum(["decompose", "build-up", "mix", "add", "vary"]).default("decompose"),
    "take apart; add component to component; mix with a second picture by a mask; show all of both; vary one component",
  ),
  with: optionalPictures("second picture; to vary a component, a folder of those that it comes from"),
  ...beside(
    { with: [true] },
    {
      mask: how(
        z.string().optional(),
        "1: the component is of the picture, 0: of the second one (default: the first half)",
        "BITS",
      ),
      withModel: hinted(
        z
          .string()
          .optional()
          .describe("model of the second picture, when it is another: its components are composed"),
        {
          ...{ group: "Model", hint: "NAME|FILE", role: "command-line", path: "file" },
          names: CHECKPOINTS.map(({ name }) => name),
        },
      ),
    },
  ),
  ...beside(
    { mode: ["vary"] },
    { component: how(z.int().min(1).default(1), "component that is varied", "K") },
  ),
  ...beside(
    { mode: ["add"] },
    {
      compose: how(
        z.enum(["mean", "shifted"]).default("shifted"),
        "mean of all components, or scaled about the mean picture so that contrast stays",
      ),
    },
  ),
  ...beside(
    { mode: ["decompose"] },
    {
      weights: how(
        z
          .string()
          .regex(/^-?\d+(\.\d+)?(,-?\d+(\.\d+)?)*$/, "expected numbers with commas between, such as 0.5,0.5")
          .optional(),
        "weights of the components in the reconstruction, with commas between (default: 1 / K)",
        "W",
      ),
    },
  ),
  model: modelNamed(CHECKPOINTS),
  ...sampling,
  guidance: how(z.number().min(-20).max(20).default(1), "away from a picture without latents; 1: none", "W"),
  seed,
  threads,
  ...batchOptions,
  out: results("out/decomp-run"),
});

export const evaluateOptions = z.object({
  data: set(`folder of pictures, or made on the spot: ${MADE_NAMES}`).default("blocks2"),
  limit,
  model: modelNamed(CHECKPOINTS),
  ...sampling,
  seed,
  threads,
});

export const reproduceOptions = z.object({
  set: data(z.enum(["blocks2", "litball", "blocks3"]).default("blocks2"), "pictures of the study"),
  arms: model(
    z.string().default("x0,eps,single,wide,COMET,beta-VAE"),
    "what is compared, with commas between; x0 is always there",
    "NAMES",
  ),
  tuned: model(
    z.boolean().default(true),
    "the noise is predicted in four ways, with and without a last ReLU and at two rates; the best by its training loss counts",
  ),
  preset: model(
    z.enum(["set", "smoke"]).default("set"),
    "sizes of the networks: those of the set, or for tests",
  ),
  seeds: count(3, "seeds"),
  steps: count(6000, "training steps; COMET takes four times as many, of a quarter of the arithmetic"),
  batch: count(32, "pictures per step"),
  test: data(z.int().min(16).default(512), "test pictures", "N"),
  drawSteps: how(z.int().min(1).max(1000).default(25), "steps of the sampler", "N"),
  classifierSteps: count(800, "steps of the classifier that measures distances"),
  shard: studyShard,
  threads,
  work: workFolder("out/decomp/reproduce"),
  out: outFolder("out/decomp-results", "tables and figures"),
});

export type TrainActionOptions = z.output<typeof trainOptions>;
export type RunActionOptions = z.output<typeof runOptions>;
export type EvaluateActionOptions = z.output<typeof evaluateOptions>;
export type ReproduceActionOptions = z.output<typeof reproduceOptions>;
