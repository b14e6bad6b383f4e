import { describe, expect, it } from "vitest";
import {
  clip,
  consistencyPrediction,
  type Denoise,
  dynamicThreshold,
  edmPrediction,
  epsilonPrediction,
  flowPrediction,
  flowPredictionAtRatio,
  mapDenoised,
  networkDenoiser,
  noiseWeights,
  type Parameterization,
  ratioOfFlow,
  samplePrediction,
  scorePrediction,
  splitVariance,
  toDenoised,
  toPrediction,
  vPrediction,
  weightedSum,
} from "../../src/diffusion/index.ts";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { createNoise, type Tensor, tensor } from "../../src/tensor/index.ts";

const SHAPE = [2, 3, 4];
const draw = (step: number): Tensor =>
  tensor(createNoise("philox", 1).normal(SHAPE, { step }), { shape: SHAPE });
const [clean, noise] = [draw(0), draw(1)];

async function expectEqual(a: Tensor, b: Tensor, tolerance = 1e-5): Promise<void> {
  const difference = await weightedSum([1, a], [-1, b]).toArray();
  expect(Math.max(...difference.map(Math.abs))).toBeLessThan(tolerance);
}

/** What each network should predict, of clean sample, noise and level. */
const TARGETS: [name: string, p: Parameterization, target: (sigma: number) => Tensor][] = [
  ["epsilon", epsilonPrediction, () => noise],
  ["sample", samplePrediction, () => clean],
  [
    "v",
    vPrediction,
    (s) => weightedSum([1 / Math.sqrt(1 + s * s), noise], [-s / Math.sqrt(1 + s * s), clean]),
  ],
  ["score", scorePrediction, (s) => weightedSum([-1 / s, noise])],
  ["flow in ratio coordinates", flowPredictionAtRatio, () => weightedSum([1, noise], [-1, clean])],
];

describe("parameterisations", () => {
  it.each(TARGETS)("%s: the true prediction gives the true clean sample", async (_, p, target) => {
    for (const sigma of [0.01, 0.7, 30]) {
      const x = weightedSum([1, clean], [sigma, noise]);
      await expectEqual(toDenoised(p, x, target(sigma), sigma), clean, 1e-6 * Math.max(10, 30 * sigma));
    }
  });

  it("flow: so does the velocity, in the flow's own coordinates", async () => {
    for (const sigma of [0.01, 0.5, 1]) {
      const x = weightedSum([1 - sigma, clean], [sigma, noise]);
      const velocity = weightedSum([1, noise], [-1, clean]);
      await expectEqual(toDenoised(flowPrediction, x, velocity, sigma), clean);
    }
  });

  const ALL: [string, Parameterization][] = [
    ...TARGETS.map(([name, p]): [string, Parameterization] => [name, p]),
    ["flow", flowPrediction],
    ["EDM", edmPrediction(0.5)],
    ["EDM with the sign of v", edmPrediction(1, -1)],
    ["consistency", consistencyPrediction()],
  ];

  it.each(ALL)("%s: prediction and clean sample are inverse to each other", async (_, p) => {
    for (const sigma of [0.05, 0.4, 0.9]) {
      const x = weightedSum([1, clean], [sigma, noise]);
      await expectEqual(toPrediction(p, x, toDenoised(p, x, draw(2), sigma), sigma), draw(2), 1e-3);
      await expectEqual(toDenoised(p, x, toPrediction(p, x, draw(3), sigma), sigma), draw(3), 1e-4);
    }
  });

  it("are not inverted where the prediction does not matter", () => {
    expect(() => toPrediction(epsilonPrediction, clean, clean, 0)).toThrow(ArgumentError);
  });

  it("EDM with data of deviation 1 and v agree but for the sign", () => {
    for (const sigma of [0.1, 1, 10]) {
      const [edm, v] = [edmPrediction(1, -1)(sigma), vPrediction(sigma)];
      expect(edm.input).toBeCloseTo(v.input, 12);
      expect(edm.skip).toBeCloseTo(v.skip, 12);
      expect(edm.output).toBeCloseTo(v.output, 12);
    }
  });

  it("EDM keeps inputs and targets at variance 1", () => {
    for (const sigma of [0.01, 0.5, 50]) {
      const { input, skip, output } = edmPrediction(0.5)(sigma);
      expect(input ** 2 * (0.25 + sigma ** 2)).toBeCloseTo(1, 10);
      // Target (x0 - skip x) / output.
      expect(((1 - skip) ** 2 * 0.25 + skip ** 2 * sigma ** 2) / output ** 2).toBeCloseTo(1, 8);
    }
  });

  it("consistency models are the identity at their least level", () => {
    const { skip, output } = consistencyPrediction(0.002, 0.5)(0.002);
    expect([skip, output]).toEqual([1, 0]);
  });

  it("weights of the noise have limits at level 0", () => {
    expect(noiseWeights(epsilonPrediction, 0)).toEqual([0, 1]);
    const [ofX, ofV] = noiseWeights(vPrediction, 0);
    expect(ofX).toBeCloseTo(0, 5);
    expect(ofV).toBeCloseTo(1, 10);
  });
});

