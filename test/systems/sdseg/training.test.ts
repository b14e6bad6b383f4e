import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fromArray, otsuThreshold } from "../../../src/data/index.ts";
import { lesion } from "../../../src/data/world/lesions.ts";
import { ArgumentError, FormatError } from "../../../src/errors.ts";
import { readSafetensors, writeSafetensors } from "../../../src/io/index.ts";
import { parameters } from "../../../src/nn/index.ts";
import { BRIGHTNESS, thresholdPredictor } from "../../../src/systems/sdseg/baselines.ts";
import {
  autoencodingBatches,
  latentSampler,
  type Sample,
  type SampleOptions,
  toSample,
} from "../../../src/systems/sdseg/data.ts";
import { createSDSeg, PRESETS, type SDSeg, sdsegFile } from "../../../src/systems/sdseg/model.ts";
import { evaluateOn, predictWith } from "../../../src/systems/sdseg/scores.ts";
import {
  measureScale,
  TRAINING,
  type TrainInputs,
  trainDecoder,
  trainSDSeg,
} from "../../../src/systems/sdseg/train.ts";
import { openSegmenter } from "../../../src/systems/sdseg/use.ts";
import { drained, type Work } from "../../../src/work.ts";

const config = PRESETS.smoke;
const lesionsOf = (options: SampleOptions): Sample[] =>
  Array.from({ length: 64 }, (_, i) => toSample(lesion(i, 0, 32), options));
const samples = lesionsOf({ config });
const data = fromArray(samples);
// Longer than the preset, whose 150 steps of the autoencoder leave it to rounding whether masks survive it.
const settings = {
  ...TRAINING.smoke,
  seed: 1,
  autoencoder: { ...TRAINING.smoke.autoencoder, steps: 300 },
  denoiser: { ...TRAINING.smoke.denoiser, steps: 400 },
};
const ORIGIN = { name: "test", training: "smoke", seed: "1", date: "2026-01-01", scale: 1 };

