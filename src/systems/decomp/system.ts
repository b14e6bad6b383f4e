/** Decomp Diffusion as the rest of Tweedie sees it. */
import { deferredAction, type System } from "../system.ts";
import { CHECKPOINTS, evaluateOptions, reproduceOptions, runOptions, trainOptions } from "./options.ts";

/** Pictures that no training has seen. */
const sample = (index: number) => ({
  ...{ name: `blocks-${index}`, label: `Blocks ${index}`, checkpoint: "blocks" },
  make: async () => (await import("./data.ts")).samplePicture(index),
});

/** The declaration. What actions do is loaded when they run. */
export const decomp: System = {
  name: "decomp",
  title: "Decomp Diffusion: pictures taken apart without labels",
  about: "takes pictures apart into components that can be switched and mixed",
  paper: {
    title: "Compositional Image Decomposition with Diffusion Models",
    authors: "Su, Liu, Wang, Tenenbaum, Du",
    venue: "ICML",
    year: 2024,
    arxiv: "2406.19298",
  },
  claim:
    "One denoiser that sees a picture only through several small latents, their predictions averaged, finds the picture's objects and factors without labels, when it predicts the clean picture and not the noise.",
  headline: async (data) => (await import("./study.ts")).headlineOf(data as never),
  checkpoints: CHECKPOINTS,
  samples: [1, 2, 3, 4, 5, 6].map(sample),
  tour: {
    about: "takes pictures of two blocks apart, and swaps their parts",
    files: ["checkpoints/decomp-blocks.safetensors"],
    next: [
      "tweedie run decomp --image a.png --with b.png --mask 10 --out out/mixed",
      "tweedie train decomp --data my-pictures --size 32 --out out/decomp",
    ],
    async *run(context) {
      return yield* (await import("./tour.ts")).tourDecomp(context);
    },
  },
  actions: {
    train: deferredAction({
      about: "trains encoder and denoiser together, without labels; resumable",
      options: trainOptions,
      examples: [
        "tweedie train decomp --preset blocks2 --out out/decomp",
        "tweedie train decomp --data my-pictures --size 32 --components 4 --out out/mine",
      ],
      load: async () => (await import("./actions.ts")).trainAction,
    }),
    run: deferredAction({
      about: "takes pictures apart, draws their components, mixes, adds and varies them",
      options: runOptions,
      examples: [
        "tweedie run decomp --image a.png",
        "tweedie run decomp --image a.png --with b.png --mask 10",
        "tweedie run decomp --image a.png --with b.png --mode add",
        "tweedie run decomp --image a.png --with my-pictures --mode vary --component 2",
      ],
      load: async () => (await import("./run.ts")).runAction,
    }),
    evaluate: deferredAction({
      about: "draws pictures again and measures; by masks and factors where they are known",
      options: evaluateOptions,
      examples: ["tweedie evaluate decomp --data blocks2 --model blocks --limit 64"],
      load: async () => (await import("./actions.ts")).evaluateAction,
    }),
    reproduce: deferredAction({
      about:
        "trains the method, its ablations, COMET and the beta-VAE, measures them, writes the tables; resumable",
      options: reproduceOptions,
      examples: [
        "tweedie reproduce decomp",
        "tweedie reproduce decomp --set litball --arms x0,COMET,beta-VAE --batch 16",
        "tweedie reproduce decomp --seeds 1 --steps 3000 --arms x0,eps,single",
      ],
      load: async () => (await import("./study.ts")).reproduceAction,
    }),
  },
};
