import { describe, expect, it } from "vitest";
import { fromArray, otsuThreshold } from "../../../src/data/index.ts";
import { mergeTables, SampleTable } from "../../../src/metrics/index.ts";
import { BRIGHTNESS, thresholdPredictor } from "../../../src/systems/sdseg/baselines.ts";
import { type Sample, toSample } from "../../../src/systems/sdseg/data.ts";
import { createSDSeg, PRESETS } from "../../../src/systems/sdseg/model.ts";
import {
  diceOf,
  evaluateOn,
  type Predict,
  runSeeds,
  scoresOf,
  stabilityOf,
} from "../../../src/systems/sdseg/scores.ts";

const sample = (labels: readonly number[], volume?: string): Sample => ({
  name: "s",
  image: { width: labels.length, height: 1, channels: 1, data: Float32Array.from(labels) },
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
    expect(apart.interval).toEqual([0, expect.closeTo(2 / 3)]);
    const volume = await evaluateOn(all(1), fromArray(labels.map((l) => sample(l, "v"))));
    expect(volume.units).toBe(1);
    expect(volume.interval).toBeUndefined(); // of one unit nothing can be resampled
    expect(volume.perPicture).toEqual(apart.perPicture);
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

describe("thresholds", () => {
  const values = Float32Array.of(0, 0.1, 0.05, 0.9, 1, 0.95);
  it("take what is darker as the foreground when told so", async () => {
    const picture = sample([0, 0, 0, 0, 0, 0]);
    const [dark] = await thresholdPredictor(
      otsuThreshold,
      true,
    )([{ ...picture, image: { ...picture.image, data: values } }]);
    expect([...(dark!.mask as Uint8Array)]).toEqual([1, 1, 1, 0, 0, 0]);
  });

  it("see the brightness of the file, which standardising cuts off", async () => {
    const data = Uint8Array.from({ length: 100 }, (_, i) => (i < 96 ? 10 : i === 99 ? 250 : 120));
    const image = { width: 10, height: 10, channels: 1, data };
    const source = { name: "a", image, labels: new Int32Array(100) };
    const masked = async (config: Parameters<typeof toSample>[1]["config"]): Promise<number> => {
      const [found] = await thresholdPredictor(otsuThreshold, false)([toSample(source, { config })]);
      return Array.from(found!.mask).reduce((a, b) => a + b, 0);
    };
    expect(Math.max(...toSample(source, { config: BRIGHTNESS }).image.data)).toBeCloseTo(
      2 * (250 / 255) - 1,
      6,
    );
    expect(await masked(BRIGHTNESS)).toBe(4);
    expect(toSample(source, { config: PRESETS.mini }).image.data.filter((v) => v === 1)).toHaveLength(4);
  });
});

it("stability is perfect when seeds change nothing, and measured when they do", async () => {
  const side = 24;
  const labels = Int32Array.from({ length: side * side }, (_, i) => (i % side < 12 ? 1 : 0));
  const data = fromArray([
    {
      name: "a",
      image: { width: side, height: side, channels: 1, data: new Float32Array(side * side) },
      labels,
    },
  ]);
  const model = createSDSeg(PRESETS.smoke, 0);
  const predictor = (shift: number) => (): Predict => async (samples) =>
    samples.map((s) => {
      const probability = Float32Array.from(s.labels, (l, i) => (l && i >= shift ? 0.9 : 0.1));
      return { probability, mask: Uint8Array.from(probability, (p) => (p > 0.5 ? 1 : 0)) };
    });
  const same = await stabilityOf(await runSeeds(predictor(0), data, { seeds: 3 }), data, model);
  expect([same.diceMean, same.diceDeviation, same.pairDice, same.pixelDeviation, same.ssim]).toEqual([
    1, 0, 1, 0, 1,
  ]);
  expect(same.featureDistance).toBe(0);
  const moving = await runSeeds((seed) => predictor(40 * seed)(), data, { seeds: 3 });
  const moved = await stabilityOf(moving, data, model);
  expect(moved.diceDeviation).toBeGreaterThan(0);
  expect(moved.pairDice).toBeLessThan(1);
  expect(moved.pixelDeviation).toBeGreaterThan(0);
  expect(Number.isFinite(moved.psnr)).toBe(true);
  expect(moved.featureDistance).toBeGreaterThan(0);
});
