/** The tour: the same prompts and seeds without a LoRA, with that of latent DPO, and with that of NCP-DPO, scored. */
import { tensorToPictures } from "../../data/index.ts";
import type { Picture } from "../../io/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import { drawPrompts } from "../../training/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import type { TourContext, TourResult } from "../tour.ts";
import { heldOutCaptions, TEST_FROM } from "./cells.ts";
import { scoredPictures } from "./make-pairs.ts";
import { captionScorer, colourScorer } from "./scorers.ts";
import { compared } from "./scores.ts";
import { aligned, openBase } from "./use.ts";

/** Sizes of the tour. */
export interface NcpTourSize {
  /** Prompts that are measured, of which the first are shown. */
  readonly prompts: number;
  readonly steps: number;
}

const SIZE: NcpTourSize = { prompts: 32, steps: 10 };
const SHOWN = 6;

/** Draws, scores, shows. */
export async function* tourNcpDpo(
  { seed, threads, signal }: TourContext,
  size: Partial<NcpTourSize> = {},
): Work<TourResult> {
  const { prompts: count, steps } = { ...SIZE, ...size };
  const base = await openBase(undefined, signal);
  const prompts = await heldOutCaptions(count, TEST_FROM);
  const models: readonly (readonly [string, PipelineComponents])[] = [
    ["reference", base],
    ["DPO", await aligned(base, "dpo")],
    ["NCP-DPO", await aligned(base, "ncp")],
  ];
  const judge = await captionScorer();
  const columns: Picture[][] = [];
  const scores: { colours: readonly number[]; captions: readonly number[] }[] = [];
  for (const [i, [, model]] of models.entries()) {
    const run = drawPrompts(model, prompts, { steps, seed, batch: count, threads, signal });
    const x = yield* told(
      run,
      (event): WorkEvent =>
        event.type === "progress"
          ? {
              ...event,
              stage: "drawing",
              done: i * event.total + event.done,
              total: models.length * event.total,
            }
          : event,
    );
    columns.push(await tensorToPictures(x));
    const pictures = await scoredPictures(x);
    scores.push({
      colours: await colourScorer.score(pictures, prompts),
      captions: await judge.score(pictures, prompts),
    });
  }
  const [reference, dpo, ncp] = scores as [(typeof scores)[0], (typeof scores)[0], (typeof scores)[0]];
  yield {
    ...{ type: "figure", name: "ncp-dpo", caption: "The same prompts and seeds", scale: 3 },
    ...{ columns: models.map(([name]) => name), rows: prompts.slice(0, SHOWN) },
    pictures: Array.from({ length: Math.min(SHOWN, count) }, (_, k) =>
      columns.map((column) => column[k]!),
    ).flat(),
  };
  const gain = (one: typeof reference): number => compared(one.colours, reference.colours).netMarginWin;
  const share = (one: typeof reference): number => one.captions.reduce((a, b) => a + b, 0) / count;
  return {
    did: `drew ${count} prompts without a LoRA, with one trained on the error of the noise, and with one trained in the U-Net's features`,
    quality: [
      {
        name: "net margin win against the reference",
        value: gain(ncp),
        better: "higher",
        baseline: { name: "latent DPO", value: gain(dpo) },
      },
      {
        name: "captions followed (second judge)",
        value: share(ncp),
        better: "higher",
        baseline: { name: "reference", value: share(reference) },
      },
    ],
  };
}
