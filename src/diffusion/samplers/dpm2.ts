/** DPM-Solver-2 (Lu et al. 2022) as Karras et al. place its midpoint. */
import type { Tensor } from "../../tensor/index.ts";
import { type Question, samplerOf } from "../rule.ts";
import type { SampleOptions, StepResult, StepStart } from "../sample.ts";
import { noiseTerms, weightedSum } from "../weighted-sum.ts";
import { type AncestralOptions, ancestralSplit } from "./ddim.ts";
import { eulerStep } from "./euler.ts";

/** What the midpoint rule makes a step of: the sample at `sigma`, and that at `middle` with the guess from it. */
export interface MidpointStage {
  readonly x: Tensor;
  readonly halfway: Tensor;
  readonly again: Tensor;
  readonly sigma: number;
  readonly middle: number;
  readonly next: number;
}

/** The sample at `next` by the slope at `middle`, which lies between the levels. */
export const dpm2Step = ({ x, halfway, again, sigma, middle, next }: MidpointStage): Tensor =>
  weightedSum([1, x], ...noiseTerms(next - sigma, halfway, again, middle));

/** Midpoint in log sigma: DPM-Solver-2 (Lu et al. 2022, algorithm 1) as Karras et al. place it. */
function* midpoint({ x, sigma }: StepStart, next: number): Generator<Question, StepResult, Tensor> {
  const denoised = yield { x, sigma };
  if (next === 0) return { denoised, x: denoised };
  const middle = Math.sqrt(sigma * next);
  const halfway = eulerStep({ x, denoised, sigma, next: middle });
  const again = yield { x: halfway, sigma: middle };
  return { denoised, x: dpm2Step({ x, halfway, again, sigma, middle, next }) };
}

/** DPM-Solver-2. Second order, two evaluations a step. */
export const dpm2 = samplerOf<SampleOptions, undefined>((step) => midpoint(step, step.next));

/** DPM-Solver-2 to a lower level, and noise up to the next. */
export const dpm2Ancestral = samplerOf<AncestralOptions, undefined>(function* (step, options) {
  const { eta = 1, noiseScale = 1 } = options;
  const { down, up } = ancestralSplit(step.sigma, step.next, eta);
  const result = yield* midpoint(step, down);
  if (up === 0) return result;
  return { ...result, x: weightedSum([1, result.x], [noiseScale * up, step.normal()]) };
});
