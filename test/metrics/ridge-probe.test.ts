import { describe, expect, it } from "vitest";
import {
  chooseLambda,
  crossValidated,
  fewShot,
  type LabelledFeatures,
  probeAccuracy,
  ridgeProbe,
} from "../../src/metrics/ridge-probe.ts";
import { createNoise } from "../../src/tensor/index.ts";

/** Gaussian clouds around one corner for each class. */
function clouds(count: number, width: number, spread: number, seed: number): LabelledFeatures {
  const noise = createNoise("philox", seed).normal([count, width], { sample: 0, purpose: "clouds", step: 0 });
  const labels = Int32Array.from({ length: count }, (_, i) => i % 3);
  const rows = Float64Array.from(
    noise,
    (v, at) => spread * v + (at % width === labels[Math.floor(at / width)]! ? 5 : 0),
  );
  return { rows, width, labels };
}

describe("ridge probe", () => {
  it("separates what is separable, with many samples and with fewer than columns", () => {
    const test = clouds(300, 8, 0.5, 9);
    const many = ridgeProbe(clouds(120, 8, 0.5, 1), { classes: 3, lambda: 1 });
    expect(probeAccuracy(many, test)).toBe(1);
    const few = ridgeProbe(clouds(6, 8, 0.5, 1), { classes: 3, lambda: 1 });
    expect(probeAccuracy(few, test)).toBeGreaterThan(0.9);
  });

  it("is chance on noise", () => {
    const blank = (seed: number): LabelledFeatures => {
      const { rows, labels } = clouds(300, 8, 1, seed);
      return {
        rows: rows.map((v, at) => v - (at % 8 === labels[Math.floor(at / 8)]! ? 5 : 0)),
        width: 8,
        labels,
      };
    };
    const accuracy = probeAccuracy(ridgeProbe(blank(1), { classes: 3, lambda: 1 }), blank(2));
    expect(accuracy).toBeGreaterThan(0.2);
    expect(accuracy).toBeLessThan(0.46);
  });

  it("both systems of equations give the same weights", () => {
    // Columns that are always equal add nothing but move the number of columns past that of samples.
    const support = clouds(20, 6, 2, 1);
    const wide = (f: LabelledFeatures): LabelledFeatures => {
      const n = f.labels.length;
      const rows = new Float64Array(n * 40);
      for (let i = 0; i < n; i++) rows.set(f.rows.subarray(i * 6, (i + 1) * 6), i * 40);
      return { rows, width: 40, labels: f.labels };
    };
    const test = clouds(200, 6, 2, 5);
    const a = ridgeProbe(support, { classes: 3, lambda: 3 })(test.rows);
    const b = ridgeProbe(wide(support), { classes: 3, lambda: 3 })(wide(test).rows);
    expect([...a]).toEqual([...b]);
  });

  it("few shots are balanced; the lambda is chosen without a query", () => {
    const all = clouds(300, 8, 3, 1);
    const shots = fewShot(all, { classes: 3, shots: 5, seed: 2 });
    expect([0, 1, 2].map((c) => Array.from(shots.labels).filter((l) => l === c).length)).toEqual([5, 5, 5]);
    const grid = [0.01, 1, 100, 1e9];
    expect(grid.slice(0, 3)).toContain(chooseLambda(all, { classes: 3, grid, seed: 0 }));
    const { lambda, accuracy } = crossValidated(all, { classes: 3, grid, seed: 0 });
    expect(lambda).toBe(chooseLambda(all, { classes: 3, grid, seed: 0 }));
    expect(accuracy).toBe(crossValidated(all, { classes: 3, grid: [lambda], seed: 0 }).accuracy);
    expect(crossValidated(all, { classes: 3, grid: [1e9], seed: 0 }).accuracy).toBeLessThan(accuracy);
  });

  it("names bad inputs", () => {
    const good = clouds(9, 4, 1, 1);
    expect(() => ridgeProbe({ ...good, width: 5 }, { classes: 3, lambda: 1 })).toThrow(/no 9 rows of 5/);
    expect(() => ridgeProbe(good, { classes: 2, lambda: 1 })).toThrow(/0 \.\.\. 1, got 2/);
    expect(() => ridgeProbe(good, { classes: 3, lambda: 0 })).toThrow(/positive lambda/);
    const rows = good.rows.slice();
    rows[6] = Number.NaN;
    expect(() => ridgeProbe({ ...good, rows }, { classes: 3, lambda: 1 })).toThrow(
      /feature 2 of sample 1 is NaN/,
    );
    expect(() => fewShot(good, { classes: 3, shots: 4, seed: 0 })).toThrow(/class \d has 3 samples, 4/);
  });
});
