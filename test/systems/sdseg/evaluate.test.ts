import { describe, expect, it } from "vitest";
import { fromArray } from "../../../src/data/index.ts";
import { mergeTables, SampleTable } from "../../../src/metrics/index.ts";
import { otsuPredictor, otsuThreshold } from "../../../src/systems/sdseg/baselines.ts";
import { honestSentence, type Verdict, verdicts, verdictTable } from "../../../src/systems/sdseg/claims.ts";
import { PRESETS } from "../../../src/systems/sdseg/config.ts";
import { diceOf, evaluateOn, type Predict, scoresOf } from "../../../src/systems/sdseg/evaluate.ts";
import type { SetResults, Times } from "../../../src/systems/sdseg/measure.ts";
import { createSDSeg } from "../../../src/systems/sdseg/model.ts";
import type { Sample } from "../../../src/systems/sdseg/samples.ts";
import { runSeeds, type Stability, stabilityOf } from "../../../src/systems/sdseg/stability.ts";

const sample = (labels: readonly number[], volume?: string): Sample => ({
  name: "s",
  width: labels.length,
  height: 1,
  image: Float32Array.from(labels),
  labels: Int32Array.from(labels),
  ...(volume && { volume }),
});
const all =
  (value: number): Predict =>
  async (samples) =>
    samples.map(({ labels }) => ({
      mask: labels.map(() => value),
      probability: new Float32Array(labels.length),
    }));

describe("scores", () => {
  it("count emptiness in both conventions", () => {
    const [none, over, under] = [
      { both: 0, predictedOnly: 0, truthOnly: 0 },
      { both: 0, predictedOnly: 3, truthOnly: 0 },
      { both: 0, predictedOnly: 0, truthOnly: 3 },
    ];
    expect([none, over, under].map((c) => diceOf(c))).toEqual([1, 0, 0]);
    expect([none, over, under].map((c) => diceOf(c, "sdseg"))).toEqual([0, 1, 0]);
  });

  it("are means over pictures, but one number over the slices of a volume", async () => {
    const labels = [
      [1, 1, 0, 0],
      [0, 0, 0, 0],
    ];
    const apart = await evaluateOn(all(1), fromArray(labels.map((l) => sample(l))));
    expect(apart.dice).toBeCloseTo((2 / 3 + 0) / 2, 10);
    const volume = await evaluateOn(all(1), fromArray(labels.map((l) => sample(l, "v"))));
    expect(volume.units).toBe(1);
    expect(volume.dice).toBeCloseTo(4 / 10, 10);
    expect(volume.iou).toBeCloseTo(2 / 8, 10);
  });

  it("merge from shards to the same numbers", async () => {
    const data = fromArray([sample([1, 0, 1]), sample([1, 1, 1]), sample([0, 0, 1])]);
    const whole = await evaluateOn(all(1), data);
    const shards = [0, 1, 2].map((i) =>
      new SampleTable(3).add(i, whole.table.values().subarray(3 * i, 3 * i + 3)),
    );
    const merged = scoresOf(mergeTables(shards[2]!, shards[0]!, shards[1]!), []);
    expect(merged.dice).toBe(whole.dice);
    expect(merged.iou).toBe(whole.iou);
  });

  it("of several classes come for each of them", async () => {
    const predict: Predict = async (samples) =>
      samples.map(() => ({ mask: [1, 1, 2, 0], probability: new Float32Array(4) }));
    const { perClass, dice } = await evaluateOn(predict, fromArray([sample([1, 0, 2, 2])]), { classes: 3 });
    expect(perClass).toEqual([2 / 3, 2 / 3]);
    expect(dice).toBeCloseTo(2 / 3, 10);
  });
});

it("Otsu's threshold parts two groups of values", async () => {
  const values = Float32Array.of(0, 0.1, 0.05, 0.9, 1, 0.95);
  const threshold = otsuThreshold(values);
  expect(threshold).toBeGreaterThan(0.1);
  expect(threshold).toBeLessThan(0.9);
  expect(otsuThreshold(Float32Array.of(2, 2))).toBe(2);
  const [dark] = await otsuPredictor(true)([{ ...sample([0, 0, 0, 0, 0, 0]), image: values }]);
  expect([...(dark!.mask as Uint8Array)]).toEqual([1, 1, 1, 0, 0, 0]);
});

