/** What the actions of UMD take, and the checkpoints that ship. */
import { z } from "zod";
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
  weightsFile,
  workFolder,
} from "../options.ts";
import { hinted } from "../system.ts";

export const CHECKPOINTS = [
  {
    name: "shapes",
    file: "checkpoints/umd-shapes.safetensors",
    about: "shapes10, 24x24 in ten classes, fine-tuned for generation",
  },
  {
    name: "fashion",
    file: "checkpoints/umd-fashion.safetensors",
    about: "Fashion-MNIST, 24x24 in ten classes, fine-tuned for generation",
  },
] as const;

const pictures = dataFolder(
  "folder of Fashion-MNIST, CIFAR-10 or any pictures, one folder per class; shapes10 by default",
);
const autoencoder = hinted(
  z.string().optional().describe("autoencoder of a latent model: a folder with its config.json, or a file"),
  { group: "Model", hint: "FILE|DIR", role: "command-line", path: "file-or-folder" },
);
const share = (about: string) =>
  how(z.number().min(0).max(1).optional(), `${about} (default: the method's)`, "F");

/** Options of a fresh model, which a checkpoint to begin with decides itself. */
const FRESH = { from: [false] };

export const trainOptions = z.object({
  data: pictures,
  limit,
  size: data(
    z.int().min(4).optional(),
    "side to which pictures are brought (default: the model's; with another one its positions are interpolated)",
    "PX",
  ),
  ...beside(
    { ...FRESH, autoencoder: [false] },
    { colour: data(z.enum(["gray", "rgb"]).optional(), "what the model sees (default: rgb)") },
  ),
  autoencoder,
  ...beside(FRESH, {
    preset: model(
      z.enum(["mini", "micro", "smoke", "S/4", "B/4", "L/2", "L/16"]).default("mini"),
      "size of the transformer",
    ),
    patch: model(z.int().min(1).optional(), "side of a patch (default: the preset's)", "PX"),
    conditioning: model(
      z.enum(["adaLN", "token"]).optional(),
      "how time and label enter (default: token for mae, else adaLN)",
    ),
    zeroClassTokens: model(
      z.boolean().default(false),
      "start the class tokens at zero, as released (they then never differ)",
    ),
  }),
  from: startingCheckpoint("checkpoint to begin with; needed to fine-tune what was pre-trained"),
  ...beside(FRESH, {
    initEncoder: weightsFile(
      "published MAE weights, as safetensors, for the encoder; it then has one class token and exact GELU",
    ),
  }),
  phase: how(
    z.enum(["pretrain", "finetune"]).default("pretrain"),
    "without labels, or for class-conditional generation",
  ),
  method: how(z.enum(["umd", "dit", "maskdit", "mae"]).default("umd"), "ratios of the mixture"),
  cleanShare: share("share of clean pictures"),
  noisedMask: share("hidden share of noised pictures"),
  cleanMask: share("hidden share of clean pictures"),
  steps: count(3000, "training steps"),
  batch: count(64, "pictures per step"),
  learningRate: how(
    z.number().positive().optional(),
    "peak of the learning rate (default: 1e-3; 5e-4 to fine-tune)",
    "R",
  ),
  crop: how(
    z.number().min(0.05).max(1).optional(),
    "least share of the area that a random crop keeps (default: no crop)",
    "F",
  ),
  seed,
  threads,
  out: runFolder("out/umd"),
});

