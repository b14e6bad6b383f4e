/** DiffLoss as the rest of Tweedie sees it. */
import { deferredAction, type System } from "../system.ts";
import { CHECKPOINTS, trainOptions } from "./options.ts";

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
  headline: async () => "not measured yet",
  checkpoints: CHECKPOINTS,
  actions: {
    train: deferredAction({
      about: "trains a network that restores, with or without the prior's loss, or the prior; resumable",
      options: trainOptions,
      examples: ["tweedie train diffloss --data my-photographs --task noise --diffloss --out out/denoise"],
      load: async () => (await import("./train-action.ts")).trainAction,
    }),
  },
};
