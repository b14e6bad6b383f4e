/** Data: pictures by folder or shapes10, their latents, compiled functions over them, and training batches. */
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
  readPictures,
  slicePictures,
  tensorOf,
  tensorToPictures,
} from "../../data/index.ts";
import {
  type Autoencoder,
  decodeLatents,
  encodeLatents,
  openAutoencoder,
} from "../../data/latent-pictures.ts";
import { shapes10 } from "../../data/world/shapes10.ts";
import { dropCondition } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { createNoise, fromHost, full, type Seed, type Tensor } from "../../tensor/index.ts";
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
  const pictures = await readPictures(folder, half, { size, channels });
  return { title: folder, pictures: limit === undefined ? pictures : slicePictures(pictures, 0, limit) };
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