export const runOptions = z.object({
  mode: how(
    z.enum(["sample", "reconstruct", "features"]).default("sample"),
    "draw pictures, fill in hidden patches, or write features as safetensors",
  ),
  model: modelNamed(CHECKPOINTS),
  autoencoder,
  ...beside({ mode: ["reconstruct", "features"] }, { data: pictures, limit }),
  ...beside(
    { mode: ["sample"] },
    {
      count: count(50, "pictures to draw"),
      steps: how(z.int().min(1).max(500).default(125), "strides of the sampler", "N"),
      eta: how(z.number().min(0).max(1).default(1), "fresh noise; 0: deterministic", "E"),
      guidance: how(z.number().min(0).max(20).default(1), "guidance by labels; 1: none", "W"),
      label: how(z.int().min(-1).optional(), "class of the pictures; -1: none (default: all in turn)", "N"),
      predictX0: how(z.boolean().default(false), "sample by the head that guesses the clean picture"),
    },
  ),
  ...beside(
    { mode: ["reconstruct"] },
    { ratio: how(z.number().min(0).max(0.99).default(0.75), "hidden share to fill in", "F") },
  ),
  ...beside(
    { mode: ["features"] },
    { index: how(z.int().min(0).max(999).optional(), "noise index of features (default: clean)", "I") },
  ),
  seed,
  threads,
  out: outFolder("out/umd-run", "folder for pictures or features"),
});

export const evaluateOptions = z.object({
  data: pictures,
  limit,
  model: modelNamed(
    CHECKPOINTS,
    "shapes, fashion, a checkpoint file, or published MAE weights as safetensors",
  ),
  autoencoder,
  linear: how(z.boolean().default(false), "the full linear probe as well, trained with LARS"),
  ...beside(
    { linear: [true] },
    {
      linearRate: how(
        z.number().positive().default(10),
        "its learning rate at a batch of 256; published: 0.1, for far longer training",
        "R",
      ),
    },
  ),
  seed,
  threads,
});

export const reproduceOptions = z.object({
  data: pictures,
  train: data(z.int().min(1000).default(12_000), "training pictures", "N"),
  test: data(z.int().min(100).default(2000), "test pictures", "N"),
  size: data(z.int().min(8).default(24), "side of the pictures", "PX"),
  ...beside(
    { data: [true] },
    { colour: data(z.enum(["gray", "rgb"]).default("rgb"), "what the models see of a folder's pictures") },
  ),
  preset: model(z.enum(["mini", "micro", "smoke"]).default("mini"), "size of the transformer"),
  ...beside(
    { ablation: [false] },
    {
      variants: model(
        z.string().default("UMD,DiT,MaskDiT,MAE,MAE-adaLN"),
        "what is compared, with commas between; UMD and DiT are always there",
        "NAMES",
      ),
    },
  ),
  seeds: count(3, "seeds"),
  steps: count(10_000, "pre-training steps"),
  tuneSteps: how(z.int().min(0).default(1000), "fine-tuning steps; 0: no generation", "N"),
  tuneRate: how(z.number().positive().default(5e-4), "peak learning rate of fine-tuning", "R"),
  batch: count(128, "pictures per step"),
  samples: count(2000, "samples for each guidance"),
  sampleSteps: how(z.int().min(1).max(500).default(50), "strides of the sampler", "N"),
  guidances: how(
    z
      .string()
      .regex(/^\d+(\.\d+)?(,\d+(\.\d+)?)*$/, "expected numbers with commas between, such as 1,2")
      .default("1,2"),
    "guidances of the samples, with commas between; the first is judged",
    "W",
  ),
  classifierSteps: count(1500, "steps of the classifier that measures"),
  equal: how(
    z.enum(["images", "flops", "both"]).default("both"),
    "compare at equal pictures, at equal arithmetic, or both",
  ),
  ablation: how(
    z.boolean().default(false),
    "instead: shares of clean pictures by hidden shares of noised ones, and class tokens from zero; at equal pictures, or as --equal flops says",
  ),
  shard: studyShard,
  threads,
  work: workFolder("out/umd/reproduce"),
  out: outFolder("out/umd-results", "tables; those of the ablation are below it"),
});

export type TrainActionOptions = z.output<typeof trainOptions>;
export type RunActionOptions = z.output<typeof runOptions>;
export type EvaluateActionOptions = z.output<typeof evaluateOptions>;
export type ReproduceActionOptions = z.output<typeof reproduceOptions>;
