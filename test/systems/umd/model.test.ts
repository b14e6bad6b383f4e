import { describe, expect, it } from "vitest";
import { ArgumentError, ShapeError } from "../../../src/errors.ts";
import { parameterCount, parameters, withFields } from "../../../src/nn/index.ts";
import {
  type Batch,
  cleanCount,
  keptTokens,
  lossTerms,
  MIXTURES,
  mixedLoss,
} from "../../../src/systems/umd/method.ts";
import {
  blankUMD,
  configSchema,
  forwardFlops,
  initUMD,
  PRESETS,
  type UMD,
  type UMDConfig,
} from "../../../src/systems/umd/model.ts";
import { createNoise, evaluate, fromHost, grad, type Tensor, treeMap } from "../../../src/tensor/index.ts";

const TINY: UMDConfig = {
  ...PRESETS.smoke,
  size: 8,
  dim: 8,
  heads: 2,
  depth: 1,
  decoderDepth: 1,
  channels: 1,
  classTokens: 2,
};
const noise = createNoise("philox", 3);
const normal = (shape: number[], purpose: string): Tensor =>
  fromHost("f32", shape, noise.normal(shape, { sample: 0, purpose, step: 0 }));
const uniform = (shape: number[], purpose: string): Tensor =>
  fromHost("f32", shape, noise.uniform(shape, { sample: 0, purpose, step: 0 }));
const vector = (...values: number[]): Tensor => fromHost("f32", [values.length], Float32Array.from(values));
/** The loss of a mixture as a number to differentiate. */
const scalar =
  (mixture: keyof typeof MIXTURES) =>
  (model: UMD, batch: Batch): Tensor =>
    mixedLoss(MIXTURES[mixture])(model, batch).loss;

/** A model whose gates are open, as after training. */
const shaken = (model: UMD): UMD => {
  let k = 0;
  return treeMap((t) => t.add(normal([...t.shape], `shake ${k++}`).mul(0.2)), model);
};

const batchOf = (config: UMDConfig, noised: number, clean: number): Batch => {
  const { channels, size, patch } = config;
  const tokens = (size / patch) ** 2;
  const shape = (n: number): number[] => [n, channels, size, size];
  return {
    ...(noised && {
      noised: {
        x0: normal(shape(noised), "x"),
        noise: normal(shape(noised), "eps"),
        level: { alpha: vector(...Array(noised).fill(0.8)), sigma: vector(...Array(noised).fill(0.6)) },
        index: vector(...Array(noised).fill(299)),
        maskNoise: uniform([noised, tokens], "mask"),
      },
    }),
    ...(clean && {
      clean: {
        x0: normal(shape(clean), "clean"),
        maskNoise: uniform([clean, tokens], "mask 2"),
      },
    }),
  };
};

