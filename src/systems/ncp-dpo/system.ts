/** NCP-DPO as the rest of Tweedie sees it. */
import { deferredAction, type System } from "../system.ts";
import { CHECKPOINTS, evaluateOptions, reproduceOptions, runOptions, trainOptions } from "./options.ts";

/** The declaration. What actions do is loaded when they run. */
export const ncpDpo: System = {
  name: "ncp-dpo",
  title: "NCP-DPO: preferences learned in the U-Net's own features",
  about: "trains a LoRA on pairs of pictures of which one was preferred",
  paper: {
    title: "Aligning Diffusion Models with Noise-Conditioned Perception",
    authors: "Gambashidze, Kulikov, Sosnin, Makarov",
    venue: "IEEE Access 13",
    year: 2025,
    arxiv: "2406.17636",
  },
  claim:
    "Preferences are learned faster when the errors of two pictures are compared in the features of the model's own frozen U-Net, one denoising step later, than in the noise.",
  headline: async (data) => (await import("./study.ts")).headlineOf(data as never),
  checkpoints: CHECKPOINTS,
  tour: {
    about: "draws the same prompts without and with two LoRAs, and scores them",
    files: [
      "checkpoints/shapes-text/model_index.json",
      "checkpoints/shapes-features.safetensors",
      ...CHECKPOINTS.map(({ file }) => file),
    ],
    next: [
      'tweedie run ncp-dpo --prompt "a red circle and a blue square on teal" --mode scales',
      "tweedie train ncp-dpo --pairs pairs.csv --model my-model --out out/mine",
    ],
    async *run(context) {
      return yield* (await import("./tour.ts")).tourNcpDpo(context);
    },
  },
  actions: {
    train: deferredAction({
      about: "trains a LoRA for any U-Net with text, on pairs of pictures; resumable",
      options: trainOptions,
      examples: [
        "tweedie train ncp-dpo --pairs pairs.csv --out out/liked",
        "tweedie train ncp-dpo --winners good --losers bad --model stable-diffusion-v1-5 --rank 64",
        "tweedie train ncp-dpo --prompts prompts.txt --scorer colours --space latent",
      ],
      load: async () => (await import("./actions.ts")).trainAction,
    }),
    run: deferredAction({
      about: "draws the same seeds without and with a LoRA, or pairs to choose from",
      options: runOptions,
      examples: [
        'tweedie run ncp-dpo --prompt "a red circle on teal"',
        "tweedie run ncp-dpo --lora out/ncp-dpo/lora.safetensors --mode scales",
      ],
      load: async () => (await import("./actions.ts")).runAction,
    }),
    evaluate: deferredAction({
      about: "compares a LoRA with its base by a scorer, on the same prompts and seeds",
      options: evaluateOptions,
      examples: ["tweedie evaluate ncp-dpo --lora ncp --scorer captions --limit 128"],
      load: async () => (await import("./actions.ts")).evaluateAction,
    }),
    reproduce: deferredAction({
      about: "trains all losses and controls on the same pairs, compares them by arithmetic; resumable",
      options: reproduceOptions,
      examples: [
        "tweedie reproduce ncp-dpo",
        "tweedie reproduce ncp-dpo --no-sweep --seeds 1 --arms latent-dpo,ncp-dpo,weights,random",
      ],
      load: async () => (await import("./study.ts")).reproduceAction,
    }),
  },
};
