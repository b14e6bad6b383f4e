/** What holds of the metrics whatever the data: limits, symmetry, merging, and the errors of bad input. */
import { describe, expect, test } from "vitest";
import { ArgumentError, NonFiniteError, ShapeError } from "../../src/errors.ts";
import {
  bootstrapMean,
  boxAveragePrecision,
  boxIou,
  calibration,
  clipScore,
  cosineSimilarity,
  describeMeasurement,
  directionalSimilarity,
  equalErrorRate,
  featureMoments,
  frechetDistance,
  frechetFeatureDistance,
  hausdorff,
  imageMse,
  inceptionScore,
  kernelDistance,
  manifoldScores,
  matchSlots,
  mergeTables,
  msSsim,
  mutualInformationGap,
  overlapCounts,
  psnr,
  rocAuc,
  SampleTable,
  ssim,
  truePositiveRateAt,
} from "../../src/metrics/index.ts";
import { createNoise, fromHost, grad, type Tensor } from "../../src/tensor/index.ts";

const noise = createNoise("philox", 3);
const features = (n: number, width: number, step: number, shift = 0, scale = 1): SampleTable =>
  new SampleTable(width).addAll(
    0,
    noise.normal([n, width], { step }).map((x) => x * scale + shift),
  );
const picture = (step: number, shape = [2, 3, 32, 32]): Tensor =>
  fromHost("f32", shape, noise.uniform(shape, { step }));

describe("merging", () => {
  test("shards in any order give the same bits as one pass", () => {
    const whole = features(101, 7, 1);
    const values = whole.values();
    const shards = [0, 1, 2].map((s) => {
      const part = new SampleTable(7);
      for (const i of whole.indices()) if (i % 3 === s) part.add(i, values.subarray(i * 7, (i + 1) * 7));
      return SampleTable.fromJSON(JSON.parse(JSON.stringify(part)));
    });
    const merged = mergeTables(shards[2]!, shards[0]!, shards[1]!);
    const other = features(90, 7, 2);
    expect(merged.mean()).toEqual(whole.mean());
    expect(featureMoments(merged)).toEqual(featureMoments(whole));
    expect(frechetFeatureDistance(merged, other)).toBe(frechetFeatureDistance(whole, other));
    expect(kernelDistance(merged, other, { subsets: 3 })).toEqual(
      kernelDistance(whole, other, { subsets: 3 }),
    );
  });

  test("a sample counted twice, a row of another width and a wrong index are refused", () => {
    const table = new SampleTable(2).add(4, [1, 2]);
    expect(() => table.add(4, [1, 2])).toThrow(/sample 4 was added before/);
    expect(() => mergeTables(table, table)).toThrow(/sample 4/);
    expect(() => table.add(5, [1])).toThrow(ShapeError);
    expect(() => table.add(-1, [1, 2])).toThrow(ArgumentError);
    expect(() => new SampleTable(2).mean()).toThrow(/no samples/);
  });
});

