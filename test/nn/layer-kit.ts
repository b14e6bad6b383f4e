/** What the layer tests share. */
import { expect } from "vitest";
import { loadParameters, parameters } from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/index.ts";

export function expectClose(
  got: readonly number[],
  expected: readonly number[],
  tolerance: number,
  what = "",
): void {
  expect(got.length, what).toBe(expected.length);
  const worst = got.reduce((m, v, i) => Math.max(m, Math.abs(v - expected[i]!)), 0);
  expect(worst, what).toBeLessThanOrEqual(tolerance);
}

/** A layer with the given weights in the order of its parameters. */
export function withWeights<T extends object>(layer: T, ...weights: Tensor[]): T {
  return loadParameters(layer, new Map([...parameters(layer).keys()].map((key, i) => [key, weights[i]!])));
}