it("stability is perfect when seeds change nothing, and measured when they do", async () => {
  const side = 24;
  const labels = Int32Array.from({ length: side * side }, (_, i) => (i % side < 12 ? 1 : 0));
  const data = fromArray([
    { name: "a", width: side, height: side, image: new Float32Array(side * side), labels },
  ]);
  const model = createSDSeg(PRESETS.smoke, 0);
  const predictor = (shift: number) => (): Predict => async (samples) =>
    samples.map((s) => {
      const probability = Float32Array.from(s.labels, (l, i) => (l && i >= shift ? 0.9 : 0.1));
      return { probability, mask: Uint8Array.from(probability, (p) => (p > 0.5 ? 1 : 0)) };
    });
  const same = await stabilityOf(await runSeeds(predictor(0), data, { seeds: 3 }), data, model);
  expect([same.diceMean, same.diceStd, same.pairDice, same.pixelStd, same.ssim]).toEqual([1, 0, 1, 0, 1]);
  expect(same.featureDistance).toBe(0);
  const moving = await runSeeds((seed) => predictor(40 * seed)(), data, { seeds: 3 });
  const moved = await stabilityOf(moving, data, model);
  expect(moved.diceStd).toBeGreaterThan(0);
  expect(moved.pairDice).toBeLessThan(1);
  expect(moved.pixelStd).toBeGreaterThan(0);
  expect(Number.isFinite(moved.psnr)).toBe(true);
  expect(moved.featureDistance).toBeGreaterThan(0);
});

describe("the claim", () => {
  const steady: Stability = {
    diceMean: 0.8,
    diceStd: 0.001,
    pairDice: 0.95,
    pixelStd: 0.01,
    psnr: 30,
    ssim: 1,
    msSsim: 1,
    featureDistance: 0,
  };
  const scores = Object.fromEntries(
    [
      ["lambda-1 direct", 0.81],
      ["lambda-0 direct", 0.79],
      ["lambda-1 ddim-50 leading", 0.8],
      ["lambda-1 ddim-50 leading, mean of 3", 0.812],
      ...[2, 4, 10].map((s) => [`lambda-1 ddim-${s} leading`, 0.78] as const),
      ...[2, 4, 10, 50].map((s) => [`lambda-0 ddim-${s} leading`, 0.77] as const),
    ].map(([name, dice]) => [name, { dice, iou: 0 }]),
  );
  const results = (change: Partial<SetResults> = {}): SetResults => ({
    pictures: 1,
    ceiling: { dice: 0.99, iou: 0.98 },
    scores: scores as SetResults["scores"],
    stability: {
      "lambda-1 direct": steady,
      "lambda-0 direct": { ...steady, pairDice: 0.9, pixelStd: 0.03 },
      "lambda-1 ddim-50 leading": { ...steady, pairDice: 0.91, pixelStd: 0.04 },
    },
    ...change,
  });
  const times: Times = {
    directTotal: 10,
    ddim50Total: 100,
    directDenoiser: 1,
    ddim50Denoiser: 50,
    directCalls: 1,
    ddim50Calls: 50,
    width: 64,
    height: 64,
  };
  const holding = (found: readonly Verdict[]): string =>
    found
      .filter((v) => v.holds)
      .map((v) => v.rule)
      .join("");

  it("holds rule by rule when the numbers say so, and not otherwise", () => {
    expect(holding(verdicts(results(), times))).toBe("abcdef");
    expect(holding(verdicts(results(), { ...times, ddim50Total: 40 }))).toBe("abcef");
    const worse = { ...scores, "lambda-1 direct": { dice: 0.7, iou: 0 } } as SetResults["scores"];
    expect(holding(verdicts(results({ scores: worse }), times))).toBe("cde");
    const table = verdictTable(new Map([["x", verdicts(results({ scores: worse }), times)]]));
    expect(table.rows[0]).toContain("does not hold");
  });

  it("comes with the sentence that the controls call for, whichever way it goes", () => {
    const withControls = (image: number, plain: number) =>
      honestSentence(
        new Map([
          [
            "x",
            results({
              scores: {
                ...scores,
                "image-only": { dice: image, iou: 0 },
                "plain U-Net": { dice: plain, iou: 0 },
              } as SetResults["scores"],
            }),
          ],
        ]),
      );
    expect(honestSentence(new Map([["x", results()]]))).toMatch(/not both measured/);
    expect(withControls(0.7, 0.7)).toMatch(/^Diffusion is at least as good/);
    expect(withControls(0.9, 0.7)).toMatch(/^Diffusion is not needed.*0\.8100 against 0\.9000/);
  });
});
