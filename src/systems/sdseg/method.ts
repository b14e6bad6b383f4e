/**
 * SDSeg (Lin et al. 2024): a diffusion model of a mask's latent that sees the picture, trained so that one call gives the
 * mask. The notation is the paper's: z_t is the noisy latent at timestep t, n its noise, n' and z_0' what the network
 * makes of them.
 */
import { addNoise, type NoiseLevel, perSample } from "../../diffusion/index.ts";
import { fromHost, type Tensor } from "../../tensor/index.ts";

/** Training timesteps, T. */
export const TRAINED = 1000;
const [FIRST_BETA, LAST_BETA] = [0.0015, 0.0155];

/**
 * The share of signal alphaBar_t, in double precision: 1 / sqrt of the last is 38.7, which leaves f32 few digits. The
 * roots of beta_t are equally spaced, as in latent diffusion on LSUN.
 */
export const ALPHA_BARS: Float64Array = (() => {
  const [first, last] = [Math.sqrt(FIRST_BETA), Math.sqrt(LAST_BETA)];
  let product = 1;
  return Float64Array.from({ length: TRAINED }, (_, i) => {
    const beta = (first + (i / (TRAINED - 1)) * (last - first)) ** 2;
    return (product *= 1 - beta);
  });
})();

/** k_t = sqrt(1 / alphaBar_t - 1), by which the error of the clean latent exceeds that of the noise. */
export const noiseOverSignal = (t: number): number => Math.sqrt(1 / ALPHA_BARS[t]! - 1);

/**
 * What the network's output means. `raw`: the noise, as published. `vskip`: v, of which the noise is
 * sqrt(1 - alphaBar) z + sqrt(alphaBar) v: the same loss, but one step does not amplify the network's error by 38.7.
 * `image-only`: the clean latent, of the picture alone; the control that asks whether diffusion matters.
 */
export const HEADS = ["raw", "vskip", "image-only"] as const;
/** What the denoiser predicts. */
export type Head = (typeof HEADS)[number];

/** The network that the method needs: tau, the trained encoder of the picture, and f, the denoiser. */
export interface Denoiser {
  readonly head: Head;
  readonly vision: { call(image: Tensor, key?: Tensor): Tensor };
  /** Noisy latents at times [N], beside tau(image) and, for several classes, the class [N]. // [N, Z, h, w] */
  predict(z: Tensor, t: Tensor, condition: Tensor, labels?: Tensor, key?: Tensor): Tensor;
}

/**
 * n' and z_0' = (z_t - sqrt(1 - alphaBar) n') / sqrt(alphaBar) that an output means. With `vskip` z_0' comes without the
 * division, so nothing is amplified.
 */
export function readOutput(head: Head, output: Tensor, z: Tensor, level: NoiseLevel) {
  const [alpha, sigma] = [perSample(level.alpha, z), perSample(level.sigma, z)];
  if (head === "raw") return { noise: output, clean: z.sub(sigma.mul(output)).div(alpha) };
  if (head === "image-only") return { noise: z.sub(alpha.mul(output)).div(sigma), clean: output };
  return { noise: sigma.mul(z).add(alpha.mul(output)), clean: alpha.mul(z).sub(sigma.mul(output)) };
}

/** One batch for the denoiser; all randomness is in it. */
export interface DenoisingBatch {
  readonly image: Tensor; // [N, C, H, W], in [-1, 1]
  /** z_0: scaled latents of masks. */
  readonly latent: Tensor; // [N, Z, h, w]
  readonly noise: Tensor; // [N, Z, h, w]
  readonly timestep: Tensor; // [N]
  readonly level: NoiseLevel; // [N]
  /** Classes of models of several classes, i64. */
  readonly labels?: Tensor; // [N]
  /** Key of the dropout. */
  readonly key?: Tensor;
}

/** Both terms of the loss: mean |n - n'| and mean |z_0 - z_0'|, where z_t = sqrt(alphaBar) z_0 + sqrt(1 - alphaBar) n. */
export function denoisingTerms(network: Denoiser, batch: DenoisingBatch) {
  const { image, latent, noise, timestep, level, labels, key } = batch;
  const z = addNoise(latent, noise, level);
  const output = network.predict(z, timestep, network.vision.call(image, key), labels, key);
  const found = readOutput(network.head, output, z, level);
  return { noise: found.noise.sub(noise).abs().mean(), latent: found.clean.sub(latent).abs().mean() };
}

/**
 * L = |n - n'| + lambda |z_0 - z_0'|, both L1. For each sample the second term is k_t times the first: training effort
 * moves to large t, which is what makes one step enough. The image-only control has no noise to predict: its loss is the
 * second term.
 */
export const denoisingLoss =
  (lambda: number) =>
  (network: Denoiser, batch: DenoisingBatch): Tensor => {
    const terms = denoisingTerms(network, batch);
    return network.head === "image-only" ? terms.latent : terms.noise.add(terms.latent.mul(lambda));
  };

/**
 * Inference: z_0' of one call at t = T - 1 from pure noise [N, Z, h, w]. All in f32: with the raw head the error of the
 * noise is amplified by 38.7.
 */
export function oneStep(network: Denoiser, image: Tensor, noise: Tensor, labels?: Tensor): Tensor {
  const [n] = noise.shape as [number];
  const last = ALPHA_BARS[TRAINED - 1]!;
  const all = (value: number): Tensor => fromHost("f32", [n], new Float32Array(n).fill(value)); // [N]
  const level = { alpha: all(Math.sqrt(last)), sigma: all(Math.sqrt(1 - last)) };
  const output = network.predict(noise, all(TRAINED - 1), network.vision.call(image), labels);
  return readOutput(network.head, output, noise, level).clean;
}
