/** Evaluation: Dice and IoU by picture or by volume, and how stable results are over seeds. */
import type { Dataset } from "../../data/index.ts";
import {
  addCounts,
  bootstrapMean,
  dice,
  iou,
  type OverlapCounts,
  overlapCounts,
  SampleTable,
} from "../../metrics/index.ts";
import type { Seed } from "../../tensor/index.ts";
import type { Segmenter, SegmentOptions } from "./infer.ts";
import { type Sample, stack } from "./samples.ts";

/** What any segmenter, ours or a baseline, says of one picture. */
export interface Prediction {
  readonly mask: ArrayLike<number>; // [H, W]
  readonly probability: Float32Array; // [H, W]
}

/** Predictions for samples of one size. */
export type Predict = (samples: readonly Sample[]) => Promise<readonly Prediction[]>;

/** How emptiness counts: `standard`: both empty 1, one empty 0; `sdseg`: as released, where an empty truth gives 1 for any prediction but an empty one. */
export const CONVENTIONS = ["standard", "sdseg"] as const;
export type Convention = (typeof CONVENTIONS)[number];

/** Dice of one class under a convention. */
export function diceOf(counts: OverlapCounts, convention: Convention = "standard"): number {
  const [predicted, truth] = [counts.both + counts.predictedOnly, counts.both + counts.truthOnly];
  if (convention === "sdseg" && truth === 0) return predicted > 0 ? 1 : 0;
  return dice(counts);
}

export interface EvaluateOptions {
  /** Default 2. */
  readonly classes?: number;
  readonly convention?: Convention;
  /** Pictures of one size that go through together. Default 16. */
  readonly batch?: number;
  /** Only the first so many. */
  readonly limit?: number;
  readonly onPicture?: (done: number, total: number) => void;
}

/** Scores over pictures, or over volumes where pictures are slices. */
export interface Scores {
  /** Mean over units and foreground classes. */
  readonly dice: number;
  readonly iou: number;
  /** Of the mean Dice, over units: 95 % by bootstrap. */
  readonly interval: readonly [number, number];
  /** Mean Dice of each class from 1 on. */
  readonly perClass: readonly number[];
  readonly units: number;
  readonly pictures: number;
  /** Overlap counts of every picture, class by class; tables of shards merge. */
  readonly table: SampleTable;
}

/** Runs of samples of one size, in order. */
async function* batches(data: Dataset<Sample>, limit: number, batch: number) {
  let run: Sample[] = [];
  for (let i = 0; i < limit; i++) {
    const sample = await data.get(i);
    const [first] = run;
    if (first && (run.length === batch || first.width !== sample.width || first.height !== sample.height)) {
      yield run;
      run = [];
    }
    run.push(sample);
  }
  if (run.length > 0) yield run;
}

const rowOf = (counts: readonly OverlapCounts[]): number[] =>
  counts.slice(1).flatMap(({ both, predictedOnly, truthOnly }) => [both, predictedOnly, truthOnly]);

const countsOf = (row: ArrayLike<number>, k: number): OverlapCounts => ({
  both: row[3 * k]!,
  predictedOnly: row[3 * k + 1]!,
  truthOnly: row[3 * k + 2]!,
});

/** Dice and IoU from a table of counts; pictures with the same volume are one unit. */
export function scoresOf(
  table: SampleTable,
  volumes: readonly (string | undefined)[],
  convention: Convention = "standard",
): Scores {
  const classes = table.width / 3;
  const values = table.values();
  const units = new Map<string, ArrayLike<number>[]>();
  table.indices().forEach((index, at) => {
    const key = volumes[index] === undefined ? `picture ${index}` : `volume ${volumes[index]}`;
    units.set(key, [...(units.get(key) ?? []), values.subarray(at * table.width, (at + 1) * table.width)]);
  });
  const perUnit = [...units.values()].map((rows) =>
    Array.from({ length: classes }, (_, k) => addCounts(rows.map((row) => countsOf(row, k)))),
  );
  const mean = (xs: readonly number[]): number => xs.reduce((a, b) => a + b, 0) / xs.length;
  const diceByUnit = perUnit.map((counts) => mean(counts.map((c) => diceOf(c, convention))));
  return {
    dice: mean(diceByUnit),
    iou: mean(perUnit.map((counts) => mean(counts.map(iou)))),
    interval: bootstrapMean(diceByUnit),
    perClass: Array.from({ length: classes }, (_, k) =>
      mean(perUnit.map((counts) => diceOf(counts[k]!, convention))),
    ),
    units: perUnit.length,
    pictures: table.size,
    table,
  };
}

/** Scores of a segmenter on a dataset. */
export async function evaluateOn(
  predict: Predict,
  data: Dataset<Sample>,
  options: EvaluateOptions = {},
): Promise<Scores> {
  const { classes = 2, convention, batch = 16, onPicture } = options;
  const limit = Math.min(data.length, options.limit ?? data.length);
  const table = new SampleTable(3 * (classes - 1));
  const volumes: (string | undefined)[] = [];
  for await (const samples of batches(data, limit, batch)) {
    const predictions = await predict(samples);
    samples.forEach((sample, i) => {
      table.add(volumes.length, rowOf(overlapCounts(predictions[i]!.mask, sample.labels, classes)));
      volumes.push(sample.volume);
    });
    onPicture?.(volumes.length, limit);
  }
  return scoresOf(table, volumes, convention);
}

/** A model's predictions under given options. */
export const predictWith =
  (segmenter: Segmenter, options: SegmentOptions = {}): Predict =>
  async (samples) => {
    const { width, height } = samples[0]!;
    const size = width * height;
    const channels = samples[0]!.image.length / size;
    const image = stack(
      samples.map((s) => s.image),
      [channels, height, width],
    );
    const { mask, probability } = await segmenter.segment(image, { pad: true, ...options });
    return samples.map((_, i) => ({
      mask: mask.subarray(i * size, (i + 1) * size),
      probability: probability.subarray(i * size, (i + 1) * size),
    }));
  };

/** Mean Dice of a model's one-step masks on the first pictures of a dataset. */
export async function meanDice(
  segmenter: Segmenter,
  data: Dataset<Sample>,
  { limit, seed }: { limit?: number; seed?: Seed } = {},
): Promise<number> {
  const { classes } = segmenter.model.config;
  return (await evaluateOn(predictWith(segmenter, { seed }), data, { classes, limit })).dice;
}
