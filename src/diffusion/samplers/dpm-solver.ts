/**
 * DPM-Solver and DPM-Solver++ (Lu et al. 2022): exponential integrators in lambda = -log sigma, over the noise or over
 * the clean sample, for the ODE or the SDE.
 */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { samplerOf } from "../rule.ts";
import type { SampleOptions } from "../sample.ts";
import { noiseTerms, type Term, weightedSum } from "../weighted-sum.ts";
import { ancestralSplit } from "./ddim.ts";
import type { Stage } from "./euler.ts";

/** With "++" the clean sample is a polynomial in lambda, else the noise; with "sde" noise is added at every step. */
export type DPMAlgorithm = "dpmsolver++" | "dpmsolver" | "sde-dpmsolver++" | "sde-dpmsolver";

/** Options of all DPM-Solvers. */
export interface DPMSolverOptions extends SampleOptions {
  /** 1 to 3. Default 2. */
  readonly order?: number;
  /** Default "dpmsolver++". */
  readonly algorithm?: DPMAlgorithm;
  /** Form of the second-order term. Default "midpoint". */
  readonly solver?: "midpoint" | "heun";
}

/** Weights of a step: of the sample, of derivatives 0 to 2 of the polynomial at its start, and of fresh noise. */
interface Weights {
  readonly x: number;
  readonly value: number;
  /** First derivative times the step, by the midpoint rule and exactly. */
  readonly slopeMidpoint: number;
  readonly slope: number;
  /** Second derivative times the step squared. */
  readonly curvature: number;
  readonly noise: number;
}

/** The integrals of the exponential against 1, t and t^2 / 2 over a step, by algorithm. */
function weightsOf(algorithm: DPMAlgorithm, sigma: number, next: number): Weights {
  const h = Math.log(sigma / next);
  const ratio = next / sigma;
  switch (algorithm) {
    case "dpmsolver++": {
      const value = 1 - ratio;
      const slope = 1 - value / h;
      return {
        x: ratio,
        value,
        slopeMidpoint: value / 2,
        slope,
        curvature: 0.5 - (h - value) / h ** 2,
        noise: 0,
      };
    }
    case "sde-dpmsolver++": {
      const value = 1 - ratio ** 2;
      return {
        x: ratio ** 2,
        value,
        slopeMidpoint: value / 2,
        slope: 1 - value / (2 * h),
        curvature: 0.5 - (2 * h - value) / (2 * h) ** 2,
        noise: next * Math.sqrt(value),
      };
    }
    case "dpmsolver":
    case "sde-dpmsolver": {
      const times = algorithm === "dpmsolver" ? 1 : 2;
      const value = times * (next - sigma);
      return {
        x: 1,
        value,
        slopeMidpoint: value / 2,
        slope: value / h + times * next,
        curvature: times * (-(sigma - next) / h ** 2 + next / h + next / 2),
        noise: times === 2 ? Math.sqrt(Math.max(0, sigma ** 2 - next ** 2)) : 0,
      };
    }
    default:
      throw new ArgumentError(`unknown DPM-Solver algorithm ${JSON.stringify(algorithm)}`);
  }
}

/** A value of the polynomial: the clean sample or the noise, at a level. */
export interface Known {
  readonly sigma: number;
  readonly value: Tensor;
}

/** What a formula of the family needs beside the values. */
interface Interval {
  readonly x: Tensor;
  readonly sigma: number;
  readonly next: number;
  readonly algorithm: DPMAlgorithm;
  readonly solver: "midpoint" | "heun";
  readonly noise: Tensor | undefined;
}

const difference = (a: Tensor, b: Tensor, distance: number): Tensor =>
  weightedSum([1 / distance, a], [-1 / distance, b]);

function advance(interval: Interval, terms: (w: Weights) => readonly Term[]): Tensor {
  const { x, sigma, next, algorithm, noise } = interval;
  if (next === sigma) return x;
  const w = weightsOf(algorithm, sigma, next);
  return weightedSum([w.x, x], ...terms(w), ...(noise ? [[w.noise, noise] as const] : []));
}

const firstOrder = (interval: Interval, value: Tensor): Tensor =>
  advance(interval, (w) => [[w.value, value]]);

function secondOrder(interval: Interval, value: Tensor, slope: Tensor): Tensor {
  const { solver } = interval;
  return advance(interval, (w) => [
    [w.value, value],
    [solver === "midpoint" ? w.slopeMidpoint : w.slope, slope],
  ]);
}

