/** Segmentation: the direct one-step method, or a reverse process of several steps; ensembles; pictures of any size. */

import { cropPlanes, padded, sizeFor } from "../../data/padding.ts";
import { seededNoise } from "../../diffusion/index.ts";
import { AbortError, ArgumentError } from "../../errors.ts";
import { mapTiles } from "../../networks/index.ts";
import { fillNormal, fromHost, jit, type Seed, type Tensor, tensor } from "../../tensor/index.ts";
import { totalStride } from "./config.ts";
import type { SDSeg } from "./model.ts";
import { checkPictures } from "./pictures.ts";
import { type ReverseOptions, reverseProcess, SAMPLERS } from "./schedule.ts";

export const MODES = ["direct", ...SAMPLERS] as const;
export type Mode = (typeof MODES)[number];

export interface SegmentOptions extends Partial<Omit<ReverseOptions, "sampler">> {
  /** Default `direct`: one call, the paper's method. */
  readonly mode?: Mode;
  /** Of the noise, which is the same for every picture. Default 0. */
  readonly seed?: Seed;
  /** Samples whose probabilities are averaged, with seeds of their own. Default 1. */
  readonly ensemble?: number;
  /** Extends pictures by reflection to a size that the networks take, and cuts the result. Default false: an error. */
  readonly pad?: boolean;
  /** Classes to tell apart, for multi-class models. Default: all. */
  readonly classes?: readonly number[];
  readonly signal?: AbortSignal;
}

/** What comes of a batch of N pictures of H x W. */
export interface Segmentation {
  /** Labels, 0 to classes - 1. // [N, H, W] */
  readonly mask: Uint8Array;
  /** How likely the foreground is; of multi-class models, anything but class 0. // [N, H, W] */
  readonly probability: Float32Array;
  /** Clean latents of the last sample, scaled; of the last class. // [N, Z, h, w] */
  readonly latent: Tensor;
  /** Calls of the denoiser for each picture. */
  readonly calls: number;
}

export interface Segmenter {
  readonly model: SDSeg;
  /** Pictures [N, 1 or 3, H, W] in [-1, 1]. @throws ShapeError, ArgumentError, NonFiniteError for what cannot be */
  segment(image: Tensor, options?: SegmentOptions): Promise<Segmentation>;
  /** The same, tile by tile where pictures are larger than a tile; yields after each. Pads by itself. */
  segmentTiled(
    image: Tensor,
    options?: SegmentOptions & TilingOptions,
  ): AsyncGenerator<{ done: number; total: number }, Segmentation>;
  /** Frees the compiled networks. */
  close(): Promise<void>;
}

export interface TilingOptions {
  /** Side of a tile in pixels, rounded up to what the networks take. Default 512. */
  readonly tile?: number;
  /** Pixels that neighbours share at least. Default a quarter of a tile. */
  readonly overlap?: number;
}

const NOISE_PURPOSE = "sdseg initial noise";

/** One noise for all pictures of a batch: what a picture gets does not depend on its neighbours. */
export function sharedNoise(
  [n, ...rest]: readonly [number, number, number, number],
  seed: Seed,
  member: number,
): Tensor {
  const size = rest.reduce((a, b) => a * b, 1);
  const one = fillNormal(new Float32Array(size), { seed, sample: member, purpose: NOISE_PURPOSE });
  const all = new Float32Array(n * size);
  for (let i = 0; i < n; i++) all.set(one, i * size);
  return fromHost("f32", [n, ...rest], all);
}

