/** What the study's lab does: the numbers are those of the model, judge, seeds and pictures that were asked for. */
import { describe, expect, test } from "vitest";
import type { Labelled } from "../../../src/data/index.ts";
import { classMeans } from "../../../src/data/index.ts";
import { FeatureNetwork, qualityOf, referenceOf } from "../../../src/metrics/index.ts";
import { createRng } from "../../../src/nn/index.ts";
import { openLab, type Rounding } from "../../../src/systems/q-dit/lab.ts";
import { pictureRatio } from "../../../src/systems/q-dit/scores.ts";
import { draw } from "../../../src/systems/q-dit/use.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";
import { randomDiT, SMALL } from "./random-dit.ts";

const model = randomDiT(SMALL);
const network = (seed: number) => new FeatureNetwork({ size: 8, channels: 1, classes: 4 }, createRng(seed));
const [judge, second] = [network(1), network(2)];

/** Pictures of one shade for each class, a little different each. */
const pictures = (count: number): Labelled => ({
  ...{ count, size: 8, channels: 1, classes: ["a", "b", "c", "d"] },
  values: Float32Array.from({ length: 64 * count }, (_, i) => (Math.floor(i / 64) % 4) / 4 + (i % 7) / 50),
  labels: Int32Array.from({ length: count }, (_, i) => i % 4),
});
const real = pictures(24);
const training = { ...pictures(8), values: pictures(8).values.map((v) => v - 0.5) };

const lab = openLab({
  ...{ model, judge, real, training, threads: 1 },
  stress: { seed: 7 },
  calibration: { samples: 32, batch: 16, steps: 4, seed: 1, guidance: 1.5 },
  trajectory: { count: 4, steps: 3, seed: 2 },
});

const drawing = { pictures: 8, steps: 2, guidance: 1, seeds: [5, 6] };
const rounding = (more: Partial<Rounding> = {}): Rounding => ({
  ...{ condition: "natural", method: "tensor-static", bits: { weights: 4, activations: 8 }, groups: 32 },
  ...more,
});

