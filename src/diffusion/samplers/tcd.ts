/** The sampler of trajectory consistency distillation. */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { samplerOf } from "../rule.ts";
import type { SampleOptions } from "../sample.ts";
import { weightedSum } from "../weighted-sum.ts";
import { eulerStep, type Stage } from "./euler.ts";

/** Options of `tcd`. */
export interface TCDOptions extends SampleOptions {
  /** Gamma: 0 deterministic, 1 multistep consistency sampling. Default 0.3. */
  readonly eta?: number;
  /** The level that is jumped to before noising to `next`. Default (1 - eta) * next. */
  readonly target?: (next: number, eta: number) => number;
}

/** The sample at `next` by a jump down to the level `down`, at most `next`, and standard normals back up. */
export function tcdStep({ x, denoised, sigma, next }: Stage, down: number, noise: Tensor): Tensor {
  const up = Math.sqrt(Math.max(0, next ** 2 - down ** 2));
  return weightedSum([1, eulerStep({ x, denoised, sigma, next: down })], [up, noise]);
}

/** Trajectory consistency distillation, strategic stochastic sampling (Zheng et al. 2024, algorithm 4). */
export const tcd = samplerOf<TCDOptions, undefined>(function* (
  { x, sigma, next, step, steps, normal },
  { eta = 0.3, target = (level: number, share: number) => (1 - share) * level },
) {
  if (!(eta >= 0 && eta <= 1)) throw new ArgumentError(`tcd: expected eta in [0, 1], got ${eta}`);
  const denoised = yield { x, sigma };
  const stage = { x, denoised, sigma, next };
  if (eta === 0 || step === steps - 1) return { denoised, x: eulerStep(stage) };
  return { denoised, x: tcdStep(stage, target(next, eta), normal()) };
});
