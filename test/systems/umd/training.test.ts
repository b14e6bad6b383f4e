import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkPictures, gather, slicePictures, tensorOf } from "../../../src/data/picture-set.ts";
import { shapes10 } from "../../../src/data/world/shapes10.ts";
import { finalSample } from "../../../src/diffusion/index.ts";
import { AbortError } from "../../../src/errors.ts";
import { parameterCount, parameters } from "../../../src/nn/index.ts";
import { umdBatches } from "../../../src/systems/umd/data.ts";
import {
  alphaBarsOf,
  lossTerms,
  MIXTURES,
  type Network,
  sampleIndices,
  samplingScheduler,
} from "../../../src/systems/umd/method.ts";
import { initUMD, PRESETS, type UMD, umdFile, withSize } from "../../../src/systems/umd/model.ts";
import {
  finetuning,
  pretraining,
  type TrainInputs,
  trainUMD,
  withLabels,
} from "../../../src/systems/umd/train.ts";
import { reconstruct, sampleUMD, umdFeatures } from "../../../src/systems/umd/use.ts";
import { createNoise, fromHost, type Tensor } from "../../../src/tensor/index.ts";
import { drained } from "../../../src/work.ts";

const CONFIG = PRESETS.smoke;
const pictures = shapes10({ seed: 1, count: 512, size: 16 });
const threads = 1;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "umd-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Trains; the losses are those that the progress shows. */
async function runs(inputs: Omit<TrainInputs, "stage">) {
  const losses: number[] = [];
  const curves: Record<string, number>[] = [];
  const { final: model } = await drained(trainUMD({ stage: "test", threads, ...inputs }), (event) => {
    if (event.type === "progress") losses.push(Number(/loss (\S+)/.exec(event.note!)![1]));
    if (event.type === "metrics") curves.push(event.values);
  });
  return { model, losses, curves };
}
const draw = (model: UMD, options: Parameters<typeof sampleUMD>[1]) =>
  drained(sampleUMD(model, { threads, ...options }));
const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const settings = (method: keyof typeof MIXTURES, steps: number) =>
  pretraining(MIXTURES[method], {
    steps,
    batch: 32,
    seed: 0,
    learningRate: 2e-3,
    warmup: 20,
    augment: { flip: true },
  });
const values = async (model: UMD): Promise<number[][]> =>
  Promise.all([...parameters(model).values()].map(async (t) => (await t.toArray()) as number[]));

