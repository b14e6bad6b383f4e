/** DiffLoss as the rest of Tweedie sees it. */
import { restoringSystem } from "../restoring-options.ts";
import { deferredAction, type System } from "../system.ts";
import {
  CHECKPOINTS,
  evaluateOptions,
  RESTORERS_SHIPPED,
  reproduceOptions,
  runOptions,
  trainOptions,
} from "./options.ts";

const RESTORING = restoringSystem("diffloss", "DiffLoss", RESTORERS_SHIPPED);

/** The declaration. What actions do is loaded when they run. */
export const diffloss: System = {
  name: "diffloss",
  title: "DiffLoss: restoration with a diffusion prior as its loss",
  about: "restores pictures: noise, rain; a frozen diffusion model judges while training",
  paper: {
    title: "DiffLoss: unleashing diffusion model as constraint for training image restoration network",
    authors: "Tan, et al.",
    venue: "ACCV",
    year: 2024,
    arxiv: "2406.19030",
  },
  claim:
    "A diffusion model that is used only while training makes what any restoration network gives more natural and better to recognise, at no cost when it is used.",
  headline: async (data) => (await import("./page.ts")).headlineOf(data as never),
  checkpoints: CHECKPOINTS,
  samples: [1, 2, 3].flatMap((index) =>
    (["noise", "rain"] as const).map((task) => ({
      name: `${task}-${index}`,
      label: `${task === "noise" ? "Noise" : "Rain"} ${index}`,
      checkpoint: task === "noise" ? "denoise" : "derain",
      make: async () => (await import("../restoring-page.ts")).degradedSample(task, index),
    })),
  ),
  inPage: {
    label: "Restoration by one call of a network",
    sizes: [128, 256, 512],
    gives: "picture",
    checkpoints: RESTORERS_SHIPPED.map(({ name }) => name),
    build: async ({ checkpoint, size }) => (await import("./use.ts")).buildInPage(checkpoint, size),
  },
  tour: {
    about: "takes noise and rain from pictures that the networks have not seen",
    files: RESTORERS_SHIPPED.map(({ file }) => file),
    next: [
      "tweedie run diffloss --image my-pictures --out out/restored",
      "tweedie train diffloss --data my-photographs --task noise --diffloss --out out/denoise",
    ],
    async *run(context) {
      return yield* (await import("./tour.ts")).tourDiffLoss(context);
    },
  },
  actions: {
    train: deferredAction({
      about: "trains a network that restores, with or without the prior's loss, or the prior; resumable",
      options: trainOptions,
      examples: ["tweedie train diffloss --data my-photographs --task noise --diffloss --out out/denoise"],
      load: async () => (await import("./train-action.ts")).trainAction,
    }),
    run: deferredAction({
      about: "restores pictures, one or a folder: restored pictures, differences, sheets",
      options: runOptions,
      examples: [
        "tweedie run diffloss --image noisy.png --out out/restored",
        "tweedie run diffloss --image rainy-pictures --model derain",
      ],
      load: async () => (await import("../restoring-run.ts")).restoringRun(RESTORING),
    }),
    evaluate: deferredAction({
      about: "PSNR and SSIM on pairs, or on clean pictures that are degraded",
      options: evaluateOptions,
      examples: [
        "tweedie evaluate diffloss --model denoise --sigma 25 --data my-photographs",
        "tweedie evaluate diffloss --model derain --pairs my-pairs",
      ],
      load: async () => (await import("../restoring-evaluate.ts")).restoringEvaluate(RESTORING),
    }),
    reproduce: deferredAction({
      about: "trains networks with DiffLoss and with what it is compared with, writes the tables; resumable",
      options: reproduceOptions,
      examples: ["tweedie reproduce diffloss --data DIR"],
      load: async () => (await import("./study.ts")).reproduceAction,
    }),
  },
};
