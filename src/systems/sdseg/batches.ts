/** Training batches: random crops with flips and turns, each a pure function of seed and step. */
import { createDraw, type Dataset, type Draw } from "../../data/index.ts";
import { type AutoencoderKL, gaussianOf, sampleGaussian } from "../../networks/index.ts";
import {
  fillNormal,
  fromHost,
  type Jitted,
  jit,
  makeKey,
  type Seed,
  type Tensor,
  tensor,
} from "../../tensor/index.ts";
import { latentFactor, type SDSegConfig } from "./config.ts";
import type { AutoencodingBatch, DenoisingBatch } from "./loss.ts";
import { maskValues, type Sample, stack } from "./samples.ts";
import { ALPHA_BARS, TRAINED } from "./schedule.ts";

/** How pictures are varied: not at all, mirrored on both axes (as published), or turned by quarters as well. */
export const AUGMENTS = ["none", "flips", "turns"] as const;
export type Augment = (typeof AUGMENTS)[number];

/** Where pixel (x, y) of a crop comes from: a corner, and what is mirrored or exchanged. */
interface Window {
  readonly left: number;
  readonly top: number;
  readonly flipX: boolean;
  readonly flipY: boolean;
  readonly exchange: boolean;
}

/** Source pixels of a crop; what lies beyond the picture is its nearest pixel. */
function windowIndices({ width, height }: Sample, size: number, window: Window): Int32Array {
  const { left, top, flipX, flipY, exchange } = window;
  const at = (k: number, limit: number): number => Math.max(0, Math.min(limit - 1, k));
  return Int32Array.from({ length: size * size }, (_, i) => {
    const [column, row] = [i % size, Math.floor(i / size)];
    const [u, v] = exchange ? [row, column] : [column, row];
    const x = at(left + (flipX ? size - 1 - u : u), width);
    return at(top + (flipY ? size - 1 - v : v), height) * width + x;
  });
}

/** The most often that a crop without foreground is drawn anew. */
const TRIES = 4;

/** A random square of a sample; with `seek`, preferably one with foreground in it. */
export function randomCrop(sample: Sample, size: number, draw: Draw, augment: Augment, seek = false): Sample {
  const place = (extent: number): number => draw.integer(Math.max(1, extent - size + 1));
  const chance = (on: boolean): boolean => draw.chance(0.5) && on;
  let indices: Int32Array;
  let tries = 0;
  do {
    const [left, top] = [place(sample.width), place(sample.height)];
    const [flipX, flipY] = [chance(augment !== "none"), chance(augment !== "none")];
    const exchange = chance(augment === "turns");
    indices = windowIndices(sample, size, { left, top, flipX, flipY, exchange });
  } while (seek && ++tries < TRIES && !indices.some((i) => sample.labels[i]! > 0));
  const [plane, channels] = [sample.width * sample.height, sample.image.length / sample.labels.length];
  const image = new Float32Array(channels * size * size);
  for (let c = 0; c < channels; c++)
    for (let i = 0; i < indices.length; i++)
      image[c * size * size + i] = sample.image[c * plane + indices[i]!]!;
  return { ...sample, width: size, height: size, image, labels: indices.map((i) => sample.labels[i]!) };
}

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

/** The crops of a step for one purpose. Three of four seek foreground. */
async function crops({ data, batch, crop, augment, seed }: BatchOptions, step: number, purpose: string) {
  return Promise.all(
    Array.from({ length: batch }, async (_, i) => {
      const draw = createDraw(seed, step * batch + i, 0, `sdseg ${purpose}`);
      const sample = await data.get(draw.integer(data.length));
      return { sample: randomCrop(sample, crop, draw, augment, draw.chance(0.75)), draw };
    }),
  );
}

/** The class that a multi-class model is asked for: one that is there, drawn at random. */
function drawnClass(labels: Int32Array, draw: Draw): number {
  const present = [...new Set(labels)].sort((a, b) => a - b);
  return draw.pick(present);
}

const latentShape = ({ config, batch, crop }: BatchOptions): number[] => {
  const side = crop / latentFactor(config);
  return [batch, config.autoencoder.latentChannels, side, side];
};

function normals(shape: readonly number[], seed: Seed, step: number, purpose: string): Tensor {
  const out = new Float32Array(shape.reduce((a, b) => a * b, 1));
  return fromHost("f32", shape, fillNormal(out, { seed, sample: 0, step, purpose: `sdseg ${purpose}` }));
}

/** Masks of a step for the autoencoder, other ones for its decoder alone. */
export async function autoencodingBatch(
  options: BatchOptions,
  step: number,
  purpose: "autoencoder" | "decoder" = "autoencoder",
): Promise<AutoencodingBatch> {
  const { config, crop, seed } = options;
  const drawn = await crops(options, step, purpose === "autoencoder" ? "masks" : purpose);
  const masks = drawn.map(({ sample, draw }) =>
    maskValues(
      sample.labels,
      config.maskChannels,
      config.classes > 2 ? drawnClass(sample.labels, draw) : undefined,
    ),
  );
  return {
    mask: stack(masks, [config.maskChannels, crop, crop]),
    noise: normals(latentShape(options), seed, step, purpose),
  };
}

/** The compiled encoder of a frozen autoencoder: masks and normals give samples of latents, not scaled. */
export const latentSampler = (autoencoder: AutoencoderKL): Jitted<[Tensor, Tensor], Tensor> =>
  jit((mask: Tensor, noise: Tensor) => sampleGaussian(gaussianOf(autoencoder.moments(mask)), noise));

/** Batches of the denoiser. `encode` is a `latentSampler`. */
export function denoisingBatches(
  options: BatchOptions,
  encode: (mask: Tensor, noise: Tensor) => Promise<Tensor>,
  scaleFactor: number,
): (step: number) => Promise<DenoisingBatch> {
  const { config, crop, seed, batch } = options;
  const shape = latentShape(options);
  const drops = config.unet.dropout > 0 || config.vision.dropout > 0;
  return async (step) => {
    const drawn = await crops(options, step, "batch");
    const classes = drawn.map(({ sample, draw }) =>
      config.classes > 2 ? drawnClass(sample.labels, draw) : undefined,
    );
    const masks = drawn.map(({ sample }, i) => maskValues(sample.labels, config.maskChannels, classes[i]));
    const mask = stack(masks, [config.maskChannels, crop, crop]);
    const raw = await encode(mask, normals(shape, seed, step, "latent"));
    const latent = Float32Array.from((await raw.data()) as Float32Array, (v) => v * scaleFactor);
    const t = drawn.map(({ draw }) => draw.integer(TRAINED));
    const vector = (f: (t: number) => number): Tensor => fromHost("f32", [batch], Float32Array.from(t, f));
    return {
      image: stack(
        drawn.map(({ sample }) => sample.image),
        [config.imageChannels, crop, crop],
      ),
      latent: fromHost("f32", shape, latent),
      noise: normals(shape, seed, step, "noise"),
      t: vector((k) => k),
      level: {
        alpha: vector((k) => Math.sqrt(ALPHA_BARS[k]!)),
        sigma: vector((k) => Math.sqrt(1 - ALPHA_BARS[k]!)),
      },
      ...(config.classes > 2 && { labels: tensor(BigInt64Array.from(classes as number[], BigInt)) }),
      ...(drops && { key: makeKey(seed, { step }) }),
    };
  };
}
