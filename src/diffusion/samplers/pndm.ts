/** PNDM, PLMS (Liu et al. 2022) and iPNDM (Zhang and Chen 2022): Adams-Bashforth on the network's predictions. */
import type { Tensor } from "../../tensor/index.ts";
import { epsilonPrediction, type Parameterization, toDenoised, toPrediction } from "../parameterization.ts";
import { runSampler, type SampleOptions, type Sampler, type Step } from "../sample.ts";
import { noiseIn, scaleNoise, weightedSum } from "../weighted-sum.ts";
import { adamsBashforth } from "./adams-bashforth.ts";

export interface HistoryOptions extends SampleOptions {
  /** Noises of earlier steps, newest first; the run goes on from them and puts its own in front. */
  readonly history?: Tensor[];
}

/** Improved pseudo numerical method (Zhang and Chen 2022): Adams-Bashforth of order 4 on the noise. */
export const ipndm: Sampler<HistoryOptions> = (denoise, x, sigmas, options = {}) => {
  const { history = [] } = options;
  return runSampler(denoise, x, sigmas, options, async ({ x, sigma, next, denoise }) => {
    const denoised = await denoise(x, sigma);
    history.unshift(noiseIn(x, denoised, sigma));
    history.splice(4);
    if (history.length === 1) return { denoised, x: scaleNoise(x, denoised, next / sigma) };
    return { denoised, x: weightedSum([1, x], [next - sigma, adamsBashforth(history)]) };
  });
};

export interface PNDMOptions extends SampleOptions {
  /** What is extrapolated: the network's prediction. Default the noise. */
  readonly parameterization?: Parameterization;
  /** Level in the middle of a step of the Runge-Kutta start. Default the geometric mean. */
  readonly middle?: (sigma: number, next: number) => number;
  /** Starts with one improved Euler step (PLMS) in place of three Runge-Kutta steps. Default false. */
  readonly skipRungeKutta?: boolean;
}

/**
 * Pseudo numerical methods on manifolds (Liu et al. 2022, algorithm 2): predictions are combined as in Runge-Kutta and
 * Adams-Bashforth, and carried from level to level by DDIM's formula.
 */
export const pndm: Sampler<PNDMOptions> = (denoise, x, sigmas, options = {}) => {
  const { parameterization = epsilonPrediction, skipRungeKutta = false } = options;
  const { middle = (sigma: number, next: number) => Math.sqrt(sigma * next) } = options;
  const history: Tensor[] = [];

  const predict = async (step: Step, x: Tensor, sigma: number): Promise<Tensor> =>
    toPrediction(parameterization, x, await step.denoise(x, sigma), sigma);
  const carry = ({ x, sigma }: Step, prediction: Tensor, target: number) => {
    const denoised = toDenoised(parameterization, x, prediction, sigma);
    return { denoised, x: scaleNoise(x, denoised, target / sigma) };
  };
  const remember = (prediction: Tensor): void => {
    history.unshift(prediction);
    history.splice(4);
  };

  /** Eq. 13 of the paper. */
  async function rungeKutta(step: Step, first: Tensor) {
    const { sigma, next } = step;
    const half = middle(sigma, next);
    const second = await predict(step, carry(step, first, half).x, half);
    const third = await predict(step, carry(step, second, half).x, half);
    const fourth = await predict(step, carry(step, third, next).x, next);
    const mean = weightedSum([1 / 6, first], [1 / 3, second], [1 / 3, third], [1 / 6, fourth]);
    return carry(step, mean, next);
  }

  async function improvedEuler(step: Step, first: Tensor) {
    const second = await predict(step, carry(step, first, step.next).x, step.next);
    return carry(step, weightedSum([1 / 2, first], [1 / 2, second]), step.next);
  }

  return runSampler(denoise, x, sigmas, options, async (step) => {
    const prediction = await predict(step, step.x, step.sigma);
    remember(prediction);
    if (step.next === 0 || history.length > 3) return carry(step, adamsBashforth(history), step.next);
    if (!skipRungeKutta) return rungeKutta(step, prediction);
    if (history.length === 1) return improvedEuler(step, prediction);
    return carry(step, adamsBashforth(history), step.next);
  });
};

/** PNDM without the Runge-Kutta start, as Stable Diffusion was first sampled. */
export const plms: Sampler<PNDMOptions> = (denoise, x, sigmas, options) =>
  pndm(denoise, x, sigmas, { skipRungeKutta: true, ...options });
