import { describe, expect, it } from "vitest";
import { liThreshold, otsuThreshold } from "../../src/data/index.ts";

describe("the threshold", () => {
  const values = Float32Array.of(0, 0.1, 0.05, 0.9, 1, 0.95);
  it.each([
    ["Otsu", otsuThreshold],
    ["Li", liThreshold],
  ] as const)("of %s part two groups of values, and take a constant picture", (_, threshold) => {
    expect(threshold(values)).toBeGreaterThan(0.1);
    expect(threshold(values)).toBeLessThan(0.9);
    expect(threshold(Float32Array.of(2, 2))).toBe(2);
  });

  it("of Li is where the cross entropy with the means of both sides is least", () => {
    const many = Float32Array.from({ length: 400 }, (_, i) =>
      i < 300 ? 1 + (i % 30) / 10 : 12 + (i % 50) / 5,
    );
    const entropy = (limit: number): number => {
      const [under, over] = [[...many].filter((v) => v - 1 <= limit - 1), [...many].filter((v) => v > limit)];
      const mean = (side: readonly number[]): number => side.reduce((sum, v) => sum + v - 1, 0) / side.length;
      const cost = (side: readonly number[]): number =>
        -side.reduce((sum, v) => sum + v - 1, 0) * Math.log(mean(side));
      return cost(under) + cost(over);
    };
    const found = liThreshold(many);
    for (const other of [3, 3.9, 12.5, 15, 18])
      expect(entropy(found)).toBeLessThanOrEqual(entropy(other) + 1e-9);
  });
});
