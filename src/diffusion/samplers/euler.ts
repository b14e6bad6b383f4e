/**
 * Solvers of the probability-flow ODE dx/dsigma = (x - denoised) / sigma in the noise level itself. The same formulas
 * hold for flow models, whose velocity (x - denoised) / sigma is too.
 */

import type { Tensor } from "../../tensor/index.ts";
import { linear, noiseTerms, scaleNoise } from "../linear.ts";
import { runSampler, type SampleOptions, type Sampler, type Step, type StepResult } from "../sample.ts";
import { type AncestralOptions, ancestralSplit } from "./ancestral.ts";

/** Noise added before each step, as in algorithm 2 of Karras et al. 2022. Off by default. */
export interface ChurnOptions extends SampleOptions {
  /** S_churn: total churn, spread over the steps. */
  readonly churn?: number;
  /** S_min and S_max: levels outside are left alone. */
  readonly churnRange?: readonly [min: number, max: number];
  /** S_noise: deviation of the added noise. */
  readonly noiseScale?: number;
}

/** The sample at the raised level of algorithm 2, lines 4 to 6. */
function churned({ x, sigma, steps, normal }: Step, options: ChurnOptions): { x: Tensor; sigma: number } {
  const { churn = 0, churnRange = [0, Number.POSITIVE_INFINITY], noiseScale = 1 } = options;
  const inside = sigma >= churnRange[0] && sigma <= churnRange[1];
  const gamma = inside ? Math.min(churn / steps, Math.SQRT2 - 1) : 0;
  if (gamma === 0) return { x, sigma };
  const raised = sigma * (1 + gamma);
  const noise = noiseScale * Math.sqrt(raised ** 2 - sigma ** 2);
  return { x: linear([1, x], [noise, normal()]), sigma: raised };
}

/** Euler's method; with churn, algorithm 2 of Karras et al. 2022 without its correction. First order. */
export const euler: Sampler<ChurnOptions> = (denoise, start, sigmas, options = {}) =>
  runSampler(denoise, start, sigmas, options, async (step) => {
    const { x, sigma } = churned(step, options);
    const denoised = await step.denoise(x, sigma);
    return { denoised, x: scaleNoise(x, denoised, step.next / sigma) };
  });

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
      x: linear([1, x], ...noiseTerms(half, x, denoised, sigma), ...noiseTerms(half, predicted, again, next)),
    };
  });

/** Midpoint in log sigma: DPM-Solver-2 (Lu et al. 2022, algorithm 1) as Karras et al. place it. */
async function midpoint({ x, sigma, denoise }: Step, target: number): Promise<StepResult> {
  const denoised = await denoise(x, sigma);
  if (target === 0) return { denoised, x: denoised };
  const middle = Math.sqrt(sigma * target);
  const halfway = scaleNoise(x, denoised, middle / sigma);
  const again = await denoise(halfway, middle);
  return { denoised, x: linear([1, x], ...noiseTerms(target - sigma, halfway, again, middle)) };
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
    return { ...result, x: linear([1, result.x], [noiseScale * up, step.normal()]) };
  });
