/** How much results change with the seed: of whole runs, of each picture, of each pixel. */
import type { Dataset } from "../../data/index.ts";
import { dice, featureDistance, msSsim, overlapCounts, psnr, ssim } from "../../metrics/index.ts";
import { jit, type Tensor } from "../../tensor/index.ts";
import type { Prediction, Scores } from "./evaluate.ts";
import { evaluateOn, type Predict } from "./evaluate.ts";
import type { SDSeg } from "./model.ts";
import { type Sample, stack } from "./samples.ts";

/** Everything that M seeds gave on one dataset. */
export interface SeedRuns {
  readonly scores: readonly Scores[];
  /** By seed, then by picture. */
  readonly predictions: readonly (readonly Prediction[])[];
}

/** The same segmenter under several seeds. */
export async function runSeeds(
  predictor: (seed: number) => Predict,
  data: Dataset<Sample>,
  options: { seeds: number; limit?: number; batch?: number; onSeed?: (done: number) => void },
): Promise<SeedRuns> {
  const scores: Scores[] = [];
  const predictions: (readonly Prediction[])[] = [];
  for (let seed = 0; seed < options.seeds; seed++) {
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
    options.onSeed?.(seed + 1);
  }
  return { scores, predictions };
}

export interface Stability {
  /** Of the dataset's Dice over seeds. */
  readonly diceMean: number;
  readonly diceStd: number;
  /** Mean Dice between masks of two seeds of the same picture. */
  readonly pairDice: number;
  /** Deviation of a pixel's probability over seeds, mean over pixels. */
  readonly pixelStd: number;
  /** Between probability maps of seed j and seed 0, mean over j, then over pictures with foreground; identical pairs are left out of PSNR. */
  readonly psnr: number;
  readonly ssim: number;
  readonly msSsim: number;
  /** Distance of features of the model's own encoder, between runs j and 0. */
  readonly featureDistance: number;
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

const deviation = (values: readonly number[]): number => {
  const centre = mean(values);
  return Math.sqrt(mean(values.map((v) => (v - centre) ** 2)));
};

function pairDiceOf({ predictions }: SeedRuns): number {
  const found: number[] = [];
  for (const [j, a] of predictions.entries())
    for (const b of predictions.slice(j + 1))
      a.forEach((one, i) => {
        found.push(dice(overlapCounts(one.mask, b[i]!.mask, 2)[1]!));
      });
  return mean(found);
}

function pixelStdOf({ predictions }: SeedRuns): number {
  const [first] = predictions as [readonly Prediction[]];
  const perPicture = first.map((one, i) => {
    let total = 0;
    for (let p = 0; p < one.probability.length; p++)
      total += deviation(predictions.map((run) => run[i]!.probability[p]!));
    return total / one.probability.length;
  });
  return mean(perPicture);
}

/** Scales of MS-SSIM that fit into a picture: fewer than five for small ones. */
function scalesFor(side: number): readonly number[] {
  const weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
  const fitting = weights.filter((_, i) => side >= 11 * 2 ** i);
  const sum = fitting.reduce((a, b) => a + b, 0);
  return fitting.map((w) => w / sum);
}

/** Maps rounded to 8 bits, as the released notebook compares them. */
const rounded = (map: Float32Array): Float32Array => map.map((p) => Math.round(p * 255) / 255);

/** Spread over seeds. Pictures for which any run found nothing are left out of the similarities. */
export async function stabilityOf(runs: SeedRuns, data: Dataset<Sample>, model: SDSeg): Promise<Stability> {
  const { scores, predictions } = runs;
  const [first, ...others] = predictions as [readonly Prediction[], ...(readonly Prediction[])[]];
  const compare = jit((a: Tensor, b: Tensor) => ({
    psnr: psnr(a, b),
    ssim: ssim(a, b),
    ms: msSsim(a, b, { weights: scalesFor(Math.min(a.shape[2]!, a.shape[3]!)) }),
    features: featureDistance(
      [model.autoencoder.moments(signed(a, model))],
      [model.autoencoder.moments(signed(b, model))],
    ),
  }));
  const rows: { psnr: number; ssim: number; ms: number; features: number }[] = [];
  try {
    for (const [i, one] of first.entries()) {
      if (predictions.some((run) => !Array.prototype.includes.call(run[i]!.mask, 1))) continue;
      const { width, height } = await data.get(i);
      const all = (maps: readonly Float32Array[]): Tensor => stack(maps.map(rounded), [1, height, width]);
      const a = all(others.map(() => one.probability));
      const result = await compare(a, all(others.map((run) => run[i]!.probability)));
      const values = async (t: Tensor): Promise<number[]> => Array.from((await t.data()) as Float32Array);
      const finite = (await values(result.psnr)).filter(Number.isFinite);
      rows.push({
        psnr: finite.length > 0 ? mean(finite) : Number.NaN,
        ssim: mean(await values(result.ssim)),
        ms: mean(await values(result.ms)),
        features: mean(await values(result.features)),
      });
    }
  } finally {
    await compare.close();
  }
  const column = (pick: (row: (typeof rows)[number]) => number): number =>
    mean(rows.map(pick).filter((v) => !Number.isNaN(v)));
  const dices = scores.map((s) => s.dice);
  return {
    diceMean: mean(dices),
    diceStd: deviation(dices),
    pairDice: pairDiceOf(runs),
    pixelStd: pixelStdOf(runs),
    psnr: column((r) => r.psnr),
    ssim: column((r) => r.ssim),
    msSsim: column((r) => r.ms),
    featureDistance: column((r) => r.features),
  };
}

/** Maps in [0, 1] as the autoencoder takes masks. */
function signed(map: Tensor, { config }: SDSeg): Tensor {
  const one = map.mul(2).sub(1);
  return config.maskChannels === 1 ? one : one.broadcastTo([map.shape[0]!, 3, map.shape[2]!, map.shape[3]!]);
}
