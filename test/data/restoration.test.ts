/** Degradations are the same for the same seed, have the statistics they name, and keep the truth; pairs are found by names. */
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  bandingNoise,
  correlatedNoise,
  createDraw,
  DEGRADATION_NAMES,
  DEGRADATIONS,
  deadLeaves,
  degradedPairs,
  type FloatPicture,
  fromArray,
  gaussianNoise,
  impulseNoise,
  lowLight,
  noiseOf,
  openRestorationPairs,
  pairedFiles,
} from "../../src/data/index.ts";
import { ArgumentError, FormatError } from "../../src/errors.ts";
import { encodePicture } from "../../src/io/index.ts";

const flat = (value: number, size = 64, channels = 3): FloatPicture => ({
  width: size,
  height: size,
  channels,
  data: new Float32Array(size * size * channels).fill(value),
});
const mean = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((a, b) => a + b, 0) / values.length;
/** Mean product of the distances from the means. */
const covariance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  const [ma, mb] = [mean(a), mean(b)];
  return mean(Array.from(a, (v, i) => (v - ma) * (b[i]! - mb)));
};
const deviation = (values: ArrayLike<number>): number => Math.sqrt(covariance(values, values));
const correlation = (a: number[], b: number[]): number => covariance(a, b) / (deviation(a) * deviation(b));

const through = async (step: (typeof DEGRADATIONS)["noise"]["step"], image: FloatPicture, index = 0) =>
  (await step({ image }, createDraw(0, index))).image.data;

describe("noise", () => {
  it("of a known sigma has it, and is not cut off", async () => {
    const n = (await through(noiseOf(25).step, flat(0))).map((v) => v * 255);
    expect(Math.abs(mean(n))).toBeLessThan(1);
    expect(Math.abs(deviation(n) - 25)).toBeLessThan(0.6);
    expect(Math.min(...(await through(gaussianNoise([0.1, 0.1]), flat(0))))).toBe(0);
  });

  it("that is correlated has neighbours and colours that are alike, and grows with brightness", async () => {
    const step = correlatedNoise({ strength: [0.1, 0.1], blur: [0.9, 0.9], clip: false });
    const [dark, bright] = [await through(step, flat(0)), await through(step, flat(1))];
    // s sqrt(0.4) and s sqrt(1.6).
    expect(deviation(dark)).toBeCloseTo(0.1 * Math.sqrt(0.4), 2);
    expect(deviation(bright)).toBeCloseTo(0.1 * Math.sqrt(1.6), 2);
    const red = Array.from({ length: 64 * 64 }, (_, i) => bright[3 * i]!);
    const green = Array.from({ length: 64 * 64 }, (_, i) => bright[3 * i + 1]!);
    expect(Math.abs(correlation(red, green) - 0.73)).toBeLessThan(0.08);
    const [left, right] = [red.filter((_, i) => i % 64 < 63), red.filter((_, i) => i % 64 > 0)];
    // exp(-1 / (4 sigma²)) of a Gaussian blur.
    expect(Math.abs(correlation(left, right) - Math.exp(-1 / (4 * 0.81)))).toBeLessThan(0.08);
  });

  it("in rows is one value for a row and channel; impulses are black or white", async () => {
    const rows = await through(bandingNoise([0.1, 0.1]), flat(0.5));
    const lines = Array.from(
      { length: 64 },
      (_, y) => new Set(Array.from({ length: 64 }, (_, x) => rows[(y * 64 + x) * 3]!)),
    );
    expect(lines.every((line) => line.size === 1)).toBe(true);
    const impulses = await through(impulseNoise([0.2, 0.2]), flat(0.5));
    expect(new Set(impulses)).toEqual(new Set([0, 0.5, 1]));
    expect(Math.abs(impulses.filter((v) => v !== 0.5).length / impulses.length - 0.2)).toBeLessThan(0.03);
  });

  it("low light is gain x^gamma", async () => {
    const dark = await through(lowLight({ gamma: 2, gain: [0.3, 0.3] }), flat(0.5));
    expect(dark[0]).toBeCloseTo(0.075, 6);
  });

  it("with impossible settings is refused", () => {
    expect(() => correlatedNoise({ strength: [0, 1], colour: 2 })).toThrow(ArgumentError);
  });
});