/** One step from the last values known, newest first: as many as the order (Lu et al. 2022, appendix B). */
function multistep(interval: Interval, known: readonly Known[], curvatureScale: number): Tensor {
  const [m0, m1, m2] = known as [Known, Known?, Known?];
  const h = Math.log(interval.sigma / interval.next);
  if (!m1 || h === 0) return firstOrder(interval, m0.value);
  const r0 = Math.log(m1.sigma / m0.sigma) / h;
  const recent = difference(m0.value, m1.value, r0);
  if (!m2) return secondOrder(interval, m0.value, recent);
  const r1 = Math.log(m2.sigma / m1.sigma) / h;
  const curvature = difference(recent, difference(m1.value, m2.value, r1), r0 + r1);
  const slope = weightedSum([1, recent], [r0, curvature]);
  return advance(interval, (w) => [
    [w.value, m0.value],
    [w.slope, slope],
    [curvatureScale * w.curvature, curvature],
  ]);
}

/** One step over an interval whose values were taken inside it, oldest first: as many as the order. */
function singlestep(interval: Interval, inside: readonly Known[]): Tensor {
  const [m0, m1, m2] = inside as [Known, Known?, Known?];
  if (!m1) return firstOrder(interval, m0.value);
  const h = Math.log(interval.sigma / interval.next);
  const r1 = Math.log(m0.sigma / m1.sigma) / h;
  const early = difference(m1.value, m0.value, r1);
  if (!m2) return secondOrder(interval, m0.value, early);
  const r2 = Math.log(m0.sigma / m2.sigma) / h;
  const late = difference(m2.value, m0.value, r2);
  if (interval.solver === "midpoint") {
    return advance(interval, (w) => [
      [w.value, m0.value],
      [w.slope, late],
    ]);
  }
  const slope = weightedSum([r2 / (r2 - r1), early], [-r1 / (r2 - r1), late]);
  const curvature = weightedSum([2 / (r2 - r1), late], [-2 / (r2 - r1), early]);
  return advance(interval, (w) => [
    [w.value, m0.value],
    [w.slope, slope],
    [w.curvature, curvature],
  ]);
}

const checkOrder = (order: number): void => {
  if (![1, 2, 3].includes(order)) throw new ArgumentError(`DPM-Solver has orders 1, 2 and 3, got ${order}`);
};

const addsNoise = (algorithm: DPMAlgorithm, next: number): boolean => algorithm.startsWith("sde") && next > 0;

/** The quantity that the algorithm takes as a polynomial. */
const modelled = (algorithm: DPMAlgorithm, x: Tensor, denoised: Tensor, sigma: number): Tensor =>
  algorithm.endsWith("++") ? denoised : weightedSum(...noiseTerms(1, x, denoised, sigma));

/** Options of `dpmSolverMultistep`. */
export interface DPMMultistepOptions extends DPMSolverOptions {
  /** Order at most 1 at the last step and at most 2 before it. Default for runs of fewer than 15 steps. */
  readonly lowerOrderFinal?: boolean;
  /** Order 1 at the last step. Always so when it ends at 0. */
  readonly eulerAtFinal?: boolean;
  /**
   * Counts the second derivative half at order 3, as diffusers and the paper's code do; it then converges
   * with order 2 only. Default false.
   */
  readonly halfCurvature?: boolean;
}

/** What a step of a multistep DPM-Solver is made of. */
export interface DPMMultistepStage {
  readonly x: Tensor;
  /**
   * What the algorithm takes as a polynomial, by level, newest first and as many as the order, 1 to 3: guesses of the
   * clean sample, without "++" the noises. The first level is that of x.
   */
  readonly known: readonly Known[];
  /** Above 0, or 0 with a single value. */
  readonly next: number;
  readonly algorithm?: DPMAlgorithm;
  readonly solver?: "midpoint" | "heun";
  /** Standard normals, which the algorithms with "sde" need. */
  readonly noise?: Tensor | undefined;
  /** See `DPMMultistepOptions`. */
  readonly halfCurvature?: boolean;
}

/** The sample at `next`. */
export function dpmMultistepStep(stage: DPMMultistepStage): Tensor {
  const { x, known, next, noise, algorithm = "dpmsolver++", solver = "midpoint" } = stage;
  const interval = { x, sigma: known[0]!.sigma, next, algorithm, solver, noise };
  return multistep(interval, known, stage.halfCurvature ? 1 : 2);
}

/** DPM-Solver++ 2M: `dpmMultistepStep` with the guess before, if there was one. */
export const dpmpp2mStep = ({ x, denoised, sigma, next }: Stage, before?: Known): Tensor =>
  dpmMultistepStep({ x, next, known: [{ sigma, value: denoised }, ...(before ? [before] : [])] });