describe("UMD's model", () => {
  it("has the parameters of the published sizes", () => {
    const millions = (config: UMDConfig): number => Math.round(parameterCount(blankUMD(config)) / 1e5) / 10;
    expect(millions(PRESETS["S/4"])).toBe(43.7);
    expect(millions({ ...PRESETS["S/4"], conditioning: "token" })).toBe(29.2);
    expect(millions(PRESETS["B/4"])).toBe(174.2);
    expect(millions({ ...PRESETS["B/4"], conditioning: "token" })).toBe(116.3);
    expect(millions({ ...PRESETS["B/4"], classes: 1000 })).toBe(177.3);
    expect(millions(PRESETS["L/2"])).toBe(611.5);
    expect(millions({ ...PRESETS["L/2"], conditioning: "token" })).toBe(407.9);
  });

  it("begins with blocks that are the identity", async () => {
    const model = initUMD(TINY, 1);
    const block = model.encoder[0]!;
    const x = normal([2, 5, 8], "tokens");
    const change = block
      .call(x, normal([2, 8], "condition"))
      .sub(x)
      .abs()
      .max();
    expect(await change.item()).toBe(0);
  });

  it.each(["adaLN", "token"] as const)(
    "hidden patches have no influence on the encoder (%s)",
    async (conditioning) => {
      const model = shaken(initUMD({ ...TINY, conditioning }, 1));
      const x = normal([1, 1, 8, 8], "x");
      const order = fromHost("f32", [1, 4], Float32Array.of(0.1, 0.9, 0.8, 0.7));
      const mask = { noise: order, ratio: 0.75 };
      const changed = x.mul(1).setSlice([0, 0, 0, 4], normal([1, 1, 8, 4], "other"));
      const seen = x.setSlice([0, 0, 0, 0], normal([1, 1, 4, 4], "seen"));
      const t = vector(0);
      const [a, b, c] = [x, changed, seen].map((input) => model.call({ x: input, t }, mask)) as [
        ReturnType<UMD["call"]>,
        ReturnType<UMD["call"]>,
        ReturnType<UMD["call"]>,
      ];
      expect(await a.mask!.toArray()).toEqual([0, 1, 1, 1]);
      expect(await a.representation.toArray()).toEqual(await b.representation.toArray());
      expect(await a.x0.toArray()).toEqual(await b.x0.toArray());
      expect(await a.representation.toArray()).not.toEqual(await c.representation.toArray());
    },
  );

  it("drops hidden tokens from the encoder, and counts what that saves", async () => {
    const config = { ...PRESETS.mini };
    const model = blankUMD(config);
    const seen: number[] = [];
    const spied = (x: Tensor): Tensor => {
      seen.push(x.shape[1]!);
      return x;
    };
    const spy = withFields<UMD>(model, {
      encoder: [{ call: spied }] as never,
    });
    const x = normal([1, 3, 24, 24], "x");
    spy.call({ x, t: vector(0) }, { noise: uniform([1, 36], "m"), ratio: 0.75 });
    spy.call({ x, t: vector(0) });
    expect(seen).toEqual([4 + 9, 4 + 36]);
    expect(keptTokens(36, 0.375)).toBe(22);
    expect(forwardFlops(config, 0.75)).toBeLessThan(0.55 * forwardFlops(config, 0));
  });

  it("says nothing of a mask where there is none", () => {
    const out = initUMD(TINY, 1).call(
      { x: normal([1, 1, 8, 8], "x"), t: vector(0) },
      { noise: uniform([1, 4], "m"), ratio: 0 },
    );
    expect(out.mask).toBeUndefined();
  });

  it("four class tokens that begin at zero stay equal; random ones do not", async () => {
    const batch = batchOf(TINY, 0, 2);
    for (const zeroClassTokens of [true, false]) {
      const model = shaken(initUMD(TINY, 1, { zeroClassTokens }));
      const even = zeroClassTokens
        ? withFields<UMD>(model, { cls: initUMD(TINY, 1, { zeroClassTokens }).cls })
        : model;
      const { cls } = grad(scalar("mae"))(even, batch);
      const [first, second] = cls.split(2, 1) as [Tensor, Tensor];
      const gap = await first.sub(second).abs().max().item();
      if (zeroClassTokens) expect(gap).toBeLessThan(1e-7);
      else expect(gap).toBeGreaterThan(1e-5);
    }
  });

  it("labels matter, and the null label is that of no labels", async () => {
    const model = shaken(initUMD({ ...TINY, classes: 3 }, 1));
    const x = normal([1, 1, 8, 8], "x");
    const at = (label?: number): Promise<unknown> =>
      model
        .call({
          x,
          t: vector(9),
          ...(label !== undefined && { labels: fromHost("i32", [1], Int32Array.of(label)) }),
        })
        .eps.toArray();
    expect(await at(3)).toEqual(await at());
    expect(await at(1)).not.toEqual(await at(2));
  });

  it("names sizes and ratios that cannot be", () => {
    expect(() => initUMD({ ...TINY, size: 10 }, 1)).toThrow(/divisible by the patch, got 10 and 4/);
    expect(() => initUMD({ ...TINY, heads: 3 }, 1)).toThrow(/divisible by the heads, got 8 and 3/);
    expect(() => initUMD({ ...TINY, dim: 9, heads: 3 }, 1)).toThrow(/even width/);
    expect(() => keptTokens(36, 1)).toThrow(/\[0, 1\), got 1/);
    expect(() => keptTokens(36, -0.1)).toThrow(ArgumentError);
    expect(() => keptTokens(16, 0.99)).toThrow(/keeps none of 16/);
    expect(() => cleanCount(8, { cleanShare: 1.2 })).toThrow(/\[0, 1\], got 1.2/);
    expect(keptTokens(100, 0.9)).toBe(10);
    const x = normal([1, 1, 8, 8], "x");
    expect(() => initUMD(TINY, 1).call({ x, t: vector(0), labels: vector(0) })).toThrow(/no table of labels/);
    expect(() => initUMD(TINY, 1).call({ x: normal([1, 1, 12, 12], "x"), t: vector(0) })).toThrow(ShapeError);
    expect(configSchema.safeParse({ ...TINY, conditioning: "film" }).success).toBe(false);
  });
});

