/** Image to image: adds noise up to a level given by the strength, then denoises. */
import { ArgumentError, ShapeError } from "../errors.ts";
import { evaluate, type Tensor } from "../tensor/index.ts";
import type { Sampling } from "./replace-sample.ts";
import type { Denoise, SampleOptions, Sampler } from "./sample.ts";
import { weightedSum } from "./weighted-sum.ts";

/**
 * How many of n steps a strength s in [0, 1] leaves.
 * - `diffusers`: the last floor(n s). None at 0, all at 1.
 * - `a1111`: stable-diffusion-webui's default, the last floor(n min(s, 0.999)) + 1. One at 0, all at 1.
 * - `a1111-exact`: its option "do exactly the amount of steps the slider specifies": the last n of a finer schedule of
 *   floor(n / min(s, 0.999)) steps. None at 0.
 */
export type StrengthRule = "diffusers" | "a1111" | "a1111-exact";

/**
 * The end of a schedule that a strength leaves, and the number of steps that were skipped. `schedule(steps)` gives the
 * noise levels of that many steps, the last one included, so one level more than steps.
 */
export function strengthSigmas(
  schedule: (steps: number) => readonly number[],
  steps: number,
  strength: number,
  rule: StrengthRule = "diffusers",
): { sigmas: number[]; firstStep: number } {
  if (!(strength >= 0 && strength <= 1))
    throw new ArgumentError(`strength must be in [0, 1], got ${strength}`);
  if (!Number.isInteger(steps) || steps < 1)
    throw new ArgumentError(`steps must be a positive integer, got ${steps}`);
  const most = Math.min(strength, 0.999);
  const finer = rule === "a1111-exact" && strength > 0 ? Math.floor(steps / most) : steps;
  const sigmas = schedule(finer);
  const all = sigmas.length - 1;
  const taken = {
    diffusers: () => Math.floor(all * strength),
    a1111: () => Math.floor(all * most) + 1,
    "a1111-exact": () => (strength > 0 ? Math.min(steps, all) : 0),
  }[rule];
  if (!taken)
    throw new ArgumentError(
      `the strength's rule must be diffusers, a1111 or a1111-exact, got ${String(rule)}`,
    );
  const firstStep = all - taken();
  return { sigmas: sigmas.slice(firstStep), firstStep };
}

/** The clean sample at a noise level: x0 + sigma noise, or (1 - sigma) x0 + sigma noise for flow models. */
export async function noised(x0: Tensor, noise: Tensor, sigma: number, flow = false): Promise<Tensor> {
  if (flow && !(sigma >= 0 && sigma <= 1))
    throw new ArgumentError(`noised: a flow's sigma must be in [0, 1], got ${sigma}`);
  await evaluate([x0, noise]);
  return weightedSum([flow ? 1 - sigma : 1, x0], [sigma, noise]);
}

/** True when there are no steps, so the image stays as it is. */
export const isWithoutSteps = (sigmas: readonly number[]): boolean => sigmas.length < 2;

/** Options of `img2img`. */
export interface Img2ImgOptions extends SampleOptions {
  /** The clean (latent) image to start from, [N, …]. */
  readonly image: Tensor;
  /** Standard normals of its shape. */
  readonly imageNoise: Tensor;
  /** Whether x is (1 - sigma) x0 + sigma noise. Default false. */
  readonly flow?: boolean;
}

/** Image to image: a sampler that starts from the noised image. `sigmas` is the part that `strengthSigmas` left. */
export async function* img2img(
  sampler: Sampler,
  denoise: Denoise,
  sigmas: readonly number[],
  { image, imageNoise, flow, ...options }: Img2ImgOptions,
): Sampling {
  if (image.shape.join() !== imageNoise.shape.join())
    throw new ShapeError(`img2img: the image is [${image.shape}], its noise [${imageNoise.shape}]`);
  if (isWithoutSteps(sigmas)) return image;
  return yield* sampler(denoise, await noised(image, imageNoise, sigmas[0]!, flow), sigmas, options);
}
