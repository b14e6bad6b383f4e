import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import {
  createNoise,
  fillIntegers,
  fillPermutation,
  fnv1a32,
  philox4x32,
  type Seed,
} from "../../src/tensor/random/index.ts";
import {
  checksum,
  correlation,
  kolmogorov,
  maxError,
  moments,
  normalCdf,
  normals,
  uniforms,
} from "./random-statistics.ts";

describe("philox4x32", () => {
  it("gives the known answers of Random123", () => {
    expect(philox4x32([0, 0], [0, 0, 0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    const ones = 0xffffffff;
    expect(philox4x32([ones, ones], [ones, ones, ones, ones])).toEqual([
      0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd,
    ]);
    expect(philox4x32([0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344])).toEqual([
      0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1,
    ]);
  });
});

describe("addressed streams", () => {
  const seed = 0x123456789abcdn;
  const address = { seed, sample: 7, purpose: "noise", step: 41 };
  const words = (n: number): number[] => {
    const key: [number, number] = [Number(seed & 0xffffffffn), Number(seed >> 32n)];
    const blocks = Array.from({ length: Math.ceil(n / 4) }, (_, b) =>
      philox4x32(key, [b, 7, fnv1a32("noise"), 41]),
    );
    return blocks.flat().slice(0, n);
  };

  it("put block, sample, purpose and step into the counter and the seed into the key", () => {
    expect(Array.from(uniforms(5000, address))).toEqual(words(5000).map((w) => (w >>> 8) * 2 ** -24));
  });

  it("make normals by the documented Box-Muller layout", () => {
    const n = 5000;
    const w = words(n);
    const expected = new Float32Array(n);
    for (let i = 0; i < n; i += 2) {
      const r = Math.sqrt(-2 * Math.log(((w[i]! >>> 8) + 1) * 2 ** -24));
      const theta = 2 * Math.PI * (w[i + 1]! >>> 8) * 2 ** -24;
      expected[i] = r * Math.cos(theta);
      expected[i + 1] = r * Math.sin(theta);
    }
    // At most the last bit of the f32 rounding.
    expect(maxError(normals(n, address), expected)).toBeLessThan(2 ** -22);
  });

  it("keep their bits from version to version", () => {
    expect(checksum(normals(4096, address))).toBe(0x27d1d4bb);
    expect(checksum(uniforms(4096, address))).toBe(0x7ceffa1d);
    expect(checksum(fillIntegers(new Int32Array(4096), -3, 1000, address))).toBe(0x59e44fda);
    expect(checksum(fillPermutation(new Int32Array(4096), address))).toBe(0x6fd0bcb1);
  });

  it("make a short fill the prefix of a longer one", () => {
    const long = normals(5001, address);
    for (const n of [0, 1, 2, 3, 4, 5, 2047, 2048, 2049, 5000]) {
      expect(normals(n, address)).toEqual(long.slice(0, n));
    }
    const integers = (n: number) => fillIntegers(new Int32Array(n), 0, 100, address);
    expect(integers(1023)).toEqual(integers(3000).slice(0, 1023));
  });

  it("take safe integers and bigints as the same seed, up to 64 bits", () => {
    expect(normals(8, { seed: 2 ** 40 + 3 })).toEqual(normals(8, { seed: 2n ** 40n + 3n }));
    expect(normals(8, { seed: 2n ** 64n - 1n })).not.toEqual(normals(8, { seed: 2n ** 32n - 1n }));
  });

  it.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, -1n, 2n ** 64n, "7", null, undefined])(
    "refuse the seed %s",
    (bad) => {
      expect(() => normals(1, { seed: bad as Seed })).toThrow(ArgumentError);
      for (const mode of ["philox", "torch-cpu", "torch-cuda"] as const) {
        expect(() => createNoise(mode, bad as Seed)).toThrow(ArgumentError);
      }
    },
  );

  it.each(["sample", "purpose", "step"])("refuse a %s that is no 32-bit unsigned integer", (field) => {
    for (const bad of [-1, 1.5, 2 ** 32, Number.NaN]) {
      expect(() => normals(1, { seed: 0, [field]: bad })).toThrow(ArgumentError);
    }
  });

  it("hash purposes by FNV-1a over UTF-8", () => {
    expect(fnv1a32("")).toBe(0x811c9dc5);
    expect(fnv1a32("a")).toBe(0xe40c292c);
    expect(fnv1a32("foobar")).toBe(0xbf9cf968);
  });
});

describe("statistics of the addressed streams", () => {
  const n = 2 ** 18;
  const sigmas = (value: number, expected: number, variance: number) =>
    Math.abs(value - expected) / Math.sqrt(variance / n);

  it("normals have the moments and the distribution of N(0, 1)", () => {
    for (const seed of [0, 1, 2n ** 63n]) {
      const x = normals(n, { seed });
      const { mean, variance, kurtosis } = moments(x);
      expect(sigmas(mean, 0, 1)).toBeLessThan(4);
      expect(sigmas(variance, 1, 2)).toBeLessThan(4);
      expect(sigmas(kurtosis, 3, 24)).toBeLessThan(4);
      expect(kolmogorov(x, normalCdf)).toBeLessThan(1.95);
      expect(x.every((v) => Math.abs(v) <= 5.78)).toBe(true);
    }
  });

  it("uniforms are uniform in [0, 1)", () => {
    const x = uniforms(n, { seed: 5 });
    const { mean, variance } = moments(x);
    expect(sigmas(mean, 1 / 2, 1 / 12)).toBeLessThan(4);
    expect(sigmas(variance, 1 / 12, 1 / 180)).toBeLessThan(4);
    expect(kolmogorov(x, (v) => v)).toBeLessThan(1.95);
    expect(x.every((v) => v >= 0 && v < 1)).toBe(true);
  });

  it("one draw from each of many neighbouring addresses is a normal sample too", () => {
    const count = 2 ** 15;
    for (const field of ["seed", "sample", "purpose", "step"]) {
      const x = Float32Array.from({ length: count }, (_, i) => normals(1, { seed: 9, [field]: i })[0]!);
      expect(kolmogorov(x, normalCdf)).toBeLessThan(1.95);
      expect(Math.abs(correlation(x.subarray(1), x.subarray(0, count - 1)))).toBeLessThan(
        4 / Math.sqrt(count),
      );
    }
  });

  it("neighbouring addresses, and neighbouring elements, are uncorrelated", () => {
    const base = { seed: 11, sample: 3, purpose: 5, step: 8 };
    const x = normals(n, base);
    const limit = 4 / Math.sqrt(n);
    for (const field of ["seed", "sample", "purpose", "step"] as const) {
      expect(Math.abs(correlation(x, normals(n, { ...base, [field]: base[field] + 1 })))).toBeLessThan(limit);
    }
    for (let lag = 1; lag <= 8; lag++) {
      expect(Math.abs(correlation(x.subarray(lag), x.subarray(0, n - lag)))).toBeLessThan(1.01 * limit);
    }
  });

  it("integers cover [low, high) evenly, at every size of range", () => {
    const counts = new Array<number>(10).fill(0);
    for (const v of fillIntegers(new Int32Array(n), -4, 6, { seed: 1 })) counts[v + 4]!++;
    const chi2 = counts.reduce((s, c) => s + (c - n / 10) ** 2 / (n / 10), 0);
    expect(chi2).toBeLessThan(27.9); // 9 degrees of freedom, p = 0.001
    for (const [low, high] of [
      [-(2 ** 31), 2 ** 31],
      [-(2 ** 31), 2 ** 31 - 1],
      [0, 2 ** 31],
      [0, 3 * 2 ** 28],
    ] as const) {
      const x = fillIntegers(new Int32Array(2 ** 14), low, high, { seed: 2 });
      const scaled = Float32Array.from(x, (v) => (v - low) / (high - low));
      expect(kolmogorov(scaled, (v) => v)).toBeLessThan(1.95);
    }
    expect(new Set(fillIntegers(new Int32Array(50), 7, 8, { seed: 3 }))).toEqual(new Set([7]));
  });

  it("refuses empty ranges and ranges beyond 32 bits", () => {
    for (const [low, high] of [
      [1, 1],
      [2, 1],
      [0.5, 3],
      [0, 2 ** 31 + 1],
      [Number.NaN, 3],
    ] as const) {
      expect(() => fillIntegers(new Int32Array(1), low, high, { seed: 0 })).toThrow(ArgumentError);
    }
  });

  it("permutations hold every index once and take all orders equally often", () => {
    const p = fillPermutation(new Int32Array(5000), { seed: 4 });
    expect(Array.from(p).sort((a, b) => a - b)).toEqual(Array.from({ length: 5000 }, (_, i) => i));
    expect(Array.from(fillPermutation(new Int32Array(1), { seed: 4 }))).toEqual([0]);
    expect(fillPermutation(new Int32Array(0), { seed: 4 }).length).toBe(0);
    const counts = new Map<string, number>();
    const draws = 24000;
    for (let step = 0; step < draws; step++) {
      const order = fillPermutation(new Int32Array(4), { seed: 4, step }).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    const expected = draws / 24;
    const chi2 = [...counts.values()].reduce((s, c) => s + (c - expected) ** 2 / expected, 0);
    expect(chi2).toBeLessThan(49.7); // 23 degrees of freedom, p = 0.001
  });
});
