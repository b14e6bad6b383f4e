/** Segmentation: one step, or a reverse process of several; ensembles; pictures of any size. */
import { type FloatPicture, resizeLabels, resizePicture, toFloatPicture } from "../../data/index.ts";
import { cropPlanes, padded, sizeFor } from "../../data/padding.ts";
import { seededNoise } from "../../diffusion/index.ts";
import { AbortError, ArgumentError, DTypeError, NonFiniteError, ShapeError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { mapTiles, tileCount } from "../../networks/index.ts";
import { fillNormal, fromHost, jit, type Seed, type Tensor, tensor } from "../../tensor/index.ts";
import { drained, watched } from "../../work.ts";
import { LUMA, toInput } from "./data.ts";
import { type SDSeg, type SDSegConfig, totalStride } from "./model.ts";
import { MODES, SPACINGS } from "./options.ts";
import { type ReverseOptions, reverseProcess, samplingTimesteps } from "./sampling.ts";

/** How a mask is made: in one call, or by a sampler. */
export type Mode = (typeof MODES)[number];

/** Options of `segmentPicture`, `sharedNoise` and `openSegmenter`. */
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
  /** Told after each step of each sample: of `direct`, after its one call. */
  readonly onStep?: (guess?: Guess) => void;
  /** Steps of a sampler of several after which the guess of the moment is decoded. Default: never. */
  readonly guessEvery?: number;
  readonly signal?: AbortSignal;
}

/** The map in the making, of the picture or tile at hand: 0 background to 1 foreground. // [H, W] */
export interface Guess {
  readonly width: number;
  readonly height: number;
  readonly data: Float32Array;
}

