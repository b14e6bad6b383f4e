/** Pictures with label maps as SDSeg sees them, and training batches of them: each a pure function of seed and step. */
import {
  type Augmentation,
  type AugmentSample,
  createDraw,
  type Dataset,
  type Draw,
  type FloatPicture,
  inOrder,
  mapDataset,
  type PictureStatistics,
  pictureStatistics,
  picturesToTensor,
  randomCrop,
  randomFlip,
  randomQuarterTurn,
  resizeLabels,
  resizePicture,
  type SegmentedPicture,
  type SetStatistics,
  setStatistics,
  toFloatPicture,
} from "../../data/index.ts";
import { FormatError, NonFiniteError, ShapeError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { type AutoencoderKL, gaussianOf, sampleGaussian } from "../../networks/index.ts";
import {
  createNoise,
  type Jitted,
  jit,
  makeKey,
  type Seed,
  type Tensor,
  tensor,
} from "../../tensor/index.ts";
import { alphaBarLevels, diffusionBatch, epochIndices } from "../../training/index.ts";
import { ALPHA_BARS, type DenoisingBatch } from "./method.ts";
import { latentFactor, type SDSegConfig } from "./model.ts";

/** What the networks take: a picture with values in [-1, 1] and a label for each pixel. */
export interface Sample extends AugmentSample {
  readonly name: string;
  readonly labels: Int32Array; // [H, W]
  readonly volume?: string;
}

/** Weights of red, green and blue in brightness (ITU-R 601). */
export const LUMA = [0.299, 0.587, 0.114] as const;
/** Deviation of a standardised picture. */
export const DEVIATION = 0.4;

/** The wanted number of channels: gray is repeated, colours become brightness, alpha is dropped. // [H, W, C] */
function withChannels({ data, channels, width, height }: FloatPicture, wanted: 1 | 3): FloatPicture {
  const out = new Float32Array(wanted * width * height);
  const colours = channels >= 3;
  for (let i = 0; i < width * height; i++) {
    const at = i * channels;
    if (wanted === 1)
      out[i] = colours ? LUMA[0] * data[at]! + LUMA[1] * data[at + 1]! + LUMA[2] * data[at + 2]! : data[at]!;
    else for (let c = 0; c < 3; c++) out[3 * i + c] = data[at + (colours ? c : 0)]!;
  }
  return { width, height, channels: wanted, data: out };
}

/** Values to [-1, 1] in place: from [0, 1], or to mean 0 and deviation 0.4 and cut off. A constant picture becomes 0. */
function normalise(values: Float32Array, how: SDSegConfig["normalise"]): void {
  if (how === "range") {
    for (let i = 0; i < values.length; i++) values[i] = 2 * values[i]! - 1;
    return;
  }
  let [sum, squares] = [0, 0];
  for (const v of values) sum += v;
  const mean = sum / values.length;
  for (const v of values) squares += (v - mean) ** 2;
  const scale = squares > 0 ? DEVIATION / Math.sqrt(squares / values.length) : 0;
  for (let i = 0; i < values.length; i++) values[i] = Math.max(-1, Math.min(1, (values[i]! - mean) * scale));
}

type Seen = Pick<SDSegConfig, "imageChannels" | "normalise">;

/** A picture of any depth as the model sees it. @throws NonFiniteError for NaN and infinities // [H, W, C] in [-1, 1] */
export function toImage(
  picture: Picture,
  { imageChannels, normalise: how }: Seen,
  name = "picture",
): FloatPicture {
  const float = toFloatPicture(picture);
  const bad = float.data.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0) throw new NonFiniteError(`${name}: value ${float.data[bad]} at element ${bad}`);
  const image = withChannels(float, imageChannels);
  normalise(image.data, how);
  return image;
}

/** A picture of any depth for `segment`. // [1, C, H, W] in [-1, 1] */
export const toInput = (picture: Picture, config: Seen): Tensor =>
  picturesToTensor([toImage(picture, config)], "unit");

export interface SampleOptions {
  readonly config: Seen & Pick<SDSegConfig, "classes">;
  /** Resize factor: size of what the model sees / size of the file. Default 1. */
  readonly scale?: number;
}

