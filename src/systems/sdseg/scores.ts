/** Scores: Dice and IoU by picture or by volume, and how much they change with the seed of the noise. */
import { type Dataset, mapDataset } from "../../data/index.ts";
import {
  addCounts,
  bootstrapMean,
  dice,
  featureDistance,
  iou,
  msSsim,
  type OverlapCounts,
  overlapCounts,
  psnr,
  SampleTable,
  ssim,
} from "../../metrics/index.ts";
import { deviation, mean } from "../../study/index.ts";
import { fromHost, jit, type Tensor } from "../../tensor/index.ts";
import { imagesOf, type Sample } from "./data.ts";
import type { SDSeg } from "./model.ts";
import type { CONVENTIONS } from "./options.ts";
import type { Segmenter, SegmentOptions } from "./use.ts";

/** What any segmenter, ours or a baseline, says of one picture. */
export interface Prediction {
  readonly mask: ArrayLike<number>; // [H, W]
  readonly probability: Float32Array; // [H, W]
}

/** Predictions for samples of one size. */
export type Predict = (samples: readonly Sample[]) => Promise<readonly Prediction[]>;

/** Predictions from maps of probabilities, one after the other. // [N, H, W] */
export const asPredictions = (maps: Float32Array, size: number): Prediction[] =>
  Array.from({ length: maps.length / size }, (_, i) => {
    const probability = maps.subarray(i * size, (i + 1) * size);
    return { probability, mask: Uint8Array.from(probability, (p) => (p > 0.5 ? 1 : 0)) };
  });

/** A model's predictions under given options. */
export const predictWith =
  (segmenter: Segmenter, options: SegmentOptions = {}): Predict =>
  async (samples) => {
    const size = samples[0]!.labels.length;
    const { mask, probability } = await segmenter.segment(imagesOf(samples), { pad: true, ...options });
    return samples.map((_, i) => ({
      mask: mask.subarray(i * size, (i + 1) * size),
      probability: probability.subarray(i * size, (i + 1) * size),
    }));
  };

export type Convention = (typeof CONVENTIONS)[number];

/** Dice of one class under a convention. */
export function diceOf(counts: OverlapCounts, convention: Convention = "standard"): number {
  const [predicted, truth] = [counts.both + counts.predictedOnly, counts.both + counts.truthOnly];
  if (convention === "sdseg" && truth === 0) return predicted > 0 ? 1 : 0;
  return dice(counts);
}

/** IoU of one class under a convention. */
const iouOf = (counts: OverlapCounts, convention: Convention): number =>
  convention === "sdseg" && counts.both + counts.truthOnly === 0 ? diceOf(counts, convention) : iou(counts);

export interface EvaluateOptions {
  /** Default 2. */
  readonly classes?: number;
  readonly convention?: Convention;
  /** Batch size, of pictures of one size. Default 16. */
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
  /** Of the mean Dice, over units: 95 % by bootstrap. Absent for one unit, of which nothing can be resampled. */
  readonly interval?: readonly [number, number];
  /** Mean Dice of each class from 1 on. */
  readonly perClass: readonly number[];
  /** Dice of each picture by itself, slices of volumes too; mean over foreground classes. */
  readonly perPicture: readonly number[];
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
    const { width, height } = (run[0] ?? sample).image;
    if (run.length === batch || width !== sample.image.width || height !== sample.image.height) {
      yield run;
      run = [];
    }
    run.push(sample);
  }
  if (run.length > 0) yield run;
}

const rowOf = (counts: readonly OverlapCounts[]): number[] =>
  counts.slice(1).flatMap(({ both, predictedOnly, truthOnly }) => [both, predictedOnly, truthOnly]);

/** The counts of each class from a row of the table. */
const countsOf = (row: ArrayLike<number>): OverlapCounts[] =>
  Array.from({ length: row.length / 3 }, (_, k) => ({
    both: row[3 * k]!,
    predictedOnly: row[3 * k + 1]!,
    truthOnly: row[3 * k + 2]!,
  }));

