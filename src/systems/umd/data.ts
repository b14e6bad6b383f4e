/** Data: pictures by folder or shapes10, their latents, compiled functions over them, and training batches. */
import { readdir } from "node:fs/promises";
import {
  augmentedRows,
  checkLabels,
  createDraw,
  gather,
  type Half,
  inOrder,
  type LabelledPictures,
  randomFlip,
  randomResizedCrop,
  readCifar,
  readFashion,
  readFolder,
  slicePictures,
  tensorOf,
  tensorToPictures,
} from "../../data/index.ts";
import { shapes10 } from "../../data/world/shapes10.ts";
import { dropCondition } from "../../diffusion/index.ts";
import { AbortError, ArgumentError, ShapeError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { AutoencoderKL, AutoencoderTiny, gaussianOf, sampleGaussian } from "../../networks/index.ts";
import { loadModel } from "../../pipelines/index.ts";
import { createNoise, fromHost, full, jit, type Seed, type Tensor } from "../../tensor/index.ts";
import { alphaBarLevels, diffusionBatch, epochIndices } from "../../training/index.ts";
import { alphaBarsOf, type Batch, cleanCount, type Domain, type Mixture } from "./method.ts";
import { tokenCount, type UMDConfig } from "./model.ts";

/** Numbers of the shapes10 pictures that training and testing have. */
export const SHAPES = { train: { first: 0, count: 12_000 }, test: { first: 1_000_000, count: 2000 } };

export interface DataRequest {
  /** Its files say which set it is. Without a folder, shapes10. */
  readonly folder: string | undefined;
  readonly half: Half;
  readonly size: number;
  readonly channels: number;
  readonly limit?: number | undefined;
}

export interface OpenedPictures {
  readonly title: string;
  readonly pictures: LabelledPictures;
}

/** Pictures of one size. @throws ArgumentError for a folder that cannot be read */
export async function openPictures(request: DataRequest): Promise<OpenedPictures> {
  const { folder, half, size, channels, limit } = request;
  if (folder === undefined) {
    if (channels !== 3) throw new ArgumentError("UMD: shapes10 is in colour: expected 3 channels");
    const { first, count } = SHAPES[half];
    const pictures = shapes10({ seed: 1, size, first, count: Math.min(limit ?? count, count) });
    return { title: "shapes10", pictures };
  }
  const names = await readdir(folder).catch((cause) => {
    throw new ArgumentError(`${folder}: cannot be read as a folder`, { cause });
  });
  const has = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  const read = has(/-idx3-ubyte/)
    ? readFashion
    : has(/^(cifar10_batch_\d+\.png|data_batch_\d\.bin)$/)
      ? readCifar
      : readFolder;
  const pictures = await read(folder, half, { size, channels });
  return { title: folder, pictures: limit === undefined ? pictures : slicePictures(pictures, 0, limit) };
}

export type Autoencoder = AutoencoderKL | AutoencoderTiny;

/** An autoencoder by folder or file. @throws ArgumentError for another network */
export async function openAutoencoder(path: string): Promise<Autoencoder> {
  const { model } = await loadModel(path);
  if (model instanceof AutoencoderKL || model instanceof AutoencoderTiny) return model;
  throw new ArgumentError(`${path}: expected an autoencoder`);
}

/** The autoencoder that a model's domain needs. @throws ArgumentError when it is missing, or has no use */
export async function autoencoderFor(
  domain: Domain,
  path: string | undefined,
): Promise<Autoencoder | undefined> {
  if (domain === "latents" && path === undefined)
    throw new ArgumentError("UMD: a model of latents needs its autoencoder");
  if (domain === "pixels" && path !== undefined)
    throw new ArgumentError(`UMD: this model is of pixels: it has no use for the autoencoder ${path}`);
  return path === undefined ? undefined : openAutoencoder(path);
}

/** Pictures as the model takes them: themselves, or their latents. */
export async function openInputs(
  request: DataRequest & { readonly autoencoder?: Autoencoder | undefined },
): Promise<OpenedPictures> {
  const { autoencoder, size } = request;
  if (!autoencoder) return openPictures(request);
  const { sizeFactor, inChannels: channels } = autoencoder;
  const opened = await openPictures({ ...request, size: size * sizeFactor, channels });
  return { ...opened, pictures: await encodeLatents(autoencoder, opened.pictures) };
}

export interface OverOptions<I> {
  /** Pictures at once. Default 250. */
  readonly batch?: number | undefined;
  /** What else the function takes of `n` pictures from number `first` on. */
  readonly inputs?: (first: number, n: number) => I;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A tensor on the host. */
export interface Joined {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** A function, compiled, over all pictures in batches: each of its outputs, joined along the first axis. */
export async function overPictures<K extends string, I extends object = object>(
  pictures: LabelledPictures,
  f: (x: Tensor, inputs: I) => Readonly<Record<K, Tensor>>,
  { batch = 250, inputs = () => ({}) as I, threads, signal }: OverOptions<I> = {},
): Promise<Record<K, Joined>> {
  const run = jit(f, threads === undefined ? {} : { threads });
  const found = new Map<string, { row: readonly number[]; values: Float32Array }>();
  const { count } = pictures;
  try {
    for (let first = 0; first < count; first += batch) {
      if (signal?.aborted) throw new AbortError();
      const n = Math.min(batch, count - first);
      const out = await run(tensorOf(slicePictures(pictures, first, first + n)), inputs(first, n));
      for (const [name, t] of Object.entries<Tensor>(out)) {
        const width = t.size / n;
        if (!found.has(name))
          found.set(name, { row: t.shape.slice(1), values: new Float32Array(count * width) });
        found.get(name)!.values.set((await t.data()) as Float32Array, first * width);
      }
    }
  } finally {
    await run.close();
  }
  const joined = [...found].map(([name, { row, values }]) => [name, { shape: [count, ...row], values }]);
  return Object.fromEntries(joined) as Record<K, Joined>;
}

/** The same pictures with other values, of another size. */
const withValues = (pictures: LabelledPictures, { shape, values }: Joined): LabelledPictures => ({
  ...pictures,
  channels: shape[1]!,
  size: shape[2]!,
  values,
});

/** Latents of pictures, drawn from the autoencoder's distribution and scaled (by 0.18215 in that of Stable Diffusion 1). */
export async function encodeLatents(
  autoencoder: Autoencoder,
  pictures: LabelledPictures,
  { seed = 0, batch = 16 }: { seed?: Seed; batch?: number } = {},
): Promise<LabelledPictures> {
  const { inChannels, sizeFactor, latentChannels } = autoencoder;
  const { channels, size } = pictures;
  if (channels !== inChannels || size % sizeFactor !== 0)
    throw new ShapeError(
      `UMD: expected pictures of ${inChannels} channels and a size divisible by ${sizeFactor}, got [${channels}, ${size}, ${size}]`,
    );
  const source = createNoise("philox", seed);
  const encode = (x: Tensor, { noise }: { noise: Tensor }): { latents: Tensor } => ({
    latents: autoencoder.scaled(
      autoencoder instanceof AutoencoderTiny
        ? autoencoder.encode(x)
        : sampleGaussian(gaussianOf(autoencoder.moments(x)), noise),
    ),
  });
  const inputs = (first: number, n: number) => {
    const shape = [n, latentChannels, size / sizeFactor, size / sizeFactor];
    const drawn = source.normal(shape, { sample: first, purpose: "latents", step: 0 });
    return { noise: fromHost("f32", shape, drawn) };
  };
  return withValues(pictures, (await overPictures(pictures, encode, { batch, inputs })).latents);
}

/** Pictures of latents, cut off at [-1, 1]. */
export async function decodeLatents(
  autoencoder: Autoencoder,
  latents: LabelledPictures,
  { batch = 16 }: { batch?: number } = {},
): Promise<LabelledPictures> {
  const decode = (z: Tensor) => ({ x: autoencoder.decode(autoencoder.unscaled(z)).clip(-1, 1) });
  return withValues(latents, (await overPictures(latents, decode, { batch })).x);
}

/** Samples as pictures for people. */
export const toPictures = async (samples: LabelledPictures, autoencoder?: Autoencoder): Promise<Picture[]> =>
  tensorToPictures(tensorOf(autoencoder ? await decodeLatents(autoencoder, samples) : samples));

export interface BatchSettings {
  readonly mixture: Mixture;
  readonly batch: number;
  readonly seed: Seed;
  /** Flips, and random crops that keep such a share of the area. */
  readonly augment: { readonly flip: boolean; readonly crop?: readonly [least: number, most: number] };
  /** Share of labels that are replaced by the null label; absent: labels are not used. */
  readonly dropLabels?: number;
}

function checkLabelled({ classes }: UMDConfig, { labels }: LabelledPictures): Int32Array {
  if (classes === 0) throw new ArgumentError("UMD: this model has no table of labels");
  if (!labels) throw new ArgumentError("UMD: these pictures have no labels");
  checkLabels(labels, classes);
  return labels;
}

/**
 * The batch of a step, a pure function of it: the first pictures noised at uniform indices, the last ones clean.
 * @throws ArgumentError when labels are asked for that the pictures or the model do not have
 */
export function umdBatches(
  config: UMDConfig,
  pictures: LabelledPictures,
  settings: BatchSettings,
): (step: number) => Promise<Batch> {
  const { mixture, batch: size, seed, augment, dropLabels } = settings;
  const { channels, size: side, classes } = config;
  const indices = epochIndices(pictures.count, size, seed);
  const noised = size - cleanCount(size, mixture);
  const source = createNoise("philox", seed);
  const levels = alphaBarLevels(alphaBarsOf(config));
  const labels = dropLabels === undefined ? undefined : checkLabelled(config, pictures);
  const augmentation = inOrder(
    ...(augment.flip ? [randomFlip()] : []),
    ...(augment.crop ? [randomResizedCrop(augment.crop)] : []),
  );
  return async (step) => {
    const chosen = indices(step);
    const drawOf = (i: number) => createDraw(seed, step * size + i, 0, "augment");
    const rows = await augmentedRows(gather(pictures, chosen), pictures, augmentation, drawOf);
    const masks = source.uniform([size, tokenCount(config)], { sample: 0, purpose: "mask", step });
    const part = (values: Float32Array, shape: readonly number[], from: number, to: number): Tensor => {
      const width = values.length / size;
      return fromHost("f32", [to - from, ...shape], values.slice(from * width, to * width));
    };
    const inputs = (from: number, to: number) => ({
      x0: part(rows, [channels, side, side], from, to),
      maskNoise: part(masks as Float32Array, [tokenCount(config)], from, to),
    });
    const noise = () => {
      const shape = [noised, channels, side, side];
      const draws = diffusionBatch(shape, { source, step, levels, dropRate: dropLabels });
      const { timestep: index, level, noise, dropped } = draws;
      const given =
        labels && fromHost("i32", [noised], Int32Array.from(chosen, (i) => labels[i]!).slice(0, noised));
      const none = full([1], classes, "i32");
      return { index, level, noise, ...(given && { labels: dropCondition(given, none, dropped!) }) };
    };
    return {
      ...(noised > 0 && { noised: { ...inputs(0, noised), ...noise() } }),
      ...(noised < size && { clean: inputs(noised, size) }),
    };
  };
}
