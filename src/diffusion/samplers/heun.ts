/** Heun's method (Karras et al. 2022, "Elucidating the Design Space"). It holds for flow models too; see `euler`. */
import { runSampler, type Sampler } from "../sample.ts";
import { noiseTerms, scaleNoise, weightedSum } from "../weighted-sum.ts";
import { type ChurnOptions, churned } from "./euler.ts";

/** Heun's method: algorithm 1 of Karras et al. 2022, with churn algorithm 2. Second order, two evaluations a step. */
export const heun: Sampler<ChurnOptions> = (denoise, start, sigmas, options = {}) =>
  runSampler(denoise, start, sigmas, options, async (step) => {
    const { x, sigma } = churned(step, options);
    const { next } = step;
    const denoised = await step.denoise(x, sigma);
    const predicted = scaleNoise(x, denoised, next / sigma);
    if (next === 0) return { denoised, x: predicted };
    const again = await step.denoise(predicted, next);
    const half = (next - sigma) / 2;
    return {
      denoised,
      x: weightedSum(
        [1, x],
        ...noiseTerms(half, x, denoised, sigma),
        ...noiseTerms(half, predicted, again, next),
      ),
    };
  });