describe("Fréchet and kernel distances", () => {
  test("two Gaussians of diagonal covariance have the closed-form distance", () => {
    const diagonal = (v: number[]) =>
      Float64Array.from(v.flatMap((x, i) => v.map((_, j) => (i === j ? x : 0))));
    const a = { count: 10, mean: Float64Array.of(0, 1, 2), covariance: diagonal([1, 4, 9]) };
    const b = { count: 10, mean: Float64Array.of(1, 1, 0), covariance: diagonal([4, 1, 0]) };
    expect(frechetDistance(a, b)).toBeCloseTo(5 + (1 - 2) ** 2 + (2 - 1) ** 2 + 9, 10);
  });
  test("a set has distance 0 to itself, and singular covariances are no trouble", () => {
    const few = features(5, 12, 3);
    expect(Math.abs(frechetFeatureDistance(few, few))).toBeLessThan(1e-5);
  });
  test("KID of equal distributions is 0 within its error, and of shifted ones clearly not", () => {
    const [a, b, far] = [features(300, 8, 4), features(300, 8, 5), features(300, 8, 6, 0.5)];
    const same = kernelDistance(a, b, { subsets: 20, subsetSize: 100 });
    expect(Math.abs(same.mean)).toBeLessThan(0.15);
    expect(kernelDistance(a, far, { subsets: 20, subsetSize: 100 }).mean).toBeGreaterThan(0.5);
    expect(kernelDistance(a, b, { subsets: 20, subsetSize: 100 })).toEqual(same);
  });
  test("NaN features name the sample", () => {
    const bad = features(5, 2, 7).add(5, [0, Number.NaN]);
    expect(() => featureMoments(bad)).toThrow(NonFiniteError);
    expect(() => featureMoments(bad)).toThrow(/feature 1 of sample 5/);
    expect(() => frechetFeatureDistance(features(5, 2, 8), features(5, 3, 8))).toThrow(ShapeError);
    expect(() => featureMoments(features(1, 2, 8))).toThrow(/at least 2 samples/);
  });
  test("a copy of the real set has full precision and coverage; a collapsed one has no recall", () => {
    const real = features(80, 4, 9);
    const copy = manifoldScores(real, real, 3);
    expect([copy.precision, copy.recall, copy.coverage]).toEqual([1, 1, 1]);
    const collapsed = manifoldScores(real, features(80, 4, 10, 0, 1e-3), 3);
    expect(collapsed.recall).toBeLessThan(0.1);
    expect(() => manifoldScores(real, features(3, 4, 11), 3)).toThrow(ArgumentError);
  });
  test("the Inception-style score is the number of classes for sure, even predictions, and 1 for constant ones", () => {
    const sure = new SampleTable(4).addAll(0, [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
    expect(inceptionScore(sure, 1).mean).toBeCloseTo(4, 10);
    const constant = new SampleTable(2).addAll(0, [0.3, 0.7, 0.3, 0.7]);
    expect(inceptionScore(constant, 1).mean).toBeCloseTo(1, 10);
    expect(() => inceptionScore(new SampleTable(2).add(0, [0.3, 0.3]), 1)).toThrow(/no distribution/);
  });
});

describe("pictures", () => {
  test("equal pictures have infinite PSNR and SSIM 1; the measures are symmetric", async () => {
    const [a, b] = [picture(20), picture(21)];
    expect([...(await psnr(a, a).data())]).toEqual([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
    for (const value of await ssim(a, a).data()) expect(value).toBeCloseTo(1, 5);
    expect(await ssim(a, b).data()).toEqual(await ssim(b, a).data());
  });
  test("PSNR of a constant error is -20 log10 of it, in any range", async () => {
    const a = picture(22);
    for (const value of await psnr(a, a.add(0.1)).data()) expect(value).toBeCloseTo(20, 3);
    for (const value of await psnr(a.mul(255), a.mul(255).add(25.5), 255).data())
      expect(value).toBeCloseTo(20, 3);
  });
  test("a picture's value does not depend on the batch around it", async () => {
    const [a, b] = [picture(23, [5, 3, 32, 32]), picture(24, [5, 3, 32, 32])];
    const together = await ssim(a, b).data();
    for (let i = 0; i < 5; i++) {
      const alone = ssim(a.slice([i], [i + 1]), b.slice([i], [i + 1]));
      expect(await alone.item()).toBe(together[i]);
    }
  });
  test("SSIM is a loss: its gradient is the finite difference", async () => {
    const [a, b] = [picture(25, [1, 1, 14, 14]), picture(26, [1, 1, 14, 14])];
    const f = (x: Tensor): Tensor => ssim(x, b).sum();
    const g = await grad(f)(a).data();
    const values = Float32Array.from(await a.data(), Number);
    for (const at of [0, 50, 101]) {
      const nudge = async (by: number): Promise<number> => {
        const moved = values.slice();
        moved[at]! += by;
        return Number(await f(fromHost("f32", [1, 1, 14, 14], moved)).item());
      };
      expect(Number(g[at])).toBeCloseTo(((await nudge(1e-2)) - (await nudge(-1e-2))) / 2e-2, 3);
    }
  });
  test("different shapes and too small pictures are refused with the sizes", () => {
    expect(() => imageMse(picture(1), picture(1, [2, 3, 32, 31]))).toThrow(ShapeError);
    expect(() => ssim(picture(1, [1, 1, 8, 40]), picture(2, [1, 1, 8, 40]))).toThrow(/40x8.*11x11/);
    expect(() => msSsim(picture(1), picture(2))).toThrow(/at least 176/);
  });
});

describe("decisions", () => {
  test("perfect scores have AUC 1 and no equal error; chance has a half of each; ties count half", () => {
    const labels = [0, 0, 1, 1];
    expect(rocAuc([1, 2, 3, 4], labels)).toBe(1);
    expect(equalErrorRate([1, 2, 3, 4], labels)).toBe(0);
    expect(rocAuc([1, 1, 1, 1], labels)).toBe(0.5);
    expect(equalErrorRate([1, 1, 1, 1], labels)).toBe(0.5);
    expect(rocAuc([4, 3, 2, 1], labels)).toBe(0);
    expect(truePositiveRateAt([1, 4, 3, 5], labels, 0)).toBe(0.5);
  });
  test("one class alone, NaN scores and odd labels are refused", () => {
    expect(() => rocAuc([1, 2], [1, 1])).toThrow(/both positives and negatives/);
    expect(() => rocAuc([1, Number.NaN], [0, 1])).toThrow(NonFiniteError);
    expect(() => rocAuc([1, 2], [0, 2])).toThrow(/0 or 1/);
  });
  test("probabilities that come true as often as they say are calibrated", () => {
    const [p, y]: [number[], number[]] = [[], []];
    for (const chance of [0.1, 0.5, 0.9]) {
      for (let i = 0; i < 10; i++) {
        p.push(chance);
        y.push(i < chance * 10 - 1e-9 ? 1 : 0);
      }
    }
    expect(calibration(p, y).expectedError).toBeCloseTo(0, 10);
    expect(calibration([1, 1], [0, 0]).expectedError).toBe(1);
  });
});

describe("masks, boxes and slots", () => {
  test("empty masks: distance 0 to each other, infinite to anything else", () => {
    const [empty, dot] = [new Uint8Array(16), Uint8Array.from({ length: 16 }, (_, i) => Number(i === 5))];
    expect(hausdorff(empty, empty, 4, 4)).toBe(0);
    expect(hausdorff(empty, dot, 4, 4)).toBe(Number.POSITIVE_INFINITY);
  });
  test("a label out of range names its pixel", () => {
    expect(() => overlapCounts([0, 3], [0, 1], 2)).toThrow(/pixel 1 has labels 3 and 1/);
  });
  test("boxes of no area overlap nothing, and perfect boxes have average precision 1", () => {
    expect(boxIou([0, 0, 0, 5], [0, 0, 5, 5])).toBe(0);
    expect(boxIou([0, 0, 2, 2], [1, 0, 3, 2])).toBeCloseTo(1 / 3, 12);
    const truth = [0, 1, 2].map((image) => ({ image, box: [image, 0, image + 4, 4] as const }));
    const found = truth.map((t, i) => ({ ...t, score: 1 - i / 10 }));
    expect(boxAveragePrecision(found, truth)).toBe(1);
    // A false box ahead of the first hit halves the precision there; one in an image without truth counts too.
    const wrong = { image: 7, box: [0, 0, 4, 4] as const, score: 2 };
    expect(boxAveragePrecision([wrong, ...found], truth)).toBeCloseTo(0.75, 12);
    expect(boxAveragePrecision([...found, { ...found[0]!, score: 0 }], truth)).toBe(1);
  });
  test("slots are matched whatever their order; a whole-picture slot has the floor's overlap", () => {
    const masks = [0, 1, 2].map((k) =>
      Uint8Array.from({ length: 9 }, (_, i) => Number(Math.floor(i / 3) === k)),
    );
    expect(matchSlots([masks[2]!, masks[0]!, masks[1]!], masks)).toMatchObject({
      slotOf: [1, 2, 0],
      meanIou: 1,
    });
    const all = new Uint8Array(9).fill(1);
    expect(matchSlots([all, all, all], masks).meanIou).toBeCloseTo(1 / 3, 12);
  });
  test("latents that are the factors have MIG near 1, noise has none", () => {
    const factors = new SampleTable(1).addAll(
      0,
      Array.from({ length: 400 }, (_, i) => i % 5),
    );
    const latents = new SampleTable(2);
    const other = noise.uniform([400], { step: 30 });
    for (let i = 0; i < 400; i++) latents.add(i, [i % 5, other[i]!]);
    expect(mutualInformationGap(latents, factors)).toBeGreaterThan(0.9);
    const constant = new SampleTable(1).addAll(0, new Array(400).fill(1));
    expect(() => mutualInformationGap(latents, constant)).toThrow(/constant/);
  });
});

describe("embeddings, intervals and recipes", () => {
  test("cosine, CLIP score and directional similarity have their limits", () => {
    expect(cosineSimilarity([1, 0], [0, 2])).toBe(0);
    expect(clipScore([1, 0], [-1, 0])).toBe(0);
    expect(clipScore([1, 2], [2, 4])).toBeCloseTo(100, 10);
    expect(directionalSimilarity([0, 0], [1, 1], [3, 3], [4, 4])).toBeCloseTo(1, 12);
    expect(() => cosineSimilarity([0, 0], [1, 1])).toThrow(ArgumentError);
  });
  test("the bootstrap interval covers the mean about as often as it says", () => {
    let covered = 0;
    for (let trial = 0; trial < 200; trial++) {
      const values = noise.normal([60], { step: 1000 + trial });
      const [low, high] = bootstrapMean(values, { resamples: 200, seed: trial });
      if (low <= 0 && high >= 0) covered++;
    }
    expect(covered).toBeGreaterThan(174);
    expect(covered).toBeLessThan(200);
    expect(bootstrapMean([1, 2, 3], { seed: 1 })).toEqual(bootstrapMean([1, 2, 3], { seed: 1 }));
  });
  test("a printed number says how to compute it again", () => {
    const text = describeMeasurement({
      value: 12.34567,
      interval: [11.8, 12.9],
      recipe: {
        metric: "FID",
        extractor: { name: "scene-features", hash: "0123456789abcdef" },
        resize: "bilinear to 64x64",
        counts: { real: 1000, generated: 900 },
        seed: 0,
      },
    });
    expect(text).toBe(
      "FID 12.35 [11.8, 12.9] (extractor scene-features 0123456789ab, resize bilinear to 64x64, 1000 real, 900 generated, seed 0)",
    );
  });
});