/** How far a picture is: steps of all samples of all tiles. */
export interface StepsDone {
  readonly done: number;
  readonly total: number;
  /** Where one was asked for. */
  readonly guess?: Guess;
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

/** A model ready to segment. Close it when done. */
export interface Segmenter {
  readonly model: SDSeg;
  /**
   * Tensors [N, 1 or 3, H, W] in [-1, 1], normalised already as the model's configuration says: `toInput` does that, and
   * `segmentPicture` all of it. @throws ShapeError, ArgumentError, NonFiniteError for what cannot be
   */
  segment(image: Tensor, options?: SegmentOptions): Promise<Segmentation>;
  /** The same, tile by tile where pictures are larger than a tile; yields after each step. Pads by itself. */
  segmentTiled(
    image: Tensor,
    options?: SegmentOptions & TilingOptions,
  ): AsyncGenerator<StepsDone, Segmentation>;
  /** Frees the compiled networks. */
  close(): Promise<void>;
}

/** Options of `segmentPicture` and `openSegmenter`. */
export interface TilingOptions {
  /** Side of a tile in pixels, rounded up to what the networks take. Default 512. */
  readonly tile?: number;
  /** Pixels that neighbours share at least. Default a quarter of a tile. */
  readonly overlap?: number;
}

/** What comes of a picture, at its own size. */
export interface SegmentedResult {
  readonly labels: Int32Array; // [H, W]
  readonly probability: FloatPicture;
}

/**
 * A picture of any depth, size and number of channels, prepared as the checkpoint has it: normalised, resized by `scale`
 * (the checkpoint's `notes.scale`, default 1), extended or tiled. The door for pictures as files have them. @throws
 * NonFiniteError for NaN and infinities
 */
export async function* segmentPicture(
  segmenter: Segmenter,
  picture: Picture,
  { scale = 1, ...options }: SegmentOptions & TilingOptions & { readonly scale?: number | undefined } = {},
): AsyncGenerator<StepsDone, SegmentedResult> {
  const { width, height } = picture;
  const { config } = segmenter.model;
  const [w, h] = [width, height].map((size) => Math.max(1, Math.round(size * scale))) as [number, number];
  const same = w === width && h === height;
  const resized = same ? picture : resizePicture(toFloatPicture(picture), w, h);
  const { mask, probability } = yield* segmenter.segmentTiled(toInput(resized, config), options);
  const map = { width: w, height: h, channels: 1, data: probability };
  if (same) return { labels: Int32Array.from(mask), probability: map };
  const full = resizePicture(map, width, height);
  const labels =
    config.classes > 2
      ? resizeLabels(Int32Array.from(mask), { width: w, height: h }, width, height)
      : Int32Array.from(full.data, (p) => (p > 0.5 ? 1 : 0));
  return { labels, probability: full };
}

/** Steps of the reverse process, unless said. */
const STEPS = 50;

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

function checkOptions(model: SDSeg, options: SegmentOptions): void {
  const { mode = "direct", spacing = "leading", steps, ensemble = 1, classes, eta = 1 } = options;
  if (!MODES.includes(mode))
    throw new ArgumentError(`segment: mode must be one of ${MODES.join(", ")}, got ${mode}`);
  if (!SPACINGS.includes(spacing))
    throw new ArgumentError(`segment: spacing must be one of ${SPACINGS.join(", ")}, got ${spacing}`);
  if (steps !== undefined && !(Number.isInteger(steps) && steps >= 1 && steps <= 1000))
    throw new ArgumentError(`segment: steps must be an integer from 1 to 1000, got ${steps}`);
  if (!(Number.isInteger(ensemble) && ensemble >= 1))
    throw new ArgumentError(`segment: ensemble must be a positive integer, got ${ensemble}`);
  if (!(eta >= 0 && eta <= 1)) throw new ArgumentError(`segment: eta must be in [0, 1], got ${eta}`);
  if (classes === undefined) return;
  const { classes: known } = model.config;
  if (known === 2)
    throw new ArgumentError(`segment: a binary model has no classes to choose from, got ${classes}`);
  if (!Array.isArray(classes))
    throw new ArgumentError(`segment: classes must be a list of class numbers, got ${classes}`);
  const wrong = classes.find((k) => !(Number.isInteger(k) && k >= 0 && k < known));
  if (wrong !== undefined)
    throw new ArgumentError(`segment: class ${wrong} of a model with classes 0 to ${known - 1}`);
  if (classes.length < 2)
    throw new ArgumentError(`segment: expected two or more classes to tell apart, got [${classes}]`);
}

/** A little more than 1: values that were rounded on the way are fine. */
const LIMIT = 1.001;

/**
 * Pictures as the vision encoder takes them: gray repeated or colours made gray as the model needs. @throws ShapeError
 * for other shapes and sizes that are no multiples of `stride`, NonFiniteError, ArgumentError for values outside [-1, 1]
 */
async function checkPictures(image: Tensor, { imageChannels }: SDSegConfig, stride: number): Promise<Tensor> {
  if (image.dtype !== "f32") throw new DTypeError(`SDSeg: pictures must be f32, got ${image.dtype}`);
  const [n, channels, height, width] = image.shape as [number, number, number, number];
  if (image.rank !== 4 || (channels !== 1 && channels !== 3))
    throw new ShapeError(`SDSeg: expected pictures [N, 1 or 3, H, W], got [${image.shape.join(", ")}]`);
  if (height % stride !== 0 || width % stride !== 0)
    throw new ShapeError(
      `SDSeg: height and width must be multiples of the total stride ${stride}, got ${height} x ${width}; ` +
        "with pad: true the picture is extended",
    );
  const values = (await image.data()) as Float32Array;
  for (let i = 0; i < values.length; i++) {
    const v = values[i]!;
    if (!Number.isFinite(v)) throw new NonFiniteError(`SDSeg: the picture has ${v} at element ${i}`);
    if (Math.abs(v) > LIMIT)
      throw new ArgumentError(
        `SDSeg: the picture must be in [-1, 1], got ${v} at element ${i}; is it in 0 to 255?`,
      );
  }
  if (channels === imageChannels) return image;
  const plane = height * width;
  const out = new Float32Array(n * imageChannels * plane);
  for (let s = 0; s < n; s++)
    for (let i = 0; i < plane; i++) {
      if (imageChannels === 1) {
        const at = 3 * s * plane + i;
        out[s * plane + i] =
          LUMA[0] * values[at]! + LUMA[1] * values[at + plane]! + LUMA[2] * values[at + 2 * plane]!;
      } else for (let c = 0; c < 3; c++) out[(3 * s + c) * plane + i] = values[s * plane + i]!;
    }
  return fromHost("f32", [n, imageChannels, height, width], out);
}

/** Seed of the fresh noise of a member of an ensemble. */
export const memberSeed = (seed: Seed, member: number): bigint =>
  BigInt.asUintN(64, BigInt(seed) * 1024n + BigInt(member));

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

  /** The map of a latent, of the first picture of a batch. */
  async function guessOf(latent: Tensor): Promise<Guess> {
    const map = await decode(latent);
    const [, , height, width] = map.shape as [number, number, number, number];
    const values = ((await map.data()) as Float32Array).subarray(0, height * width);
    return { width, height, data: values.map((v) => (binary ? v : (v + 1) / 2)) };
  }

