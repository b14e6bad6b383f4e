/** UMD as the rest of Tweedie sees it. */
import { z } from "zod";
import { action, hinted, type System } from "../system.ts";

const [DATA, MODEL, HOW, OUTPUT] = ["Data", "Model", "How", "Output"];

const seed = hinted(z.int().min(0).default(0).describe("seed of all randomness"), { group: HOW, hint: "S" });
const threads = hinted(
  z.int().min(1).max(256).optional().describe("processor threads (default: all cores)"),
  { group: HOW, hint: "N" },
);
const data = hinted(
  z
    .string()
    .optional()
    .describe("folder of Fashion-MNIST, CIFAR-10 or any pictures, one folder per class; shapes10 by default"),
  { group: DATA, hint: "DIR", path: "folder" },
);
const model = hinted(z.string().default("shapes").describe("shapes, or a checkpoint file"), {
  group: MODEL,
  hint: "NAME|FILE",
  path: "file",
});
const autoencoder = hinted(
  z.string().optional().describe("autoencoder of a latent model: a folder with its config.json, or a file"),
  { group: MODEL, hint: "FILE|DIR", path: "file-or-folder" },
);
const limit = hinted(z.int().min(1).optional().describe("only the first so many pictures"), {
  group: DATA,
  hint: "N",
});
const share = (about: string) =>
  hinted(z.number().min(0).max(1).optional().describe(`${about} (default: the method's)`), {
    group: HOW,
    hint: "F",
  });
const count = (fallback: number, about: string) =>
  hinted(z.int().min(1).max(10_000_000).default(fallback).describe(about), { group: HOW, hint: "N" });

const trainOptions = z.object({
  data,
  limit,
  size: hinted(
    z.int().min(4).optional().describe("side to which pictures are brought (default: the preset's)"),
    {
      group: DATA,
      hint: "PX",
    },
  ),
  colour: hinted(z.enum(["gray", "rgb"]).default("rgb").describe("what the model sees"), { group: DATA }),
  autoencoder,
  preset: hinted(
    z
      .enum(["mini", "smoke", "S/4", "B/4", "L/2", "L/16"])
      .default("mini")
      .describe("size of the transformer"),
    { group: MODEL },
  ),
  patch: hinted(z.int().min(1).optional().describe("side of a patch (default: the preset's)"), {
    group: MODEL,
    hint: "PX",
  }),
  conditioning: hinted(
    z
      .enum(["adaLN", "token"])
      .optional()
      .describe("how time and label enter (default: token for mae, else adaLN)"),
    { group: MODEL },
  ),
  zeroClassTokens: hinted(
    z.boolean().default(false).describe("class tokens begin at zero, as released: they stay equal for ever"),
    { group: MODEL },
  ),
  from: hinted(
    z.string().optional().describe("checkpoint to begin with; needed to fine-tune what was pre-trained"),
    {
      group: MODEL,
      hint: "FILE",
      path: "file",
    },
  ),
  initEncoder: hinted(
    z.string().optional().describe("published MAE weights, as safetensors, for the encoder"),
    {
      group: MODEL,
      hint: "FILE",
      path: "file",
    },
  ),
  phase: hinted(
    z
      .enum(["pretrain", "finetune"])
      .default("pretrain")
      .describe("without labels, or for class-conditional generation"),
    { group: HOW },
  ),
  method: hinted(z.enum(["umd", "dit", "maskdit", "mae"]).default("umd").describe("ratios of the mixture"), {
    group: HOW,
  }),
  cleanShare: share("share of clean pictures"),
  noisedMask: share("hidden share of noised pictures"),
  cleanMask: share("hidden share of clean pictures"),
  steps: count(3000, "training steps"),
  batch: count(64, "pictures per step"),
  learningRate: hinted(
    z.number().positive().optional().describe("peak of the learning rate (default: 1e-3; 5e-4 to fine-tune)"),
    {
      group: HOW,
      hint: "R",
    },
  ),
  crop: hinted(
    z
      .number()
      .min(0.05)
      .max(1)
      .optional()
      .describe("least share of the area that a random crop keeps (default: no crop)"),
    { group: HOW, hint: "F" },
  ),
  seed,
  threads,
  out: hinted(z.string().default("out/umd").describe("run folder; a run that was stopped goes on"), {
    group: OUTPUT,
    hint: "DIR",
    path: "output",
  }),
});

const runOptions = z.object({
  mode: hinted(
    z
      .enum(["sample", "reconstruct", "features"])
      .default("sample")
      .describe("draw pictures, fill in hidden patches, or write features as safetensors"),
    { group: HOW },
  ),
  model,
  autoencoder,
  data,
  limit,
  count: count(50, "pictures to draw"),
  steps: hinted(z.int().min(1).max(500).default(125).describe("strides of the sampler"), {
    group: HOW,
    hint: "N",
  }),
  eta: hinted(z.number().min(0).max(1).default(1).describe("fresh noise; 0: deterministic"), {
    group: HOW,
    hint: "E",
  }),
  guidance: hinted(z.number().min(0).max(20).default(1).describe("guidance by labels; 1: none"), {
    group: HOW,
    hint: "W",
  }),
  label: hinted(
    z.int().min(-1).optional().describe("class of the pictures; -1: none (default: all in turn)"),
    {
      group: HOW,
      hint: "N",
    },
  ),
  predictX0: hinted(
    z.boolean().default(false).describe("sample by the head that guesses the clean picture"),
    {
      group: HOW,
    },
  ),
  ratio: hinted(z.number().min(0).max(0.99).default(0.75).describe("hidden share to fill in"), {
    group: HOW,
    hint: "F",
  }),
  index: hinted(z.int().min(0).max(999).optional().describe("noise index of features (default: clean)"), {
    group: HOW,
    hint: "I",
  }),
  seed,
  threads,
  out: hinted(z.string().default("out/umd").describe("folder for pictures or features"), {
    group: OUTPUT,
    hint: "DIR",
    path: "output",
  }),
});

