/** Inpainting with any model: after each step the known part is replaced by the image with noise of that level. */
import { ArgumentError, ShapeError } from "../errors.ts";
import { type Tensor, tensor } from "../tensor/index.ts";
import { isWithoutSteps, noised } from "./img2img.ts";
import { replaceSample, type Sampling } from "./replace-sample.ts";
import type { Denoise, SampleOptions, Sampler, SampleStep } from "./sample.ts";

/** Options of `inpaint`. */
export interface InpaintOptions extends SampleOptions {
  /** The clean (latent) image, [N, C, H, W]. */
  readonly image: Tensor;
  /** Where to paint: 1 is made anew, 0 is kept, between is mixed; [N or 1, C or 1, H, W]. */
  readonly mask: Tensor;
  /** Standard normals [N, C, H, W] for the known part. */
  readonly imageNoise: Tensor;
  /** Draws the known part's noise anew at each step from `noise`, instead of using `imageNoise` throughout. Default false. */
  readonly freshNoise?: boolean;
  /** Whether x is (1 - sigma) x0 + sigma noise. Default false. */
  readonly flow?: boolean;
}

/** mask * made + (1 - mask) * known; exact where the mask is 1 or 0. */
const blend = (made: Tensor, known: Tensor, mask: Tensor): Tensor =>
  made.mul(mask).add(known.mul(mask.neg().add(1)));

async function checkMask(mask: Tensor, image: Tensor): Promise<void> {
  const fits = mask.rank === image.rank && mask.shape.every((d, i) => d === 1 || d === image.shape[i]);
  if (!fits)
    throw new ShapeError(`inpaint: the mask's shape [${mask.shape}] does not go with [${image.shape}]`);
  const outside = (await mask.toArray()).find((m) => !(m >= 0 && m <= 1));
  if (outside !== undefined)
    throw new ArgumentError(`inpaint: the mask must hold numbers from 0 to 1, got ${outside}`);
}

/**
 * Inpainting: a sampler from x at `sigmas[0]`, whose known part is replaced before the first step and after each by the
 * image with noise of that level (Lugmayr et al. 2022, eq. 8), and by the image itself after the last: there it is
 * kept exactly where the mask is 0. Without steps the image is returned.
 */
export async function* inpaint(
  sampler: Sampler,
  denoise: Denoise,
  x: Tensor,
  sigmas: readonly number[],
  { image, mask, imageNoise, freshNoise = false, flow, ...options }: InpaintOptions,
): Sampling {
  await checkMask(mask, image);
  if (freshNoise && !options.noise)
    throw new ArgumentError("inpaint: fresh noise needs a source as options.noise");
  if (isWithoutSteps(sigmas)) return image;
  const { noise, firstStep = 0 } = options;
  const noiseAt = (step: number): Tensor => {
    if (!freshNoise || !noise) return imageNoise;
    return tensor(noise.normal(image.shape, { purpose: "inpaint", step: firstStep + step }), {
      shape: image.shape,
    });
  };
  const putBack = async ({ x: made, step, steps, sigmaNext }: SampleStep): Promise<Tensor> => {
    const known = step === steps - 1 ? image : await noised(image, noiseAt(step + 1), sigmaNext, flow);
    return blend(made, known, mask).eval();
  };
  const start = blend(x, await noised(image, noiseAt(0), sigmas[0]!, flow), mask);
  return yield* replaceSample(sampler(denoise, await start.eval(), sigmas, options), putBack);
}

/**
 * A denoiser that knows part of the clean sample: its guess is the image where the mask is 0. Samplers that look back
 * at earlier guesses then see the known part, too; it goes with `inpaint` or stands alone.
 */
export const keepKnown =
  (denoise: Denoise, image: Tensor, mask: Tensor): Denoise =>
  async (x, sigma) =>
    blend(await denoise(x, sigma), image, mask);