/** A labelled picture as a sample. @throws FormatError for labels that the model has no class for */
export function toSample(source: SegmentedPicture, { config, scale = 1 }: SampleOptions): Sample {
  const { name, volume, image, labels } = source;
  if (labels.length !== image.width * image.height)
    throw new ShapeError(`${name}: ${labels.length} labels for a picture of ${image.width}x${image.height}`);
  const wrong = labels.find((label) => !(label >= 0 && label < config.classes));
  if (wrong !== undefined)
    throw new FormatError(`${name}: label ${wrong}, the model has classes 0 to ${config.classes - 1}`);
  const [width, height] = [image.width, image.height].map((size) => Math.max(1, Math.round(size * scale)));
  const same = width === image.width && height === image.height;
  const sized = same ? image : resizePicture(toFloatPicture(image), width!, height!);
  return {
    name,
    image: toImage(sized, config, name),
    labels: same ? labels : resizeLabels(labels, image, width!, height!),
    ...(volume !== undefined && { volume }),
  };
}

/** What the pictures of a set have in common. */
export async function statisticsOf(data: Dataset<Sample>): Promise<SetStatistics> {
  const all: PictureStatistics[] = [];
  for (let i = 0; i < data.length; i++) all.push(pictureStatistics((await data.get(i)).image));
  return setStatistics(all);
}

/** The first channel of a sample as a gray picture for people. */
export const shownOf = ({ image: { width, height, channels, data } }: Sample): Picture => ({
  width,
  height,
  channels: 1,
  data: Uint8Array.from({ length: width * height }, (_, i) => Math.round((data[i * channels]! + 1) * 127.5)),
});

/** All pictures of a dataset as samples. */
export const samplesOf = (source: Dataset<SegmentedPicture>, options: SampleOptions): Dataset<Sample> =>
  mapDataset(source, (picture) => toSample(picture, options));

/** Pictures of samples of one size. // [N, C, H, W] */
export const imagesOf = (samples: readonly Sample[]): Tensor =>
  picturesToTensor(
    samples.map(({ image }) => image),
    "unit",
  );

/**
 * Foreground +1, background -1, in as many channels as the autoencoder has. With a class number, that class alone; class
 * 0 is drawn as everything that is not background.
 */
export function masksOf(
  samples: readonly Sample[],
  channels: number,
  classes: readonly number[] = [],
): Tensor {
  const pictures = samples.map(({ image: { width, height }, labels }, k): Picture => {
    const label = classes[k] ?? 0;
    const inside = (value: number): boolean => (label === 0 ? value > 0 : value === label);
    const data = new Float32Array(channels * labels.length);
    for (let i = 0; i < labels.length; i++)
      data.fill(inside(labels[i]!) ? 1 : -1, channels * i, channels * (i + 1));
    return { width, height, channels, data };
  });
  return picturesToTensor(pictures, "unit"); // [N, C, H, W]
}

/** How pictures are varied: not at all, mirrored on both axes (as published), or turned by quarters as well. */
export const AUGMENTS = ["none", "flips", "turns"] as const;
export type Augment = (typeof AUGMENTS)[number];

/** Share of crops that seek foreground, and how often one without any is drawn anew. */
const [SEEKING, TRIES] = [0.75, 4];

/** A random square; three of four are drawn anew while there is no foreground in them, up to four times. */
const foregroundCrop = (side: number): Augmentation => {
  const crop = randomCrop(side);
  return async (sample, draw) => {
    const tries = draw.chance(SEEKING) ? TRIES : 1;
    let found = await crop(sample, draw);
    for (let i = 1; i < tries && !found.labels?.some((label) => label > 0); i++)
      found = await crop(sample, draw);
    return found;
  };
};

/** A crop with its variation. */
export const cropped = (side: number, augment: Augment): Augmentation =>
  inOrder(
    foregroundCrop(side),
    ...(augment === "none" ? [] : [randomFlip({ vertical: true })]),
    ...(augment === "turns" ? [randomQuarterTurn()] : []),
  );