/** Runs a training to its end; losses by phase, as its curves tell them. */
async function trained(run: Work<SDSeg>) {
  const losses: Record<string, number[]> = { autoencoder: [], decoder: [], denoiser: [] };
  const model = await drained(run, (event) => {
    if (event.type === "metrics" && event.values.loss !== undefined)
      losses[event.stage]!.push(event.values.loss);
  });
  return { model, losses };
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

let folder: string;
let result: Awaited<ReturnType<typeof trained>>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdseg-"));
  result = await trained(trainSDSeg({ model: createSDSeg(config, 1), settings, data, threads: 1 }));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("a smoke training", () => {
  it("lowers both losses", () => {
    for (const phase of ["autoencoder", "denoiser"]) {
      const losses = result.losses[phase]!;
      const [early, late] = [losses[0]!, mean(losses.slice(-4))];
      expect(late, phase).toBeLessThan((phase === "autoencoder" ? 0.6 : 0.9) * early);
    }
  });

  it("sharpens the decoder alone: masks come back better, their latents are the same", async () => {
    const decoder = { ...TRAINING.smoke.decoder, steps: 60 };
    const inputs = { model: result.model, settings: { ...settings, decoder }, data, threads: 1 };
    const { model } = await trained(trainDecoder(inputs));
    const batch = { data, config, batch: 32, crop: 32, augment: "none", seed: 9 } as const;
    const { mask, noise } = await autoencodingBatches(batch)(0);
    const encode = latentSampler(result.model.autoencoder);
    const latent = await encode(mask, noise);
    await encode.close();
    const error = ({ autoencoder }: SDSeg): Promise<number> =>
      autoencoder.decode(latent).sub(mask).abs().mean().item();
    expect(await error(model)).toBeLessThan(await error(result.model));
    const [before, after] = [parameters(result.model), parameters(model)];
    for (const [key, t] of after) {
      const same = String(await t.data()) === String(await before.get(key)!.data());
      expect(same, key).toBe(!/^autoencoder\.(decoder|post_quant_conv)/.test(key));
    }
    expect(settings.decoder.steps).toBe(0);
    expect((await trained(trainDecoder({ ...inputs, settings }))).model).toBe(result.model);
  });

  it("segments its training pictures better than a threshold, deterministically per seed", async () => {
    const segmenter = openSegmenter(result.model);
    const dice = async (): Promise<number> => (await evaluateOn(predictWith(segmenter), data)).dice;
    const bright = fromArray(lesionsOf({ config: BRIGHTNESS }));
    const { dice: threshold } = await evaluateOn(thresholdPredictor(otsuThreshold, false), bright);
    const first = await dice();
    expect(first).toBeGreaterThan(threshold + 0.03);
    expect(await dice()).toBe(first);
    await segmenter.close();
  });

  it("comes back from a file bit by bit, and from half precision nearly so", async () => {
    const [exact, half] = [join(folder, "exact.safetensors"), join(folder, "half.safetensors")];
    await sdsegFile.save(exact, result.model, ORIGIN, "f32");
    await sdsegFile.save(half, result.model, ORIGIN);
    const back = await sdsegFile.load(exact);
    expect(back.notes).toEqual(ORIGIN);
    expect(back.model.scaleFactor).toBe(result.model.scaleFactor);
    const expected = parameters(result.model);
    for (const [key, t] of parameters(back.model))
      expect(await t.data(), key).toEqual(await expected.get(key)!.data());
    const [a, b] = [openSegmenter(result.model), openSegmenter((await sdsegFile.load(half)).model)];
    const one = [samples[0]!] as [Sample];
    const [p] = await predictWith(a)(one);
    const [q] = await predictWith(b)(one);
    q!.probability.forEach((v, i) => {
      expect(Math.abs(v - p!.probability[i]!)).toBeLessThan(0.05);
    });
    await a.close();
    await b.close();
  });

  it("names what is wrong with a checkpoint, and loads nothing then", async () => {
    const path = join(folder, "broken.safetensors");
    await sdsegFile.save(path, result.model, ORIGIN, "f32");
    const { tensors, metadata } = await readSafetensors(path);
    const [first, second] = [...tensors.keys()] as [string, string];
    const changed = new Map(tensors);
    changed.delete(first);
    changed.set("stranger", tensors.get(first)!);
    changed.set(second, { dtype: "f32", shape: [1], data: new Float32Array(1) });
    await writeSafetensors(path, changed, metadata);
    const failure = sdsegFile.load(path);
    await expect(failure).rejects.toThrow(FormatError);
    await expect(failure).rejects.toThrow(/missing.*unexpected|wrong/s);
    for (const name of [first, second, "stranger"]) await expect(sdsegFile.load(path)).rejects.toThrow(name);
    await writeSafetensors(path, tensors, { format: "other" });
    await expect(sdsegFile.load(path)).rejects.toThrow(/no SDSeg checkpoint/);
  });
});

describe("training", () => {
  const short = {
    ...settings,
    autoencoder: { ...settings.autoencoder, steps: 4 },
    denoiser: { ...settings.denoiser, steps: 6 },
  };
  const inputs = (more: Partial<TrainInputs> = {}): TrainInputs => ({
    model: createSDSeg(config, 1),
    settings: short,
    data,
    threads: 1,
    ...more,
  });

  it("goes on after an interruption as if there had been none, with the same scale", async () => {
    const whole = await trained(trainSDSeg(inputs()));
    const run = join(folder, "run");
    const controller = new AbortController();
    const first = trainSDSeg(inputs({ folder: run, signal: controller.signal, saveEvery: 2 }));
    await expect(async () => {
      for await (const event of first)
        if (event.type === "progress" && event.stage === "denoiser" && event.done === 3) controller.abort();
    }).rejects.toThrow(/stopped after step 3/);
    const { model } = await trained(trainSDSeg(inputs({ folder: run })));
    expect(model.scaleFactor).toBe(whole.model.scaleFactor);
    const expected = parameters(whole.model);
    for (const [key, t] of parameters(model))
      expect(await t.data(), key).toEqual(await expected.get(key)!.data());
  });

  it("keeps autoencoder and scale of a model that it goes on with, and a frozen vision encoder", async () => {
    const before = result.model;
    const frozen = { ...short, trainVision: false };
    const { model, losses } = await trained(
      trainSDSeg(inputs({ model: before, settings: frozen }), { keepAutoencoder: true }),
    );
    expect(losses.autoencoder).toEqual([]);
    expect(model.scaleFactor).toBe(before.scaleFactor);
    const [a, b] = [parameters(before.network.vision), parameters(model.network.vision)];
    expect([...b.keys()]).toEqual([...a.keys()]);
    for (const [name, t] of b) expect(await t.data(), name).toEqual(await a.get(name)!.data());
    const moved = [...parameters(model.network.unet)].map(async ([name, t]) => {
      const old = parameters(before.network.unet).get(name)!;
      return String(await t.data()) !== String(await old.data());
    });
    expect((await Promise.all(moved)).includes(true)).toBe(true);
  });

  it("trains several classes, with an embedding each", async () => {
    const three = { ...config, classes: 3 };
    const classes = fromArray(
      samples.map((s, i) => ({ ...s, labels: s.labels.map((label) => (label > 0 ? 1 + (i % 2) : 0)) })),
    );
    const { model } = await trained(trainSDSeg(inputs({ model: createSDSeg(three, 1), data: classes })));
    expect([...parameters(model).keys()]).toContain("network.unet.label_emb.weight");
  });

  it("refuses crops that the networks cannot take, and masks without any foreground", async () => {
    await expect(trained(trainSDSeg(inputs({ settings: { ...short, crop: 20 } })))).rejects.toThrow(
      /crop.*stride 8, got 20/,
    );
    const empty = fromArray(samples.map((s) => ({ ...s, labels: s.labels.map(() => 0) })));
    await expect(measureScale(inputs({ data: empty }))).rejects.toThrow(ArgumentError);
  });
});
