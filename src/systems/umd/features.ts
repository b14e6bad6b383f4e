/** What a trained model knows of pictures: features for probes, and pictures filled in where they are hidden. */

import { checkPictures, gather, type LabelledPictures } from "../../data/picture-set.ts";
import { ArgumentError } from "../../errors.ts";
import { patchify, unpatchify } from "../../networks/index.ts";
import { createNoise, fromHost, jit, type Seed, type Tensor } from "../../tensor/index.ts";
import { keptTokens, tokenCount } from "./config.ts";
import type { UMD, UMDInput } from "./model.ts";
import { alphaBarsOf, TIMESTEPS } from "./schedule.ts";

export interface FeatureOptions {
  /** Noise index at which pictures are looked at; absent: clean, which is time 0. */
  readonly index?: number;
  /** Of the noise. */
  readonly seed?: Seed;
  /** Pictures at once. Default 250. */
  readonly batch?: number;
}

export interface UMDFeatures {
  readonly width: number;
  /** Mean of the class tokens. // [N, D] */
  readonly representation: Float32Array;
  /** Mean of all patches' tokens. // [N, D] */
  readonly pooled: Float32Array;
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** Inputs of one batch, noised at an index or clean. */
function inputsOf(model: UMD, pictures: LabelledPictures, { index, seed = 0 }: FeatureOptions) {
  const { channels, size } = model.config;
  if (index !== undefined && !(Number.isInteger(index) && index >= 0 && index < TIMESTEPS))
    throw new ArgumentError(`UMD: expected a noise index in 0 ... ${TIMESTEPS - 1}, got ${index}`);
  const bar = index === undefined ? 1 : alphaBarsOf(model.config)[index]!;
  const noise = createNoise("philox", seed);
  return (from: number, to: number): UMDInput => {
    const values = gather(pictures, range(from, to));
    const shape = [to - from, channels, size, size];
    if (index !== undefined) {
      const drawn = noise.normal(shape, { sample: from, purpose: "features", step: index });
      for (let i = 0; i < values.length; i++)
        values[i] = Math.sqrt(bar) * values[i]! + Math.sqrt(1 - bar) * drawn[i]!;
    }
    const t = new Float32Array(to - from).fill(index === undefined ? 0 : index + 1);
    return { x: fromHost("f32", shape, values), t: fromHost("f32", [to - from], t) };
  };
}

/** Features of pictures without a mask. Throws as `checkPictures` does, and `ArgumentError` for an unknown index. */
export async function umdFeatures(
  model: UMD,
  pictures: LabelledPictures,
  options: FeatureOptions = {},
): Promise<UMDFeatures> {
  const { batch = 250 } = options;
  checkPictures(pictures, model.config);
  const { dim: width } = model.config;
  const inputs = inputsOf(model, pictures, options);
  const run = jit((input: UMDInput) => {
    const { representation, tokens } = model.encode(input);
    return { representation, pooled: tokens.mean(1) };
  });
  const representation = new Float32Array(pictures.count * width);
  const pooled = new Float32Array(pictures.count * width);
  try {
    for (let from = 0; from < pictures.count; from += batch) {
      const out = await run(inputs(from, Math.min(from + batch, pictures.count)));
      representation.set((await out.representation.data()) as Float32Array, from * width);
      pooled.set((await out.pooled.data()) as Float32Array, from * width);
    }
  } finally {
    await run.close();
  }
  return { width, representation, pooled };
}

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

/** Error of guessing the mean colour of the visible part of each picture, over hidden pixels. */
function meanColourError(pictures: LabelledPictures, hidden: Float32Array): number {
  const { count, channels, size, values } = pictures;
  const pixels = size * size;
  let [total, number] = [0, 0];
  for (let n = 0; n < count; n++) {
    for (let c = 0; c < channels; c++) {
      const plane = values.subarray((n * channels + c) * pixels, (n * channels + c + 1) * pixels);
      let [sum, seen] = [0, 0];
      for (let i = 0; i < pixels; i++)
        if (hidden[n * pixels + i] === 0) {
          sum += plane[i]!;
          seen++;
        }
      for (let i = 0; i < pixels; i++)
        if (hidden[n * pixels + i] === 1) {
          total += (plane[i]! - sum / seen) ** 2;
          number++;
        }
    }
  }
  return total / number;
}

/** Hides a share of the patches of clean pictures and fills them in. */
export async function reconstruct(
  model: UMD,
  pictures: LabelledPictures,
  {
    ratio = 0.75,
    seed = 0,
    batch = 250,
    threads,
  }: { ratio?: number; seed?: Seed; batch?: number; threads?: number } = {},
): Promise<Reconstruction> {
  checkPictures(pictures, model.config);
  const { channels, size, patch } = model.config;
  const tokens = tokenCount(model.config);
  if (keptTokens(tokens, ratio) === tokens)
    throw new ArgumentError(`UMD: a mask ratio of ${ratio} hides none of ${tokens} patches`);
  const inputs = inputsOf(model, pictures, {});
  const source = createNoise("philox", seed);
  const run = jit(
    (input: UMDInput, noise: Tensor) => {
      const out = model.call(input, { noise, ratio });
      const mask = out.mask!.unsqueeze(2).broadcastTo([input.x.shape[0]!, tokens, patch * patch]);
      const hidden = unpatchify(mask, patch, size / patch, size / patch); // [N, 1, S, S]
      const error = patchify(out.x0.sub(input.x).square().mul(hidden), patch).sum();
      return { filled: input.x.add(out.x0.sub(input.x).mul(hidden)), hidden, error };
    },
    threads ? { threads } : {},
  );
  const filled = new Float32Array(pictures.values.length);
  const hidden = new Float32Array(pictures.count * size * size);
  let error = 0;
  try {
    for (let from = 0; from < pictures.count; from += batch) {
      const to = Math.min(from + batch, pictures.count);
      const noise = source.uniform([to - from, tokens], { sample: from, purpose: "mask", step: 0 });
      const out = await run(inputs(from, to), fromHost("f32", [to - from, tokens], noise));
      filled.set((await out.filled.data()) as Float32Array, from * channels * size * size);
      hidden.set((await out.hidden.data()) as Float32Array, from * size * size);
      error += await out.error.item();
    }
  } finally {
    await run.close();
  }
  const pixels = hidden.reduce((a, b) => a + b, 0) * channels;
  return { filled, hidden, error: error / pixels, meanColourError: meanColourError(pictures, hidden) };
}