function checkOptions(
  model: SDSeg,
  { mode = "direct", steps, ensemble = 1, classes, eta = 1 }: SegmentOptions,
) {
  if (!MODES.includes(mode))
    throw new ArgumentError(`segment: mode must be one of ${MODES.join(", ")}, got ${mode}`);
  if (steps !== undefined && !(Number.isInteger(steps) && steps >= 1 && steps <= 1000))
    throw new ArgumentError(`segment: steps must be an integer from 1 to 1000, got ${steps}`);
  if (!(Number.isInteger(ensemble) && ensemble >= 1))
    throw new ArgumentError(`segment: ensemble must be a positive integer, got ${ensemble}`);
  if (!(eta >= 0 && eta <= 1)) throw new ArgumentError(`segment: eta must be in [0, 1], got ${eta}`);
  const { classes: known } = model.config;
  if (classes && known === 2)
    throw new ArgumentError(
      `segment: a binary model has no classes to choose from, got ${classes.join(", ")}`,
    );
  const wrong = classes?.find((k) => !(Number.isInteger(k) && k >= 0 && k < known));
  if (wrong !== undefined)
    throw new ArgumentError(`segment: class ${wrong} of a model with classes 0 to ${known - 1}`);
}

/** The softmax of scores [K] at each point, and which is greatest. Class 0 comes as its foreground and is negated. */
function decide(scores: readonly Float32Array[], classes: readonly number[]) {
  const size = scores[0]!.length;
  const mask = new Uint8Array(size);
  const probability = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    let [best, sum, background] = [Number.NEGATIVE_INFINITY, 0, 0];
    classes.forEach((k, at) => {
      const score = k === 0 ? -scores[at]![i]! : scores[at]![i]!;
      if (score > best) {
        best = score;
        mask[i] = k;
      }
      sum += Math.exp(score);
      if (k === 0) background = Math.exp(score);
    });
    probability[i] = 1 - background / sum;
  }
  return { mask, probability };
}

/** 1 where the foreground is likelier than not. A loop: `Uint8Array.from` takes an eighth of the time of a whole picture. */
function foreground(probability: Float32Array): Uint8Array {
  const mask = new Uint8Array(probability.length);
  for (let i = 0; i < mask.length; i++) mask[i] = probability[i]! > 0.5 ? 1 : 0;
  return mask;
}

