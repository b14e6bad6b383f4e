/** Sets of pictures: blocks and lit balls made on the spot, which know their factors and masks, and folders. */

import { type Dataset, readAll } from "../../data/dataset.ts";
import {
  type Half,
  type LabelledPictures,
  readPictures,
  slicePictures,
  tensorOf,
  tensorToPictures,
} from "../../data/index.ts";
import { BLOCK_COLOURS, type FactorSample, openBlocks, openLitBalls } from "../../data/world/sprites.ts";
import { ArgumentError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { createNoise, fromHost, makeKey, type Seed, type Tensor } from "../../tensor/index.ts";
import { alphaBarLevels, diffusionBatch, epochIndices } from "../../training/index.ts";
import { alphaBarsOf, type Batch } from "./method.ts";
import type { DecompConfig } from "./model.ts";

/** Sets that are made on the spot. */
export const MADE = ["blocks2", "blocks3", "blocks2-other", "blocks3-other", "litball"] as const;
/** A set of pictures that is made on the spot. */
export type MadeSet = (typeof MADE)[number];

/** Pictures in [0, 1], with what their maker knows of them. */
export interface DecompSet {
  readonly title: string;
  /** Values lie in [0, 1]. */
  readonly pictures: LabelledPictures;
  /** Class numbers of the factors. // [count, factors] */
  readonly factors?: Int32Array;
  /** Masks of each picture's objects, in no order. // [count][objects] of [S, S] */
  readonly masks?: readonly (readonly Uint8Array[])[];
}

/** Numbers of the samples that training and testing have: no sample is in both. */
export const COUNTS: Readonly<Record<Half, { readonly seed: Seed; readonly count: number }>> = {
  train: { seed: 1, count: 8000 },
  test: { seed: 2, count: 512 },
};
const BALLS = { train: 20_000, test: 2000 };

/** A palette that the blocks do not have. */
export const OTHER_COLOURS = [
  [1, 0.55, 0.1],
  [0.55, 0.2, 1],
  [0.1, 1, 0.6],
  [1, 1, 1],
] as const;

const openMade = (name: MadeSet, seed: Seed, count: number, size: number): Dataset<FactorSample> => {
  if (name === "litball") return openLitBalls({ seed, count, size });
  const colours = name.endsWith("-other") ? OTHER_COLOURS : BLOCK_COLOURS;
  return openBlocks({ seed, count, size, objects: name.startsWith("blocks2") ? 2 : 3, colours });
};

/** Pixels [S, S, 3] as planes. */
function planes(image: Float32Array, out: Float32Array): void {
  const pixels = image.length / 3;
  for (let i = 0; i < pixels; i++) for (let c = 0; c < 3; c++) out[c * pixels + i] = image[3 * i + c]!;
}

/** A set that is made on the spot. */
export async function madeSet(name: MadeSet, half: Half, size: number, limit?: number): Promise<DecompSet> {
  const { seed, count: standard } = COUNTS[half];
  const most = name === "litball" ? BALLS[half] : standard;
  const count = Math.min(limit ?? most, most);
  const samples = await readAll(openMade(name, seed, count, size));
  const plane = 3 * size * size;
  const values = new Float32Array(count * plane);
  for (const [i, { image }] of samples.entries()) planes(image, values.subarray(i * plane, (i + 1) * plane));
  const width = samples[0]!.factors.length;
  const factors = new Int32Array(count * width);
  for (const [i, sample] of samples.entries()) factors.set(sample.factors, i * width);
  return {
    title: name,
    pictures: { count, size, channels: 3, values, labels: undefined, classes: [] },
    factors,
    masks: samples.map(({ masks }) => masks),
  };
}

/** A set by its name, or the pictures of a folder. @throws ArgumentError for a folder that cannot be read */
export async function openSet(source: string, half: Half, size: number, limit?: number): Promise<DecompSet> {
  const made = MADE.find((name) => name === source);
  if (made) return madeSet(made, half, size, limit);
  const all = await readPictures(source, half, { size, channels: 3 });
  const pictures = limit === undefined ? all : slicePictures(all, 0, limit);
  return { title: source, pictures: { ...pictures, values: pictures.values.map((v) => (v + 1) / 2) } };
}

/** Two sets as one, for a model of both; what only one of them knows is left out. */
export function union(a: DecompSet, b: DecompSet): DecompSet {
  if (a.pictures.size !== b.pictures.size)
    throw new ArgumentError(`Decomp: pictures of ${a.pictures.size} and of ${b.pictures.size} pixels`);
  const values = new Float32Array(a.pictures.values.length + b.pictures.values.length);
  values.set(a.pictures.values);
  values.set(b.pictures.values, a.pictures.values.length);
  const count = a.pictures.count + b.pictures.count;
  return {
    title: `${a.title} and ${b.title}`,
    pictures: { ...a.pictures, count, values, labels: undefined, classes: [] },
  };
}

/** Mean of all pictures. // [3, S, S] */
export function meanImage({ pictures: { values, count, size } }: DecompSet): Tensor {
  const plane = 3 * size * size;
  const sum = new Float64Array(plane);
  values.forEach((v, i) => {
    sum[i % plane]! += v;
  });
  return fromHost(
    "f32",
    [3, size, size],
    Float32Array.from(sum, (v) => v / count),
  );
}

/** Mean squared deviation from the mean picture: what a model that sees nothing is left with. */
export async function dataVariance(set: DecompSet): Promise<number> {
  const mean = await meanImage(set).data();
  const { values } = set.pictures;
  return values.reduce((sum, v, i) => sum + (v - Number(mean[i % mean.length])) ** 2, 0) / values.length;
}

/** How training batches are drawn. */
export interface BatchSettings {
  readonly batch: number;
  readonly seed: Seed;
  /** Share of pictures whose latents are dropped, for guidance. */
  readonly dropLatents: number;
}

/** The batch of a step, a pure function of it. */
export function decompBatches(
  config: DecompConfig,
  { pictures }: DecompSet,
  { batch, seed, dropLatents }: BatchSettings,
): (step: number) => Batch {
  const indices = epochIndices(pictures.count, batch, seed);
  const source = createNoise("philox", seed);
  const levels = alphaBarLevels(alphaBarsOf(config));
  const { size, values } = pictures;
  const plane = 3 * size * size;
  return (step) => {
    const chosen = indices(step);
    const rows = new Float32Array(batch * plane);
    for (const [i, index] of chosen.entries())
      rows.set(values.subarray(index * plane, (index + 1) * plane), i * plane);
    const shape = [batch, 3, size, size];
    const dropRate = dropLatents > 0 ? dropLatents : undefined;
    return {
      x0: fromHost("f32", shape, rows),
      ...diffusionBatch(shape, { source, step, levels, dropRate }),
      ...(config.unet.dropout > 0 && { key: makeKey(seed, { step }) }),
    };
  };
}

/** Test picture `index` of two blocks, at the size of their model. */
export async function samplePicture(index: number): Promise<Picture> {
  const { pictures } = await madeSet("blocks2", "test", 8, index);
  const [picture] = await tensorToPictures(tensorOf(slicePictures(pictures, index - 1, index)), "unit");
  return picture!;
}
