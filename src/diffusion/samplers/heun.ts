/** Heun's method (Karras et al. 2022, "Elucidating the Design Space"). It holds for flow models too; see `euler`. */
import type { Tensor } from "../../tensor/index.ts";
import { samplerOf } from "../rule.ts";
import { noiseTerms, weightedSum } from "../weighted-sum.ts";
import { type ChurnOptions, churned, eulerStep, type Stage } from "./euler.ts";

/** What Heun's method knows at the end of a step: Euler's sample at `next`, and the guess from it. */
export interface HeunStage extends Stage {
  readonly predicted: Tensor;
  readonly again: Tensor;
}

/** The sample at `next`, above 0, by the mean of the slopes at both ends of the step. */
export function heunStep({ x, denoised, predicted, again, sigma, next }: HeunStage): Tensor {
  const half = (next - sigma) / 2;
  return weightedSum(
    [1, x],
    ...noiseTerms(half, x, denoised, sigma),
    ...noiseTerms(half, predicted, again, next),
  );
}

/** Heun's method: algorithm 1 of Karras et al. 2022, with churn algorithm 2. Second order, two evaluations a step. */
export const heun = samplerOf<ChurnOptions, undefined>(function* (step, options) {
  const { next } = step;
  const { x, sigma } = churned(step, options);
  const denoised = yield { x, sigma };
  const predicted = eulerStep({ x, denoised, sigma, next });
  if (next === 0) return { denoised, x: predicted };
  const again = yield { x: predicted, sigma: next };
  return { denoised, x: heunStep({ x, denoised, predicted, again, sigma, next }) };
});
