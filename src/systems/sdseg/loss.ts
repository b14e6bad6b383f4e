/** What training minimises. */
import { addNoise, type NoiseLevel, perSample } from "../../diffusion/index.ts";
import { type AutoencoderKL, klDivergence, sampleGaussian } from "../../networks/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import type { SegmentationNetwork } from "./model.ts";

/** One batch for the denoiser; all randomness is in it. */
export interface DenoisingBatch {
  /** Pictures in [-1, 1]. // [N, C, H, W] */
  readonly image: Tensor;
  /** Scaled latents of masks. // [N, Z, h, w] */
  readonly latent: Tensor;
  /** Standard normals. // [N, Z, h, w] */
  readonly noise: Tensor;
  /** Timesteps as floats, and their sqrt(alphaBar), sqrt(1 - alphaBar). // [N] */
  readonly t: Tensor;
  readonly level: NoiseLevel;
  /** Classes of multi-class models, i64. // [N] */
  readonly labels?: Tensor;
  /** Key of the dropout. */
  readonly key?: Tensor;
}

/** Both terms of the paper's loss: L1 of the noise, L1 of the clean latent that follows from it. */
export function denoisingTerms(network: SegmentationNetwork, batch: DenoisingBatch) {
  const { image, latent, noise, t, level, labels, key } = batch;
  const z = addNoise(latent, noise, level);
  const output = network.predict(z, t, network.vision.call(image, key), labels, key);
  const read = network.read(output, z, perSample(level.alpha, z), perSample(level.sigma, z));
  return { noise: read.noise.sub(noise).abs().mean(), latent: read.clean.sub(latent).abs().mean() };
}

/**
 * mean |noise error| + lambda mean |latent error|. The second is k_t = sqrt(1 / alphaBar - 1) times the first for each
 * sample: training effort moves to large t, which is what makes one step enough. The image-only control has no noise
 * to predict: its loss is the second term.
 */
export const denoisingLoss =
  (lambda: number) =>
  (network: SegmentationNetwork, batch: DenoisingBatch): Tensor => {
    const terms = denoisingTerms(network, batch);
    return network.head === "image-only" ? terms.latent : terms.noise.add(terms.latent.mul(lambda));
  };

/** Masks in {-1, 1} and standard normals of the latents' shape. */
export interface AutoencodingBatch {
  readonly mask: Tensor; // [N, C, H, W]
  readonly noise: Tensor; // [N, Z, h, w]
}

const KL_WEIGHT = 1e-6;

/** L1 of the decoded masks plus a little of the divergence, per latent value. */
export function autoencodingLoss(model: AutoencoderKL, { mask, noise }: AutoencodingBatch): Tensor {
  const posterior = model.encode(mask);
  const error = model.decode(sampleGaussian(posterior, noise)).sub(mask).abs().mean();
  const perValue = klDivergence(posterior)
    .mean()
    .mul(1 / (noise.size / noise.shape[0]!));
  return error.add(perValue.mul(KL_WEIGHT));
}

/** Masks in {-1, 1} and samples of their latents. */
export interface DecodingBatch {
  readonly mask: Tensor; // [N, C, H, W]
  readonly latent: Tensor; // [N, Z, h, w]
}

/** L1 of the decoded masks; the encoder has no part in it. */
export const decodingLoss = (model: AutoencoderKL, { mask, latent }: DecodingBatch): Tensor =>
  model.decode(latent).sub(mask).abs().mean();
