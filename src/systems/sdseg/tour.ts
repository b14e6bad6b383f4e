/** SDSeg in the tour: lesions that the model has not seen, in one step and in fifty, against their true masks. */
import { type Dataset, fromArray, otsuThreshold, type SegmentedPicture } from "../../data/index.ts";
import { LESION_SIZE, lesion } from "../../data/world/lesions.ts";
import type { Picture } from "../../io/index.ts";
import { overlay, type Rgb, toRgb } from "../../report/index.ts";
import type { Seed } from "../../tensor/index.ts";
import { type Work, type WorkEvent, watched } from "../../work.ts";
import type { TourContext, TourResult } from "../tour.ts";
import { openModel } from "./actions.ts";
import { BRIGHTNESS, thresholdPredictor } from "./baselines.ts";
import { type Sample, type SampleOptions, toSample } from "./data.ts";
import { evaluateOn, type Predict, predictWith, type Scores } from "./scores.ts";
import { openSegmenter, type SegmentOptions } from "./use.ts";

/** Number of the first test lesion. */
const FIRST = 2_000_000;
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

/** What was found of all samples, and the seconds that it took. */
interface Timed {
  readonly scores: Scores;
  readonly masks: readonly ArrayLike<number>[];
  readonly seconds: number;
}

/** Scores a segmenter; tells how many pictures are done. */
async function timed(
  predict: Predict,
  data: Dataset<Sample>,
  batch: number,
  onPicture: (done: number) => void = () => undefined,
): Promise<Timed> {
  const masks: ArrayLike<number>[] = [];
  let seconds = 0;
  const scores = await evaluateOn(
    async (samples) => {
      const startedAt = performance.now();
      const found = await predict(samples);
      seconds += (performance.now() - startedAt) / 1000;
      masks.push(...found.map(({ mask }) => mask));
      return found;
    },
    data,
    { batch, onPicture },
  );
  return { scores, masks, seconds };
}

const maskPicture = (mask: ArrayLike<number>): Picture => ({
  width: LESION_SIZE,
  height: LESION_SIZE,
  channels: 1,
  data: Uint8Array.from(mask, (label) => 255 * label),
});

/** Where mask and truth agree and where not, over the picture. */
const compared = (image: Picture, mask: ArrayLike<number>, truth: Int32Array): Picture =>
  overlay(
    image,
    Uint8Array.from(mask, (label, i) => (label ? (truth[i] ? 1 : 2) : truth[i] ? 3 : 0)),
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
): Work<TourResult> {
  const { pictures, batch, steps } = { ...SIZE, ...size };
  const { model } = await openModel("lesions");
  const lesions = unseen(seed, pictures);
  const seenAs = (config: SampleOptions["config"]): Dataset<Sample> =>
    fromArray(lesions.map((picture) => toSample(picture, { config })));
  const data = seenAs(model.config);
  const segmenter = openSegmenter(model, threads ? { threads } : {});
  const common = { seed, ...(signal && { signal }) };
  const many: SegmentOptions = { ...common, mode: "ddim" };
  const other = `${steps} steps`;
  const ways = [
    { stage: "one step", options: common, first: common },
    { stage: other, options: { ...many, steps }, first: { ...many, steps: 2 } },
  ];
  const found: Timed[] = [];
  try {
    const begun = await Promise.all(Array.from({ length: Math.min(batch, pictures) }, (_, i) => data.get(i)));
    for (const [k, { stage, options, first }] of ways.entries()) {
      await predictWith(segmenter, first)(begun); // what is compiled once is not time of the pictures
      found.push(
        yield* watched((tell: (event: WorkEvent) => void) =>
          timed(predictWith(segmenter, options), data, batch, (done) =>
            tell({ type: "progress", stage, done: k * pictures + done, total: 2 * pictures }),
          ),
        ),
      );
    }
  } finally {
    await segmenter.close();
  }
  const [ours, theirs] = found as [Timed, Timed];
  yield figure(lesions, ours, theirs, steps);
  const threshold = await timed(thresholdPredictor(otsuThreshold, false), seenAs(BRIGHTNESS), batch);
  return {
    did: `segmented ${pictures} procedural lesions in one step of diffusion, and in ${steps}`,
    quality: [
      {
        name: "Dice, one step",
        value: ours.scores.dice,
        better: "higher",
        baseline: { name: other, value: theirs.scores.dice },
      },
      {
        name: "IoU, one step",
        value: ours.scores.iou,
        better: "higher",
        baseline: { name: "Otsu's threshold", value: threshold.scores.iou },
      },
      {
        name: "time for a picture",
        value: (1000 * ours.seconds) / pictures,
        unit: "ms",
        better: "lower",
        baseline: { name: other, value: (1000 * theirs.seconds) / pictures },
      },
    ],
  };
}
