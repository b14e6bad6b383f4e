import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../../src/errors.ts";
import { ALPHA_BARS, noiseOverSignal } from "../../../src/systems/sdseg/method.ts";
import { reverseProcess, samplingTimesteps } from "../../../src/systems/sdseg/sampling.ts";

describe("the schedule", () => {
  it("has the published values", () => {
    expect(ALPHA_BARS[0]).toBeCloseTo(0.9985, 10);
    expect(ALPHA_BARS[499]).toBeCloseTo(0.151077, 6);
    expect(ALPHA_BARS[799]).toBeCloseTo(0.0100751, 7);
    expect(ALPHA_BARS[899]).toBeCloseTo(0.00287115, 8);
    expect(ALPHA_BARS[999]).toBeCloseTo(6.687e-4, 7);
    expect(1 / Math.sqrt(ALPHA_BARS[999]!)).toBeCloseTo(38.67, 2);
    expect(noiseOverSignal(999)).toBeCloseTo(38.66, 2);
    expect(noiseOverSignal(0)).toBeCloseTo(0.039, 3);
    const mean = Array.from(ALPHA_BARS, (_, t) => noiseOverSignal(t)).reduce((a, b) => a + b) / 1000;
    expect(mean).toBeCloseTo(6.13, 2);
  });

  it("visits the released timesteps, and the trailing ones from the noisiest on", () => {
    expect(samplingTimesteps(2, "leading")).toEqual([501, 1]);
    expect(samplingTimesteps(4, "leading")).toEqual([751, 501, 251, 1]);
    expect(samplingTimesteps(2, "trailing")).toEqual([999, 499]);
    expect(samplingTimesteps(1, "trailing")).toEqual([999]);
    expect(samplingTimesteps(3, "leading")).toEqual([999, 667, 334, 1]); // 999 becomes 998 before the 1 is added
    expect(samplingTimesteps(30, "leading")).toHaveLength(31); // strides of 33, as the released code rounds them
    expect(samplingTimesteps(1000, "leading").every((t) => t < 1000)).toBe(true);
  });

  it.each(["leading", "trailing"] as const)("makes falling levels for any number of steps, %s", (spacing) => {
    for (const steps of [1, 2, 7, 50, 333, 999, 1000]) {
      const { sigmas } = reverseProcess("vskip", { sampler: "ddim", steps, spacing, eta: 1 });
      for (let i = 1; i < sigmas.length; i++)
        expect(sigmas[i]!, `${steps}, ${i}`).toBeLessThanOrEqual(sigmas[i - 1]!);
    }
  });

  it("refuses steps outside 1 to 1000, and models without a reverse process", () => {
    for (const steps of [0, 1001, 2.5, Number.NaN])
      expect(() => samplingTimesteps(steps, "leading")).toThrow(ArgumentError);
    const options = { sampler: "ddim", steps: 2, spacing: "leading", eta: 0 } as const;
    expect(() => reverseProcess("image-only", options)).toThrow(/image-only/);
  });
});
