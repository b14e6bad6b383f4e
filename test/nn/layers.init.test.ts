import { describe, expect, it } from "vitest";
import {
  blankRng,
  createRng,
  fans,
  gainOf,
  kaimingNormal,
  kaimingUniform,
  Linear,
  orthogonal,
  truncatedNormal,
  uniformFanIn,
  xavierNormal,
  xavierUniform,
} from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/index.ts";

async function moments(t: Tensor): Promise<{ mean: number; std: number; largest: number }> {
  const values = await t.toArray();
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const std = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length);
  return { mean, std, largest: values.reduce((a, b) => Math.max(a, Math.abs(b)), 0) };
}

describe("sources", () => {
  it("repeat with the seed, and never within it", async () => {
    const [a, b, c] = [createRng(3), createRng(3), createRng(4)];
    const first = await a.normal([50]).toArray();
    expect(await b.normal([50]).toArray()).toEqual(first);
    expect(await c.normal([50]).toArray()).not.toEqual(first);
    expect(await a.normal([50]).toArray()).not.toEqual(first);
  });

  it("blank ones make zeros of the right shapes", async () => {
    const layer = new Linear(3, 2, blankRng);
    expect(layer.weight.shape).toEqual([2, 3]);
    expect(await layer.weight.toArray()).toEqual([0, 0, 0, 0, 0, 0]);
    expect(orthogonal(blankRng, [1000, 1000]).shape).toEqual([1000, 1000]);
  });
});

describe("initialisers", () => {
  const shape = [64, 32, 3, 3];
  const [fanIn, fanOut] = [288, 576];

  it("count connections as PyTorch does", () => {
    expect(fans(shape)).toEqual({ fanIn, fanOut });
    expect(() => fans([3])).toThrow(/\[3\]/);
    expect(gainOf("relu")).toBe(Math.SQRT2);
    expect(gainOf("leakyRelu", Math.sqrt(5))).toBeCloseTo(1 / Math.sqrt(3), 12);
  });

  it.each([
    ["uniformFanIn", uniformFanIn(createRng(1), shape), 1 / Math.sqrt(fanIn)],
    ["kaimingUniform", kaimingUniform(createRng(1), shape), Math.sqrt(6 / fanIn)],
    [
      "kaimingUniform by fanOut",
      kaimingUniform(createRng(1), shape, { mode: "fanOut", gain: 1 }),
      Math.sqrt(3 / fanOut),
    ],
    ["xavierUniform", xavierUniform(createRng(1), shape, 2), 2 * Math.sqrt(6 / (fanIn + fanOut))],
  ] as const)("%s fills its interval evenly", async (_, t, bound) => {
    const { mean, std, largest } = await moments(t);
    expect(largest).toBeLessThanOrEqual(Math.fround(bound) * (1 + 1e-6));
    expect(largest).toBeGreaterThan(0.999 * bound);
    expect(Math.abs(mean)).toBeLessThan(0.02 * bound);
    expect(Math.abs(std / (bound / Math.sqrt(3)) - 1)).toBeLessThan(0.02);
  });

  it.each([
    ["kaimingNormal", kaimingNormal(createRng(1), shape), Math.sqrt(2 / fanIn)],
    ["xavierNormal", xavierNormal(createRng(1), shape), Math.sqrt(2 / (fanIn + fanOut))],
  ] as const)("%s has its deviation", async (_, t, expected) => {
    const { mean, std } = await moments(t);
    expect(Math.abs(mean)).toBeLessThan(0.03 * expected);
    expect(Math.abs(std / expected - 1)).toBeLessThan(0.02);
  });

  it("truncatedNormal keeps to its bounds with the density's shape", async () => {
    const { mean, std, largest } = await moments(truncatedNormal(createRng(1), [20000]));
    expect(largest).toBeLessThanOrEqual(2);
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(Math.abs(std - 0.8796)).toBeLessThan(0.01); // of a normal cut off at two deviations
    const shifted = await truncatedNormal(createRng(1), [500], {
      mean: 5,
      std: 0.1,
      low: 5,
      high: 6,
    }).toArray();
    expect(Math.min(...shifted)).toBeGreaterThanOrEqual(5);
    expect(() => truncatedNormal(createRng(1), [9], { low: 50, high: 51 })).toThrow(/too little/);
  });

  it.each([[[4, 7]], [[7, 4]], [[3, 2, 2, 2]]])(
    "orthogonal %j has orthonormal rows or columns",
    async (size) => {
      const gain = 1.5;
      const flat = orthogonal(createRng(1), size, gain).reshape([size[0]!, -1]);
      const wide = flat.shape[0]! <= flat.shape[1]!;
      const product = wide ? flat.matmul(flat.transpose()) : flat.transpose().matmul(flat);
      const n = product.shape[0]!;
      (await product.toArray()).forEach((v, i) => {
        expect(v).toBeCloseTo(i % (n + 1) === 0 ? gain * gain : 0, 5);
      });
    },
  );
});
