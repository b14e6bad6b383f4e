/** Noise-DA as the rest of Tweedie sees it. */
import { deferredAction, type System } from "../system.ts";
import { CHECKPOINTS, evaluateOptions, reproduceOptions, runOptions, trainOptions } from "./options.ts";

const restoring = async () => (await import("./use.ts")).RESTORING;

/** The declaration. What actions do is loaded when they run. */
export const noiseDa: System = {
  name: "noise-da",
  title: "Noise-DA: restoration adapted to real pictures",
  about:
    "adapts a restoring network to real pictures without a truth; a diffusion model helps while training",
  paper: {
    title: "Denoising as adaptation: noise-space domain adaptation for image restoration",
    authors: "Liao, et al.",
    venue: "ICLR",
    year: 2025,
    arxiv: "2406.18516",
  },
  claim:
    "A diffusion model that must guess its noise from restored pictures draws restored real and restored synthetic ones together, at no cost when the network is used.",
  headline: async (data) => (await import("./page.ts")).headlineOf(data as never),
  checkpoints: CHECKPOINTS,
  samples: [1, 2, 3].flatMap((index) =>
    CHECKPOINTS.map(({ name }) => ({
      name: `camera-noise-${index}-${name}`,
      label: `Camera noise ${index}, ${name}`,
      checkpoint: name,
      make: async () => (await import("./use.ts")).realSample("noise", index),
    })),
  ),
  inPage: {
    label: "Restoration by one call of a network",
    sizes: [128, 256, 512],
    gives: "picture",
    checkpoints: CHECKPOINTS.map(({ name }) => name),
    build: async ({ checkpoint, size }) => (await import("./use.ts")).buildInPage(checkpoint, size),
  },
  tour: {
    about:
      "takes camera noise, whose truth training never saw, from new pictures, beside the twin that was not adapted",
    files: CHECKPOINTS.map(({ file }) => file),
    next: [
      "tweedie run noise-da --image my-pictures --out out/restored",
      "tweedie train noise-da --synthetic my-clean-pictures --real my-noisy-pictures --out out/adapted",
    ],
    async *run(context) {
      return yield* (await import("./tour.ts")).tourNoiseDa(context);
    },
  },
  actions: {
    train: deferredAction({
      about: "adapts a network to a folder of real pictures, with a report of before and after; resumable",
      options: trainOptions,
      examples: [
        "tweedie train noise-da --synthetic my-clean-pictures --real my-noisy-pictures --out out/adapted",
      ],
      load: async () => (await import("./train-action.ts")).trainAction,
    }),
    run: deferredAction({
      about: "restores pictures, one or a folder: restored pictures, differences, sheets",
      options: runOptions,
      examples: ["tweedie run noise-da --image noisy.png --out out/restored"],
      load: async () => (await import("../restoring-run.ts")).restoringRun(await restoring()),
    }),
    evaluate: deferredAction({
      about:
        "PSNR, SSIM, LPIPS and slopes on pairs, or on clean pictures that are degraded, beside another network",
      options: evaluateOptions,
      examples: ["tweedie evaluate noise-da --model adapted --against vanilla --pairs my-pairs"],
      load: async () => (await import("../restoring-evaluate.ts")).restoringEvaluate(await restoring()),
    }),
    reproduce: deferredAction({
      about: "trains networks with Noise-DA and with what it is compared with, writes the tables; resumable",
      options: reproduceOptions,
      examples: ["tweedie reproduce noise-da --data DIR"],
      load: async () => (await import("./study.ts")).reproduceAction,
    }),
  },
};
