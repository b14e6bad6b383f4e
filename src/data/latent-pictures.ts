/** Latents of sets of pictures, and back, through an autoencoder. */
import { ArgumentError, ShapeError } from "../errors.ts";
import { AutoencoderKL, AutoencoderTiny, gaussianOf, sampleGaussian } from "../networks/index.ts";
import { loadModel } from "../pipelines/index.ts";
import { createNoise, fromHost, type Seed, type Tensor } from "../tensor/index.ts";
import { type Joined, overPictures } from "./over-pictures.ts";
import type { LabelledPictures } from "./picture-set.ts";

export type Autoencoder = AutoencoderKL | AutoencoderTiny;

/** An autoencoder by folder or file. @throws ArgumentError for another network */
export async function openAutoencoder(path: string): Promise<Autoencoder> {
  const { model } = await loadModel(path);
  if (model instanceof AutoencoderKL || model instanceof AutoencoderTiny) return model;
  throw new ArgumentError(`${path}: expected an autoencoder`);
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
      `encodeLatents: expected pictures of ${inChannels} channels and a size divisible by ${sizeFactor}, got [${channels}, ${size}, ${size}]`,
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
