import { describe, expect, it } from "vitest";
import { brownianPath } from "../../src/diffusion/brownian.ts";
import { consecutiveSeeds, seededNoise, startingAtSample } from "../../src/diffusion/noise-seeds.ts";
import { finalSample } from "../../src/diffusion/sample.ts";
import { eulerAncestral } from "../../src/diffusion/samplers/euler.ts";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import {
  createNoise,
  type NoiseMode,
  type NoiseSource,
  perSampleNoise,
  resumeNoise,
  tensor,
} from "../../src/tensor/index.ts";
import { gaussian, geometric, withMean } from "./gaussian.ts";

const MODES: readonly NoiseMode[] = ["philox", "torch-cpu", "torch-cuda"];
const SHAPE = [2, 3, 4, 4];
const ALONE = [1, 3, 4, 4];
const row = (values: Float32Array, i: number): Float32Array => values.subarray(i * 48, (i + 1) * 48);

describe.each(MODES)("a batch of seeds in mode %s", (mode) => {
  const draws = (noise: NoiseSource, shape: readonly number[]) => [
    noise.normal(shape),
    noise.normal(shape, { purpose: "x", step: 3 }),
    noise.uniform(shape, { step: 1 }),
    noise.normal(shape),
  ];

  it("is each seed alone, draw for draw", () => {
    const together = draws(seededNoise(mode, [11, 7]), SHAPE);
    for (const [i, seed] of [11, 7].entries()) {
      const alone = draws(createNoise(mode, seed), ALONE);
      together.forEach((values, d) => {
        expect(row(values, i)).toEqual(alone[d]);
      });
      expect(draws(seededNoise(mode, [seed]), ALONE)).toEqual(alone);
    }
  });

  it("goes on from its snapshot, through JSON", () => {
    const noise = seededNoise(mode, [11, 7]);
    noise.normal(SHAPE);
    const again = resumeNoise(JSON.parse(JSON.stringify(noise.state())));
    expect(again.normal(SHAPE)).toEqual(noise.normal(SHAPE));
  });

  it("samples with a stochastic sampler what each seed samples alone", async () => {
    const sigmas = geometric(10, 0.1, 6);
    const sample = async (seeds: readonly number[]): Promise<number[]> => {
      const noise = seededNoise(mode, seeds);
      const shape = [seeds.length, 3, 4, 4];
      const start = tensor(noise.normal(shape), { shape }).mul(10);
      const run = eulerAncestral(withMean(gaussian(0.5), 1), start, sigmas, { noise });
      return (await finalSample(run)).toArray();
    };
    const [both, first, second] = [await sample([5, 6]), await sample([5]), await sample([6])];
    [...first, ...second].forEach((value, i) => {
      expect(both[i]).toBeCloseTo(value, 5);
    });
    expect(first).not.toEqual(second);
  });
});

describe("seeds", () => {
  it("refuse other batch sizes, no seeds, and sources of two modes", () => {
    expect(() => seededNoise("philox", [1, 2]).normal(ALONE)).toThrow(ShapeError);
    expect(() => seededNoise("philox", [1, 2]).normal(10)).toThrow(ShapeError);
    expect(() => seededNoise("philox", [])).toThrow(ArgumentError);
    expect(() => perSampleNoise([createNoise("philox", 1), createNoise("torch-cpu", 1)])).toThrow(
      ArgumentError,
    );
  });

  it("count up, past the safe integers and around", () => {
    expect(consecutiveSeeds(5, 3)).toEqual([5, 6, 7]);
    expect(consecutiveSeeds(Number.MAX_SAFE_INTEGER, 2)).toEqual([
      Number.MAX_SAFE_INTEGER,
      9007199254740992n,
    ]);
    expect(consecutiveSeeds((1n << 64n) - 1n, 2)).toEqual([(1n << 64n) - 1n, 0]);
    expect(() => consecutiveSeeds(1, 0)).toThrow(ArgumentError);
  });

  it("make Brownian paths per sample", async () => {
    const together = brownianPath(seededNoise("philox", [3, 4])).normal(5, 1, [2, 8]);
    const alone = brownianPath(createNoise("philox", 4)).normal(5, 1, [1, 8]);
    expect((await together.toArray()).slice(8)).toEqual(await alone.toArray());
  });
});

describe("one sample of a batch with a single seed", () => {
  it("is made again by its number", () => {
    const batch = createNoise("philox", 9).normal([3, 3, 4, 4], { step: 2 });
    const third = startingAtSample(createNoise("philox", 9), 2);
    expect(third.normal(ALONE, { step: 2 })).toEqual(row(batch, 2));
    const numbered = startingAtSample(createNoise("philox", 9), 1);
    const whole = createNoise("philox", 9);
    whole.normal(SHAPE);
    numbered.normal(ALONE);
    expect(numbered.normal(ALONE)).toEqual(row(whole.normal(SHAPE), 1)); // draws without a step count alike
    expect(() => startingAtSample(createNoise("torch-cpu", 9), 2)).toThrow(ArgumentError);
  });
});
