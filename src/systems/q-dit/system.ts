/** Q-DiT as the rest of Tweedie sees it. */
import { deferredAction, type System } from "../system.ts";
import { CHECKPOINTS, evaluateOptions, reproduceOptions, runOptions, trainOptions } from "./options.ts";

/** The declaration. What actions do is loaded when they run. */
export const qDiT: System = {
  name: "q-dit",
  title: "Q-DiT: diffusion transformers in 4 bits",
  about: "quantises diffusion transformers after training",
  paper: {
    title: "Q-DiT: Accurate Post-Training Quantization for Diffusion Transformers",
    authors: "Chen, Meng, Tang, Ma, Jiang, X. Wang, Z. Wang, Zhu",
    venue: "CVPR",
    year: 2025,
    arxiv: "2406.17343",
  },
  claim:
    "With groups of input channels, dynamic ranges and searched group sizes, weights of 4 bits and activations of 8 keep the quality that rounding with one scale for a tensor loses.",
  headline: async (data) => (await import("./page.ts")).headlineOf(data as never),
  checkpoints: CHECKPOINTS,
  tour: {
    about: "draws the same pieces of clothing with weights of 16, 8 and 4 bits",
    files: [...CHECKPOINTS.map(({ file }) => file), "checkpoints/fashion-features.safetensors"],
    next: [
      "tweedie run q-dit --model fashion-w4a8 --label 7",
      "tweedie quantize my-model/transformer --method q-dit --out my-model-w4a8",
    ],
    async *run(context) {
      return yield* (await import("./actions.ts")).tourQDiT(context);
    },
  },
  actions: {
    train: deferredAction({
      about: "trains a class-conditional DiT in full precision; resumable",
      options: trainOptions,
      examples: ["tweedie train q-dit --data fashion-mnist --out out/q-dit"],
      load: async () => (await import("./actions.ts")).trainAction,
    }),
    run: deferredAction({
      about: "draws pictures with a model, in floats or packed",
      options: runOptions,
      examples: ["tweedie run q-dit --model fashion-w4a8 --label 7"],
      load: async () => (await import("./actions.ts")).runAction,
    }),
    evaluate: deferredAction({
      about: "distance of drawn pictures to real ones, and whether they are of their class",
      options: evaluateOptions,
      examples: ["tweedie evaluate q-dit --data fashion-mnist --model fashion-w4a8"],
      load: async () => (await import("./actions.ts")).evaluateAction,
    }),
    reproduce: deferredAction({
      about: "quantises a model by every method, searches group sizes, writes the tables; resumable",
      options: reproduceOptions,
      examples: ["tweedie reproduce q-dit --data fashion-mnist"],
      load: async () => (await import("./study.ts")).reproduceAction,
    }),
  },
};