describe("degraded pairs", () => {
  const clean = fromArray([0, 1].map((i) => ({ image: deadLeaves(i, { size: 24 }) })));

  it.each(DEGRADATION_NAMES)(
    "of %s keep the truth, and are the same for the same seed and epoch",
    async (name) => {
      const pairs = degradedPairs(clean, DEGRADATIONS[name], 7);
      const [a, again, other] = [await pairs.get(1), await pairs.get(1), await pairs.get(1, 1)];
      expect(a.clean.data).toEqual(deadLeaves(1, { size: 24 }).data);
      expect(a.degraded.data).toEqual(again.degraded.data);
      expect(a.degraded.data).not.toEqual(a.clean.data);
      expect([a.degraded.width, a.degraded.channels]).toEqual([24, 3]);
      if (name !== "low-resolution") expect(other.degraded.data).not.toEqual(a.degraded.data);
    },
  );
});

describe("dead leaves", () => {
  it("are a function of seed and index, in [0, 1]", () => {
    const a = deadLeaves(3, { size: 32 });
    expect(a.data).toEqual(deadLeaves(3, { size: 32 }).data);
    expect(a.data).not.toEqual(deadLeaves(4, { size: 32 }).data);
    expect([Math.min(...a.data) >= 0, Math.max(...a.data) <= 1, a.data.length]).toEqual([true, true, 3072]);
  });

  it("have edges everywhere: neighbours are much more alike than far pixels, but not the same", () => {
    const all = Array.from({ length: 8 }, (_, i) => deadLeaves(i, { size: 48 }).data);
    const apart = (d: number) => {
      const values: number[] = [];
      for (const data of all)
        for (let y = 0; y < 48; y++)
          for (let x = 0; x + d < 48; x++)
            values.push((data[(y * 48 + x) * 3]! - data[(y * 48 + x + d) * 3]!) ** 2);
      return mean(values);
    };
    expect(apart(16)).toBeGreaterThan(3 * apart(1));
    expect(apart(1)).toBeGreaterThan(1e-3);
  });
});

describe("pairs of files", () => {
  it("are found by folders and by endings; files without such a word are left out", () => {
    expect(
      pairedFiles(["rainy/1.png", "clean/1.png", "real/7.png", "rainy/2.png", "clean/2.png"]).map(
        ({ name }) => name,
      ),
    ).toEqual(["1", "2"]);
    expect(pairedFiles(["Istanbul_blur1.png", "Istanbul_sharp1.png"])).toHaveLength(1);
    expect(pairedFiles(["cc/a_3_mean.png", "cc/a_3_real.png", "License.png"])).toEqual([
      { name: "cc a 3", degraded: "cc/a_3_real.png", clean: "cc/a_3_mean.png" },
    ]);
  });

  it.each([
    [["rainy/1.png", "clean/2.png"], /2 files have no partner: rainy\/1.png, clean\/2.png/],
    [["rainy/1.png", "rain/1.png"], /both the degraded side of "1"/],
  ] as const)("%j are refused", (paths, message) => {
    expect(() => pairedFiles(paths)).toThrow(ArgumentError);
    expect(() => pairedFiles(paths)).toThrow(message);
  });

  it("of two sizes are refused when they are read, and folders without any at once", async () => {
    const folder = await mkdtemp(join(tmpdir(), "pairs-"));
    const file = async (name: string, size: number) => {
      await mkdir(join(folder, name, ".."), { recursive: true });
      const data = new Uint8Array(size * size * 3).fill(9);
      await writeFile(
        join(folder, name),
        await encodePicture({ width: size, height: size, channels: 3, data }),
      );
    };
    await file("odd/x.png", 2);
    await expect(openRestorationPairs(folder)).rejects.toThrow(/no pairs/);
    await file("noisy/a.png", 4);
    await file("clean/a.png", 4);
    await file("noisy/b.png", 4);
    await file("clean/b.png", 3);
    const pairs = await openRestorationPairs(folder);
    expect(pairs.length).toBe(2);
    expect((await pairs.get(0)).clean.data[0]).toBeCloseTo(9 / 255, 6);
    await expect(pairs.get(1)).rejects.toThrow(FormatError);
  });
});
