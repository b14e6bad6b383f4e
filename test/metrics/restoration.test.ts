/** Scores of restored pictures are those of scikit-image under the named conventions. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ShapeError } from "../../src/errors.ts";
import { openRestorationScorer, type RESTORATION_CONVENTIONS, videoLuma } from "../../src/metrics/index.ts";
import { sizeOf, tensor } from "../../src/tensor/index.ts";
import { fill } from "../networks/tiny-models.ts";

const path = new URL("../fixtures/restoration-scores.json", import.meta.url);
const { size, scores } = JSON.parse(readFileSync(path, "utf8")) as {
  size: number[];
  scores: Record<keyof typeof RESTORATION_CONVENTIONS, number>[];
};

const filled = (name: string, scale: number) =>
  fill(name, sizeOf(size)).map((v) => Math.fround(v * scale + 0.5));
const clean = filled("clean", 0.5);
const restored = filled("restored", 0.6).map((v, i) => 0.7 * clean[i]! + 0.3 * v);
const asTensor = (values: Float64Array) => tensor(Float32Array.from(values), { shape: size });

describe("scores of restored pictures", () => {
  it("are scikit-image's, on RGB and on Y, after rounding to 8 bits", async () => {
    const scorer = openRestorationScorer();
    const found = await scorer.score(asTensor(restored), asTensor(clean));
    expect(found).toHaveLength(2);
    for (const [i, expected] of scores.entries())
      for (const [name, value] of Object.entries(expected))
        expect(Math.abs(found[i]![name as "psnr"] / value - 1), name).toBeLessThan(2e-5);
    await expect(scorer.score(asTensor(restored), tensor([1]))).rejects.toThrow(ShapeError);
    await scorer.close();
  });

  it("cut off values before they compare, so that nothing wraps around", async () => {
    const scorer = openRestorationScorer();
    const shape = [1, 1, 11, 11];
    const white = tensor(new Float32Array(121).fill(1), { shape });
    const beyond = tensor(new Float32Array(121).fill(1.2), { shape });
    expect((await scorer.score(beyond, white))[0]!.psnr).toBe(Number.POSITIVE_INFINITY);
    await scorer.close();
  });

  it("take white as 235 and black as 16 in Y", async () => {
    const [white, black] = [1, 0].map((v) => tensor([v, v, v], { shape: [1, 3, 1, 1] }));
    expect((await videoLuma(white!).item()) * 255).toBeCloseTo(235, 3);
    expect((await videoLuma(black!).item()) * 255).toBeCloseTo(16, 3);
    expect((await videoLuma(tensor([1], { shape: [1, 1, 1, 1] })).item()) * 255).toBeCloseTo(235, 3);
  });
});
