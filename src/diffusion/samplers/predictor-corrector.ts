/** Sampling by score (Song et al. 2021, "Score-Based Generative Modeling through SDEs"). */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { runSampler, type SampleOptions, type Sampler } from "../sample.ts";
import { floatsOf, fromFloats, noiseTerms, scaleNoise, weightedSum } from "../weighted-sum.ts";

/** Options of `predictorCorrector`. */
export interface PredictorCorrectorOptions extends SampleOptions {
  /** Signal-to-noise ratio r of the corrector. Default 0.15. */
  readonly snr?: number;
  /** Langevin steps at each level. Default 1. */
  readonly correctorSteps?: number;
  /** Whether the corrector's step follows each sample's norms (default), or the batch's mean norms as in the paper. */
  readonly norms?: "sample" | "batch";
}

/** Euclidean norm of each sample. */
function rowNorms(x: Tensor): number[] {
  const values = floatsOf(x);
  const rows = x.shape[0]!;
  const size = values.length / rows;
  return Array.from({ length: rows }, (_, b) => {
    let sum = 0;
    for (let i = b * size; i < (b + 1) * size; i++) sum += values[i]! ** 2;
    return Math.sqrt(sum);
  });
}

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Algorithm 4: Langevin dynamics whose step has a given signal-to-noise ratio. */
function langevin(x: Tensor, score: Tensor, noise: Tensor, snr: number, norms: "sample" | "batch"): Tensor {
  const ratio = (n: number, g: number): number => 2 * ((snr * n) / g) ** 2;
  const [ofNoise, ofScore] = [rowNorms(noise), rowNorms(score)];
  const shared = ratio(meanOf(ofNoise), meanOf(ofScore));
  const sizes = ofNoise.map((n, b) => (norms === "batch" ? shared : ratio(n, ofScore[b]!)));
  const [xs, scores, draws] = [floatsOf(x), floatsOf(score), floatsOf(noise)];
  const row = xs.length / sizes.length;
  const moved = xs.map((v, i) => {
    const size = sizes[Math.floor(i / row)]!;
    return v + size * scores[i]! + Math.sqrt(2 * size) * draws[i]!;
  });
  return fromFloats(moved, x.shape, x.dtype);
}

/**
 * Predictor-corrector sampling of the variance-exploding SDE (algorithm 2): Langevin steps at each level, then the
 * reverse diffusion step to the next. The last step adds no noise.
 */
export const predictorCorrector: Sampler<PredictorCorrectorOptions> = (denoise, x, sigmas, options = {}) =>
  runSampler(denoise, x, sigmas, options, async ({ x: start, sigma, next, denoise, normal }) => {
    const { snr = 0.15, correctorSteps = 1, norms = "sample" } = options;
    if (correctorSteps > 2)
      throw new ArgumentError(`expected at most 2 corrector steps, got ${correctorSteps}`);
    let x = start;
    for (let i = 0; i < correctorSteps; i++) {
      const score = weightedSum(...noiseTerms(-1 / sigma, x, await denoise(x, sigma), sigma));
      x = langevin(x, score, normal(i + 1), snr, norms);
    }
    const denoised = await denoise(x, sigma);
    const variance = sigma ** 2 - next ** 2;
    const mean = scaleNoise(x, denoised, 1 - variance / sigma ** 2);
    return { denoised, x: next === 0 ? mean : weightedSum([1, mean], [Math.sqrt(variance), normal()]) };
  });
