/** SDSeg in the tour: lesions that the model has not seen, in one step and in fifty, against their true masks. */
import { otsuThreshold, type SegmentedPicture } from "../../data/index.ts";
import { LESION_SIZE, lesion } from "../../data/world/lesions.ts";
import type { Picture } from "../../io/index.ts";
import { dice, iou, type OverlapCounts, overlapCounts } from "../../metrics/index.ts";
import { overlay, type Rgb, toRgb } from "../../report/index.ts";
import { mean } from "../../study/index.ts";
import type { Seed, Tensor } from "../../tensor/index.ts";
import { told, type WorkEvent } from "../../work.ts";
import type { TourContext, TourResult } from "../tour.ts";
import { openModel } from "./actions.ts";
import { BRIGHTNESS, thresholdPredictor } from "./baselines.ts";
import { imagesOf, type Sample, toSample } from "./data.ts";
import { openSegmenter, type Segmenter, type SegmentOptions } from "./use.ts";

/** Number of the first test lesion. */
const FIRST = 2_000_000;
const PLANE = LESION_SIZE * LESION_SIZE;
const SHOWN = 4;
/** Right, too much, missed. */
const COLOURS: readonly Rgb[] = [
  [64, 160, 255],
  [255, 170, 0],
  [255, 60, 130],
];

export interface SDSegTourSize {
  readonly pictures: number;
  /** Pictures at once. */
  readonly batch: number;
  /** Of the process that one step is compared with. */
  readonly steps: number;
}

const SIZE: SDSegTourSize = { pictures: 64, batch: 16, steps: 50 };

/** Masks of all samples, and the seconds that they took. */
interface Timed {
  readonly masks: readonly Uint8Array[];
  readonly seconds: number;
}

/** Samples as the networks take them, several at once. */
const batched = (samples: readonly Sample[], batch: number): Tensor[] =>
  Array.from({ length: Math.ceil(samples.length / batch) }, (_, k) =>
    imagesOf(samples.slice(k * batch, (k + 1) * batch)),
  );

/** Segments batch by batch; yields how many pictures are done. */
async function* segmentAll(
  segmenter: Segmenter,
  batches: readonly Tensor[],
  options: SegmentOptions,
): AsyncGenerator<number, Timed> {
  const masks: Uint8Array[] = [];
  let seconds = 0;
  for (const x of batches) {
    const startedAt = performance.now();
    const { mask } = await segmenter.segment(x, options);
    seconds += (performance.now() - startedAt) / 1000;
    for (let at = 0; at < mask.length; at += PLANE) masks.push(mask.subarray(at, at + PLANE));
    yield masks.length;
  }
  return { masks, seconds };
}

const countsOf = (masks: readonly ArrayLike<number>[], samples: readonly Sample[]): OverlapCounts[] =>
  masks.map((mask, i) => overlapCounts(mask, samples[i]!.labels, 2)[1]!);

/** Otsu's masks, of the brightness as it is. */
const otsuMasks = async (lesions: readonly SegmentedPicture[]): Promise<ArrayLike<number>[]> => {
  const samples = lesions.map((picture) => toSample(picture, { config: BRIGHTNESS }));
  return (await thresholdPredictor(otsuThreshold, false)(samples)).map(({ mask }) => mask);
};

const maskPicture = (mask: ArrayLike<number>): Picture => ({
  width: LESION_SIZE,
  height: LESION_SIZE,
  channels: 1,
  data: Uint8Array.from(mask, (label) => 255 * label),
});

/** Where mask and truth agree and where not, over the picture. */
const compared = (image: Picture, mask: Uint8Array, truth: Int32Array): Picture =>
  overlay(
    image,
    mask.map((label, i) => (label ? (truth[i] ? 1 : 2) : truth[i] ? 3 : 0)),
    { colours: COLOURS, opacity: 0.6 },
  );

const figure = (lesions: readonly SegmentedPicture[], one: Timed, many: Timed, steps: number): WorkEvent => ({
  type: "figure",
  name: "lesions",
  caption:
    "Procedural lesions: textured, wobbly ellipses among equally bright discs. Over the picture, the one-step mask against the truth: blue where both agree, orange where it is too large, pink where it misses.",
  columns: ["picture", "truth", "one step", "compared", `${steps} steps`],
  pictures: lesions.slice(0, SHOWN).flatMap(({ image, labels }, i) => {
    return [
      toRgb(image),
      maskPicture(labels),
      maskPicture(one.masks[i]!),
      compared(image, one.masks[i]!, labels),
      maskPicture(many.masks[i]!),
    ];
  }),
  scale: 2,
});

/** Lesions of a seed that training never draws. */
const unseen = (seed: Seed, count: number): SegmentedPicture[] =>
  Array.from({ length: count }, (_, i) => lesion(FIRST + i, seed));

/** Segments, measures, shows. */
export async function* tourSDSeg(
  { seed, threads, signal }: TourContext,
  size: Partial<SDSegTourSize> = {},
): AsyncGenerator<WorkEvent, TourResult> {
  const { pictures, batch, steps } = { ...SIZE, ...size };
  const { model } = await openModel("lesions");
  const lesions = unseen(seed, pictures);
  const samples = lesions.map((picture) => toSample(picture, { config: model.config }));
  const segmenter = openSegmenter(model, threads ? { threads } : {});
  const common = { seed, ...(signal && { signal }) };
  const batches = batched(samples, batch);
  const ways = [
    { stage: "one step", options: common, first: common },
    {
      stage: `${steps} steps`,
      options: { ...common, mode: "ddim" as const, steps },
      first: { ...common, mode: "ddim" as const, steps: 2 },
    },
  ];
  const timed: Timed[] = [];
  try {
    for (const [k, { stage, options, first }] of ways.entries()) {
      await segmenter.segment(batches[0]!, first); // what is compiled once is not time of the pictures
      const run = segmentAll(segmenter, batches, options);
      const events = told(run, (value) => ({
        type: "progress" as const,
        ...{ stage, done: k * pictures + value, total: 2 * pictures },
      }));
      timed.push(yield* events);
    }
  } finally {
    await segmenter.close();
  }
  const [one, many] = timed as [Timed, Timed];
  yield figure(lesions, one, many, steps);
  const [ours, theirs, threshold] = [one.masks, many.masks, await otsuMasks(lesions)].map((masks) =>
    countsOf(masks, samples),
  ) as [OverlapCounts[], OverlapCounts[], OverlapCounts[]];
  const other = `${steps} steps`;
  return {
    did: `segmented ${pictures} procedural lesions in one step of diffusion, and in ${steps}`,
    quality: [
      {
        name: "Dice, one step",
        value: mean(ours.map(dice)),
        better: "higher",
        baseline: { name: other, value: mean(theirs.map(dice)) },
      },
      {
        name: "IoU, one step",
        value: mean(ours.map(iou)),
        better: "higher",
        baseline: { name: "Otsu's threshold", value: mean(threshold.map(iou)) },
      },
      {
        name: "time for a picture",
        value: (1000 * one.seconds) / pictures,
        unit: "ms",
        better: "lower",
        baseline: { name: other, value: (1000 * many.seconds) / pictures },
      },
    ],
  };
}
