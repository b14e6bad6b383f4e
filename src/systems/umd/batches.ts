/** Batches of training: pictures, noise, levels and masks as a pure function of the step. */
import { createDraw } from "../../data/index.ts";
import { checkLabels, gather, type LabelledPictures } from "../../data/picture-set.ts";
import { ArgumentError } from "../../errors.ts";
import { createNoise, fillPermutation, fromHost, type Seed, type Tensor } from "../../tensor/index.ts";
import { tokenCount, type UMDConfig } from "./config.ts";
import { cleanCount, type Mixture, type UMDBatch } from "./objective.ts";
import { alphaBarsOf, TIMESTEPS } from "./schedule.ts";

export interface Augmentation {
  readonly flip: boolean;
  /** Share of the area that a random crop keeps; absent: no crop. */
  readonly crop?: readonly [least: number, most: number];
}

export interface BatchSettings {
  readonly mixture: Mixture;
  readonly batch: number;
  readonly seed: Seed;
  readonly augment: Augmentation;
  /** Share of labels that are replaced by the null label; absent: labels are not used. */
  readonly dropLabels?: number;
}

/** Indices of a step's batch: every epoch is a permutation of its own. */
function batchIndices(count: number, batch: number, seed: Seed): (step: number) => Int32Array {
  if (!Number.isInteger(batch) || batch < 1)
    throw new ArgumentError(`UMD: expected a batch of at least 1, got ${batch}`);
  if (count < 1) throw new ArgumentError("UMD: there are no pictures to train on");
  const order = new Int32Array(count);
  let known = -1;
  const at = (position: number): number => {
    const epoch = Math.floor(position / count);
    if (epoch !== known) fillPermutation(order, { seed, sample: 0, purpose: "epoch", step: epoch });
    known = epoch;
    return order[position % count]!;
  };
  return (step) => Int32Array.from({ length: batch }, (_, i) => at(step * batch + i));
}

/** A window of planes [C, S, S] at the full size again, bilinear; mirrored when `flip`. */
function window(
  planes: Float32Array,
  size: number,
  {
    left,
    top,
    width,
    height,
    flip,
  }: { left: number; top: number; width: number; height: number; flip: boolean },
): Float32Array {
  const out = new Float32Array(planes.length);
  const within = (value: number): number => Math.min(size - 1, Math.max(0, value));
  for (let y = 0; y < size; y++) {
    const v = within(top + ((y + 0.5) * height) / size - 0.5);
    const y0 = Math.floor(v);
    const y1 = within(y0 + 1);
    for (let x = 0; x < size; x++) {
      const u = within(left + (((flip ? size - 1 - x : x) + 0.5) * width) / size - 0.5);
      const x0 = Math.floor(u);
      const x1 = within(x0 + 1);
      for (let p = 0; p < planes.length; p += size * size) {
        const above = planes[p + y0 * size + x0]! * (1 - u + x0) + planes[p + y0 * size + x1]! * (u - x0);
        const below = planes[p + y1 * size + x0]! * (1 - u + x0) + planes[p + y1 * size + x1]! * (u - x0);
        out[p + y * size + x] = above * (1 - v + y0) + below * (v - y0);
      }
    }
  }
  return out;
}

/** Area and aspect ratio of a random window, as in the training of image classifiers. */
function augmented(
  values: Float32Array,
  size: number,
  augment: Augmentation,
  seed: Seed,
  sample: number,
): Float32Array {
  if (!augment.flip && !augment.crop) return values;
  const draw = createDraw(seed, sample, 0, "augment");
  const flip = augment.flip && draw.chance(0.5);
  if (!augment.crop)
    return flip ? window(values, size, { left: 0, top: 0, width: size, height: size, flip }) : values;
  const area = draw.uniform(...augment.crop) * size * size;
  const aspect = Math.exp(draw.uniform(Math.log(3 / 4), Math.log(4 / 3)));
  const width = Math.min(size, Math.sqrt(area * aspect));
  const height = Math.min(size, Math.sqrt(area / aspect));
  const [left, top] = [draw.uniform(0, size - width), draw.uniform(0, size - height)];
  return window(values, size, { left, top, width, height, flip });
}

/**
 * The batch of a step: the first pictures noised at uniform indices, the last ones clean. Throws `ArgumentError` when
 * labels are asked for that the pictures or the model do not have.
 */
export function umdBatches(
  config: UMDConfig,
  pictures: LabelledPictures,
  settings: BatchSettings,
): (step: number) => UMDBatch {
  const { mixture, batch: size, seed, augment, dropLabels } = settings;
  const { channels, size: side, classes } = config;
  const indices = batchIndices(pictures.count, size, seed);
  const clean = cleanCount(size, mixture);
  const noised = size - clean;
  const bars = alphaBarsOf(config);
  const noise = createNoise("philox", seed);
  const tokens = tokenCount(config);
  const plane = channels * side * side;
  const useLabels = dropLabels !== undefined;
  if (useLabels) {
    if (classes === 0) throw new ArgumentError("UMD: this model has no table of labels");
    if (!pictures.labels) throw new ArgumentError("UMD: these pictures have no labels");
    checkLabels(pictures.labels, classes);
  }
  const column = (values: Float32Array): Tensor => fromHost("f32", [values.length, 1, 1, 1], values);
  const vector = (values: Float32Array): Tensor => fromHost("f32", [values.length], values);

  return (step) => {
    const at = (purpose: string) => ({ sample: 0, purpose, step });
    const chosen = indices(step);
    const values = gather(pictures, chosen);
    for (let i = 0; i < size; i++) {
      const own = values.subarray(i * plane, (i + 1) * plane);
      own.set(augmented(own, side, augment, seed, step * size + i));
    }
    const masks = noise.uniform([size, tokens], at("mask")) as Float32Array;
    const images = (from: number, to: number): Tensor =>
      fromHost("f32", [to - from, channels, side, side], values.slice(from * plane, to * plane));
    const maskNoise = (from: number, to: number): Tensor =>
      fromHost("f32", [to - from, tokens], masks.slice(from * tokens, to * tokens));
    const levels = Int32Array.from(noise.uniform([noised, 1], at("index")), (u) =>
      Math.min(TIMESTEPS - 1, Math.floor(u * TIMESTEPS)),
    );
    const labels = (): Tensor => {
      const dropped = noise.uniform([noised, 1], at("drop"));
      const kept = Int32Array.from({ length: noised }, (_, i) =>
        dropped[i]! < dropLabels! ? classes : pictures.labels![chosen[i]!]!,
      );
      return fromHost("i32", [noised], kept);
    };
    return {
      ...(noised > 0 && {
        noised: {
          x0: images(0, noised),
          noise: fromHost(
            "f32",
            [noised, channels, side, side],
            noise.normal([noised, channels, side, side], at("noise")),
          ),
          signal: column(Float32Array.from(levels, (i) => Math.sqrt(bars[i]!))),
          sigma: column(Float32Array.from(levels, (i) => Math.sqrt(1 - bars[i]!))),
          t: vector(Float32Array.from(levels, (i) => i + 1)),
          ...(useLabels && { labels: labels() }),
          maskNoise: maskNoise(0, noised),
        },
      }),
      ...(clean > 0 && {
        clean: {
          x0: images(noised, size),
          t: vector(new Float32Array(clean)),
          maskNoise: maskNoise(noised, size),
        },
      }),
    };
  };
}
