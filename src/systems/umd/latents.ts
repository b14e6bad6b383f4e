/** Latent mode: pictures through an autoencoder once before training, and samples back to pictures. */

import { gather, type LabelledPictures } from "../../data/picture-set.ts";
import { ShapeError } from "../../errors.ts";
import { type AutoencoderKL, AutoencoderTiny, gaussianOf, sampleGaussian } from "../../networks/index.ts";
import { createNoise, fromHost, jit, type Seed, type Tensor } from "../../tensor/index.ts";

export type Autoencoder = AutoencoderKL | AutoencoderTiny;

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** All pictures through a function of batches that makes another size and number of channels of them. */
async function through(
  pictures: LabelledPictures,
  batch: number,
  run: (x: Tensor, first: number) => Promise<Tensor>,
): Promise<LabelledPictures> {
  const { count, channels, size } = pictures;
  const parts: Float32Array[] = [];
  let shape: readonly number[] = [];
  for (let from = 0; from < count; from += batch) {
    const to = Math.min(from + batch, count);
    const values = gather(pictures, range(from, to));
    const out = await run(fromHost("f32", [to - from, channels, size, size], values), from);
    shape = out.shape;
    parts.push((await out.data()) as Float32Array);
  }
  const values = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    values.set(part, at);
    at += part.length;
  }
  return { ...pictures, channels: shape[1]!, size: shape[2]!, values };
}

/** Latents of pictures, drawn from the autoencoder's distribution and scaled (by 0.18215 in that of Stable Diffusion 1). */
export async function encodeLatents(
  autoencoder: Autoencoder,
  pictures: LabelledPictures,
  { seed = 0, batch = 16 }: { seed?: Seed; batch?: number } = {},
): Promise<LabelledPictures> {
  const { inChannels, sizeFactor, latentChannels } = autoencoder;
  if (pictures.channels !== inChannels || pictures.size % sizeFactor !== 0)
    throw new ShapeError(
      `UMD: expected pictures of ${inChannels} channels and a size divisible by ${sizeFactor}, got [${pictures.channels}, ${pictures.size}, ${pictures.size}]`,
    );
  const side = pictures.size / sizeFactor;
  const source = createNoise("philox", seed);
  const run = jit((x: Tensor, noise: Tensor) =>
    autoencoder instanceof AutoencoderTiny
      ? autoencoder.scaled(autoencoder.encode(x))
      : autoencoder.scaled(sampleGaussian(gaussianOf(autoencoder.moments(x)), noise)),
  );
  try {
    return await through(pictures, batch, (x, first) => {
      const shape = [x.shape[0]!, latentChannels, side, side];
      const noise = source.normal(shape, { sample: first, purpose: "latents", step: 0 });
      return run(x, fromHost("f32", shape, noise));
    });
  } finally {
    await run.close();
  }
}

/** Pictures of latents, cut off at [-1, 1]. */
export async function decodeLatents(
  autoencoder: Autoencoder,
  latents: LabelledPictures,
  { batch = 16 }: { batch?: number } = {},
): Promise<LabelledPictures> {
  const run = jit((z: Tensor) => autoencoder.decode(autoencoder.unscaled(z)).clip(-1, 1));
  try {
    return await through(latents, batch, (z) => run(z));
  } finally {
    await run.close();
  }
}