describe("UMD's objective", () => {
  const model = shaken(initUMD(TINY, 1));
  const value = (mixture: keyof typeof MIXTURES, batch: Batch): Promise<number> =>
    scalar(mixture)(model, batch).item();
  const mean = async (a: Tensor, b: Tensor): Promise<number> => a.sub(b).square().mean().item();

  it("is DiT's without clean pictures and masks: both errors everywhere", async () => {
    const batch = batchOf(TINY, 3, 0);
    const { x0, noise: eps } = batch.noised!;
    const t = vector(300, 300, 300); // index 299
    const out = model.call({ x: x0.mul(0.8).add(eps.mul(0.6)), t });
    const expected = ((await mean(out.eps, eps)) + (await mean(out.x0, x0))) / 2;
    expect(await value("dit", batch)).toBeCloseTo(expected, 5);
  });

  it("is MAE's without noised pictures: squared errors of hidden pixels alone", async () => {
    const batch = batchOf(TINY, 0, 3);
    const { x0, maskNoise } = batch.clean!;
    const out = model.call({ x: x0, t: vector(0, 0, 0) }, { noise: maskNoise, ratio: 0.75 });
    const [guess, target, mask] = [
      await out.x0.toArray(),
      await x0.toArray(),
      await out.mask!.toArray(),
    ] as number[][];
    let [sum, count] = [0, 0];
    for (let n = 0; n < 3; n++)
      for (let i = 0; i < 64; i++) {
        const patch = 2 * Math.floor(i / 32) + Math.floor((i % 8) / 4);
        if (mask![n * 4 + patch] === 0) continue;
        sum += (guess![n * 64 + i]! - target![n * 64 + i]!) ** 2;
        count++;
      }
    expect(count).toBe(3 * 3 * 16);
    expect(await value("mae", batch)).toBeCloseTo(sum / count, 5);
  });

  it("takes the noise where it is visible and the picture where it is not", async () => {
    const batch = batchOf(TINY, 2, 0);
    const loss = (m: UMD): Tensor => scalar("maskdit")(m, batch);
    const out = (m: UMD) => lossTerms(m, batch, MIXTURES.maskdit);
    // A head shifted only in its noise channel moves the noise term alone.
    const bias = model.finalProjection.bias!;
    const shift = fromHost(
      "f32",
      bias.shape,
      Float32Array.from({ length: 32 }, (_, i) => i % 2),
    );
    const moved = withFields<UMD>(model, {
      finalProjection: withFields(model.finalProjection, { bias: bias.add(shift) }),
    });
    const [a, b] = [out(model), out(moved)];
    expect(await a.x0!.item()).toBe(await b.x0!.item());
    expect(await a.eps!.item()).not.toBe(await b.eps!.item());
    expect(await loss(model).item()).toBeCloseTo(((await a.eps!.item()) + (await a.x0!.item())) / 2, 5);
  });

  it("weighs its parts by their numbers, and does without a part", async () => {
    const batch = batchOf(TINY, 3, 1);
    const { eps, x0, mae } = lossTerms(model, batch, MIXTURES.umd);
    const expected = 0.375 * ((await eps!.item()) + (await x0!.item())) + 0.25 * (await mae!.item());
    expect(await value("umd", batch)).toBeCloseTo(expected, 5);
    expect(cleanCount(1, MIXTURES.umd)).toBe(0);
    expect(Number.isFinite(await value("umd", batchOf(TINY, 1, 0)))).toBe(true);
    expect(() => scalar("umd")(model, {})).toThrow(/neither noised nor clean/);
  });

  it.each(["adaLN", "token"] as const)(
    "gradients are those of finite differences (%s)",
    async (conditioning) => {
      const tiny = shaken(initUMD({ ...TINY, conditioning }, 2));
      const batch = batchOf(TINY, 2, 2);
      const loss = (m: UMD): Tensor => scalar("umd")(m, batch);
      const gradients = grad(loss)(tiny);
      const directions = new Map(
        [...parameters(tiny)].map(([key, p]) => [key, normal([...p.shape], `direction ${key}`)]),
      );
      const slopes = [...parameters(gradients)].map(([key, g]) => g.mul(directions.get(key)!).sum());
      const largest = [...parameters(gradients)].map(([key, g]) => [key, g.abs().max()] as const);
      await evaluate([...slopes, ...largest.map(([, g]) => g)]);
      const moved = (h: number): UMD => {
        const keys = [...directions.values()];
        let k = 0;
        return treeMap((t) => t.add(keys[k++]!.mul(h)), tiny);
      };
      const h = 2e-3;
      const [up, down] = [await loss(moved(h)).item(), await loss(moved(-h)).item()];
      let slope = 0;
      for (const s of slopes) slope += await s.item();
      expect((up - down) / (2 * h) / slope).toBeCloseTo(1, 1.5);
      // Every parameter is trained by the mixture; the bias of the keys shifts all scores alike.
      for (const [key, g] of largest)
        if (!key.endsWith("to_k.bias")) expect(await g.item(), key).toBeGreaterThan(0);
    },
  );
});
