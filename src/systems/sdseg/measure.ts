/** The measurements of section 8 for one data set; each is kept when it is done, so that a stopped run goes on. */
import type { Dataset } from "../../data/index.ts";
import { cropPlanes, padded, sizeFor } from "../../data/padding.ts";
import { AbortError } from "../../errors.ts";
import { jit, type Tensor } from "../../tensor/index.ts";
import type { Kept } from "../kept.ts";
import { otsuPredictor } from "./baselines.ts";
import { totalStride } from "./config.ts";
import { evaluateOn, type Predict, type Prediction, predictWith, type Scores } from "./evaluate.ts";
import { openSegmenter, type Segmenter, type SegmentOptions } from "./infer.ts";
import type { SDSeg } from "./model.ts";
import { maskValues, type Sample, stack } from "./samples.ts";
import type { Spacing } from "./schedule.ts";
import { runSeeds, type SeedRuns, type Stability, stabilityOf } from "./stability.ts";

/** Dice and IoU of one way to segment. */
export interface Score {
  readonly dice: number;
  readonly iou: number;
}

const scoreOf = ({ dice, iou }: Scores): Score => ({ dice, iou });

/** Steps at which the reverse process is measured. */
export const CURVE_STEPS = [2, 4, 10, 50] as const;
/** Samples of the ensemble. */
const MEMBERS = 3;

export interface SetResults {
  readonly pictures: number;
  readonly ceiling: Score;
  /** By name of the way. */
  readonly scores: Readonly<Record<string, Score>>;
  readonly stability: Readonly<Record<string, Stability>>;
}