describe("a network as a denoiser", () => {
  it("is given the scaled sample and the timestep of the level", async () => {
    const seen: [Tensor, number][] = [];
    const denoise = networkDenoiser(
      (x, t) => {
        seen.push([x, t]);
        return noise;
      },
      { parameterization: epsilonPrediction, timestep: (sigma) => 100 * sigma },
    );
    const x = weightedSum([1, clean], [3, noise]);
    await expectEqual(await denoise(x, 3), clean);
    expect(seen[0]![1]).toBe(300);
    await expectEqual(seen[0]![0], weightedSum([1 / Math.sqrt(10), x]));
  });

  it("takes lazily computed samples and predictions", async () => {
    const denoise = networkDenoiser((x) => x.mul(2), {
      parameterization: samplePrediction,
      timestep: () => 0,
    });
    await expectEqual(await denoise(clean.add(noise), 0), weightedSum([2, clean], [2, noise]));
  });

  it("that learned a variance is split in two", async () => {
    const both = clean.concat(noise, 1);
    const { network, variance } = splitVariance(() => both);
    expect(() => variance()).toThrow(ArgumentError);
    await expectEqual(await network(clean, 0), clean, 1e-9);
    await expectEqual(variance(), noise, 1e-9);
    await expect(Promise.resolve(splitVariance(() => clean).network(clean, 0))).rejects.toThrow(ShapeError);
  });
});

describe("limits of the clean sample", () => {
  const x = tensor(Float32Array.of(-3, -0.5, 0.5, 2, 0.1, 0.2, 0.3, 0.4), { shape: [2, 4] });

  it("clip clamps", async () => {
    expect(await clip(1)(x).toArray()).toEqual([-1, -0.5, 0.5, 1, ...[0.1, 0.2, 0.3, 0.4].map(Math.fround)]);
    expect(() => clip(0)).toThrow(ArgumentError);
  });

  it("dynamic thresholding divides each sample by its own quantile, and never by less than 1", async () => {
    const [a, b, c, d, ...rest] = await dynamicThreshold(1, 100)(x).toArray();
    expect([a, d]).toEqual([-1, Math.fround(2 / 3)]);
    expect(b).toBeCloseTo(-0.5 / 3, 6);
    expect(c).toBeCloseTo(0.5 / 3, 6);
    expect(rest).toEqual([0.1, 0.2, 0.3, 0.4].map(Math.fround));
    // Between order statistics: |x| sorted 0.5, 0.5, 2, 3; the median is 1.25.
    expect((await dynamicThreshold(0.5, 100)(x).toArray())[0]).toBe(-1);
    expect((await dynamicThreshold(0.5, 100)(x).toArray())[1]).toBeCloseTo(-0.4, 6);
    // Its greatest divisor wins over 1.
    expect((await dynamicThreshold(0.9, 0.5)(x).toArray())[4]).toBeCloseTo(0.2, 6);
    expect(() => dynamicThreshold(2)).toThrow(ArgumentError);
  });

  it("apply to each guess of a denoiser", async () => {
    const denoise: Denoise = (at) => weightedSum([10, at]);
    expect(await (await mapDenoised(denoise, clip(1))(x, 1)).toArray()).toEqual([-1, -1, 1, 1, 1, 1, 1, 1]);
  });
});

describe("weighted sums", () => {
  it("keep the first term's dtype and leave out weights of zero", async () => {
    const bad = tensor(Float32Array.of(Number.NaN, 1));
    const half = tensor([1, 2], { dtype: "f16" });
    expect(await weightedSum([2, tensor(Float32Array.of(1, 2))], [0, bad]).toArray()).toEqual([2, 4]);
    expect(weightedSum([1, half], [1, tensor(Float32Array.of(1, 1))]).dtype).toBe("f16");
    expect(await weightedSum([1, half], [1, tensor(Float32Array.of(1, 1))]).toArray()).toEqual([2, 3]);
    expect(weightedSum([1, tensor(Float64Array.of(1))]).dtype).toBe("f64");
  });

  it("refuse what cannot be summed", () => {
    expect(() => weightedSum([1, clean], [1, tensor(Float32Array.of(1))])).toThrow(ShapeError);
    expect(() => weightedSum([Number.NaN, clean])).toThrow(/finite weights, got NaN/);
    expect(() => weightedSum([Number.NaN, clean.mul(2)])).toThrow(/finite weights, got NaN/);
    expect(() => weightedSum([1, clean.mul(2)], [1, tensor(Float32Array.of(1))])).toThrow(ShapeError);
  });

  it("of huge noise keep the clean sample: flow ratios at pure noise", () => {
    expect(ratioOfFlow(1)).toBeGreaterThan(1e9);
  });
});
