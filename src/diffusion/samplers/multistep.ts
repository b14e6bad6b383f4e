/** Linear multistep methods: the past's noise predictions continue as a polynomial. */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { linear, noiseTerms, scaleNoise, type Term } from "../linear.ts";
import { epsilonPrediction, type Parameterization, toDenoised, toPrediction } from "../parameterization.ts";
import { runSampler, type SampleOptions, type Sampler, type Step } from "../sample.ts";

/** The noise in x: (x - denoised) / sigma. */
const noiseIn = (x: Tensor, denoised: Tensor, sigma: number): Tensor =>
  linear(...noiseTerms(1, x, denoised, sigma));

/** Weights of Adams-Bashforth for equal steps, newest first, by number of values known. */
const ADAMS_BASHFORTH: readonly (readonly number[])[] = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
];

/** Extrapolates to the middle of the next step from at most four values, newest first. */
function adamsBashforth(newestFirst: readonly Tensor[]): Tensor {
  const weights = ADAMS_BASHFORTH[Math.min(4, newestFirst.length) - 1]!;
  return linear(...weights.map((w, i): Term => [w, newestFirst[i]!]));
}

/** Nodes and weights of Gauss-Legendre quadrature on [-1, 1], exact for polynomials up to degree 7. */
const GAUSS = [-1, 1].flatMap((sign) => [
  [sign * Math.sqrt(3 / 7 - (2 / 7) * Math.sqrt(6 / 5)), (18 + Math.sqrt(30)) / 36] as const,
  [sign * Math.sqrt(3 / 7 + (2 / 7) * Math.sqrt(6 / 5)), (18 - Math.sqrt(30)) / 36] as const,
]);

/** Integral from a to b of the polynomial that is 1 at node j and 0 at the other nodes. */
function lagrangeIntegral(nodes: readonly number[], j: number, a: number, b: number): number {
  const basis = (t: number): number =>
    nodes.reduce((product, node, k) => (k === j ? product : (product * (t - node)) / (nodes[j]! - node)), 1);
  const [center, half] = [(a + b) / 2, (b - a) / 2];
  return GAUSS.reduce((sum, [node, weight]) => sum + weight * half * basis(center + half * node), 0);
}

export interface LMSOptions extends SampleOptions {
  /** 1 to 4. Default 4. */
  readonly order?: number;
  /**
   * Levels passed before the first one by an earlier part of the run whose noise is not known: they stay nodes of the
   * polynomial, with noise 0, as in the reference library when it starts midway.
   */
  readonly before?: readonly number[];
}

/** Linear multistep (Adams-Bashforth for unequal steps), in the noise level. */
export const lms: Sampler<LMSOptions> = (denoise, x, sigmas, options = {}) => {
  const { order = 4, before = [] } = options;
  if (!(order >= 1 && order <= 4)) throw new ArgumentError(`lms: expected an order of 1 to 4, got ${order}`);
  const passed = [...before].reverse();
  let noises: Tensor[] = [];
  return runSampler(denoise, x, sigmas, options, async ({ x, sigma, next, denoise }) => {
    const denoised = await denoise(x, sigma);
    passed.unshift(sigma);
    noises = [noiseIn(x, denoised, sigma), ...noises].slice(0, order);
    const nodes = passed.slice(0, order);
    if (nodes.length === 1) return { denoised, x: scaleNoise(x, denoised, next / sigma) };
    const terms = noises.map((noise, j): Term => [lagrangeIntegral(nodes, j, sigma, next), noise]);
    return { denoised, x: linear([1, x], ...terms) };
  });
};

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
    return { denoised, x: linear([1, x], [next - sigma, adamsBashforth(history)]) };
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
    const mean = linear([1 / 6, first], [1 / 3, second], [1 / 3, third], [1 / 6, fourth]);
    return carry(step, mean, next);
  }

  async function improvedEuler(step: Step, first: Tensor) {
    const second = await predict(step, carry(step, first, step.next).x, step.next);
    return carry(step, linear([1 / 2, first], [1 / 2, second]), step.next);
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

export interface DEISOptions extends SampleOptions {
  /** 1 to 3. Default 2. */
  readonly order?: number;
  /** Falls to order 1 at the last step and to at most 2 before it. Default for runs of fewer than 15 steps. */
  readonly lowerOrderFinal?: boolean;
}

/**
 * DEIS in log rho (Zhang and Chen 2023, "Fast Sampling of Diffusion Models with Exponential Integrator"): the noise as
 * a polynomial in log sigma.
 */
export const deis: Sampler<DEISOptions> = (denoise, x, sigmas, options = {}) => {
  const { order = 2, lowerOrderFinal = sigmas.length <= 15 } = options;
  if (!(order >= 1 && order <= 3)) throw new ArgumentError(`deis: expected an order of 1 to 3, got ${order}`);
  let known: { sigma: number; noise: Tensor }[] = [];
  return runSampler(denoise, x, sigmas, options, async ({ x, sigma, next, step, steps, denoise }) => {
    const denoised = await denoise(x, sigma);
    known = [{ sigma, noise: noiseIn(x, denoised, sigma) }, ...known].slice(0, order);
    const left = steps - step;
    const used = known.slice(0, lowerOrderFinal ? left : order);
    if (used.length === 1) return { denoised, x: scaleNoise(x, denoised, next / sigma) };
    const logs = used.map((k) => Math.log(k.sigma));
    const terms = used.map(({ noise }, j): Term => [logLagrangeIntegral(logs, j, sigma, next), noise]);
    return { denoised, x: linear([1, x], ...terms) };
  });
};

/** Integral over t from a to b of the polynomial in log t that is 1 at node j of `logs` and 0 at the others. */
function logLagrangeIntegral(logs: readonly number[], j: number, a: number, b: number): number {
  const others = logs.filter((_, k) => k !== j);
  const scale = others.reduce((product, log) => product * (logs[j]! - log), 1);
  // Antiderivatives of log(t) - p, and of (log(t) - p) (log(t) - q).
  const antiderivative = (t: number): number => {
    if (t === 0) return 0;
    const log = Math.log(t);
    const [p = 0, q = 0] = others;
    if (others.length === 1) return t * (log - 1 - p);
    return t * (log * log - (2 + p + q) * log + 2 + p + q + p * q);
  };
  return (antiderivative(b) - antiderivative(a)) / scale;
}
