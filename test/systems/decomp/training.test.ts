import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tensorOf } from "../../../src/data/index.ts";
import { AbortError, ArgumentError, NonFiniteError } from "../../../src/errors.ts";
import { parameters } from "../../../src/nn/index.ts";
import { type DecompSet, dataVariance, madeSet, union } from "../../../src/systems/decomp/data.ts";
import { type DecompUNet, PRESETS } from "../../../src/systems/decomp/model.ts";
import { freshDecomp, type TrainSettings, trainDecomp, training } from "../../../src/systems/decomp/train.ts";
import { openDecomposer, whole } from "../../../src/systems/decomp/use.ts";
import { drained } from "../../../src/work.ts";

let folder: string;
let set: DecompSet;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tweedie-decomp-"));
  set = await madeSet("blocks2", "train", 8, 400);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const run = (more: Partial<TrainSettings>, given: { folder?: string; signal?: AbortSignal } = {}) =>
  trainDecomp({
    ...{ stage: "train", model: freshDecomp(PRESETS.smoke, set, 4), set, saveEvery: 2, threads: 1, ...given },
    settings: training({ steps: 6, seed: 4, batch: 4, ...more }),
  });

const values = async (model: DecompUNet): Promise<Record<string, Float32Array>> =>
  Object.fromEntries(
    await Promise.all(
      [...parameters(model)].map(async ([key, t]) => [key, (await t.data()) as Float32Array] as const),
    ),
  );

describe("training", () => {
  it("goes on after an interruption, bit for bit, running statistics and EMA included", async () => {
    const straight = await drained(run({}));
    const place = join(folder, "stopped");
    const stop = new AbortController();
    const stopped = drained(run({}, { folder: place, signal: stop.signal }), (event) => {
      if (event.type === "progress" && event.done === 3) stop.abort();
    });
    await expect(stopped).rejects.toThrow(AbortError);
    const resumed = await drained(run({}, { folder: place }));
    expect(await values(resumed.model)).toEqual(await values(straight.model));
    expect(await values(resumed.final)).toEqual(await values(straight.final));
    await expect(drained(run({ learningRate: 1e-2 }, { folder: place }))).rejects.toThrow(ArgumentError);
    const statistics = (await values(straight.final))["latent_encoder.2.bn1.running_mean"]!;
    expect(statistics.some((v) => v !== 0)).toBe(true);
  }, 60_000);

  it("gets below the error of the mean picture, and what it draws is then the picture's", async () => {
    const variance = await dataVariance(set);
    const losses: number[] = [];
    const settings = training({ steps: 160, seed: 1, batch: 16, fall: 0 });
    const work = trainDecomp({
      stage: "train",
      model: freshDecomp(PRESETS.smoke, set, 1),
      set,
      settings,
      threads: 1,
    });
    await drained(work, (event) => {
      if (event.type === "metrics") losses.push(event.values.loss!);
    });
    const last = losses.slice(-4).reduce((a, b) => a + b, 0) / 4;
    expect(last).toBeLessThan(0.85 * variance);
  }, 120_000);

  it("draws the latents' pictures: with another picture's latents it draws another one", async () => {
    const decomposer = openDecomposer([freshDecomp(PRESETS.smoke, set, 2)], { threads: 1 });
    const z = await decomposer.encode(
      tensorOf({ ...set.pictures, count: 2, values: set.pictures.values.slice(0, 384) }),
    );
    const drawn = await drained(decomposer.compose([whole(z)], { steps: 2 }));
    expect(drawn.every((v) => v === 0)).toBe(true); // a fresh network predicts nothing at all
    await decomposer.close();
  });

  it("trains with every option: noise, weights, dropping, downweighting, turning apart, dropout, a group norm", async () => {
    const base = PRESETS.smoke;
    const config = {
      ...base,
      ...({ prediction: "eps", weighted: true, guided: true } as const),
      encoder: { ...base.encoder, norm: "group" as const, relu: false },
      unet: { ...base.unet, dropout: 0.1 },
    };
    const settings = training({
      ...{ steps: 3, seed: 1, batch: 4, dropLatents: 0.3, downweight: true, orthogonality: 0.1 },
    });
    const start = freshDecomp(config, set, 1);
    const { model } = await drained(trainDecomp({ stage: "train", model: start, set, settings, threads: 1 }));
    const [before, after] = [await values(start), await values(model)];
    expect(after.weight_logits).not.toEqual(before.weight_logits);
    // The first convolution of the encoder learns through latents, components and their mean alone.
    expect(after["latent_encoder.0.weight"]).not.toEqual(before["latent_encoder.0.weight"]);
    expect(after.mean_image).toEqual(before.mean_image);
    expect(Object.values(after).every((one) => one.every(Number.isFinite))).toBe(true);
  });
});

describe("what is trained on", () => {
  it("knows the truth of made pictures, and has others for testing", async () => {
    const test = await madeSet("blocks2", "test", 8, 5);
    expect(test.masks).toHaveLength(5);
    expect(test.factors).toHaveLength(5 * 8);
    expect(test.pictures.values.slice(0, 192)).not.toEqual(set.pictures.values.slice(0, 192));
    const lit = test.masks!.map((masks) =>
      masks.reduce((sum, mask) => sum + mask.reduce((a, b) => a + b, 0), 0),
    );
    expect(lit).toEqual([8, 8, 8, 8, 8]); // two blocks of four cells
    const other = await madeSet("blocks2-other", "test", 8, 50);
    const red = new Set(other.pictures.values.filter((_, i) => i % 192 < 64));
    expect([...red].map((v) => Number(v.toFixed(2))).sort()).toEqual([0, 0.1, 0.55, 1]);
  });

  it("joins two sets, and refuses sets that do not fit or are not in [0, 1]", async () => {
    const balls = await madeSet("litball", "train", 8, 6);
    const joined = union(set, balls);
    expect(joined.pictures.count).toBe(406);
    expect(joined.pictures.values.slice(-192)).toEqual(balls.pictures.values.slice(-192));
    expect(joined.masks).toBeUndefined();
    const large = await madeSet("litball", "train", 16, 2);
    expect(() => union(set, large)).toThrow(/8 and of 16 pixels/);
    const train = (changed: DecompSet, more: Partial<TrainSettings> = {}) =>
      drained(
        trainDecomp({
          stage: "t",
          model: freshDecomp(PRESETS.smoke, set, 1),
          set: changed,
          settings: training({ steps: 1, seed: 1, batch: 2, ...more }),
        }),
      );
    await expect(train(large)).rejects.toThrow(/expected \[3, 8, 8\]/);
    const bad = (value: number): DecompSet => {
      const values = set.pictures.values.slice();
      values[7] = value;
      return { ...set, pictures: { ...set.pictures, values } };
    };
    await expect(train(bad(Number.NaN))).rejects.toThrow(NonFiniteError);
    await expect(train(bad(-0.5))).rejects.toThrow(/-0\.5 at element 7, expected values in \[0, 1\]/);
    await expect(train(set, { dropLatents: 0.1 })).rejects.toThrow(/guided exactly when latents are dropped/);
    await expect(train(set, { batch: 1 })).rejects.toThrow(/batch norm/);
    await expect(train(set, { ema: 1 })).rejects.toThrow(/EMA decay/);
  });
});