/** What batches are drawn from, and how. */
export interface BatchOptions {
  readonly data: Dataset<Sample>;
  readonly config: SDSegConfig;
  readonly batch: number;
  /** Side of the crops, a multiple of the total stride. */
  readonly crop: number;
  readonly augment: Augment;
  readonly seed: Seed;
}

/** Crops of a step for one purpose, and for each the class that a model of several is asked for: one that is there. */
export function cropBatches(
  { data, config, batch, crop, augment, seed }: BatchOptions,
  purpose: string,
): (step: number) => Promise<{ samples: Sample[]; classes: number[] }> {
  const indices = epochIndices(data.length, batch, seed);
  const vary = cropped(crop, augment);
  const pick = (labels: Int32Array, draw: Draw): number =>
    draw.pick([...new Set(labels)].sort((a, b) => a - b));
  return async (step) => {
    const drawn = await Promise.all(
      Array.from(indices(step), async (index, i) => {
        const draw = createDraw(seed, step * batch + i, 0, `sdseg ${purpose}`);
        const sample = await vary(await data.get(index), draw);
        return { sample, label: config.classes > 2 ? pick(sample.labels, draw) : 0 };
      }),
    );
    return { samples: drawn.map(({ sample }) => sample), classes: drawn.map(({ label }) => label) };
  };
}

const latentShape = ({ config, batch, crop }: BatchOptions): number[] => {
  const side = crop / latentFactor(config);
  return [batch, config.autoencoder.latentChannels, side, side];
};

/** Masks in {-1, 1} and standard normals of the latents' shape. */
export interface AutoencodingBatch {
  readonly mask: Tensor; // [N, C, H, W]
  readonly noise: Tensor; // [N, Z, h, w]
}

/** Batches of masks for the autoencoder, other ones for its decoder alone. */
export function autoencodingBatches(
  options: BatchOptions,
  purpose: "autoencoder" | "decoder" = "autoencoder",
): (step: number) => Promise<AutoencodingBatch> {
  const crops = cropBatches(options, purpose);
  const source = createNoise("philox", options.seed);
  const shape = latentShape(options);
  return async (step) => {
    const { samples, classes } = await crops(step);
    const noise = tensor(source.normal(shape, { sample: 0, step, purpose: `sdseg ${purpose}` }), { shape });
    return { mask: masksOf(samples, options.config.maskChannels, classes), noise };
  };
}

/** The compiled encoder of a frozen autoencoder: masks and normals give samples of latents, not scaled. */
export const latentSampler = (autoencoder: AutoencoderKL): Jitted<[Tensor, Tensor], Tensor> =>
  jit((mask: Tensor, noise: Tensor) => sampleGaussian(gaussianOf(autoencoder.moments(mask)), noise));

/** Timesteps, each as often. */
export const LEVELS = alphaBarLevels(ALPHA_BARS);

/** Batches of the denoiser. `encode` is a `latentSampler`. */
export function denoisingBatches(
  options: BatchOptions,
  encode: (mask: Tensor, noise: Tensor) => Promise<Tensor>,
  scaleFactor: number,
): (step: number) => Promise<DenoisingBatch> {
  const { config, seed } = options;
  const crops = cropBatches(options, "batch");
  const source = createNoise("philox", seed);
  const shape = latentShape(options);
  const drops = config.unet.dropout > 0 || config.vision.dropout > 0;
  return async (step) => {
    const { samples, classes } = await crops(step);
    const normals = source.normal(shape, { sample: 0, step, purpose: "sdseg latent" });
    const raw = await encode(masksOf(samples, config.maskChannels, classes), tensor(normals, { shape }));
    const latent = Float32Array.from((await raw.data()) as Float32Array, (v) => v * scaleFactor);
    const { timestep, level, noise } = diffusionBatch(shape, { source, step, levels: LEVELS });
    return {
      image: imagesOf(samples),
      latent: tensor(latent, { shape }),
      noise,
      timestep,
      level,
      ...(config.classes > 2 && { labels: tensor(BigInt64Array.from(classes, BigInt)) }),
      ...(drops && { key: makeKey(seed, { step }) }),
    };
  };
}
