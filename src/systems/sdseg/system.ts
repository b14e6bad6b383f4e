/** SDSeg as the rest of Tweedie sees it. */
import { deferredAction, type System } from "../system.ts";
import { CHECKPOINTS, evaluateOptions, reproduceOptions, runOptions, trainOptions } from "./options.ts";

/** The declaration. What actions do is loaded when they run. */
export const sdseg: System = {
  name: "sdseg",
  title: "SDSeg: segmentation by one step of diffusion",
  about: "segments pictures by one call of a latent diffusion model",
  paper: {
    title: "Stable Diffusion Segmentation for Biomedical Images with Single-step Reverse Process",
    authors: "Lin, Chen, Yan, Yu, Zheng",
    venue: "MICCAI",
    year: 2024,
    arxiv: "2406.18361",
  },
  claim:
    "With a loss on the clean latent, one call of the denoiser segments as well as 50 steps and as an ensemble, at a fraction of the time and with little spread over seeds.",
  headline: async (data) => (await import("./page.ts")).headlineOf(data as never),
  checkpoints: CHECKPOINTS,
  samples: [1, 2, 3].map((index) => ({
    name: `lesion-${index}`,
    label: `Lesions ${index}`,
    checkpoint: "lesions",
    make: async () => (await import("./in-page.ts")).lesionPicture(index),
  })),
  inPage: {
    label: "Segmentation by one call of the denoiser",
    sizes: [64, 128, 256],
    build: async ({ checkpoint, size }) => (await import("./in-page.ts")).buildInPage(checkpoint, size),
  },
  tour: {
    about: "segments procedural lesions in one step of diffusion and in fifty",
    files: ["checkpoints/sdseg-lesions.safetensors"],
    next: [
      "tweedie run sdseg --image my-pictures --out out/masks",
      "tweedie train sdseg --data my-cells --out out/my-cells",
    ],
    async *run(context) {
      return yield* (await import("./tour.ts")).tourSDSeg(context);
    },
  },
  actions: {
    train: deferredAction({
      about: "trains the autoencoder of masks, then the denoiser; resumable",
      options: trainOptions,
      examples: ["tweedie train sdseg --data my-cells --preset mini --out out/my-cells"],
      load: async () => (await import("./actions.ts")).trainAction,
    }),
    run: deferredAction({
      about: "segments pictures and volumes, one or a folder: masks, probability maps, overlays",
      options: runOptions,
      examples: [
        "tweedie run sdseg --image slice.png --out out/masks",
        "tweedie run sdseg --image slices --model nuclei --mode ddim --steps 10 --ensemble 3",
        "tweedie run sdseg --image ct.nii.gz --model out/sdseg/model.safetensors --range -125:275",
      ],
      load: async () => (await import("./run.ts")).runAction,
    }),
    evaluate: deferredAction({
      about: "Dice and IoU on pictures with masks, or on volumes",
      options: evaluateOptions,
      examples: ["tweedie evaluate sdseg --data my-cells --model nuclei --stability 10"],
      load: async () => (await import("./actions.ts")).evaluateAction,
    }),
    reproduce: deferredAction({
      about: "trains what the claim needs, measures it, writes tables and figures; resumable",
      options: reproduceOptions,
      examples: ["tweedie reproduce sdseg --data DIR"],
      load: async () => (await import("./page.ts")).reproduceAction,
    }),
  },
};
