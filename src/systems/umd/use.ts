/** What a trained model is used for: drawing pictures, filling them in, describing them; and what probes find in features. */
import {
  checkLabels,
  checkPictures,
  type Labelled,
  type LabelledPictures,
  type OverOptions,
  overPictures,
} from "../../data/index.ts";
import { addNoise, drawSamples, levelOfAlphaBar } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import {
  type LabelledFeatures,
  type ProbeResult,
  type ProbeSettings,
  ridgeProbes,
} from "../../metrics/index.ts";
import { unpatchify } from "../../networks/index.ts";
import { createNoise, fromHost, full, type Seed, type Tensor, zeros } from "../../tensor/index.ts";
import { told } from "../../work.ts";
import { alphaBarsOf, keptTokens, samplingScheduler, TIMESTEPS } from "./method.ts";
import { tokenCount, type UMD } from "./model.ts";

/** Options of `sampleUMD`. */
export interface SampleOptions {
  readonly count: number;
  /** Strides; the network is called once more. Default 125. */
  readonly steps?: number;
  readonly seed: Seed;
  /** 0: deterministic; 1, the default, is ancestral sampling. */
  readonly eta?: number;
  /** Weight of guidance by labels; 1, the default, is none. */
  readonly guidance?: number;
  /** Label of a sample; "none": without labels. Default: all classes in turn, or none in a model without labels. */
  readonly label?: ((sample: number) => number) | "none" | undefined;
  /** Take noise from the head that guesses the clean picture. */
  readonly predictX0?: boolean;
  /** Samples at once. Default 100. */
  readonly batch?: number;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** How far a drawing is. */
export interface SampleProgress {
  readonly step: number;
  readonly steps: number;
  /** Samples that are finished. */
  readonly finished: number;
  /** The guess of the clean pictures of this batch. // [N, C, H, W] */
  readonly denoised: Tensor;
}

function labelsOf({ config }: UMD, { count, label, guidance = 1 }: SampleOptions): Int32Array | undefined {
  const { classes } = config;
  const wanted = label ?? (classes > 0 ? (i: number): number => i % classes : "none");
  if (wanted === "none") {
    if (guidance !== 1) throw new ArgumentError(`UMD: guidance of ${guidance} needs labels`);
    return undefined;
  }
  if (classes === 0) throw new ArgumentError("UMD: this model has no table of labels");
  const labels = Int32Array.from({ length: count }, (_, i) => wanted(i));
  checkLabels(labels, classes);
  return labels;
}

/**
 * Draws pictures in [-1, 1], or latents; sample i is the same whatever the batch. Yields after every step.
 * @throws ArgumentError for guidance without labels and labels that the model does not know, AbortError when stopped
 */
export async function* sampleUMD(
  model: UMD,
  options: SampleOptions,
): AsyncGenerator<SampleProgress, LabelledPictures> {
  const { count, steps = 125, seed, eta = 1, guidance, batch, predictX0, threads, signal } = options;
  if (!Number.isInteger(count) || count < 1)
    throw new ArgumentError(`UMD: expected a count from 1, got ${count}`);
  const { size, channels, classes } = model.config;
  const labels = labelsOf(model, options);
  type Condition = { readonly labels?: Tensor };
  const network = (x: Tensor, index: Tensor, condition: Condition): Tensor => {
    const out = model.call({ x, t: index.add(1), ...condition });
    return predictX0 ? out.x0 : out.eps;
  };
  const run = drawSamples<Condition>(network, {
    scheduler: samplingScheduler(model.config, { steps, eta, predictX0 }),
    count,
    shape: [channels, size, size],
    noise: createNoise("philox", seed),
    condition: (first, n) => (labels ? { labels: fromHost("i32", [n], labels.slice(first, first + n)) } : {}),
    ...(labels && { negative: (_, n) => ({ labels: full([n], classes, "i32") }) }),
    ...(guidance !== undefined && { guidance }),
    ...(batch !== undefined && { batch }),
    threads,
    signal,
  });
  const values = yield* told(run, ({ step, steps, first, denoised }): SampleProgress => {
    return { step: step + 1, steps, finished: first, denoised };
  });
  const names = Array.from({ length: classes }, (_, i) => String(i));
  return { count, size, channels, values, labels, classes: names };
}

type Over = Pick<OverOptions<object>, "batch" | "threads" | "signal">;

/** Options of `umdFeatures`. */
export interface FeatureOptions extends Over {
  /** Noise index at which pictures are looked at; absent: clean, which is time 0. */
  readonly index?: number | undefined;
  /** Of the noise. */
  readonly seed?: Seed;
  /** Number of the first picture in the noise: pictures of other numbers have other noise. Default 0. */
  readonly first?: number;
}

/** Features of pictures. // [N, D] */
export interface UMDFeatures {
  readonly width: number;
  /** Mean of the class tokens. // [N, D] */
  readonly representation: Float32Array;
  /** Mean of all patches' tokens. // [N, D] */
  readonly pooled: Float32Array;
  /** Says that pixels lie outside [-1, 1]. */
  readonly warning: string | undefined;
}

/** Features of pictures without a mask. @throws as `checkPictures` does, and ArgumentError for an unknown index */
export async function umdFeatures(
  model: UMD,
  pictures: LabelledPictures,
  { index, seed = 0, first: offset = 0, ...over }: FeatureOptions = {},
): Promise<UMDFeatures> {
  if (index !== undefined && !(Number.isInteger(index) && index >= 0 && index < TIMESTEPS))
    throw new ArgumentError(`UMD: expected a noise index in 0 ... ${TIMESTEPS - 1}, got ${index}`);
  const warning = checkPictures(pictures, model.config);
  const { channels, size, dim: width } = model.config;
  const source = createNoise("philox", seed);
  const inputs = (first: number, n: number): { noise?: Tensor } => {
    if (index === undefined) return {};
    const at = { sample: offset + first, purpose: "features", step: index };
    const shape = [n, channels, size, size];
    return { noise: fromHost("f32", shape, source.normal(shape, at)) };
  };
  const bar = index === undefined ? 1 : alphaBarsOf(model.config)[index]!;
  const describe = (clean: Tensor, { noise }: { noise?: Tensor }) => {
    const n = clean.shape[0]!;
    const x = noise ? addNoise(clean, noise, levelOfAlphaBar(full([n], bar))) : clean;
    const { representation, tokens } = model.encode({ x, t: full([n], index === undefined ? 0 : index + 1) });
    return { representation, pooled: tokens.mean(1) };
  };
  const { representation, pooled } = await overPictures(pictures, describe, { ...over, inputs });
  return { width, representation: representation.values, pooled: pooled.values, warning };
}

/** Pictures with their hidden patches filled in. */
export interface Reconstruction {
  /** Pictures with guesses in place of what was hidden. // [N, C, S, S] */
  readonly filled: Float32Array;
  /** 1 where a pixel was hidden. // [N, 1, S, S] */
  readonly hidden: Float32Array;
  /** Mean squared error over hidden pixels. */
  readonly error: number;
  /** The same when every hidden pixel is guessed as the mean colour of what is visible. */
  readonly meanColourError: number;
}

/** Whether a value of pictures [N, C, S, S] is hidden by a mask [N, 1, S, S]. */
const isHidden = ({ channels, size }: LabelledPictures, hidden: Float32Array) => {
  const plane = size * size;
  return (at: number): boolean => hidden[Math.floor(at / (plane * channels)) * plane + (at % plane)] === 1;
};

/** What of the pictures was not hidden, the rest gray. */
export function visible(pictures: LabelledPictures, hidden: Float32Array): LabelledPictures {
  const covered = isHidden(pictures, hidden);
  return { ...pictures, values: pictures.values.map((v, at) => (covered(at) ? 0 : v)) };
}

/** Errors over hidden pixels: of a guess, and of the mean of what is visible in each plane. */
function hiddenErrors(pictures: LabelledPictures, filled: Float32Array, hidden: Float32Array) {
  const { values, size } = pictures;
  const covered = isHidden(pictures, hidden);
  let [error, meanColourError, count] = [0, 0, 0];
  for (let from = 0; from < values.length; from += size * size) {
    const plane = Array.from({ length: size * size }, (_, i) => from + i);
    const seen = plane.filter((at) => !covered(at));
    const mean = seen.reduce((sum, at) => sum + values[at]!, 0) / seen.length;
    for (const at of plane.filter(covered)) {
      error += (values[at]! - filled[at]!) ** 2;
      meanColourError += (values[at]! - mean) ** 2;
      count++;
    }
  }
  return { error: error / count, meanColourError: meanColourError / count };
}

/** Hides a share of the patches of clean pictures and fills them in. @throws ArgumentError when nothing would be hidden */
export async function reconstruct(
  model: UMD,
  pictures: LabelledPictures,
  { ratio = 0.75, seed = 0, ...over }: Over & { ratio?: number; seed?: Seed } = {},
): Promise<Reconstruction> {
  checkPictures(pictures, model.config);
  const { size, patch } = model.config;
  const tokens = tokenCount(model.config);
  if (keptTokens(tokens, ratio) === tokens)
    throw new ArgumentError(`UMD: a mask ratio of ${ratio} hides none of ${tokens} patches`);
  const source = createNoise("philox", seed);
  const inputs = (first: number, n: number) => {
    const noise = source.uniform([n, tokens], { sample: first, purpose: "mask", step: 0 });
    return { noise: fromHost("f32", [n, tokens], noise) };
  };
  const fill = (x: Tensor, { noise }: { noise: Tensor }) => {
    const out = model.call({ x, t: zeros([x.shape[0]!]) }, { noise, ratio });
    const mask = out.mask!.unsqueeze(2).broadcastTo([x.shape[0]!, tokens, patch * patch]);
    const hidden = unpatchify(mask, patch, size / patch, size / patch); // [N, 1, S, S]
    return { filled: x.add(out.x0.sub(x).mul(hidden)), hidden };
  };
  const out = await overPictures(pictures, fill, { ...over, inputs });
  const [filled, hidden] = [out.filled.values, out.hidden.values];
  return { filled, hidden, ...hiddenErrors(pictures, filled, hidden) };
}

/** The low noise at which diffusion transformers are looked at. */
export const NOISY_INDEX = 50;

/** @throws ArgumentError for pictures without labels */
export function labelled(pictures: LabelledPictures): Labelled {
  if (!pictures.labels) throw new ArgumentError("UMD: a probe needs pictures with labels");
  return pictures as Labelled;
}

/** Where features are read. */
export interface Reading {
  readonly at: "clean" | "noisy";
  readonly pooling: "representation" | "pooled";
}

/** "mean of tokens, noised at 50". */
export const readingName = ({ at, pooling }: Reading): string =>
  `${pooling === "representation" ? "class tokens" : "mean of tokens"}, ${at === "clean" ? "clean" : `noised at ${NOISY_INDEX}`}`;

/** All readings of a model's features, probed. */
export async function probeModel(
  model: UMD,
  support: Labelled,
  query: Labelled,
  { threads, signal, ...settings }: ProbeSettings & Omit<Over, "batch">,
): Promise<(Reading & ProbeResult)[]> {
  const classes = Math.max(support.classes.length, 1 + support.labels.reduce((a, b) => Math.max(a, b), 0));
  const results: (Reading & ProbeResult)[] = [];
  for (const at of ["clean", "noisy"] as const) {
    const options = { threads, signal, seed: settings.seed, ...(at === "noisy" && { index: NOISY_INDEX }) };
    const a = await umdFeatures(model, support, options);
    const b = await umdFeatures(model, query, { ...options, first: support.count });
    for (const pooling of ["representation", "pooled"] as const) {
      const of = (rows: Float32Array, labels: Int32Array) => ({ rows, width: a.width, labels });
      const [from, to] = [of(a[pooling], support.labels), of(b[pooling], query.labels)];
      results.push({ at, pooling, ...ridgeProbes(from, to, { ...settings, classes }) });
    }
  }
  return results;
}

/** Raw pixels as features, probed alike: what any features must leave behind. */
export function probePixels(support: Labelled, query: Labelled, settings: ProbeSettings): ProbeResult {
  const of = ({ values, labels, channels, size }: Labelled): LabelledFeatures => ({
    rows: values,
    width: channels * size ** 2,
    labels,
  });
  return ridgeProbes(of(support), of(query), { ...settings, classes: support.classes.length });
}

/** For each number of shots the accuracy of the reading that is best on the support: the query chooses nothing. */
export function bestReading(results: readonly ProbeResult[]): Record<string, number> {
  const shots = Object.keys(results[0]?.accuracies ?? {});
  return Object.fromEntries(
    shots.map((name) => {
      const best = results.reduce((a, b) => (b.folds[name]! > a.folds[name]! ? b : a));
      return [name, best.accuracies[name]!];
    }),
  );
}
