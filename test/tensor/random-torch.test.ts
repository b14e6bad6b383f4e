import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import {
  createNoise,
  type NoiseMode,
  type NoiseState,
  philox4x32,
  resumeNoise,
  TorchCpuGenerator,
  TorchCudaGenerator,
  torchNoise,
} from "../../src/tensor/random/index.ts";
import { maxError, moments, normals } from "./random-statistics.ts";

const fixture = (name: string) => new URL(`../fixtures/torch-rng/${name}`, import.meta.url);

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
