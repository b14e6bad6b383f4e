/** PNDM, PLMS (Liu et al. 2022) and iPNDM (Zhang and Chen 2022): Adams-Bashforth on the network's predictions. */
import type { Tensor } from "../../tensor/index.ts";
import { epsilonPrediction, type Parameterization, toDenoised, toPrediction } from "../parameterization.ts";
import { type Question, type Rule, samplerOf, withDefaults } from "../rule.ts";
import type { SampleOptions, StepResult } from "../sample.ts";
import { noiseIn, scaleNoise, weightedSum } from "../weighted-sum.ts";
import { adamsBashforth } from "./adams-bashforth.ts";

/** Options of `ipndm`. */
export interface HistoryOptions extends SampleOptions {
  /** Noises of earlier steps, newest first; the run goes on from them. */
  readonly history?: readonly Tensor[];
}

/** Improved pseudo numerical method (Zhang and Chen 2022): Adams-Bashforth of order 4 on the noise. */
export const ipndm = samplerOf<HistoryOptions, readonly Tensor[]>(function* (
  { x, sigma, next },
  options,
  before = options.history ?? [],
) {
  const denoised = yield { x, sigma };
  const state = [noiseIn(x, denoised, sigma), ...before].slice(0, 4);
  if (state.length === 1) return { denoised, x: scaleNoise(x, denoised, next / sigma), state };
  return { denoised, x: weightedSum([1, x], [next - sigma, adamsBashforth(state)]), state };
});

/** Options of `pndm` and `plms`. */
export interface PNDMOptions extends SampleOptions {
  /** What is extrapolated: the network's prediction. Default the noise. */
  readonly parameterization?: Parameterization;
  /** Level in the middle of a step of the Runge-Kutta start. Default the geometric mean. */
  readonly middle?: (sigma: number, next: number) => number;
  /** Starts with one improved Euler step (PLMS) in place of three Runge-Kutta steps. Default false. */
  readonly skipRungeKutta?: boolean;
}

/** Questions that a part of a step asks, and the sample that it gets to. */
type Part = Generator<Question, StepResult, Tensor>;

/**
 * Pseudo numerical methods on manifolds (Liu et al. 2022, algorithm 2): predictions are combined as in Runge-Kutta and
 * Adams-Bashforth, and carried from level to level by DDIM's formula.
 */
const pndmRule: Rule<PNDMOptions, readonly Tensor[]> = function* ({ x, sigma, next }, options, before = []) {
  const { parameterization = epsilonPrediction, skipRungeKutta = false } = options;
  const { middle = (sigma: number, next: number) => Math.sqrt(sigma * next) } = options;

  function* predict(x: Tensor, sigma: number): Generator<Question, Tensor, Tensor> {
    return toPrediction(parameterization, x, yield { x, sigma }, sigma);
  }
  const carry = (prediction: Tensor, target: number): StepResult => {
    const denoised = toDenoised(parameterization, x, prediction, sigma);
    return { denoised, x: scaleNoise(x, denoised, target / sigma) };
  };

  /** Eq. 13 of the paper. */
  function* rungeKutta(first: Tensor): Part {
    const half = middle(sigma, next);
    const second = yield* predict(carry(first, half).x, half);
    const third = yield* predict(carry(second, half).x, half);
    const fourth = yield* predict(carry(third, next).x, next);
    return carry(weightedSum([1 / 6, first], [1 / 3, second], [1 / 3, third], [1 / 6, fourth]), next);
  }

  function* improvedEuler(first: Tensor): Part {
    const second = yield* predict(carry(first, next).x, next);
    return carry(weightedSum([1 / 2, first], [1 / 2, second]), next);
  }

  const prediction = yield* predict(x, sigma);
  const state = [prediction, ...before].slice(0, 4);
  const adams = (): StepResult => carry(adamsBashforth(state), next);
  if (next === 0 || state.length > 3) return { ...adams(), state };
  if (!skipRungeKutta) return { ...(yield* rungeKutta(prediction)), state };
  return { ...(state.length === 1 ? yield* improvedEuler(prediction) : adams()), state };
};

/** PNDM with its Runge-Kutta start: three steps of four evaluations, then one each. */
export const pndm = samplerOf(pndmRule);

/** PNDM without the Runge-Kutta start, as Stable Diffusion was first sampled. */
export const plms = samplerOf(withDefaults(pndmRule, { skipRungeKutta: true }));