export interface MeasureOptions {
  readonly kept: Kept;
  readonly test: Dataset<Sample>;
  readonly seeds: number;
  /** Foreground is darker: for Otsu's threshold. */
  readonly dark: boolean;
  readonly batch: number;
  /** Of the networks; see `TrainInputs`. Times are always measured with the default number. */
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** A way to segment under its name. */
export interface Way {
  readonly name: string;
  readonly predict: Predict;
}

/** Masks through the autoencoder and back: no latent method can be better. */
async function ceilingOf(model: SDSeg, test: Dataset<Sample>, batch: number): Promise<Score> {
  const run = jit((mask: Tensor) => model.autoencoder.call(mask).mean(1, true));
  const { maskChannels } = model.config;
  const predict: Predict = async (samples) => {
    const { width, height } = samples[0]!;
    const masks = samples.map((s) => maskValues(s.labels, maskChannels));
    const mask = await padded(stack(masks, [maskChannels, height, width]), totalStride(model.config));
    const decoded = (await (await run(mask)).data()) as Float32Array;
    const out = cropPlanes(decoded, [mask.shape[2]!, mask.shape[3]!], [height, width]);
    const size = width * height;
    return samples.map((_, i) => {
      const probability = out.slice(i * size, (i + 1) * size);
      return { probability, mask: Uint8Array.from(probability, (v) => (v > 0 ? 1 : 0)) };
    });
  };
  try {
    return scoreOf(await evaluateOn(predict, test, { batch }));
  } finally {
    await run.close();
  }
}

/** The mean of several seeds' probabilities, from maps that are there already. */
async function ensembleScore(runs: SeedRuns, test: Dataset<Sample>): Promise<Score> {
  const means = runs.predictions[0]!.map((first, i): Prediction => {
    const probability = first.probability.map(
      (_, p) =>
        runs.predictions.reduce((sum, run) => sum + run[i]!.probability[p]!, 0) / runs.predictions.length,
    );
    return { probability, mask: Uint8Array.from(probability, (v) => (v > 0.5 ? 1 : 0)) };
  });
  let at = 0;
  return scoreOf(await evaluateOn(async (samples) => samples.map(() => means[at++]!), test));
}

interface Spread {
  readonly score: Score;
  readonly ensemble: Score;
  readonly stability: Stability;
}

/** Everything that is said of a trained model. Yields what has been measured. */
export async function* measureModel(
  name: string,
  model: SDSeg,
  options: MeasureOptions,
): AsyncGenerator<string, { scores: Record<string, Score>; stability: Record<string, Stability> }> {
  const { kept, test, batch, seeds, signal, threads } = options;
  const segmenter: Segmenter = openSegmenter(model, { threads });
  const scores: Record<string, Score> = {};
  const stability: Record<string, Stability> = {};
  const one = (given: SegmentOptions) => async (): Promise<Score> =>
    scoreOf(await evaluateOn(predictWith(segmenter, { ...given, signal }), test, { batch }));
  const spread = (given: SegmentOptions, count: number) => async (): Promise<Spread> => {
    const runs = await runSeeds((seed) => predictWith(segmenter, { ...given, seed, signal }), test, {
      seeds: count,
      batch,
    });
    const measured = await stabilityOf(runs, test, model);
    const mean = (pick: (s: Scores) => number): number =>
      runs.scores.reduce((sum, s) => sum + pick(s), 0) / runs.scores.length;
    return {
      score: { dice: mean((s) => s.dice), iou: mean((s) => s.iou) },
      ensemble: await ensembleScore(runs, test),
      stability: measured,
    };
  };
  const several = async (way: string, given: SegmentOptions, count: number): Promise<void> => {
    const found = await kept.get(way, spread(given, count));
    scores[way] = found.score;
    scores[`${way}, mean of ${count}`] = found.ensemble;
    stability[way] = found.stability;
  };
  try {
    if (model.config.head === "image-only") {
      scores[name] = await kept.get(name, one({}));
      return { scores, stability };
    }
    await several(`${name} direct`, {}, seeds);
    yield `${name} direct`;
    for (const spacing of ["leading", "trailing"] as const satisfies readonly Spacing[])
      for (const steps of CURVE_STEPS) {
        if (signal?.aborted) throw new AbortError();
        const way = `${name} ddim-${steps} ${spacing}`;
        const given: SegmentOptions = { mode: "ddim", steps, spacing };
        if (steps === 50 && spacing === "leading") await several(way, given, MEMBERS);
        else if (steps < 50) scores[way] = await kept.get(way, one(given));
        yield way;
      }
    return { scores, stability };
  } finally {
    await segmenter.close();
  }
}

/** The other samplers at 10 steps. */
export async function otherSamplers(
  name: string,
  model: SDSeg,
  options: MeasureOptions,
): Promise<Record<string, Score>> {
  const { kept, test, batch, signal, threads } = options;
  const segmenter = openSegmenter(model, { threads });
  const scores: Record<string, Score> = {};
  try {
    for (const mode of ["plms", "ddpm", "dpm-solver"] as const) {
      const way = `${name} ${mode}-10`;
      const predict = predictWith(segmenter, { mode, steps: 10, signal });
      scores[way] = await kept.get(way, async () => scoreOf(await evaluateOn(predict, test, { batch })));
    }
  } finally {
    await segmenter.close();
  }
  return scores;
}

/** Scores of other ways to segment, and of the threshold. */
export async function measureWays(
  ways: readonly Way[],
  options: MeasureOptions,
): Promise<Record<string, Score>> {
  const { kept, test, batch, dark } = options;
  const scores: Record<string, Score> = {};
  for (const { name, predict } of [...ways, { name: "otsu threshold", predict: otsuPredictor(dark) }])
    scores[name] = await kept.get(name, async () => scoreOf(await evaluateOn(predict, test, { batch })));
  return scores;
}

/** The ceiling of the autoencoder. */
export const measureCeiling = ({ kept, test, batch }: MeasureOptions, model: SDSeg): Promise<Score> =>
  kept.get("ceiling", () => ceilingOf(model, test, batch));

/** Times of one picture, in milliseconds: medians. */
export interface Times {
  readonly directTotal: number;
  readonly ddim50Total: number;
  /** Of the denoiser alone: one call, fifty calls. */
  readonly directDenoiser: number;
  readonly ddim50Denoiser: number;
  readonly directCalls: number;
  readonly ddim50Calls: number;
  readonly width: number;
  readonly height: number;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

async function timed(times: number, f: () => Promise<unknown>): Promise<number> {
  await f();
  const found: number[] = [];
  for (let i = 0; i < times; i++) {
    const startedAt = performance.now();
    await f();
    found.push(performance.now() - startedAt);
  }
  return median(found);
}

/** Times of one step and of fifty, for one picture. */
export async function measureTimes(model: SDSeg, sample: Sample, repeats = 7): Promise<Times> {
  const { width, height, image } = sample;
  const { imageChannels, autoencoder } = model.config;
  const picture = stack([image], [imageChannels, height, width]);
  const segmenter = openSegmenter(model);
  const stride = totalStride(model.config);
  const [h, w] = model.latentSize(...sizeFor([height, width], stride));
  const latent = stack(
    [new Float32Array(autoencoder.latentChannels * h * w)],
    [autoencoder.latentChannels, h, w],
  );
  const denoiser = jit((z: Tensor, t: Tensor) => model.network.predict(z, t, z));
  const t = stack([Float32Array.of(999)], [1, 1, 1]).reshape([1]);
  const [time] = [await t.eval()];
  try {
    const direct = await segmenter.segment(picture, { pad: true });
    const ddim = await segmenter.segment(picture, { pad: true, mode: "ddim", steps: 50 });
    const directDenoiser = await timed(3 * repeats, () => denoiser(latent, time));
    return {
      width,
      height,
      directTotal: await timed(repeats, () => segmenter.segment(picture, { pad: true })),
      ddim50Total: await timed(3, () => segmenter.segment(picture, { pad: true, mode: "ddim", steps: 50 })),
      directDenoiser,
      ddim50Denoiser: await timed(3, async () => {
        for (let i = 0; i < 50; i++) await denoiser(latent, time);
      }),
      directCalls: direct.calls,
      ddim50Calls: ddim.calls,
    };
  } finally {
    await segmenter.close();
    await denoiser.close();
  }
}
