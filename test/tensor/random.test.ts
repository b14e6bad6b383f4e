import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import {
  createNoise,
  fillIntegers,
  fillNormal,
  fillPermutation,
  fillUniform,
  fnv1a32,
  type NoiseMode,
  type NoiseState,
  philox4x32,
  type RandomAddress,
  resumeNoise,
  type Seed,
  TorchCpuGenerator,
  TorchCudaGenerator,
  torchNoise,
} from "../../src/tensor/random/index.ts";

const fixture = (name: string) => new URL(`../fixtures/torch-rng/${name}`, import.meta.url);
const normals = (n: number, address: RandomAddress) => fillNormal(new Float32Array(n), address);
const uniforms = (n: number, address: RandomAddress) => fillUniform(new Float32Array(n), address);

function maxError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  for (let i = 0; i < actual.length; i++) worst = Math.max(worst, Math.abs(actual[i]! - expected[i]!));
  return worst;
}

/** Mean, variance and kurtosis. */
function moments(x: Float32Array): { mean: number; variance: number; kurtosis: number } {
  const mean = x.reduce((s, v) => s + v, 0) / x.length;
  let m2 = 0;
  let m4 = 0;
  for (const v of x) {
    const d = (v - mean) ** 2;
    m2 += d / x.length;
    m4 += (d * d) / x.length;
  }
  return { mean, variance: m2, kurtosis: m4 / (m2 * m2) };
}

function correlation(a: Float32Array, b: Float32Array): number {
  let ab = 0;
  for (let i = 0; i < a.length; i++) ab += a[i]! * b[i]!;
  return ab / a.length;
}

/** Kolmogorov-Smirnov distance times sqrt(n): above 1.95 once in a thousand. */
function kolmogorov(x: Float32Array, cdf: (v: number) => number): number {
  const sorted = Float32Array.from(x).sort();
  let worst = 0;
  for (let i = 0; i < x.length; i++) {
    const p = cdf(sorted[i]!);
    worst = Math.max(worst, Math.abs(p - i / x.length), Math.abs(p - (i + 1) / x.length));
  }
  return worst * Math.sqrt(x.length);
}

/** Normal distribution function by Abramowitz and Stegun 7.1.26, error below 1.5e-7. */
function normalCdf(v: number): number {
  const z = Math.abs(v) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * z);
  const tail =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const erf = 1 - tail * Math.exp(-z * z);
  return v < 0 ? (1 - erf) / 2 : (1 + erf) / 2;
}