/** A model made ready to segment; its weights are compiled in. Close it when done. */
export function openSegmenter(model: SDSeg, settings: { readonly threads?: number } = {}): Segmenter {
  const binary = model.config.classes === 2;
  const read = (z: Tensor): Tensor => (binary ? model.probability(z) : model.decode(z).mean(1, true));
  const direct = jit((image: Tensor, noise: Tensor, labels?: Tensor) => {
    const latent = model.directLatent(image, noise, labels);
    return { latent, map: read(latent) };
  }, settings);
  const vision = jit((image: Tensor) => model.network.vision.call(image), settings);
  const denoise = jit(
    (z: Tensor, t: Tensor, condition: Tensor, labels?: Tensor) =>
      model.network.predict(z, t, condition, labels),
    settings,
  );
  const decode = jit(read, settings);

  /** One sample of one class: its latent, its map, and how often the denoiser was called. */
  async function sample(image: Tensor, label: number | undefined, member: number, options: SegmentOptions) {
    const { mode = "direct", steps = 50, spacing = "leading", eta = 1, seed = 0, signal } = options;
    const [n, , height, width] = image.shape as [number, number, number, number];
    const shape = [n, model.config.autoencoder.latentChannels, ...model.latentSize(height, width)] as const;
    const noise = sharedNoise(shape, seed, member);
    const labels = label === undefined ? undefined : tensor(new BigInt64Array(n).fill(BigInt(label)));
    if (signal?.aborted) throw new AbortError();
    if (mode === "direct") return { ...(await direct(image, noise, labels)), calls: 1 };
    const condition = await vision(image);
    const process = reverseProcess(model.config.head, { sampler: mode, steps, spacing, eta });
    const seeds = Array.from({ length: n }, () => BigInt(seed) * 1024n + BigInt(member));
    let calls = 0;
    const run = process.sample(
      (z, t) => {
        calls++;
        return denoise(z, fromHost("f32", [1], Float32Array.of(t)), condition, labels);
      },
      process.initial(noise),
      { noise: seededNoise("philox", seeds), signal },
    );
    // The guess of the last step is the clean latent; the sample itself still has the noise of t = 0.
    let latent = noise;
    for (;;) {
      const { done, value } = await run.next();
      if (done) break;
      latent = value.denoised;
    }
    return { latent, map: await decode(latent), calls };
  }

  /** Mean map over the ensemble. */
  async function ensembleMap(image: Tensor, label: number | undefined, options: SegmentOptions) {
    const { ensemble = 1 } = options;
    let [calls, latent] = [0, image];
    let sum: Float32Array | undefined;
    for (let member = 0; member < ensemble; member++) {
      const one = await sample(image, label, member, options);
      const map = (await one.map.data()) as Float32Array;
      if (sum) for (let i = 0; i < sum.length; i++) sum[i]! += map[i]!;
      else sum = map.slice();
      calls += one.calls;
      latent = one.latent;
    }
    return { map: ensemble === 1 ? sum! : sum!.map((v) => v / ensemble), latent, calls };
  }

  async function segmentChecked(image: Tensor, options: SegmentOptions): Promise<Segmentation> {
    const [n, , h, w] = image.shape as [number, number, number, number];
    if (n === 0 || h === 0 || w === 0) {
      const latent = fromHost("f32", [0, model.config.autoencoder.latentChannels, 0, 0], new Float32Array(0));
      return { mask: new Uint8Array(0), probability: new Float32Array(0), latent, calls: 0 };
    }
    if (binary) {
      const { map, latent, calls } = await ensembleMap(image, undefined, options);
      return { mask: foreground(map), probability: map, latent, calls };
    }
    const { classes = Array.from({ length: model.config.classes }, (_, k) => k) } = options;
    const maps: Float32Array[] = [];
    let [calls, latent] = [0, image];
    for (const k of classes) {
      const one = await ensembleMap(image, k, options);
      maps.push(one.map);
      calls += one.calls;
      latent = one.latent;
    }
    return { ...decide(maps, classes), latent, calls };
  }

  async function segment(image: Tensor, options: SegmentOptions = {}): Promise<Segmentation> {
    checkOptions(model, options);
    const { pad = false } = options;
    const stride = totalStride(model.config);
    const checked = await checkPictures(image, model.config, pad ? 1 : stride);
    if (!pad || checked.size === 0) return segmentChecked(checked, options);
    const [, , height, width] = checked.shape as [number, number, number, number];
    const result = await segmentChecked(await padded(checked, stride), options);
    const [h, w] = sizeFor([height, width], stride);
    return {
      ...result,
      mask: cropPlanes(result.mask, [h, w], [height, width]),
      probability: cropPlanes(result.probability, [h, w], [height, width]),
    };
  }

  async function* segmentTiled(image: Tensor, options: SegmentOptions & TilingOptions = {}) {
    const { tile = 512, overlap = Math.floor(tile / 4), signal } = options;
    const [n, , height, width] = image.shape as [number, number, number, number];
    if (!binary || n !== 1 || (height <= tile && width <= tile)) {
      const result = await segment(image, { ...options, pad: true });
      yield { done: 1, total: 1 };
      return result;
    }
    checkOptions(model, options);
    const stride = totalStride(model.config);
    const whole = await padded(await checkPictures(image, model.config, 1), stride);
    let [calls, latent] = [0, image];
    const run = async (part: Tensor): Promise<Tensor> => {
      const one = await segmentChecked(part, options);
      calls += one.calls;
      latent = one.latent;
      return fromHost("f32", [1, 1, part.shape[2]!, part.shape[3]!], one.probability);
    };
    const units = { tile: Math.ceil(tile / stride), overlap: Math.ceil(overlap / stride), signal };
    const map = yield* mapTiles(run, whole, { input: stride, output: stride }, units);
    const [h, w] = [whole.shape[2]!, whole.shape[3]!];
    const probability = cropPlanes((await map.data()) as Float32Array, [h, w], [height, width]);
    return { mask: foreground(probability), probability, latent, calls };
  }

  const close = async (): Promise<void> => {
    await Promise.all([direct, vision, denoise, decode].map((compiled) => compiled.close()));
  };
  return { model, segment, segmentTiled, close };
}