const evaluateOptions = z.object({
  data,
  limit,
  model: hinted(
    z
      .string()
      .default("shapes")
      .describe("shapes, a checkpoint file, or published MAE weights as safetensors"),
    { group: MODEL, hint: "NAME|FILE", path: "file" },
  ),
  autoencoder,
  linear: hinted(z.boolean().default(false).describe("the full linear probe as well, trained with LARS"), {
    group: HOW,
  }),
  linearRate: hinted(
    z
      .number()
      .positive()
      .default(10)
      .describe("its learning rate at a batch of 256; published: 0.1, for far longer training"),
    { group: HOW, hint: "R" },
  ),
  seed,
  threads,
});

const reproduceOptions = z.object({
  data,
  train: hinted(z.int().min(1000).default(12_000).describe("training pictures"), { group: DATA, hint: "N" }),
  test: hinted(z.int().min(100).default(2000).describe("test pictures"), { group: DATA, hint: "N" }),
  size: hinted(z.int().min(8).default(24).describe("side of the pictures"), { group: DATA, hint: "PX" }),
  preset: hinted(z.enum(["mini", "smoke"]).default("mini").describe("size of the transformer"), {
    group: MODEL,
  }),
  seeds: count(3, "seeds"),
  steps: count(10_000, "pre-training steps"),
  tuneSteps: hinted(z.int().min(0).default(1000).describe("fine-tuning steps; 0: no generation"), {
    group: HOW,
    hint: "N",
  }),
  batch: count(128, "pictures per step"),
  samples: count(2000, "samples for each guidance"),
  sampleSteps: hinted(z.int().min(1).max(500).default(50).describe("strides of the sampler"), {
    group: HOW,
    hint: "N",
  }),
  classifierSteps: count(1500, "steps of the classifier that measures"),
  equal: hinted(
    z
      .enum(["images", "flops", "both"])
      .default("both")
      .describe("compare at equal pictures, at equal arithmetic, or both"),
    { group: HOW },
  ),
  threads,
  work: hinted(
    z.string().default("out/umd/reproduce").describe("runs and models; what is there is not redone"),
    { group: OUTPUT, hint: "DIR", path: "output" },
  ),
  out: hinted(z.string().default("results/umd").describe("tables"), {
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
export const umd: System = {
  name: "umd",
  title: "UMD: one transformer that fills in and denoises",
  about: "learns features and generation at once, from masked and from noised pictures",
  paper: {
    title: "Unified Auto-Encoding with Masked Diffusion",
    authors: "Hansen-Estruch, Vishwanath, Zhang, Tomar",
    venue: "arXiv",
    year: 2024,
    arxiv: "2406.17688",
  },
  claim:
    "Trained on clean, heavily masked and noised, lightly masked pictures at once, a transformer's features probe better than a diffusion transformer's and its samples are nearly as good, for less arithmetic.",
  checkpoints: [
    {
      name: "shapes",
      file: "checkpoints/umd-shapes.safetensors",
      about: "shapes10, 24x24 in ten classes, fine-tuned for generation",
    },
  ],
  actions: {
    train: action({
      about: "pre-trains without labels, or fine-tunes for class-conditional generation; resumable",
      options: trainOptions,
      examples: [
        "tweedie train umd --data fashion-mnist --method umd --out out/umd",
        "tweedie train umd --data fashion-mnist --phase finetune --from out/umd/model.safetensors --steps 300 --out out/umd-tuned",
      ],
      async *run(options, context) {
        return yield* (await import("./actions/train.ts")).trainAction(options, context);
      },
    }),
    run: action({
      about: "draws pictures, fills in hidden patches, or writes features",
      options: runOptions,
      examples: ["tweedie run umd --label 6 --guidance 2", "tweedie run umd --mode reconstruct --ratio 0.75"],
      async *run(options, context) {
        return yield* (await import("./actions/run.ts")).runAction(options, context);
      },
    }),
    evaluate: action({
      about: "probes features: ridge on few and on all labels, and on request a linear layer",
      options: evaluateOptions,
      examples: ["tweedie evaluate umd --data fashion-mnist --model out/umd/model.safetensors --linear"],
      async *run(options, context) {
        return yield* (await import("./actions/evaluate.ts")).evaluateAction(options, context);
      },
    }),
    reproduce: action({
      about: "trains UMD, DiT, MaskDiT and MAE alike, probes and samples them, writes the tables; resumable",
      options: reproduceOptions,
      examples: ["tweedie reproduce umd", "tweedie reproduce umd --seeds 1 --steps 2000 --tune-steps 200"],
      async *run(options, context) {
        return yield* (await import("./actions/reproduce.ts")).reproduceAction(options, context);
      },
    }),
  },
};
