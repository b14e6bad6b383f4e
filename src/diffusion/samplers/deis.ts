/** DEIS (Zhang and Chen 2023): a multistep method on the noise in log sigma. */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { samplerOf } from "../rule.ts";
import type { SampleOptions } from "../sample.ts";
import { noiseIn, scaleNoise, type Term, weightedSum } from "../weighted-sum.ts";

/** Options of `deis`. */
export interface DEISOptions extends SampleOptions {
  /** 1 to 3. Default 2. */
  readonly order?: number;
  /** Falls to order 1 at the last step and to at most 2 before it. Default for runs of fewer than 15 steps. */
  readonly lowerOrderFinal?: boolean;
}

interface Known {
  readonly sigma: number;
  readonly noise: Tensor;
}

/**
 * DEIS in log rho (Zhang and Chen 2023, "Fast Sampling of Diffusion Models with Exponential Integrator"): the noise as
 * a polynomial in log sigma.
 */
export const deis = samplerOf<DEISOptions, readonly Known[]>(
  function* ({ x, sigma, next, step, steps }, options, before = []) {
    const { order = 2, lowerOrderFinal = steps < 15 } = options;
    const denoised = yield { x, sigma };
    const state = [{ sigma, noise: noiseIn(x, denoised, sigma) }, ...before].slice(0, order);
    const left = steps - step;
    const used = state.slice(0, lowerOrderFinal ? left : order);
    if (used.length === 1) return { denoised, x: scaleNoise(x, denoised, next / sigma), state };
    const logs = used.map((k) => Math.log(k.sigma));
    const terms = used.map(({ noise }, j): Term => [logLagrangeIntegral(logs, j, sigma, next), noise]);
    return { denoised, x: weightedSum([1, x], ...terms), state };
  },
  ({ order = 2 }) => {
    if (!(order >= 1 && order <= 3))
      throw new ArgumentError(`deis: expected an order of 1 to 3, got ${order}`);
  },
);

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
