/** Measures of what quantisation does to a DiT: errors of single predictions, of pictures, of their distribution. */
import { ArgumentError } from "../../errors.ts";
import {
  bootstrap,
  type ExtractedFeatures,
  extractFeatures,
  FEATURES,
  type FeatureExtractor,
  featureMoments,
  frechetDistance,
  labelAgreement,
  type Moments,
  SampleTable,
} from "../../metrics/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { signalToNoiseDecibels } from "../../nn/index.ts";
import { fromHost, jit, type Tensor, tensor } from "../../tensor/index.ts";
import { type Drawn, draw } from "./sample.ts";

/** One step of the full-precision model's trajectories: what it saw and said. */
export interface TrajectoryStep {
  readonly timestep: number;
  readonly x: Float32Array; // [N, C, H, W]
  readonly prediction: Float32Array;
}

export interface Trajectory {
  readonly steps: readonly TrajectoryStep[];
  readonly labels: Int32Array;
}

/** Records what the full-precision model sees and predicts at every step. */
export async function recordTrajectory(
  model: DiTTransformer2DModel,
  options: {
    readonly count: number;
    readonly steps: number;
    readonly seed: number;
    readonly threads?: number;
  },
): Promise<Trajectory> {
  const steps: TrajectoryStep[] = [];
  const { labels } = await draw(
    model,
    { ...options, batch: options.count },
    async ({ timestep, x, prediction }) => {
      const [seen, said] = [await x.data(), await prediction.data()] as [Float32Array, Float32Array];
      steps.push({ timestep, x: seen.slice(), prediction: said.slice() });
    },
  );
  return { steps, labels };
}

/** Signal-to-noise ratio of a model's predictions on a trajectory of the full-precision one: decibels for each step. */
export async function predictionErrors(
  model: DiTTransformer2DModel,
  { steps, labels }: Trajectory,
  threads?: number,
): Promise<number[]> {
  const { sampleSize: size, inChannels: channels } = model.config;
  const shape = [labels.length, channels, size, size];
  const y = fromHost("i32", [labels.length], labels);
  const predict = jit((x: Tensor, t: Tensor, c: Tensor) => model.call(x, t, c), threads ? { threads } : {});
  const errors: number[] = [];
  for (const { x, timestep, prediction } of steps) {
    const said = await predict(fromHost("f32", shape, x), tensor([timestep]), y);
    errors.push(signalToNoiseDecibels(prediction, (await said.data()) as Float32Array));
  }
  await predict.close();
  return errors;
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Means over slices of the steps, from the noisiest on. Throws `ArgumentError` for more slices than steps. */
export function bySlices(values: readonly number[], slices: number): number[] {
  if (!Number.isInteger(slices) || slices < 1 || slices > values.length)
    throw new ArgumentError(`slices: expected 1 to ${values.length}, got ${slices}`);
  const edge = (i: number): number => Math.round((i * values.length) / slices);
  return Array.from({ length: slices }, (_, i) => mean(values.slice(edge(i), edge(i + 1))));
}

/** Peak signal-to-noise ratio of pictures in [-1, 1] against others, in decibels. */
export function pictureRatio(reference: Float32Array, pictures: Float32Array): number {
  let error = 0;
  for (let i = 0; i < reference.length; i++) {
    const clip = (v: number): number => Math.min(1, Math.max(-1, v));
    error += (clip(reference[i]!) - clip(pictures[i]!)) ** 2 / reference.length;
  }
  return 10 * Math.log10(4 / error);
}

/** The real side of the distance: an extractor and the moments of its features on real pictures. */
export interface RealSide {
  readonly extractor: FeatureExtractor;
  readonly moments: Moments;
}

export async function realSide(extractor: FeatureExtractor, pictures: Float32Array): Promise<RealSide> {
  const { features } = await extractFeatures(extractor.network, pictures);
  return { extractor, moments: featureMoments(features) };
}

const clipped = (values: Float32Array): Float32Array => values.map((v) => Math.min(1, Math.max(-1, v)));

/** Features of drawn pictures, clipped as a picture file clips them. */
export const drawnFeatures = ({ extractor }: RealSide, { values }: Drawn): Promise<ExtractedFeatures> =>
  extractFeatures(extractor.network, clipped(values));

/** Fréchet distance of drawn pictures to the real ones: FID-like. */
export async function distanceToReal(real: RealSide, drawn: Drawn): Promise<number> {
  return frechetDistance(real.moments, featureMoments((await drawnFeatures(real, drawn)).features));
}

/** Distances of several seeds, with what all of them share. */
export interface Quality {
  /** Distance by seed. */
  readonly distances: readonly number[];
  readonly mean: number;
  /** 95 % interval of the mean distance, from resampling the pictures of every seed. */
  readonly interval: readonly [number, number];
  /** Share of pictures that the classifier takes for what they were asked to be. */
  readonly agreement: number;
  /** Against the full-precision model's pictures of the same seeds, in decibels; infinite for itself. */
  readonly ratio: number;
}

/** Distances of the pictures of several seeds. */
export async function measureQuality(
  real: RealSide,
  runs: readonly Drawn[],
  reference: readonly Drawn[],
  resamples = 100,
): Promise<Quality> {
  const found = await Promise.all(runs.map((run) => drawnFeatures(real, run)));
  const rows = found.map(({ features }) => features.values());
  const count = found[0]!.features.size;
  const distance = (values: Float64Array): number =>
    frechetDistance(real.moments, featureMoments(new SampleTable(FEATURES).addAll(0, values)));
  const distances = rows.map(distance);
  const resampled = (values: Float64Array, indices: Int32Array): Float64Array => {
    const out = new Float64Array(values.length);
    indices.forEach((from, to) => {
      out.set(values.subarray(from * FEATURES, (from + 1) * FEATURES), to * FEATURES);
    });
    return out;
  };
  const [low, high] = bootstrap(count, (indices) => mean(rows.map((v) => distance(resampled(v, indices)))), {
    resamples,
  });
  // A resample repeats pictures, which raises every distance alike: only the width of the interval is taken from it.
  const middle = mean(distances);
  const half = (high - low) / 2;
  return {
    distances,
    mean: middle,
    interval: [Math.max(0, middle - half), middle + half],
    agreement: mean(found.map((f, i) => labelAgreement(f, runs[i]!.labels))),
    ratio: mean(runs.map((run, i) => pictureRatio(reference[i]!.values, run.values))),
  };
}
