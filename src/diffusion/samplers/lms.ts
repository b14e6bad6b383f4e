/** Linear multistep: the past predictions of the noise continue as a polynomial in the noise level. */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { samplerOf } from "../rule.ts";
import type { SampleOptions } from "../sample.ts";
import { noiseIn, scaleNoise, type Term, weightedSum } from "../weighted-sum.ts";

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

/** Options of `lms`. */
export interface LMSOptions extends SampleOptions {
  /** 1 to 4. Default 4. */
  readonly order?: number;
  /**
   * Levels before the first one, from an earlier part of the run whose noise is not known: they stay nodes of the
   * polynomial, with noise 0, as in diffusers when it starts midway.
   */
  readonly before?: readonly number[];
}

/** Levels passed and their noises, newest first. */
interface LMSState {
  readonly nodes: readonly number[];
  readonly noises: readonly Tensor[];
}

/** Linear multistep (Adams-Bashforth for unequal steps), in the noise level. */
export const lms = samplerOf<LMSOptions, LMSState>(
  function* ({ x, sigma, next }, { order = 4, before = [] }, state) {
    const denoised = yield { x, sigma };
    const nodes = [sigma, ...(state?.nodes ?? [...before].reverse())].slice(0, order);
    const noises = [noiseIn(x, denoised, sigma), ...(state?.noises ?? [])].slice(0, order);
    const known = { nodes, noises };
    if (nodes.length === 1) return { denoised, x: scaleNoise(x, denoised, next / sigma), state: known };
    const terms = noises.map((noise, j): Term => [lagrangeIntegral(nodes, j, sigma, next), noise]);
    return { denoised, x: weightedSum([1, x], ...terms), state: known };
  },
  ({ order = 4 }) => {
    if (!(order >= 1 && order <= 4))
      throw new ArgumentError(`lms: expected an order of 1 to 4, got ${order}`);
  },
);
