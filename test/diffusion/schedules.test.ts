import { describe, expect, it } from "vitest";
import {
  alphasCumprod,
  betaCdf,
  betaDistributionSigmas,
  betaQuantile,
  betas,
  checkBetas,
  distilledTimesteps,
  dynamicShift,
  exponentialSigmas,
  flowOfRatio,
  karrasSigmas,
  learnedDeviation,
  levelTable,
  linspace32,
  polyexponentialSigmas,
  ratioOfFlow,
  rescaleZeroTerminalSnr,
  roundHalfEven,
  schedulerFromConfig,
  shiftFlow,
  solverTimesteps,
  spacedTimesteps,
  stepVariances,
  stretchToTerminal,
  trainingSigmas,
  vpSigmas,
} from "../../src/diffusion/index.ts";
import { ArgumentError } from "../../src/errors.ts";
import { tensor } from "../../src/tensor/index.ts";

const table = (options: Parameters<typeof betas>[0] = {}) => trainingSigmas(alphasCumprod(betas(options)));
const range = { min: 0.03, max: 14.6 };

describe("betas", () => {
  it("are spaced in f32 from both ends, with one rounding each", () => {
    const linear = betas();
    const step = Math.fround((Math.fround(0.02) - Math.fround(1e-4)) / 999);
    expect(linear[0]).toBe(Math.fround(1e-4));
    expect(linear[1]).toBe(Math.fround(Math.fround(1e-4) + step));
    expect(linear[499]).toBe(Math.fround(Math.fround(1e-4) + 499 * step));
    expect(linear[500]).toBe(Math.fround(Math.fround(0.02) - 499 * step));
    expect(linear[999]).toBe(Math.fround(0.02));
    expect(linspace32(0, 1, 5)).toEqual(Float32Array.of(0, 0.25, 0.5, 0.75, 1));
    expect(linspace32(3, 4, 1)).toEqual(Float32Array.of(3));
  });

  it.each([
    ["DDPM's", {}, 0.01000133, 157.40727],
    [
      "Stable Diffusion's",
      { schedule: "scaled_linear", start: 0.00085, end: 0.012 },
      0.0291675348,
      14.6146469,
    ],
    ["1100 steps'", { timesteps: 1100 }, 0.01000133, 261.05557],
  ] as const)("%s levels have the published ends", (_, options, least, greatest) => {
    const sigmas = table(options);
    expect(sigmas[0]! / least).toBeCloseTo(1, 6);
    expect(sigmas[sigmas.length - 1]! / greatest).toBeCloseTo(1, 7);
  });

  it.each(["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "exp", "laplace"] as const)(
    "%s: noise grows with the timestep",
    (schedule) => {
      const sigmas = table({ schedule });
      expect(sigmas.every((s, i) => Number.isFinite(s) && (i === 0 || s >= sigmas[i - 1]!))).toBe(true);
    },
  );

  it("with zero terminal SNR keep the first level and lose all signal at the last", () => {
    const plain = betas({ schedule: "scaled_linear", start: 0.00085, end: 0.012 });
    const bars = alphasCumprod(rescaleZeroTerminalSnr(plain));
    expect(bars[0]).toBeCloseTo(alphasCumprod(plain)[0]!, 6);
    expect(bars[999]).toBe(0);
    expect(Number.isFinite(trainingSigmas(bars)[999])).toBe(true);
  });

  it("that are none are refused", () => {
    expect(() => betas({ timesteps: 0 })).toThrow(ArgumentError);
    expect(() => betas({ schedule: "cubic" as "linear" })).toThrow(/known are linear/);
    expect(() => betas({ start: Number.NaN })).toThrow(/beta 0 must be a finite number in \[0, 1\], got NaN/);
    expect(() => betas({ end: 2 })).toThrow(/beta 5\d\d must be/);
    expect(() => checkBetas(new Float32Array(0))).toThrow(/at least one/);
  });
});

describe("timesteps", () => {
  it("are spaced as published", () => {
    expect(spacedTimesteps("leading", 5, { offset: 1 })).toEqual([801, 601, 401, 201, 1]);
    expect(spacedTimesteps("trailing", 4)).toEqual([999, 749, 499, 249]);
    expect(spacedTimesteps("linspace", 4)).toEqual([999, 666, 333, 0]);
    expect(spacedTimesteps("linspace", 3, { fractional: true })).toEqual([999, 499.5, 0]);
    expect(solverTimesteps("linspace", 4)).toEqual([999, 749, 500, 250]);
    expect(distilledTimesteps(4, 50, 1000)).toEqual([999, 759, 499, 259]);
    expect([0.5, 1.5, 2.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 2, 3]);
  });

  it("of PNDM name the first twice and the Runge-Kutta ones thrice", async () => {
    const { timesteps } = schedulerFromConfig(
      { _class_name: "PNDMScheduler", steps_offset: 1 },
      { steps: 10 },
    );
    expect(timesteps).toEqual([901, 801, 701, 601, 501, 401, 301, 201, 101, 1]);
  });

  it("of one step are the noisiest, or the first", () => {
    expect(spacedTimesteps("trailing", 1)).toEqual([999]);
    expect(spacedTimesteps("leading", 1)).toEqual([0]);
    expect(solverTimesteps("linspace", 1)).toEqual([999]);
  });

  it("cannot be none, or more than the network was trained with", () => {
    expect(() => spacedTimesteps("leading", 0)).toThrow(/positive integer, got 0/);
    expect(() => spacedTimesteps("trailing", 1001)).toThrow(/1001 steps are more than the 1000/);
    expect(() => spacedTimesteps("even" as "leading", 10)).toThrow(/leading, trailing or linspace/);
    expect(() => spacedTimesteps("leading", 1000, { offset: 1 })).toThrow(/reaches timestep 1000 of 1000/);
    expect(() => distilledTimesteps(60, 50, 1000)).toThrow(ArgumentError);
  });

  it("and levels are inverse to each other", () => {
    const levels = levelTable(table());
    for (const t of [0, 1, 17, 500, 998, 999]) expect(levels.timestepAt(levels.sigmaAt(t))).toBeCloseTo(t, 3);
    expect(levels.timestepAt(1e9)).toBe(999);
    expect(levels.timestepAt(0)).toBe(0);
    expect(levels.sigmaAt(2.5)).toBeCloseTo((levels.sigmaAt(2) + levels.sigmaAt(3)) / 2, 7);
    expect(() => levelTable(Float32Array.of(1, 0.5))).toThrow(/must rise/);
  });
});

describe("noise levels", () => {
  const makers = {
    karras: karrasSigmas,
    exponential: exponentialSigmas,
    polyexponential: polyexponentialSigmas,
    beta: betaDistributionSigmas,
  };

  it.each(Object.entries(makers))("%s: from the greatest to the least, falling", (_, make) => {
    const sigmas = make(20, range);
    expect(sigmas.length).toBe(20);
    expect(sigmas[0]).toBeCloseTo(range.max, 10);
    expect(sigmas[19]).toBeCloseTo(range.min, 10);
    expect(sigmas.every((s, i) => i === 0 || s < sigmas[i - 1]!)).toBe(true);
    expect(make(1, range)[0]).toBeCloseTo(range.max, 10);
  });

  it.each(Object.entries(makers))("%s: refuses a range that is none, and no steps", (_, make) => {
    expect(() => make(10, { min: 2, max: 1 })).toThrow(/sigma_min < sigma_max, got 2 and 1/);
    expect(() => make(10, { min: 1, max: 1 })).toThrow(ArgumentError);
    expect(() => make(10, { min: 0, max: 1 })).toThrow(ArgumentError);
    expect(() => make(10, { min: Number.NaN, max: 1 })).toThrow(ArgumentError);
    expect(() => make(0, range)).toThrow(/positive integer/);
  });

  it("take the values of their formulas", () => {
    expect(karrasSigmas(3, { min: 0.002, max: 80 })[1]).toBeCloseTo(
      ((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7,
      10,
    );
    expect(exponentialSigmas(3, { min: 1, max: 4 })[1]).toBeCloseTo(2, 12);
    expect(polyexponentialSigmas(3, { min: 1, max: 16 }, 2)[1]).toBeCloseTo(2, 12);
    // beta_d / 2 + beta_min = 10.05 at time 1
    expect(vpSigmas(2)[0]).toBeCloseTo(Math.sqrt(Math.exp(10.05) - 1), 8);
  });

  it("of flows shift, stretch and convert", () => {
    expect(shiftFlow(0.5, 3)).toBeCloseTo(0.75, 12);
    expect(shiftFlow(1, 3)).toBe(1);
    expect(dynamicShift(256)).toBe(0.5);
    expect(dynamicShift(4096)).toBeCloseTo(1.15, 12);
    expect(stretchToTerminal([1, 0.6, 0.2], 0.1)[2]).toBeCloseTo(0.1, 12);
    for (const s of [0.01, 0.5, 0.999]) expect(flowOfRatio(ratioOfFlow(s))).toBeCloseTo(s, 12);
    expect(Number.isFinite(ratioOfFlow(1))).toBe(true);
  });

  it("of flows with Karras spacing are as published", () => {
    const config = {
      _class_name: "UniPCMultistepScheduler",
      use_karras_sigmas: true,
      use_flow_sigmas: true,
      prediction_type: "flow_prediction",
      sigma_min: 0.01,
      sigma_max: 200,
    };
    const { sigmas } = schedulerFromConfig(config, { steps: 5 });
    [0.99502486, 0.97874546, 0.87748843, 0.36049718, 0.00990099, 0].forEach((flow, i) => {
      expect(flowOfRatio(sigmas[i]!)).toBeCloseTo(flow, 6);
    });
  });
});

describe("the beta distribution", () => {
  it("has the quantiles of closed forms", () => {
    for (const p of [0.01, 0.3, 0.9]) {
      expect(betaQuantile(p, 1, 1)).toBeCloseTo(p, 12);
      expect(betaQuantile(p, 3, 1)).toBeCloseTo(p ** (1 / 3), 12);
      // Arcsine law.
      expect(betaQuantile(p, 0.5, 0.5)).toBeCloseTo(Math.sin((p * Math.PI) / 2) ** 2, 12);
      expect(betaCdf(betaQuantile(p, 0.6, 0.6), 0.6, 0.6)).toBeCloseTo(p, 12);
    }
    expect(() => betaQuantile(2, 1, 1)).toThrow(ArgumentError);
  });
});

describe("variances of a step, as published", () => {
  const linear = table();
  const cosine = table({ schedule: "squaredcos_cap_v2" });
  const small = (sigmas: Float32Array, t: number, previous: number) =>
    stepVariances(sigmas[t]!, sigmas[previous]!).small;

  it.each([
    [420, 400, 0.14771],
    [980, 960, 0.3246],
    [487, 486, 0.00979],
    [999, 998, 0.02],
  ])("from timestep %d to %d", (t, previous, expected) => {
    expect(Math.abs(small(linear, t, previous) - expected)).toBeLessThan(1e-5);
  });

  it.each([
    [487, 0.0549625],
    [999, 0.9994987],
  ])("deviation of the cosine schedule at %d", (t, expected) => {
    expect(Math.abs(Math.sqrt(small(cosine, t, t - 1)) - expected)).toBeLessThan(1e-5);
  });

  it.each([
    [1, -10.17129],
    [487, -5.7998052],
    [999, -0.0010011],
  ])("logarithm of a learned one, halfway above the middle, at %d", async (t, expected) => {
    const value = tensor(Float32Array.of(0.5));
    const [deviation] = await learnedDeviation(value, "range", cosine[t]!, cosine[t - 1]!).toArray();
    expect(Math.abs(2 * Math.log(deviation!) - expected)).toBeLessThan(
      2e-3 * Math.max(1, Math.abs(expected)) * 0.1,
    );
  });
});
