/** Metrics against scikit-image, scikit-learn and scipy: the fixture says which versions and how its inputs were made. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import {
  accuracy,
  addCounts,
  adjustedRandIndex,
  assignment,
  averagePrecision,
  calibration,
  confusionMatrix,
  dice,
  distanceTransform,
  equalErrorRate,
  frechetFeatureDistance,
  hausdorff,
  inceptionScore,
  iou,
  manifoldScores,
  matthewsCorrelation,
  meanCorrelationCoefficient,
  msSsim,
  mutualInformation,
  mutualInformationGap,
  overlapCounts,
  polynomialMmd,
  psnr,
  rocAuc,
  SampleTable,
  ssim,
} from "../../src/metrics/index.ts";
import { fromHost } from "../../src/tensor/index.ts";

const reference = JSON.parse(readFileSync(new URL("../fixtures/metrics.json", import.meta.url), "utf8"));
const table = (values: number[], width: number): SampleTable => new SampleTable(width).addAll(0, values);
const picture = (bytes: number[], shape: number[]) =>
  fromHost(
    "f32",
    [1, ...shape],
    Float32Array.from(bytes, (x) => x / 255),
  );

test("PSNR, SSIM and MS-SSIM equal scikit-image's", async () => {
  const { a, b, shape, ...expected } = reference.images;
  const [x, y] = [picture(a, shape), picture(b, shape)];
  expect(await psnr(x, y).item()).toBeCloseTo(expected.psnr, 4);
  expect(await ssim(x, y).item()).toBeCloseTo(expected.ssim, 5);
  expect(await msSsim(x, y, { weights: [0.4, 0.6] }).item()).toBeCloseTo(expected.msSsim, 5);
});

test("Fréchet distance equals scipy's root of the product of covariances", () => {
  const { real, generated, d, fid } = reference.features;
  expect(frechetFeatureDistance(table(real, d), table(generated, d))).toBeCloseTo(fid, 8);
});

test("unbiased polynomial MMD equals scikit-learn's kernel", () => {
  const { real, generated, d, m, kid } = reference.features;
  const first = Float64Array.from(real.slice(0, m * d));
  expect(polynomialMmd(first, Float64Array.from(generated), d)).toBeCloseTo(kid, 9);
});

test("precision, recall, density and coverage equal a dense distance matrix's", () => {
  const { real, generated, d, k, precision, recall, density, coverage } = reference.features;
  const found = manifoldScores(table(real, d), table(generated, d), k);
  expect(found.precision).toBeCloseTo(precision, 12);
  expect(found.recall).toBeCloseTo(recall, 12);
  expect(found.density).toBeCloseTo(density, 12);
  expect(found.coverage).toBeCloseTo(coverage, 12);
});

test("Inception-style score equals its definition", () => {
  const { probabilities, width, score } = reference.inception;
  expect(inceptionScore(table(probabilities, width), 1).mean).toBeCloseTo(score, 10);
});

test("AUC, average precision, equal error rate and Brier score equal scikit-learn's", () => {
  const { scores, labels, probabilities, auc, ap, eer, brier } = reference.binary;
  expect(rocAuc(scores, labels)).toBeCloseTo(auc, 12);
  expect(averagePrecision(scores, labels)).toBeCloseTo(ap, 12);
  expect(equalErrorRate(scores, labels)).toBeCloseTo(eer, 9);
  expect(calibration(probabilities, labels).brier).toBeCloseTo(brier, 12);
});

test("confusion, accuracy, Matthews correlation, Rand index and mutual information equal scikit-learn's", () => {
  const { truth, predicted, ...expected } = reference.classes;
  const confusion = confusionMatrix(truth, predicted, 4);
  expect(confusion).toEqual(expected.confusion);
  expect(accuracy(confusion).overall).toBeCloseTo(expected.accuracy, 12);
  expect(accuracy(confusion).balanced).toBeCloseTo(expected.balanced, 12);
  expect(matthewsCorrelation(confusion)).toBeCloseTo(expected.mcc, 12);
  expect(adjustedRandIndex(truth, predicted)).toBeCloseTo(expected.ari, 12);
  expect(mutualInformation(Int32Array.from(truth), Int32Array.from(predicted))).toBeCloseTo(
    expected.mutualInformation,
    12,
  );
});

test("the assignment costs as little as scipy's, also transposed", () => {
  const { cost, total } = reference.assignment as { cost: number[][]; total: number };
  const columns = assignment(cost);
  expect(new Set(columns).size).toBe(cost.length);
  expect(columns.reduce((sum, j, i) => sum + cost[i]![j]!, 0)).toBeCloseTo(total, 12);
  const rows = assignment(cost[0]!.map((_, j) => cost.map((row) => row[j]!)));
  expect(rows.reduce((sum, i, j) => sum + (i < 0 ? 0 : cost[i]![j]!), 0)).toBeCloseTo(total, 12);
});

test("Dice, IoU, distance transform and Hausdorff distances equal scipy's", () => {
  const { width, height, a, b, ...expected } = reference.masks;
  const [x, y] = [[...a].map(Number), [...b].map(Number)] as [number[], number[]];
  const counts = overlapCounts(x, y, 2)[1]!;
  expect(dice(counts)).toBeCloseTo(expected.dice, 12);
  expect(iou(counts)).toBeCloseTo(expected.iou, 12);
  const half = x.length / 2;
  const halves = [
    overlapCounts(x.slice(0, half), y.slice(0, half), 2)[1]!,
    overlapCounts(x.slice(half), y.slice(half), 2)[1]!,
  ];
  expect(addCounts(halves)).toEqual(counts);
  const distances = distanceTransform(x, width, height, [1, 2]);
  expect(Math.max(...distances.map((d, i) => Math.abs(d - expected.edt[i])))).toBeLessThan(1e-5);
  expect(hausdorff(x, y, width, height)).toBeCloseTo(expected.hausdorff95, 9);
  expect(hausdorff(x, y, width, height, { percentile: 100 })).toBeCloseTo(expected.hausdorff100, 9);
  expect(hausdorff(x, y, width, height, { spacing: [1, 2] })).toBeCloseTo(expected.hausdorff95anisotropic, 9);
});

test("MIG and MCC equal scikit-learn's and numpy's", () => {
  const { z, factors, mig, mcc } = reference.latents;
  expect(mutualInformationGap(table(z, 4), table(factors, 2))).toBeCloseTo(mig, 9);
  expect(meanCorrelationCoefficient(table(z, 4), table(factors, 2))).toBeCloseTo(mcc, 8);
});
