import { describe, expect, it } from "vitest";
import {
  drawTimesteps,
  heavyTailed,
  ImportanceSampler,
  logitNormal,
  logNormal,
  normalQuantile,
  type Quantile,
  uniformBetween,
  uniformSteps,
} from "../../src/diffusion/objectives/noise-levels.ts";
import { ArgumentError } from "../../src/errors.ts";
import { createNoise } from "../../src/tensor/index.ts";

const noise = () => createNoise("philox", 5);
const mean = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((a, b) => a + b, 0) / values.length;

const spread = (values: ArrayLike<number>): number => {
  const centre = mean(values);
  return mean(Array.from(values, (v) => (v - centre) ** 2));
};

describe("distributions of noise levels", () => {
  it("the normal quantile has the tabulated values", () => {
    expect(normalQuantile(0.5)).toBe(0);
    expect(normalQuantile(0.975)).toBeCloseTo(1.959963984540054, 8);
    expect(normalQuantile(0.01)).toBeCloseTo(-2.3263478740408408, 8);
    expect(normalQuantile(1e-6)).toBeCloseTo(-4.753424308822899, 7);
  });

  it("uniform steps are whole numbers, each as often", () => {
    const draws = drawTimesteps(uniformSteps(8), noise(), 8000, { stratified: true });
    const counts = new Map<number, number>();
    for (const t of draws) counts.set(t, (counts.get(t) ?? 0) + 1);
    expect([...counts.keys()].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThanOrEqual(1);
    expect(uniformSteps(10)(1)).toBe(9);
  });

  it("logarithms, logits and modes are as the papers say", () => {
    const many = (q: Quantile): Float32Array => drawTimesteps(q, noise(), 20000, { stratified: true });
    const logs = many(logNormal()).map(Math.log);
    expect(mean(logs)).toBeCloseTo(-1.2, 2);
    expect(Math.sqrt(mean(logs.map((l) => (l + 1.2) ** 2)))).toBeCloseTo(1.2, 2);
    const logits = many(logitNormal({ mean: 0.5, deviation: 2 })).map((s) => Math.log(s / (1 - s)));
    expect(mean(logits)).toBeCloseTo(0.5, 2);
    expect(Math.sqrt(mean(logits.map((l) => (l - 0.5) ** 2)))).toBeCloseTo(2, 2);
    const [tails, flat] = [many(heavyTailed(1.29)), many(heavyTailed(0))];
    expect(mean(tails)).toBeCloseTo(0.5, 3);
    const middle = (values: Float32Array): number => mean(values.map((v) => (v > 0.4 && v < 0.6 ? 1 : 0)));
    expect(middle(flat)).toBeCloseTo(0.2, 3);
    expect(middle(tails)).toBeGreaterThan(0.25); // positive scales favour the middle
    expect(Math.min(...tails)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...tails)).toBeLessThanOrEqual(1);
  });

  it("independent draws are one per sample: sample i of a batch is sample i alone", () => {
    const q = uniformBetween(2, 3);
    const batch = drawTimesteps(q, noise(), 4, { at: { step: 7 } });
    const alone = drawTimesteps(q, noise(), 1, { at: { step: 7, sample: 2 } });
    expect(alone[0]).toBe(batch[2]);
    expect(new Set(batch).size).toBe(4);
    expect(drawTimesteps(q, noise(), 4, { at: { step: 8 } })).not.toEqual(batch);
  });

  it("strata hold one draw each", () => {
    for (let step = 0; step < 20; step++) {
      const u = drawTimesteps(uniformBetween(), noise(), 16, { at: { step }, stratified: true });
      expect([...u].map((v) => Math.floor(v * 16)).sort((a, b) => a - b)).toEqual(
        Array.from({ length: 16 }, (_, i) => i),
      );
    }
    const first = Array.from(
      { length: 2000 },
      (_, step) => drawTimesteps(uniformBetween(), noise(), 4, { at: { step }, stratified: true })[0]!,
    );
    expect(mean(first)).toBeCloseTo(0.5, 1); // and each of them is uniform by itself
  });

  it("refuses impossible settings", () => {
    expect(() => uniformSteps(0)).toThrow(ArgumentError);
    expect(() => uniformBetween(1, 1)).toThrow(ArgumentError);
    expect(() => logNormal({ deviation: 0 })).toThrow(ArgumentError);
    expect(() => heavyTailed(3)).toThrow(ArgumentError);
  });
});

describe("importance sampling", () => {
  const lossAt = (t: number): number => 1 + t * t;
  const warm = (): ImportanceSampler => {
    const sampler = new ImportanceSampler(6, { remember: 3, uniformShare: 0.06 });
    for (let i = 0; i < 3; i++) sampler.update([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5].map(lossAt));
    return sampler;
  };

  it("is uniform until every step has been seen often enough", () => {
    const sampler = new ImportanceSampler(6, { remember: 3 });
    expect(sampler.warm).toBe(false);
    sampler.update([0, 0, 0, 0], [9, 9, 9, 9]);
    expect([...sampler.probabilities()]).toEqual(Array(6).fill(1 / 6));
    expect([...sampler.draw(noise(), 4).weights]).toEqual([1, 1, 1, 1]);
  });

  it("then draws in proportion to the root mean square of the last losses, and a little uniformly", () => {
    const sampler = warm();
    sampler.update([2, 2, 2], [3, 4, 5]); // forgets the three before
    const sizes = [1, 2, Math.sqrt(50 / 3), 10, 17, 26];
    const total = sizes.reduce((a, b) => a + b);
    const p = sampler.probabilities();
    sizes.forEach((s, t) => {
      expect(p[t]).toBeCloseTo((0.94 * s) / total + 0.01, 12);
    });
    expect(p.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    const draws = sampler.draw(noise(), 20000).timesteps;
    for (let t = 0; t < 6; t++) expect(mean(draws.map((d) => (d === t ? 1 : 0)))).toBeCloseTo(p[t]!, 1.7);
  });

  it("leaves the expected loss what it is: weights undo the choice, with less spread", () => {
    const sampler = warm();
    const p = sampler.probabilities();
    const expected = mean([0, 1, 2, 3, 4, 5].map(lossAt));
    // exactly, over the distribution
    expect(p.reduce((sum, q, t) => sum + q * (lossAt(t) / (6 * q)), 0)).toBeCloseTo(expected, 10);
    // and by draws
    const { timesteps, weights } = sampler.draw(noise(), 20000);
    const values = Array.from(timesteps, (t, i) => lossAt(t) * weights[i]!);
    expect(Math.abs(mean(values) - expected)).toBeLessThan(0.05);
    const uniform = Array.from(drawTimesteps(uniformSteps(6), noise(), 20000), lossAt);
    expect(spread(values)).toBeLessThan(0.05 * spread(uniform));
  });

  it("goes on from its state, through JSON", () => {
    const sampler = warm();
    const again = new ImportanceSampler(
      6,
      { remember: 3, uniformShare: 0.06 },
      JSON.parse(JSON.stringify(sampler.state())),
    );
    expect(again.draw(noise(), 50)).toEqual(sampler.draw(noise(), 50));
    sampler.update([1], [100]);
    expect(again.probabilities()).not.toEqual(sampler.probabilities());
    expect(() => new ImportanceSampler(7, {}, sampler.state())).toThrow(ArgumentError);
    expect(() => sampler.update([6], [1])).toThrow(/step 6 of 6/);
    expect(() => sampler.update([1], [Number.NaN])).toThrow(ArgumentError);
  });
});