describe("the lab", () => {
  test("judges full precision by each seed's own pictures, with both judges", async () => {
    const found = await lab.pictures(rounding({ method: "fp32" }), drawing, second);
    for (const [i, seed] of drawing.seeds.entries()) {
      const drawn = await drained(draw(model, { count: 8, steps: 2, seed, threads: 1 }));
      const first = await qualityOf(judge, await referenceOf(judge, real), drawn);
      expect(found.first[i]).toBeCloseTo(first.fid, 4);
      expect(found.agreement[i]).toBe(first.agreement);
      const other = await qualityOf(second, await referenceOf(second, real), drawn);
      expect(found.second[i]).toBeCloseTo(other.fid, 4);
    }
    expect(found.first[0]).not.toBe(found.first[1]);
    expect(found.ratio).toEqual([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
  });

  test("compares pictures in few bits with the full-precision ones of the same seed and guidance", async () => {
    const plain = await lab.pictures(rounding(), drawing, second);
    const guided = await lab.pictures(rounding(), { ...drawing, guidance: 3 }, second);
    expect(guided.first).not.toEqual(plain.first);
    for (const { ratio } of [plain, guided]) for (const value of ratio) expect(value).toBeGreaterThan(8); // other seeds are near 3 dB
    const [a, b] = await Promise.all(
      drawing.seeds.map((seed) => drained(draw(model, { count: 8, steps: 2, seed }))),
    );
    expect(await pictureRatio(a!.values, b!.values)).toBeLessThan(6);
  });

  test("rounds with the method, bits and model that are asked for", async () => {
    const ratio = async (more: Partial<Rounding>): Promise<number> => {
      const steps = await lab.predictions(rounding(more));
      expect(steps).toHaveLength(3);
      return steps.reduce((a, b) => a + b, 0) / 3;
    };
    const [naive, hard] = [await ratio({}), await ratio({ condition: "stress" })];
    expect(hard).toBeLessThan(naive - 5);
    expect(await ratio({ bits: { weights: 8, activations: 8 } })).toBeGreaterThan(naive + 5);
    const ours = await ratio({ method: "q-dit" });
    expect(ours).toBeGreaterThan(naive + 5);
    expect(await ratio({ method: "q-dit", groups: [16, 64, 64, 64, 64, 64, 64, 64] })).not.toBe(ours);
    expect(await ratio({ method: "fp32" })).toBe(Number.POSITIVE_INFINITY);
  });

  test("searches by the first judge on the pictures of its own seed", async () => {
    const settings = {
      ...{ population: 6, generations: 1, top: 1, mutation: 0.1, space: [16, 32, 64], budget: 32, seed: 3 },
      ...{ calibrations: [11], tie: 1e-6 },
    };
    const events: WorkEvent[] = [];
    const asked = rounding({ method: "group-dynamic" });
    const judged = { ...drawing, seeds: [9] };
    const found = await drained(lab.search("a search", asked, settings, judged), (e) => events.push(e));
    const alone = async (groups: readonly number[]): Promise<number> =>
      (await lab.pictures({ ...asked, groups }, judged, second)).first[0]!;
    expect(found.fitness.best).toBeCloseTo(await alone(found.best), 5);
    expect(found.fitness.uniform).toBeCloseTo(await alone(new Array(8).fill(32)), 5);
    expect(found.best).not.toEqual(new Array(8).fill(32));
    expect(found.fitness.best).toBeLessThan(found.fitness.uniform);
    expect(events).toMatchObject(
      [1, 2].map((done) => ({ type: "progress", stage: "a search", done, total: 2 })),
    );
  });

  test("a search judges every candidate over all its calibration sets, and draws as many at random", async () => {
    const settings = {
      ...{ population: 3, generations: 2, top: 1, mutation: 0.3, space: [16, 32], budget: 32, seed: 3 },
      ...{ calibrations: [11, 12], tie: 1e-6 },
    };
    const asked = rounding({ method: "q-dit" });
    const search = (more: object) =>
      drained(lab.search("a search", asked, { ...settings, ...more }, "predictions"));
    const [both, one, other] = [
      await search({}),
      await search({ calibrations: [11] }),
      await search({ calibrations: [12] }),
    ];
    expect(one.fitness.uniform).not.toBe(other.fitness.uniform);
    expect(both.fitness.uniform).toBeCloseTo((one.fitness.uniform + other.fitness.uniform) / 2, 8);
    expect(both.fitness.best).toBeLessThanOrEqual(both.fitness.uniform);
    expect(both.fitness.random).toBeLessThanOrEqual(both.fitness.uniform);
    expect(both.history).toHaveLength(2);
  });

  test("pictures of every seed are of a model with its own calibration; rounding to nearest has none", async () => {
    const at = (seeds: number[]) => ({ ...drawing, seeds });
    const [together, alone] = [
      await lab.pictures(rounding({ method: "q-dit" }), at([5, 6]), second),
      await lab.pictures(rounding({ method: "q-dit" }), at([6]), second),
    ];
    expect(together.first[1]).toBe(alone.first[0]);
    expect(together.first[0]).not.toBe(together.first[1]);
  });

  test("without real pictures it packs and predicts, and says what the rest needs", async () => {
    const bare = openLab({
      ...{ model, threads: 1, stress: { seed: 7 } },
      calibration: { samples: 32, batch: 16, steps: 4, seed: 1, guidance: 1.5 },
      trajectory: { count: 4, steps: 3, seed: 2 },
    });
    expect(await bare.predictions(rounding({ method: "fp32" }))).toHaveLength(3);
    await expect(bare.pictures(rounding(), drawing, second)).rejects.toThrow(/the lab has no judge/);
  });

  test("the mean pictures are those of the training half, against the real ones", async () => {
    const means = classMeans(training, 8);
    expect(means.values.slice(64, 128)).toEqual(means.values.slice(5 * 64, 6 * 64));
    const expected = (training.values[64]! + training.values[5 * 64]!) / 2;
    expect(means.values[64]).toBeCloseTo(expected, 6);
    const [first, other] = await lab.means(8, second);
    const of = async (one: FeatureNetwork) => (await qualityOf(one, await referenceOf(one, real), means)).fid;
    expect(first).toBeCloseTo(await of(judge), 4);
    expect(other).toBeCloseTo(await of(second), 4);
  });
});