/** FNV-1a of the bytes, to pin an array's bits. */
function checksum(array: Float32Array | Int32Array): number {
  let hash = 0x811c9dc5;
  for (const byte of new Uint8Array(array.buffer)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

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

/** Tensors of the reference file, by name. */
function readReference(): Map<string, number[]> {
  const file = readFileSync(fixture("expected.safetensors"));
  const headerSize = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + headerSize)) as Record<
    string,
    { dtype: "F32" | "I64"; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, number[]>();
  for (const [name, { dtype, data_offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const bytes = Uint8Array.from(
      file.subarray(8 + headerSize + data_offsets[0], 8 + headerSize + data_offsets[1]),
    );
    const values = dtype === "F32" ? new Float32Array(bytes.buffer) : new BigInt64Array(bytes.buffer);
    tensors.set(name, Array.from(values, Number));
  }
  return tensors;
}

describe("TorchCpuGenerator equals torch on the CPU", () => {
  const reference = readReference();

  it.each([...reference.keys()])("%s", (name) => {
    const [kind, seedText, argument, detail] = name.split(".") as [string, string, string, string?];
    const generator = new TorchCpuGenerator(Number(seedText));
    const expected = reference.get(name)!;
    if (kind === "randperm") {
      expect(Array.from(generator.permutation(Number(argument)))).toEqual(expected);
    } else if (kind === "randint") {
      const [low, high] = argument.split("-").map(Number) as [number, number];
      expect(Array.from(generator.integers(low, high, Number(detail)))).toEqual(expected);
    } else {
      const n = Number(argument);
      const all = kind === "rand" ? generator.uniform(n) : generator.normal(n);
      const part = detail === "tail" ? all.slice(-expected.length) : all.slice(0, expected.length);
      expect(maxError(part, expected)).toBeLessThanOrEqual(kind === "rand" || n < 16 ? 0 : 5e-7);
    }
  });

  type Rows = Record<string, number[]> & { latent16384_sum: number };
  const rows = JSON.parse(readFileSync(fixture("rng.json"), "utf8")) as Record<string, Rows>;

  it.each(Object.keys(rows))("seed %s, including its low 32 bits and the second call", (seedText) => {
    const row = rows[seedText]!;
    const fresh = () => new TorchCpuGenerator(BigInt(seedText));
    expect(Array.from(fresh().uniform(6))).toEqual(row.rand6);
    expect(Array.from(fresh().normal(7))).toEqual(row.randn7);
    expect(Array.from(fresh().integers(0, 1000, 6))).toEqual(row.randint1000_6);
    expect(maxError(fresh().normal(20), row.randn20!)).toBeLessThan(5e-7);
    const generator = fresh();
    const first = generator.normal(768);
    expect(maxError(first.slice(0, 8), row.randn768_first8!)).toBeLessThan(5e-7);
    expect(maxError(first.slice(-8), row.randn768_last8!)).toBeLessThan(5e-7);
    expect(maxError(generator.normal(768).slice(0, 4), row.second768_first4!)).toBeLessThan(5e-7);
    const latent = fresh().normal(16384);
    expect(maxError(latent.slice(-4), row.latent16384_last4!)).toBeLessThan(5e-7);
    const sum = latent.reduce((s, v) => s + v, 0);
    expect(Math.abs(sum - row.latent16384_sum)).toBeLessThan(1e-3);
  });

  it("keeps the second half of a pair from one short call to the next", () => {
    const whole = new TorchCpuGenerator(3).normal(9);
    const parts = new TorchCpuGenerator(3);
    expect([...parts.normal(4), ...parts.normal(1), ...parts.normal(4)]).toEqual(Array.from(whole));
  });

  it("gives nothing for no elements, and leaves the stream where it is", () => {
    const generator = new TorchCpuGenerator(3);
    expect(generator.normal(0).length + generator.uniform(0).length + generator.permutation(0).length).toBe(
      0,
    );
    expect(generator.uniform(4)).toEqual(new TorchCpuGenerator(3).uniform(4));
  });

  it("refuses what torch versions disagree on, and malformed sizes and bounds", () => {
    const generator = new TorchCpuGenerator(0);
    expect(() => generator.integers(0, 2 ** 28, 1)).toThrow(ArgumentError);
    expect(() => generator.integers(3, 3, 1)).toThrow(ArgumentError);
    expect(() => generator.permutation(2 ** 27 + 1)).toThrow(ArgumentError);
    for (const bad of [-1, 1.5, Number.NaN]) expect(() => generator.normal(bad)).toThrow(ArgumentError);
  });
});

describe("TorchCudaGenerator", () => {
  it("gives the values that stable-diffusion-webui publishes for seed 0", () => {
    const published = [
      -0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122, -0.32838709,
      -1.07454231, -0.36314407, -1.67105067, 2.26550497,
    ];
    // Half a unit in the last place of an f32 between 2 and 4.
    expect(maxError(new TorchCudaGenerator(0).normal(12), published)).toBeLessThan(1.3e-7);
  });

  it("draws each call from the next block of every thread", () => {
    const generator = new TorchCudaGenerator(5);
    generator.normal(100);
    expect(generator.normal(100)).toEqual(new TorchCudaGenerator(5, { offset: 1 }).normal(100));
    expect(generator.normal(0).length).toBe(0);
    expect(generator.state().offset).toBe(2);
  });

  it("assigns elements beyond the thread limit to lanes and rounds as the grid-stride loop does", () => {
    const threads = 256;
    const n = 5 * threads + 10;
    const generator = new TorchCudaGenerator(12, { maxThreads: threads });
    const x = generator.uniform(n);
    expect(generator.state().offset).toBe(2);
    for (const i of [0, 255, 256, 600, 1023, 1024, n - 1]) {
      const round = Math.floor(i / (4 * threads));
      const lane = Math.floor((i % (4 * threads)) / threads);
      const word = philox4x32([12, 0], [round, 0, i % threads, 0])[lane]!;
      expect(x[i]).toBe(Math.fround(Math.fround(word) * 2 ** -32 + 2 ** -33));
    }
    const z = new TorchCudaGenerator(12, { maxThreads: threads }).normal(4 * threads);
    const [, , w2, w3] = philox4x32([12, 0], [0, 0, 17, 0]);
    const r = Math.sqrt(-2 * Math.log((w2 + 0.5) * 2 ** -32));
    const theta = (2 * Math.PI * (w3 + 0.5)) / 2 ** 32;
    expect(z[2 * threads + 17]).toBeCloseTo(r * Math.sin(theta), 5);
    expect(z[3 * threads + 17]).toBeCloseTo(r * Math.cos(theta), 5);
  });

  it("does not depend on the thread limit while the elements fit the threads", () => {
    const limited = new TorchCudaGenerator(1, { maxThreads: 40960 }).normal(16384);
    expect(limited).toEqual(new TorchCudaGenerator(1).normal(16384));
  });

  it("has the moments of a normal distribution, pooled over seeds and whatever the thread limit", () => {
    const n = 2 ** 12;
    const seeds = 64;
    for (const maxThreads of [256, 2560, 2 ** 20]) {
      const pooled = new Float32Array(n * seeds);
      let chi2 = 0;
      for (let seed = 0; seed < seeds; seed++) {
        const x = new TorchCudaGenerator(seed, { maxThreads }).normal(n);
        pooled.set(x, n * seed);
        chi2 += moments(x).mean ** 2 * n;
      }
      const { mean, variance, kurtosis } = moments(pooled);
      expect(Math.abs(mean)).toBeLessThan(4 / Math.sqrt(n * seeds));
      expect(Math.abs(variance - 1)).toBeLessThan(4 * Math.sqrt(2 / (n * seeds)));
      expect(Math.abs(kurtosis - 3)).toBeLessThan(4 * Math.sqrt(24 / (n * seeds)));
      // The means of the seeds scatter as independent samples do: 64 degrees of freedom, four standard deviations.
      expect(Math.abs(chi2 - seeds)).toBeLessThan(4 * Math.sqrt(2 * seeds));
    }
  });

  it("refuses thread limits that no launch can have, and more elements than one launch takes", () => {
    for (const maxThreads of [0, -256, 100, Number.NaN]) {
      expect(() => new TorchCudaGenerator(0, { maxThreads })).toThrow(ArgumentError);
    }
    expect(() => new TorchCudaGenerator(0).normal(2 ** 29 + 1)).toThrow(ArgumentError);
  });
});

describe("noise sources", () => {
  const modes: NoiseMode[] = ["philox", "torch-cpu", "torch-cuda"];

  it.each(modes)("%s goes on after a round trip of its state through JSON as if never stopped", (mode) => {
    const source = createNoise(mode, 2n ** 60n + 12345n);
    source.normal(7);
    source.uniform([2, 3]);
    const resumed = resumeNoise(JSON.parse(JSON.stringify(source.state())) as NoiseState);
    expect(resumed.mode).toBe(mode);
    for (const shape of [5, [3, 1, 4], 40]) {
      const expected = source.normal(shape);
      expect(resumed.normal(shape)).toEqual(expected);
      expect(expected.every(Number.isFinite)).toBe(true);
    }
    expect(resumed.state()).toEqual(source.state());
  });

  it.each(modes)("%s gives new numbers on every call and the same ones for the same seed", (mode) => {
    const [a, b] = [createNoise(mode, 1), createNoise(mode, 1)];
    const first = a.normal([2, 8]);
    expect(b.normal([2, 8])).toEqual(first);
    expect(a.normal([2, 8])).not.toEqual(first);
    expect(createNoise(mode, 2).normal([2, 8])).not.toEqual(first);
  });

  it("philox gives sample i of a batch the noise it has alone, in any batch and any order of calls", () => {
    const at = { purpose: "latent", step: 4 };
    const batch = createNoise("philox", 77).normal([5, 3, 7], at);
    const other = createNoise("philox", 77);
    for (const i of [3, 0, 4, 1, 2]) {
      expect(other.normal([1, 3, 7], { ...at, sample: i })).toEqual(batch.slice(21 * i, 21 * (i + 1)));
      expect(other.normal(21, { ...at, sample: i })).toEqual(batch.slice(21 * i, 21 * (i + 1)));
    }
    expect(other.normal([2, 21], { ...at, sample: 3 })).toEqual(batch.slice(63));
  });

  it("philox numbers only the draws without a step", () => {
    const source = createNoise("philox", 8);
    source.normal(4, { step: 100 });
    expect(source.normal(4)).toEqual(normals(4, { seed: 8, step: 0 }));
    expect(source.normal(4)).toEqual(normals(4, { seed: 8, step: 1 }));
  });

  it("torch sources see only the number of elements", () => {
    for (const mode of ["torch-cpu", "torch-cuda"] as const) {
      expect(createNoise(mode, 3).normal([2, 4, 8, 8], { sample: 9 })).toEqual(
        createNoise(mode, 3).normal(512),
      );
    }
    const limited = new TorchCudaGenerator(3, { maxThreads: 256 });
    const source = torchNoise(limited);
    expect(source.normal([3, 200]).length).toBe(600);
    expect(resumeNoise(source.state()).normal(600)).toEqual(source.normal(600));
  });

  it.each(modes)("%s takes empty shapes and scalars, and refuses shapes that are none", (mode) => {
    const source = createNoise(mode, 0);
    expect(source.normal([]).length).toBe(1);
    expect(source.normal(0).length + source.normal([0, 4]).length + source.normal([4, 0]).length).toBe(0);
    for (const bad of [-1, 1.5, [2, -3], [Number.NaN]]) expect(() => source.normal(bad)).toThrow(ShapeError);
  });

  it("refuses unknown modes and malformed states", () => {
    expect(() => createNoise("mt" as NoiseMode, 0)).toThrow(ArgumentError);
    const good = new TorchCpuGenerator(0).state();
    for (const bad of [
      { mode: "mt" },
      { mode: "philox", seed: "-1", draws: 0 },
      { mode: "philox", seed: "1", draws: -1 },
      { mode: "torch-cuda", seed: 5, offset: 0 },
      { mode: "torch-cuda", seed: "5", offset: 0.5 },
      { ...good, words: good.words.slice(1) },
      { ...good, words: good.words.map(() => -1) },
      { ...good, used: 625 },
      { ...good, kept: "1" },
    ]) {
      expect(() => resumeNoise(bad as unknown as NoiseState)).toThrow(ArgumentError);
    }
  });
});
