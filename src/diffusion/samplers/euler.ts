/**
 * Euler's method for the probability-flow ODE dx/dsigma = (x - denoised) / sigma. The same formula holds for flow models,
 * whose velocity (x - denoised) / sigma is too.
 */
import type { Tensor } from "../../tensor/index.ts";
import { samplerOf, withDefaults } from "../rule.ts";
import type { SampleOptions, StepStart } from "../sample.ts";
import { scaleNoise, weightedSum } from "../weighted-sum.ts";
import { ddim } from "./ddim.ts";

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
export function churned(
  { x, sigma, steps, normal }: StepStart,
  options: ChurnOptions,
): { x: Tensor; sigma: number } {
  const { churn = 0, churnRange = [0, Number.POSITIVE_INFINITY], noiseScale = 1 } = options;
  const inside = sigma >= churnRange[0] && sigma <= churnRange[1];
  const gamma = inside ? Math.min(churn / steps, Math.SQRT2 - 1) : 0;
  if (gamma === 0) return { x, sigma };
  const raised = sigma * (1 + gamma);
  const noise = noiseScale * Math.sqrt(raised ** 2 - sigma ** 2);
  return { x: weightedSum([1, x], [noise, normal()]), sigma: raised };
}

/** A step of a method: the sample and the guess of the clean one at `sigma`, both [N, ...], and the level to reach. */
export interface Stage {
  readonly x: Tensor;
  readonly denoised: Tensor;
  /** Above 0. */
  readonly sigma: number;
  /** 0 or more. */
  readonly next: number;
}

/** The sample at `next` by Euler's method: denoised + (next / sigma) (x - denoised). */
export const eulerStep = ({ x, denoised, sigma, next }: Stage): Tensor =>
  scaleNoise(x, denoised, next / sigma);

/** Euler's method; with churn, algorithm 2 of Karras et al. 2022 without its correction. First order. */
export const euler = samplerOf<ChurnOptions, undefined>(function* (step, options) {
  const { x, sigma } = churned(step, options);
  const denoised = yield { x, sigma };
  return { denoised, x: eulerStep({ x, denoised, sigma, next: step.next }) };
});

/** Euler's method to a lower level, and noise up to the next: DDIM with eta 1. */
export const eulerAncestral = samplerOf(withDefaults(ddim.rule, { eta: 1 }));
