/** AnyControl as the rest of Tweedie sees it. */
import { deferredAction, type System } from "../system.ts";
import { CHECKPOINTS, evaluateOptions, reproduceOptions, runOptions, trainOptions } from "./options.ts";

/** The declaration. What actions do is loaded when they run. */
export const anycontrol: System = {
  name: "anycontrol",
  title: "AnyControl: text to picture under any mix of conditions",
  about: "makes pictures of a prompt that follow edges, depth, areas and poses, any number of them",
  paper: {
    title: "AnyControl: create your artwork with versatile control on text-to-image generation",
    authors: "Sun, et al.",
    venue: "ECCV",
    year: 2024,
    arxiv: "2406.18958",
  },
  claim:
    "One encoder that reads text and all conditions as a set controls better than several ControlNets whose effects are added, above all where conditions do not fit together.",
  headline: async (data) => (await import("./page.ts")).headlineOf(data as never),
  checkpoints: CHECKPOINTS,
  tour: {
    about: "makes pictures that follow one to four conditions, among them some that do not fit together",
    files: [CHECKPOINTS[0].file, "checkpoints/shapes-text/model_index.json"],
    next: [
      'tweedie run anycontrol --prompt "a red circle and a blue square on teal" --control depth=depth.png --control edge=edges.png',
      "tweedie train anycontrol --base my-pipeline --out out/my-control",
    ],
    async *run(context) {
      return yield* (await import("./tour.ts")).tourAnyControl(context);
    },
  },
  actions: {
    train: deferredAction({
      about: "trains the encoder of conditions and the adapter for a frozen base, or a rival; resumable",
      options: trainOptions,
      examples: ["tweedie train anycontrol --steps 3000 --out out/anycontrol-train"],
      load: async () => (await import("./actions.ts")).trainAction,
    }),
    run: deferredAction({
      about: "makes pictures of a prompt under any number of conditions, in any order, or none",
      options: runOptions,
      examples: [
        'tweedie run anycontrol --prompt "a red circle and a blue square on teal" --control edge=a.png --control depth=b.png',
        "tweedie run anycontrol --control depth=room.png --control pose=figure.png:mask.png --strength depth=0.8 --seed 3",
      ],
      load: async () => (await import("./run.ts")).runAction,
    }),
    evaluate: deferredAction({
      about: "foreground and background under unaligned conditions; or makes unaligned pairs of pictures",
      options: evaluateOptions,
      examples: [
        "tweedie evaluate anycontrol --limit 64",
        "tweedie evaluate anycontrol --part make --made 100 --out out/unaligned",
        "tweedie evaluate anycontrol --part make --pictures pictures --backgrounds painted-over --masks masks",
      ],
      load: async () => (await import("./actions.ts")).evaluateAction,
    }),
    reproduce: deferredAction({
      about: "trains AnyControl, its rivals and its ablations, measures them, writes the tables; resumable",
      options: reproduceOptions,
      examples: ["tweedie reproduce anycontrol", "tweedie reproduce anycontrol --arms full,joint --seeds 1"],
      load: async () => (await import("./study.ts")).reproduceAction,
    }),
  },
};
