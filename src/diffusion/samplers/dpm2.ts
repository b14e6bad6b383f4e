/** DPM-Solver-2 (Lu et al. 2022) as Karras et al. place its midpoint. */
import { runSampler, type Sampler, type Step, type StepResult } from "../sample.ts";
import { noiseTerms, scaleNoise, weightedSum } from "../weighted-sum.ts";
import { type AncestralOptions, ancestralSplit } from "./ddim.ts";

/** Midpoint in log sigma: DPM-Solver-2 (Lu et al. 2022, algorithm 1) as Karras et al. place it. */
async function midpoint({ x, sigma, denoise }: Step, target: number): Promise<StepResult> {
  const denoised = await denoise(x, sigma);
  if (target === 0) return { denoised, x: denoised };
  const middle = Math.sqrt(sigma * target);
  const halfway = scaleNoise(x, denoised, middle / sigma);
  const again = await denoise(halfway, middle);
  return { denoised, x: weightedSum([1, x], ...noiseTerms(target - sigma, halfway, again, middle)) };
}

/** DPM-Solver-2. Second order, two evaluations a step. */
export const dpm2: Sampler = (denoise, x, sigmas, options) =>
  runSampler(denoise, x, sigmas, options, (step) => midpoint(step, step.next));

/** DPM-Solver-2 to a lower level, and noise up to the next. */
export const dpm2Ancestral: Sampler<AncestralOptions> = (denoise, x, sigmas, options = {}) =>
  runSampler(denoise, x, sigmas, options, async (step) => {
    const { eta = 1, noiseScale = 1 } = options;
    const { down, up } = ancestralSplit(step.sigma, step.next, eta);
    const result = await midpoint(step, down);
    if (up === 0) return result;
    return { ...result, x: weightedSum([1, result.x], [noiseScale * up, step.normal()]) };
  });