  /** One sample of one class: its latent, its map, and how often the denoiser was called. */
  async function sample(image: Tensor, label: number | undefined, member: number, options: SegmentOptions) {
    const {
      mode = "direct",
      steps = STEPS,
      spacing = "leading",
      eta = 1,
      seed = 0,
      signal,
      onStep,
      guessEvery = Number.POSITIVE_INFINITY,
    } = options;
    const [n, , height, width] = image.shape as [number, number, number, number];
    const shape = [n, model.config.autoencoder.latentChannels, ...model.latentSize(height, width)] as const;
    const noise = sharedNoise(shape, seed, member);
    const labels = label === undefined ? undefined : tensor(new BigInt64Array(n).fill(BigInt(label)));
    if (signal?.aborted) throw new AbortError();
    if (mode === "direct") {
      const result = await direct(image, noise, labels);
      onStep?.();
      return { ...result, calls: 1 };
    }
    const condition = await vision(image);
    const process = reverseProcess(model.config.head, { sampler: mode, steps, spacing, eta });
    const seeds = Array.from({ length: n }, () => memberSeed(seed, member));
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
    for await (const { denoised, step } of run) {
      latent = denoised;
      onStep?.((step + 1) % guessEvery === 0 ? await guessOf(latent) : undefined);
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

  /** Maps of every class asked for, of a binary model its probability; the latent is that of the last. */
  async function mapsOf(image: Tensor, options: SegmentOptions) {
    const maps: Float32Array[] = [];
    let [calls, latent] = [0, image];
    for (const label of labelsOf(options)) {
      const one = await ensembleMap(image, label, options);
      maps.push(one.map);
      calls += one.calls;
      latent = one.latent;
    }
    return { maps, calls, latent };
  }

  const labelsOf = ({ classes }: SegmentOptions): readonly (number | undefined)[] =>
    binary ? [undefined] : (classes ?? Array.from({ length: model.config.classes }, (_, k) => k));

  const decided = (maps: readonly Float32Array[], options: SegmentOptions) =>
    binary
      ? { mask: foreground(maps[0]!), probability: maps[0]! }
      : decide(maps, labelsOf(options) as readonly number[]);

  async function segment(image: Tensor, options: SegmentOptions = {}): Promise<Segmentation> {
    checkOptions(model, options);
    const { pad = false } = options;
    const stride = totalStride(model.config);
    const checked = await checkPictures(image, model.config, pad ? 1 : stride);
    const [, , height, width] = checked.shape as [number, number, number, number];
    if (checked.size === 0) {
      const latent = fromHost("f32", [0, model.config.autoencoder.latentChannels, 0, 0], new Float32Array(0));
      return { mask: new Uint8Array(0), probability: new Float32Array(0), latent, calls: 0 };
    }
    const { maps, latent, calls } = await mapsOf(pad ? await padded(checked, stride) : checked, options);
    const own = maps.map((map) => cropPlanes(map, sizeFor([height, width], stride), [height, width]));
    return { ...decided(own, options), latent, calls };
  }

  /** Steps of one tile. */
  function stepsOf(options: SegmentOptions): number {
    const { mode = "direct", steps = STEPS, spacing = "leading", ensemble = 1 } = options;
    const each = mode === "direct" ? 1 : samplingTimesteps(steps, spacing).length;
    return each * ensemble * labelsOf(options).length;
  }

  const segmentTiled = (image: Tensor, given: SegmentOptions & TilingOptions = {}) =>
    watched<StepsDone, Segmentation>((tell) => {
      checkOptions(model, given);
      let done = 0;
      return tiled(image, given, (tiles) => (guess) => {
        tell({ done: ++done, total: tiles * stepsOf(given), ...(guess && { guess }) });
        given.onStep?.(guess);
      });
    });

  /** In tiles where the picture is larger than one; `stepOf` is told how many, and gives who is told of each step. */
  async function tiled(
    image: Tensor,
    given: SegmentOptions & TilingOptions,
    stepOf: (tiles: number) => (guess?: Guess) => void,
  ): Promise<Segmentation> {
    const { tile = 512, overlap = Math.floor(tile / 4), signal } = given;
    const [n, , height, width] = image.shape as [number, number, number, number];
    if (n !== 1 || (height <= tile && width <= tile))
      return segment(image, { ...given, pad: true, onStep: stepOf(1) });
    const stride = totalStride(model.config);
    const whole = await padded(await checkPictures(image, model.config, 1), stride);
    const units = { tile: Math.ceil(tile / stride), overlap: Math.ceil(overlap / stride), signal };
    const scales = { input: stride, output: stride };
    const options = { ...given, onStep: stepOf(tileCount(whole.shape, scales, units)) };
    let [calls, latent] = [0, image];
    const run = async (part: Tensor): Promise<Tensor> => {
      const one = await mapsOf(part, options);
      calls += one.calls;
      latent = one.latent;
      const [, , h, w] = part.shape as [number, number, number, number];
      const joined = new Float32Array(one.maps.length * h * w);
      one.maps.forEach((map, k) => {
        joined.set(map, k * h * w);
      });
      return fromHost("f32", [1, one.maps.length, h, w], joined);
    };
    const map = await drained(mapTiles(run, whole, scales, units));
    const [, k, h, w] = map.shape as [number, number, number, number];
    const values = (await map.data()) as Float32Array;
    const maps = Array.from({ length: k }, (_, i) =>
      cropPlanes(values.slice(i * h * w, (i + 1) * h * w), [h, w], [height, width]),
    );
    return { ...decided(maps, options), latent, calls };
  }

  const close = async (): Promise<void> => {
    await Promise.all([direct, vision, denoise, decode].map((compiled) => compiled.close()));
  };
  return { model, segment, segmentTiled, close };
}
