/** UMD as the rest of Tweedie sees it. */
import { deferredAction, type System } from "../system.ts";
import { CHECKPOINTS, evaluateOptions, reproduceOptions, runOptions, trainOptions } from "./options.ts";

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
  headline: async (data) => (await import("./results.ts")).headlineOf(data as never),
  checkpoints: CHECKPOINTS,
  tour: {
    about: "draws clothes by their class and fills in what is hidden of shapes",
    files: [...CHECKPOINTS.map(({ file }) => file), "checkpoints/fashion-features.safetensors"],
    next: [
      "tweedie run umd --model fashion --guidance 2 --out out/clothes",
      "tweedie train umd --data my-pictures --out out/umd",
      "tweedie run umd --mode reconstruct --data my-pictures --model out/umd/model.safetensors",
    ],
    async *run(context) {
      return yield* (await import("./tour.ts")).tourUMD(context);
    },
  },
  actions: {
    train: deferredAction({
      about: "pre-trains without labels, or fine-tunes for class-conditional generation; resumable",
      options: trainOptions,
      examples: [
        "tweedie train umd --data fashion-mnist --method umd --out out/umd",
        "tweedie train umd --data fashion-mnist --phase finetune --from out/umd/model.safetensors --steps 300 --out out/umd-tuned",
      ],
      load: async () => (await import("./actions.ts")).trainAction,
    }),
    run: deferredAction({
      about: "draws pictures, fills in hidden patches, or writes features",
      options: runOptions,
      examples: ["tweedie run umd --label 6 --guidance 2", "tweedie run umd --mode reconstruct --ratio 0.75"],
      load: async () => (await import("./actions.ts")).runAction,
    }),
    evaluate: deferredAction({
      about: "probes features: ridge on few and on all labels, and on request a linear layer",
      options: evaluateOptions,
      examples: ["tweedie evaluate umd --data fashion-mnist --model out/umd/model.safetensors --linear"],
      load: async () => (await import("./actions.ts")).evaluateAction,
    }),
    reproduce: deferredAction({
      about:
        "trains UMD, DiT, MaskDiT and MAE alike, or the ablations, probes and samples them, writes the tables; resumable",
      options: reproduceOptions,
      examples: [
        "tweedie reproduce umd",
        "tweedie reproduce umd --seeds 1 --steps 2000 --tune-steps 200",
        "tweedie reproduce umd --ablation --seeds 1 --preset micro --steps 1500 --tune-steps 500",
      ],
      load: async () => (await import("./study.ts")).reproduceAction,
    }),
  },
};
