/** Adams-Bashforth: the past predictions of the network continue as a polynomial. */
import type { Tensor } from "../../tensor/index.ts";
import { type Term, weightedSum } from "../weighted-sum.ts";

/** Weights of Adams-Bashforth for equal steps, newest first, by number of values known. */
const ADAMS_BASHFORTH: readonly (readonly number[])[] = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
];

/** Extrapolates to the middle of the next step from at most four values, newest first. */
export function adamsBashforth(newestFirst: readonly Tensor[]): Tensor {
  const weights = ADAMS_BASHFORTH[Math.min(4, newestFirst.length) - 1]!;
  return weightedSum(...weights.map((w, i): Term => [w, newestFirst[i]!]));
}
