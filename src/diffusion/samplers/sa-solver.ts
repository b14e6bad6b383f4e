/** SA-Solver (Xue et al. 2023): stochastic Adams predictor and corrector, in lambda = -log sigma. */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { samplerOf } from "../rule.ts";
import type { SampleOptions } from "../sample.ts";
import { noiseIn, type Term, weightedSum } from "../weighted-sum.ts";

/** Options of `saSolver`. */
export interface SASolverOptions extends SampleOptions {
  /** 1 to 4. Default 2. */
  readonly predictorOrder?: number;
  /** 1 to 4. Default 2. */
  readonly correctorOrder?: number;
  /** How stochastic the process is at a level: 0 the ODE, 1 the usual SDE. Default 1 everywhere. */
  readonly tau?: (sigma: number) => number;
  /** Over the clean sample (default), or over the noise. */
  readonly predict?: "denoised" | "noise";
  /** Uses lower orders at the last steps. Default true. */
  readonly lowerOrderFinal?: boolean;
}

interface Known {
  readonly sigma: number;
  readonly value: Tensor;
}

/** Integrals of exp(-rate u) u^k over [0, h] for k = 0 ... count - 1. */
function moments(rate: number, h: number, count: number): number[] {
  const end = Math.exp(-rate * h);
  const out = [-Math.expm1(-rate * h) / rate];
  for (let k = 1; k < count; k++) out.push((k * out[k - 1]! - h ** k * end) / rate);
  return out;
}

/** Coefficients, constant first, of the polynomial that is 1 at node j and 0 at the others. */
function lagrangePolynomial(nodes: readonly number[], j: number): number[] {
  let coefficients = [1];
  for (const [k, node] of nodes.entries()) {
    if (k === j) continue;
    const scale = 1 / (nodes[j]! - node);
    coefficients = [...coefficients, 0].map((c, i) => scale * ((coefficients[i - 1] ?? 0) - node * c));
  }
  return coefficients;
}

/** One update from x at `sigma` to `next` with values at some levels (eq. 14 and 17 of the paper). */
function update(
  x: Tensor,
  values: readonly Known[],
  sigma: number,
  next: number,
  tau: number,
  noise: Tensor,
  predict: "denoised" | "noise",
  secondOrder: (rate: number, h: number) => number,
): Tensor {
  const h = Math.log(sigma / next);
  const clean = predict === "denoised";
  const rate = clean ? 1 + tau ** 2 : -1;
  const factor = clean ? rate : -(1 + tau ** 2) * next;
  // In u = lambda(next) - lambda, which runs from 0 at the end of the step to h at its start.
  const nodes = values.map((k) => Math.log(k.sigma / next));
  const integrals = moments(rate, h, nodes.length);
  const weights = nodes.map((_, j) =>
    lagrangePolynomial(nodes, j).reduce((sum, c, k) => sum + c * integrals[k]!, 0),
  );
  if (clean && values.length === 2) {
    const extra = secondOrder(rate, h);
    weights[0]! += extra;
    weights[1]! -= extra;
  }
  const kept = clean ? Math.exp(-(tau ** 2) * h) * (next / sigma) : 1;
  const deviation = clean
    ? next * Math.sqrt(-Math.expm1(-2 * tau ** 2 * h))
    : tau * Math.sqrt(Math.max(0, sigma ** 2 - next ** 2));
  const terms = values.map(({ value }, j): Term => [factor * weights[j]!, value]);
  return weightedSum([kept, x], ...terms, [deviation, noise]);
}

/**
 * Correction of the exponential rule for a straight line, so that order 2 equals the midpoint form of DPM-Solver++.
 */
const lineDefect = (rate: number, h: number): number =>
  h ** 2 / 2 - (h * rate - 1 + Math.exp(-rate * h)) / rate ** 2;

interface SAState {
  /** Values at the levels passed, newest first. */
  readonly known: readonly Known[];
  /** The last step: where it began, what it drew, and the order of its correction. */
  readonly last: {
    readonly x: Tensor;
    readonly noise: Tensor;
    readonly sigma: number;
    readonly order: number;
  };
}

/** SA-Solver. One evaluation and one draw of noise a step. */
export const saSolver = samplerOf<SASolverOptions, SAState>(
  function* ({ x: predicted, sigma, next, step, steps, normal }, options, state) {
    const { predictorOrder = 2, correctorOrder = 2, tau = () => 1, predict = "denoised" } = options;
    const { lowerOrderFinal = true } = options;
    const memory = Math.max(predictorOrder, correctorOrder - 1);
    const denoised = yield { x: predicted, sigma };
    const value = predict === "denoised" ? denoised : noiseIn(predicted, denoised, sigma);
    const newest = { sigma, value };
    let x = predicted;
    if (state) {
      const { last } = state;
      const values = [newest, ...state.known].slice(0, last.order);
      const slope = (rate: number, h: number): number => lineDefect(rate, h) / h;
      x = update(last.x, values, last.sigma, sigma, tau(last.sigma), last.noise, predict, slope);
    }
    const known = [newest, ...(state?.known ?? [])].slice(0, memory);
    const noise = normal();
    const left = steps - step;
    const order = Math.min(predictorOrder, known.length, next === 0 ? 1 : lowerOrderFinal ? left : memory);
    const corrected = Math.min(correctorOrder, known.length + 1, lowerOrderFinal ? left + 1 : correctorOrder);
    const last = { x, noise, sigma, order: corrected };
    const to = (reached: Tensor) => ({ denoised, x: reached, state: { known, last } });
    if (next === sigma) return to(x);
    if (next === 0) return to(denoised);
    const values = known.slice(0, order);
    const spacing = values.length > 1 ? Math.log(values[1]!.sigma / sigma) : 1;
    const slope = (rate: number, h: number): number => lineDefect(rate, h) / spacing;
    return to(update(x, values, sigma, next, tau(sigma), noise, predict, slope));
  },
  ({ predictorOrder = 2, correctorOrder = 2 }) => {
    if (![predictorOrder, correctorOrder].every((order) => [1, 2, 3, 4].includes(order)))
      throw new ArgumentError(
        `saSolver: expected orders 1 to 4, got ${predictorOrder} and ${correctorOrder}`,
      );
  },
);
