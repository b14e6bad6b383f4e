import { describe, expect, it } from "vitest";
import { logNormal } from "../../src/diffusion/index.ts";
import { createNoise } from "../../src/tensor/index.ts";
import {
  alphaBarLevels,
  diffusionBatch,
  epochIndices,
  flowLevels,
  sigmaLevels,
} from "../../src/training/index.ts";

describe("epochs", () => {
  it("see every sample once before any sample twice, in another order each time", () => {
    const indices = epochIndices(10, 4, 3);
    const all = Array.from({ length: 5 }, (_, step) => [...indices(step)]).flat();
    const [first, second] = [all.slice(0, 10), all.slice(10)];
    for (const epoch of [first, second])
      expect([...epoch].sort((a, b) => a - b)).toEqual([...Array(10).keys()]);
    expect(first).not.toEqual(second);
  });

  it("are a function of seed and step alone, whatever was asked for before", () => {
    const indices = epochIndices(7, 3, 3);
    const late = indices(20);
    indices(2);
    expect(indices(20)).toEqual(late);
    expect(epochIndices(7, 3, 3)(20)).toEqual(late);
    expect(epochIndices(7, 3, 4)(20)).not.toEqual(late);
  });

  it("fill batches that are larger than the data, and refuse data without samples", () => {
    expect(epochIndices(2, 5, 0)(0)).toHaveLength(5);
    expect(() => epochIndices(0, 5, 0)).toThrow(/samples from 1 up, got 0/);
  });
});

describe("the draws of a diffusion batch", () => {
  const source = createNoise("philox", 5);
  const alphaBars = Float64Array.from({ length: 100 }, (_, t) => 1 - (t + 1) / 101);

  it("hold levels that belong to their timesteps, noise of the shape, and dropped conditions at their rate", async () => {
    const levels = alphaBarLevels(alphaBars);
    const { timestep, level, noise, dropped } = diffusionBatch([4000, 2], {
      source,
      step: 3,
      levels,
      dropRate: 0.25,
    });
    const drawn = await timestep.toArray();
    expect(Math.min(...drawn)).toBe(0);
    expect(Math.max(...drawn)).toBe(99);
    const [alpha, sigma] = [await level.alpha.toArray(), await level.sigma.toArray()];
    for (let i = 0; i < 50; i++) {
      expect(alpha[i]).toBeCloseTo(Math.sqrt(alphaBars[drawn[i]!]!), 5);
      expect(sigma[i]).toBeCloseTo(Math.sqrt(1 - alphaBars[drawn[i]!]!), 5);
    }
    expect(noise.shape).toEqual([4000, 2]);
    const share = (await dropped!.toArray()).filter(Boolean).length / 4000;
    expect(share).toBeGreaterThan(0.22);
    expect(share).toBeLessThan(0.28);
  });

  it("are the same for the same step and other ones for another", async () => {
    const at = async (step: number) => {
      const { timestep, noise } = diffusionBatch([8, 2], { source, step, levels: alphaBarLevels(alphaBars) });
      return [...(await timestep.toArray()), ...(await noise.toArray())];
    };
    expect(await at(1)).toEqual(await at(1));
    expect(await at(1)).not.toEqual(await at(2));
  });

  it("leave dropping out where nothing is dropped", () => {
    expect(diffusionBatch([2, 1], { source, step: 0, levels: alphaBarLevels(alphaBars) })).not.toHaveProperty(
      "dropped",
    );
  });

  it("know sigmas: of exploding variance and of the straight path", async () => {
    const exploding = diffusionBatch([6, 1], { source, step: 0, levels: sigmaLevels(logNormal()) });
    expect(await exploding.level.alpha.toArray()).toEqual([1, 1, 1, 1, 1, 1]);
    expect(await exploding.level.sigma.toArray()).toEqual(await exploding.timestep.toArray());
    const { timestep, level } = diffusionBatch([3, 1], { source, step: 0, levels: flowLevels((u) => u) });
    const sums = (await level.alpha.add(level.sigma).toArray()) as number[];
    for (const sum of sums) expect(sum).toBeCloseTo(1, 6);
    expect(await level.sigma.toArray()).toEqual(await timestep.toArray());
  });
});