/** DPM-Solver(++) that reuses earlier evaluations: one a step. Over rising levels it inverts. */
export const dpmSolverMultistep = samplerOf<DPMMultistepOptions, readonly Known[]>(
  function* ({ x, sigma, next, step, steps, increment }, options, before = []) {
    const { order = 2, algorithm = "dpmsolver++", solver = "midpoint", eulerAtFinal = false } = options;
    const { lowerOrderFinal = steps < 15, halfCurvature = false } = options;
    const denoised = yield { x, sigma };
    const known = [{ sigma, value: modelled(algorithm, x, denoised, sigma) }, ...before].slice(0, order);
    const left = steps - step;
    const forced = left === 1 && (next === 0 || eulerAtFinal);
    const used = forced ? 1 : lowerOrderFinal ? Math.min(order, left) : order;
    const noise = addsNoise(algorithm, next) ? increment(sigma, next) : undefined;
    const stage = { x, known: known.slice(0, used), next, algorithm, solver, noise, halfCurvature };
    return { denoised, x: dpmMultistepStep(stage), state: known };
  },
  ({ order = 2 }) => checkOrder(order),
);

/** Options of `dpmSolverSinglestep`. */
export interface DPMSinglestepOptions extends DPMSolverOptions {
  /** Order by step, the last ones counting where there are more; `singlestepOrders` gives the default. */
  readonly orders?: readonly number[];
}

/**
 * Orders of the steps of a singlestep run: 1, 2, ..., order, over and over; each value beyond 1 continues the interval
 * that the last 1 began. With `lowerOrderFinal` the run ends in lower orders, and fits any number of steps.
 */
export function singlestepOrders(steps: number, order: number, lowerOrderFinal = true): number[] {
  checkOrder(order);
  const full = Array.from({ length: steps }, (_, i) => (i % order) + 1);
  if (!lowerOrderFinal || order === 1) return full;
  const tail = steps % order === 0 ? [...full.slice(-order, -1), 1] : full.slice(-(steps % order));
  return [...full.slice(0, steps - tail.length), ...tail];
}

interface Inside {
  /** Where the interval begins, and the values in it so far, oldest first. */
  readonly start: Tensor;
  readonly values: readonly Known[];
}

/** DPM-Solver(++) over intervals of several levels whose inner ones are only passed through: one evaluation a level. */
export const dpmSolverSinglestep = samplerOf<DPMSinglestepOptions, Inside>(
  function* ({ x, sigma, next, step, steps, increment }, options, before) {
    const { order = 2, algorithm = "dpmsolver++", solver = "midpoint" } = options;
    const orders = (options.orders ?? singlestepOrders(steps, order)).slice(-steps);
    const denoised = yield { x, sigma };
    const wanted = next === 0 ? 1 : (orders[step] ?? 1);
    const kept = wanted === 1 ? [] : (before?.values ?? []).slice(-(wanted - 1));
    const start = kept.length === 0 ? x : before!.start;
    const values = [...kept, { sigma, value: modelled(algorithm, x, denoised, sigma) }];
    const from = values[0]!.sigma;
    const noise = addsNoise(algorithm, next) ? increment(from, next) : undefined;
    const interval = { x: start, sigma: from, next, algorithm, solver, noise };
    return { denoised, x: singlestep(interval, values), state: { start, values } };
  },
  ({ order = 2, orders }) => {
    if (!orders) checkOrder(order);
  },
);

/** Options of `dpmSolverSDE`. */
export interface DPMSDEOptions extends SampleOptions {
  /** 1: the SDE; 0: the ODE. */
  readonly eta?: number;
  /** Deviation of the noise. Default 1. */
  readonly noiseScale?: number;
}

/** DPM-Solver++ for the SDE, singlestep of order 2 with noise at both stages: two evaluations a step. */
export const dpmSolverSDE = samplerOf<DPMSDEOptions, undefined>(function* (
  { x, sigma, next, increment },
  { eta = 1, noiseScale = 1 },
) {
  const denoised = yield { x, sigma };
  if (next === 0) return { denoised, x: denoised };
  const stage = (guess: Tensor, target: number, draw: number): Tensor => {
    const { down, up } = ancestralSplit(sigma, target, eta);
    const terms: Term[] = [
      [down / sigma, x],
      [1 - down / sigma, guess],
    ];
    if (up > 0) terms.push([noiseScale * up, increment(sigma, target, draw)]);
    return weightedSum(...terms);
  };
  const middle = Math.sqrt(sigma * next);
  const again = yield { x: stage(denoised, middle, 0), sigma: middle };
  return { denoised, x: stage(again, next, 1) };
});
