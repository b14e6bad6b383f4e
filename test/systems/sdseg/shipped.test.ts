import { stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fromArray } from "../../../src/data/index.ts";
import { lesion } from "../../../src/data/world/lesions.ts";
import { parameterCount } from "../../../src/nn/index.ts";
import { imagesOf, type Sample, toSample } from "../../../src/systems/sdseg/data.ts";
import { sdsegFile } from "../../../src/systems/sdseg/model.ts";
import { evaluateOn, predictWith } from "../../../src/systems/sdseg/scores.ts";
import { sdseg } from "../../../src/systems/sdseg/system.ts";
import { openSegmenter, type Segmenter } from "../../../src/systems/sdseg/use.ts";

const pathOf = (file: string): string => fileURLToPath(new URL(`../../../${file}`, import.meta.url));

describe("the shipped models", () => {
  it("are there, together below 8 MB, and say where they come from", async () => {
    let bytes = 0;
    for (const { file } of sdseg.checkpoints) {
      bytes += (await stat(pathOf(file))).size;
      const { model, notes: origin } = await sdsegFile.load(pathOf(file));
      expect(parameterCount(model)).toBeLessThan(1e6);
      expect(model.scaleFactor).toBeGreaterThan(0);
      expect(origin.training).not.toBe("");
      expect(origin.scale).toBeGreaterThan(0);
    }
    expect(bytes).toBeLessThan(8e6);
  });
});

describe("the lesions model", () => {
  let segmenter: Segmenter;
  let samples: Sample[];
  beforeAll(async () => {
    const { model } = await sdsegFile.load(pathOf("checkpoints/sdseg-lesions.safetensors"));
    segmenter = openSegmenter(model);
    samples = Array.from({ length: 24 }, (_, i) => toSample(lesion(2_000_000 + i), { config: model.config }));
  });
  afterAll(() => segmenter.close());

  it("segments lesions that it has not seen in one step, whatever the seed, and better than in four of DDIM", async () => {
    const dice = async (options = {}): Promise<number> =>
      (await evaluateOn(predictWith(segmenter, options), fromArray(samples))).dice;
    const [one, other] = [await dice(), await dice({ seed: 5 })];
    expect(one).toBeGreaterThan(0.8);
    expect(Math.abs(one - other)).toBeLessThan(0.03);
    expect(one).toBeGreaterThan((await dice({ mode: "ddim", steps: 4 })) - 0.01);
  });

  it("gives a tiled picture what it gives the whole, away from where only one sees far enough", async () => {
    const [sample] = samples as [Sample];
    const image = imagesOf([sample]);
    const whole = await segmenter.segment(image);
    const run = segmenter.segmentTiled(image, { tile: 48, overlap: 24 });
    for (;;) {
      const { done, value } = await run.next();
      if (!done) continue;
      const same = value.mask.reduce((n, label, i) => n + (label === whole.mask[i] ? 1 : 0), 0);
      expect(same / value.mask.length).toBeGreaterThan(0.9);
      break;
    }
  });
});