describe("training UMD", () => {
  let trained: UMD;

  it.each(["umd", "dit", "mae", "maskdit"] as const)("the loss of %s falls by a third", async (method) => {
    const { losses, model } = await runs({
      model: initUMD(CONFIG, 0),
      pictures,
      settings: settings(method, 300),
    });
    expect(mean(losses.slice(-10))).toBeLessThan(0.65 * mean(losses.slice(0, 10)));
    if (method === "umd") trained = model;
  });

  it("guesses hidden patches better than the mean of what is visible", async () => {
    const test = shapes10({ seed: 1, count: 64, size: 16, first: 1000 });
    const { error, meanColourError, filled, hidden } = await reconstruct(trained, test);
    expect(error).toBeLessThan(meanColourError);
    const visible = hidden.indexOf(0);
    expect(filled[visible]).toBe(test.values[visible]);
    await expect(reconstruct(trained, test, { ratio: 0 })).rejects.toThrow(/hides none/);
  });

  it("resuming is the same as never having stopped, to the bit", async () => {
    const inputs = { model: initUMD(CONFIG, 0), pictures, settings: settings("umd", 6), saveEvery: 3 };
    const whole = await runs({ ...inputs, folder: join(folder, "whole") });
    const controller = new AbortController();
    const parts = { ...inputs, folder: join(folder, "parts"), signal: controller.signal };
    const stopped = drained(trainUMD({ stage: "test", threads, ...parts }), (event) => {
      if (event.type === "progress" && event.done === 3) controller.abort();
    });
    await expect(stopped).rejects.toThrow(AbortError);
    const resumed = await runs({ ...inputs, folder: join(folder, "parts") });
    expect(resumed.losses).toEqual(whole.losses.slice(3));
    expect(await values(resumed.model)).toEqual(await values(whole.model));
  });

  it("fine-tunes with labels, from the same weights but for the table", async () => {
    const labelled = withLabels(trained, 10, 5);
    const before = parameters(trained);
    for (const [key, t] of parameters(labelled))
      if (!key.startsWith("label_")) expect(await t.toArray(), key).toEqual(await before.get(key)!.toArray());
    const tuned = await runs({
      model: labelled,
      pictures,
      settings: finetuning(MIXTURES.umd, { steps: 20, batch: 32, seed: 0, learningRate: 5e-4, ema: 0.9 }),
    });
    expect(tuned.losses.every(Number.isFinite)).toBe(true);
    const sampled = await draw(tuned.model, { count: 4, steps: 5, seed: 3, guidance: 1.5 });
    expect(sampled.values.every((v) => Math.abs(v) <= 1)).toBe(true);
    const again = await draw(tuned.model, { count: 4, steps: 5, seed: 3, guidance: 1.5, batch: 2 });
    const apart = sampled.values.reduce((most, v, i) => Math.max(most, Math.abs(v - again.values[i]!)), 0);
    expect(apart).toBeLessThan(1e-3);
  });

  it("batches of one, of one class, and with no clean part", async () => {
    const one = { ...slicePictures(pictures, 0, 1), labels: Int32Array.of(2) };
    const run = await runs({
      model: initUMD(CONFIG, 0),
      pictures: one,
      settings: { ...settings("umd", 2), batch: 1 },
    });
    expect(run.losses).toHaveLength(2);
    expect((await umdBatches(CONFIG, one, { ...settings("umd", 2), batch: 1 })(0)).clean).toBeUndefined();
  });

  it("tells the network index i as i + 1, and noises by index i", async () => {
    const { noised, clean } = await umdBatches(CONFIG, pictures, settings("umd", 1))(0);
    const asked: Tensor[] = [];
    const network: Network = {
      config: CONFIG,
      call: ({ x, t }) => {
        asked.push(t);
        return { x0: x, eps: x, mask: undefined };
      },
    };
    lossTerms(network, { noised: noised!, clean: clean! }, MIXTURES.umd);
    const [t, sigma, signal] = await Promise.all(
      [asked[0]!, noised!.level.sigma, noised!.level.alpha].map((x) => x.toArray()),
    );
    const bar = (i: number): number =>
      Math.cos((((i + 1) / 1000 + 0.008) / 1.008) * (Math.PI / 2)) ** 2 /
      Math.cos((0.008 / 1.008) * (Math.PI / 2)) ** 2;
    (t as number[]).forEach((time, i) => {
      expect(time).toBeGreaterThanOrEqual(1);
      if (time < 990) expect((signal as number[])[i]! ** 2).toBeCloseTo(bar(time - 1), 4);
      expect((signal as number[])[i]! ** 2 + (sigma as number[])[i]! ** 2).toBeCloseTo(1, 5);
    });
    expect(await asked[1]!.toArray()).toEqual(Array(16).fill(0));
  });
});