/** Dice and IoU from a table of counts; pictures with the same volume are one unit. */
export function scoresOf(
  table: SampleTable,
  volumes: readonly (string | undefined)[],
  convention: Convention = "standard",
): Scores {
  const values = table.values();
  const rows = table.indices().map((index, at) => ({
    unit: volumes[index] === undefined ? `picture ${index}` : `volume ${volumes[index]}`,
    counts: countsOf(values.subarray(at * table.width, (at + 1) * table.width)),
  }));
  const units = new Map<string, OverlapCounts[][]>();
  for (const { unit, counts } of rows) units.set(unit, [...(units.get(unit) ?? []), counts]);
  const perUnit = [...units.values()].map((parts) =>
    parts[0]!.map((_, k) => addCounts(parts.map((counts) => counts[k]!))),
  );
  const meanDice = (counts: readonly OverlapCounts[]): number =>
    mean(counts.map((c) => diceOf(c, convention)));
  const diceByUnit = perUnit.map(meanDice);
  return {
    dice: mean(diceByUnit),
    iou: mean(perUnit.map((counts) => mean(counts.map((c) => iouOf(c, convention))))),
    ...(diceByUnit.length > 1 && { interval: bootstrapMean(diceByUnit) }),
    perClass: Array.from({ length: table.width / 3 }, (_, k) =>
      mean(perUnit.map((counts) => diceOf(counts[k]!, convention))),
    ),
    perPicture: rows.map(({ counts }) => meanDice(counts)),
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

/** Everything that several seeds gave on one dataset. */
export interface SeedRuns {
  readonly scores: readonly Scores[];
  /** By seed, then by picture. */
  readonly predictions: readonly (readonly Prediction[])[];
}

/** The same segmenter under the seeds 0, 1, … */
export async function runSeeds(
  predictor: (seed: number) => Predict,
  data: Dataset<Sample>,
  { seeds, ...options }: EvaluateOptions & { readonly seeds: number },
): Promise<SeedRuns> {
  const scores: Scores[] = [];
  const predictions: Prediction[][] = [];
  for (let seed = 0; seed < seeds; seed++) {
    const kept: Prediction[] = [];
    const predict = predictor(seed);
    const keeping: Predict = async (samples) => {
      const found = await predict(samples);
      // Predictions of a batch are views of one buffer.
      for (const { mask, probability } of found)
        kept.push({ mask: Uint8Array.from(mask), probability: probability.slice() });
      return found;
    };
    scores.push(await evaluateOn(keeping, data, options));
    predictions.push(kept);
  }
  return { scores, predictions };
}

/** The ensemble of all seeds: the mean of their probabilities. */
export async function ensembleScores(runs: SeedRuns, data: Dataset<Sample>): Promise<Scores> {
  const [first] = runs.predictions as [readonly Prediction[]];
  const means = first.map(({ probability }, i) =>
    probability.map((_, p) => mean(runs.predictions.map((run) => run[i]!.probability[p]!))),
  );
  let at = 0;
  return evaluateOn(
    async (samples) => samples.map(({ labels }) => asPredictions(means[at++]!, labels.length)[0]!),
    data,
  );
}

/** How much one training's results change with the seed of the noise that it is sampled with. */
export interface Stability {
  /** Of the dataset's Dice, over seeds. */
  readonly diceMean: number;
  readonly diceDeviation: number;
  /** Mean Dice between masks of two seeds of the same picture. */
  readonly pairDice: number;
  /** Deviation of a pixel's probability over seeds, mean over pixels. */
  readonly pixelDeviation: number;
  /**
   * Between probability maps of seed j and seed 0, mean over j, then over pictures with foreground; identical pairs are
   * left out of PSNR.
   */
  readonly psnr: number;
  readonly ssim: number;
  readonly msSsim: number;
  /** Distance of features of the model's own encoder, between seeds j and 0. */
  readonly featureDistance: number;
}

const pairDiceOf = ({ predictions }: SeedRuns): number =>
  mean(
    predictions.flatMap((a, j) =>
      predictions
        .slice(j + 1)
        .flatMap((b) => a.map((one, i) => dice(overlapCounts(one.mask, b[i]!.mask, 2)[1]!))),
    ),
  );

function pixelDeviationOf({ predictions }: SeedRuns): number {
  const [first] = predictions as [readonly Prediction[]];
  const values = new Float64Array(predictions.length);
  const perPicture = first.map(({ probability }, i) => {
    let total = 0;
    for (let p = 0; p < probability.length; p++) {
      for (let run = 0; run < values.length; run++) values[run] = predictions[run]![i]!.probability[p]!;
      total += deviation(values);
    }
    return total / probability.length;
  });
  return mean(perPicture);
}

/** Weights of the scales of MS-SSIM that fit into a picture: fewer than five for small ones. */
function scalesFor(side: number): readonly number[] {
  const weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
  const fitting = weights.filter((_, i) => side >= 11 * 2 ** i);
  const sum = fitting.reduce((a, b) => a + b, 0);
  return fitting.map((w) => w / sum);
}

/** Maps in [0, 1] as the autoencoder takes masks. */
function signed(map: Tensor, { config }: SDSeg): Tensor {
  const one = map.mul(2).sub(1);
  return config.maskChannels === 1 ? one : one.broadcastTo([map.shape[0]!, 3, map.shape[2]!, map.shape[3]!]);
}

/** Spread over seeds. Pictures for which any seed found nothing are left out of the similarities. */
export async function stabilityOf(runs: SeedRuns, data: Dataset<Sample>, model: SDSeg): Promise<Stability> {
  const { scores, predictions } = runs;
  const [first, ...others] = predictions as [readonly Prediction[], ...(readonly Prediction[])[]];
  const compare = jit((a: Tensor, b: Tensor) => ({
    psnr: psnr(a, b),
    ssim: ssim(a, b),
    msSsim: msSsim(a, b, { weights: scalesFor(Math.min(a.shape[2]!, a.shape[3]!)) }),
    featureDistance: featureDistance(
      [model.autoencoder.moments(signed(a, model))],
      [model.autoencoder.moments(signed(b, model))],
    ),
  }));
  const found = { psnr: [], ssim: [], msSsim: [], featureDistance: [] } as Record<
    "psnr" | "ssim" | "msSsim" | "featureDistance",
    number[]
  >;
  const sizes = mapDataset(data, ({ image }) => [image.height, image.width] as const);
  try {
    for (const [i, one] of first.entries()) {
      if (predictions.some((run) => !Array.prototype.includes.call(run[i]!.mask, 1))) continue;
      const [height, width] = await sizes.get(i);
      // Maps rounded to 8 bits, as the released notebook compares them.
      const all = (maps: readonly Float32Array[]): Tensor =>
        fromHost(
          "f32",
          [maps.length, 1, height, width],
          Float32Array.from(maps.flatMap((map) => Array.from(map, (p) => Math.round(p * 255) / 255))),
        );
      const similarity = await compare(
        all(others.map(() => one.probability)),
        all(others.map((run) => run[i]!.probability)),
      );
      for (const [name, values] of Object.entries(found)) {
        const own = (await similarity[name as keyof typeof found].data()) as Float32Array;
        const finite = Array.from(own).filter(Number.isFinite);
        if (finite.length > 0) values.push(mean(finite));
      }
    }
  } finally {
    await compare.close();
  }
  const dices = scores.map((s) => s.dice);
  return {
    diceMean: mean(dices),
    diceDeviation: deviation(dices),
    pairDice: pairDiceOf(runs),
    pixelDeviation: pixelDeviationOf(runs),
    psnr: mean(found.psnr),
    ssim: mean(found.ssim),
    msSsim: mean(found.msSsim),
    featureDistance: mean(found.featureDistance),
  };
}