describe("using UMD", () => {
  const model = initUMD(CONFIG, 0);

  it("samples from index 999 down to 0, which is one call more than strides", async () => {
    expect(sampleIndices(125)).toHaveLength(126);
    expect(sampleIndices(125).slice(-2)).toEqual([7, 0]);
    for (let steps = 1; steps <= 500; steps++) {
      const indices = sampleIndices(steps);
      expect([indices.length, indices[0], indices.at(-1)]).toEqual([steps + 1, 999, 0]);
      expect(indices.every((index, k) => k === 0 || index < indices[k - 1]!)).toBe(true);
    }
    expect(() => sampleIndices(0)).toThrow(/1 to 500/);
    expect(samplingScheduler({ domain: "latents" }, { steps: 5, eta: 1 }).clip).toBeUndefined();
  });

  it.each([
    ["pixels", 0],
    ["pixels", 1],
    ["latents", 1],
  ] as const)("a network that knows the answer leads to it (%s, eta %d)", async (domain, eta) => {
    const bars = alphaBarsOf({ domain });
    const answer = slicePictures(pictures, 0, 2);
    const scheduler = samplingScheduler({ domain }, { steps: 25, eta });
    const noise = createNoise("philox", 1);
    const told: number[] = [];
    const network = async (x: Tensor, index: number): Promise<Tensor> => {
      told.push(index);
      const bar = bars[index]!;
      return x.sub(tensorOf(answer).mul(Math.sqrt(bar))).div(Math.sqrt(1 - bar));
    };
    const start = noise.normal([2, 3, 16, 16], { sample: 0, purpose: "start", step: 0 });
    const x = scheduler.initial(fromHost("f32", [2, 3, 16, 16], start));
    const end = await finalSample(scheduler.sample(network, x, { noise }));
    expect(await end.sub(tensorOf(answer)).abs().max().item()).toBeLessThan(1e-3);
    expect(told).toEqual(sampleIndices(25));
  });

  it("equal seeds give equal bits, without fresh noise and with it", async () => {
    for (const eta of [0, 1]) {
      const [a, b] = [
        await draw(model, { count: 3, steps: 5, seed: 7, eta }),
        await draw(model, { count: 3, steps: 5, seed: 7, eta }),
      ];
      expect(a.values).toEqual(b.values);
      expect(a.values.every((v) => Number.isFinite(v) && Math.abs(v) <= 1)).toBe(true);
    }
    const guess = await draw(model, { count: 1, steps: 5, seed: 7, predictX0: true });
    expect(guess.values.every(Number.isFinite)).toBe(true);
  });

  it("saves and loads: the same in single precision, and other sizes by interpolated positions", async () => {
    const path = join(folder, "model.safetensors");
    await umdFile.save(path, model, { method: "umd" }, "f32");
    const loaded = await umdFile.load(path);
    expect(loaded.notes).toEqual({ method: "umd" });
    expect(await values(loaded.model)).toEqual(await values(model));
    const larger = withSize(loaded.model, 24);
    expect(larger.posEmbedding.shape).toEqual([1, 36, 32]);
    expect(parameterCount(larger)).toBe(parameterCount(model) + 2 * 20 * 32);
    expect(() => withSize(model, 18)).toThrow(/divisible by the patch of 4, got 18/);
  });

  it("features: clean or at an index, without influence of the batch", async () => {
    const some = slicePictures(pictures, 0, 6);
    const [whole, parts] = [await umdFeatures(model, some), await umdFeatures(model, some, { batch: 4 })];
    whole.representation.forEach((v, i) => {
      expect(parts.representation[i]).toBeCloseTo(v, 4);
    });
    expect(whole.pooled).toHaveLength(6 * 32);
    const noisy = await umdFeatures(model, some, { index: 50 });
    expect(noisy.pooled).not.toEqual(whole.pooled);
    const others = await umdFeatures(model, some, { index: 50, first: 6 });
    expect(others.pooled).not.toEqual(noisy.pooled);
    expect(whole.warning).toBeUndefined();
    const bright = { ...some, values: some.values.map((v) => 3 * v) };
    expect((await umdFeatures(model, bright)).warning).toMatch(/lie outside/);
    await expect(umdFeatures(model, some, { index: 1000 })).rejects.toThrow(/0 \.\.\. 999, got 1000/);
  });

  it("names bad inputs", async () => {
    const some = slicePictures(pictures, 0, 2);
    const bad = { ...some, values: some.values.slice() };
    bad.values[800] = Number.NaN;
    expect(() => checkPictures(bad, CONFIG)).toThrow(/picture 1 holds NaN at element 32/);
    bad.values[800] = 3;
    expect(checkPictures(bad, CONFIG)).toMatch(/1 of 1536 pixels lie outside/);
    expect(() => checkPictures(shapes10({ seed: 0, count: 1 }), CONFIG)).toThrow(
      /\[3, 16, 16\], got \[3, 24, 24\]/,
    );
    await expect(draw(model, { count: 1, seed: 0, guidance: 2 })).rejects.toThrow(/needs labels/);
    await expect(draw(model, { count: 1, seed: 0, label: () => 1 })).rejects.toThrow(/no table of labels/);
    const labelled = withLabels(model, 10, 0);
    await expect(draw(labelled, { count: 1, seed: 0, label: () => 10 })).rejects.toThrow(
      /0 \.\.\. 9, got 10/,
    );
    await expect(draw(labelled, { count: 1, seed: 0, label: "none", guidance: 2 })).rejects.toThrow(
      /needs labels/,
    );
    const tune = finetuning(MIXTURES.umd, { steps: 1, batch: 2, seed: 0 });
    expect(() => umdBatches(CONFIG, pictures, tune)).toThrow(/no table of labels/);
    expect(() => umdBatches(labelled.config, { ...pictures, labels: undefined }, tune)).toThrow(
      /have no labels/,
    );
    expect(() =>
      umdBatches(labelled.config, { ...pictures, labels: new Int32Array(512).fill(11) }, tune),
    ).toThrow(/got 11/);
  });
});

describe("shapes10", () => {
  it("is a function of the seed and the index, with all classes", () => {
    const whole = shapes10({ seed: 4, count: 200, size: 24 });
    const part = shapes10({ seed: 4, count: 1, size: 24, first: 150 });
    expect(part.values).toEqual(gather(whole, [150]));
    expect(new Set(whole.labels).size).toBe(10);
    expect(whole.values.every((v) => v >= -1 && v <= 1)).toBe(true);
  });
});
