/** The joint training is what it says: without the diffusion model's loss it is the plain one, and rivals train what they should. */
import { describe, expect, it } from "vitest";
import { DEGRADATIONS, deadLeaves, fromArray } from "../../../src/data/index.ts";
import { ArgumentError } from "../../../src/errors.ts";
import { createRestorer, type RestorationUNet, type Restorer } from "../../../src/networks/index.ts";
import { createRng, parameters } from "../../../src/nn/index.ts";
import {
  dannWay,
  ganWay,
  neighbours,
  neighbourWay,
  reversed,
  strongWay,
  tvWay,
} from "../../../src/systems/noise-da/baselines.ts";
import { createNoiseGuesser } from "../../../src/systems/noise-da/model.ts";
import {
  type JointSettings,
  type JointSources,
  jointBatches,
  noiseDaWay,
  trainJoint,
  type Way,
} from "../../../src/systems/noise-da/train.ts";
import { grad, makeKey, type Tensor, tensor } from "../../../src/tensor/index.ts";
import { degradedCrops, trainRestorer } from "../../../src/training/index.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";

const pictures = (first: number) =>
  fromArray([0, 1, 2].map((i) => ({ image: deadLeaves(first + i, { size: 16 }), name: `${i}` })));
const sources: JointSources = {
  synthetic: degradedCrops(pictures(0), DEGRADATIONS.noise, 0),
  real: degradedCrops(pictures(10), DEGRADATIONS["correlated-noise"], 0),
};
const SETTINGS: JointSettings = {
  ...{ steps: 3, batch: 2, crop: 8, learningRate: 1e-3, seed: 0, warmup: 0, clip: 0, mode: 1 },
  ...({ schedule: "constant", timesteps: [1, 999], helperRate: 2, range: "signed" } as const),
  alpha: { cap: 0.2, ramp: 1 },
};
const net = createRestorer({ network: "unet", base: 4, depth: 2 }, createRng(0)) as RestorationUNet;
const guesser = createNoiseGuesser("smoke", 1);

async function trained<H extends object>(way: Way<H>, more: Partial<JointSettings> = {}) {
  const curves: Record<string, number>[] = [];
  const see = (event: WorkEvent) => {
    if (event.type === "metrics") curves.push(event.values);
  };
  const given = {
    stage: "test",
    net: net as Restorer,
    sources,
    settings: { ...SETTINGS, ...more },
    way,
    threads: 1,
  };
  const result = await drained(trainJoint(given), see);
  return { ...result, curves };
}
const valuesOf = async (one: object): Promise<number[]> =>
  (await Promise.all([...parameters(one).values()].map((t) => t.toArray()))).flat(4) as number[];
const gap = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i]!)), 0);

describe("the training", () => {
  it("in mode 0 is that of the plain trainer, bit for bit; with a weight of 0 the same path; with one another", async () => {
    const { crop, batch, steps, learningRate, seed } = SETTINGS;
    const { final } = await drained(
      trainRestorer({
        ...{ stage: "plain", net: net as Restorer, source: sources.synthetic, threads: 1 },
        settings: {
          ...{ crop, batch, steps, learningRate, seed, warmup: 0, clip: 0 },
          ...({ schedule: "constant", pixel: "charbonnier" } as const),
        },
      }),
    );
    const plain = await valuesOf(final);
    const vanilla = await trained(noiseDaWay(guesser, { mode: 0, range: "signed" }), { mode: 0 });
    expect(vanilla.helper).toBeUndefined();
    expect(await valuesOf(vanilla.restorer)).toEqual(plain);
    const way = noiseDaWay(guesser, SETTINGS);
    const weightless = await trained(way, { alpha: { cap: 0, ramp: 1 } });
    expect(gap(await valuesOf(weightless.restorer), plain)).toBeLessThan(1e-6);
    const full = await trained(way);
    expect(gap(await valuesOf(full.restorer), plain)).toBeGreaterThan(1e-5);
    expect(gap(await valuesOf(full.helper!), await valuesOf(guesser))).toBeGreaterThan(1e-4);
    const frozen = await trained({ ...way, held: "helper" });
    expect(await valuesOf(frozen.helper!)).toEqual(await valuesOf(guesser));
  });

  it("lowers its loss", async () => {
    const { curves } = await trained(noiseDaWay(guesser, SETTINGS), {
      steps: 40,
      alpha: { cap: 0.2, ramp: 20 },
    });
    expect(curves.at(-1)!.loss).toBeLessThan(0.7 * curves[0]!.loss!);
    expect(curves.at(-1)!.positive).toBeLessThan(curves[0]!.positive!);
  });

  it("draws batches that are a function of the step, real crops apart from synthetic ones", async () => {
    const next = jointBatches(sources, SETTINGS);
    const [a, b, again] = [await next(5), await next(6), await next(5)];
    const same = async (x: Tensor, y: Tensor) => (await x.sub(y).abs().max().item()) === 0;
    for (const name of ["clean", "synthetic", "real", "noise", "gamma"] as const) {
      expect(await same(a[name], again[name]), name).toBe(true);
      expect(await same(a[name], b[name]), name).toBe(false);
    }
    expect(await a.coins.good.toArray()).toEqual(await again.coins.good.toArray());
    expect(await a.keys!.good.toArray()).not.toEqual(await a.keys!.worse.toArray());
  });

  it.each([
    [
      "no real pictures",
      { sources: { ...sources, real: { ...sources.real, length: 0 } } },
      /no real pictures/,
    ],
    ["mode 2 alone", { settings: { ...SETTINGS, mode: 2 as const } }, /needs other clean pictures/],
    ["a crop of 9", { settings: { ...SETTINGS, crop: 9 } }, /multiple of 2, got 9/],
    ["a rate below 0", { settings: { ...SETTINGS, helperRate: -1 } }, /rate of 0 or more, got -1/],
    ["an EMA of 1", { settings: { ...SETTINGS, ema: 1 } }, /EMA decay in \[0, 1\), got 1/],
    [
      "gray networks",
      {
        net: createRestorer({ network: "dncnn", channels: 1, width: 4, depth: 3 }, createRng(0)) as Restorer,
      },
      /network of 3 channels, got 1/,
    ],
  ])("refuses %s", async (_, more, message) => {
    const way = noiseDaWay(guesser, SETTINGS);
    const given = { stage: "test", net: net as Restorer, sources, settings: SETTINGS, way, ...more };
    const failed = await drained(trainJoint(given)).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(ArgumentError);
    expect((failed as Error).message).toMatch(message);
  });
});

describe("rivals", () => {
  it("each trains the network in its own way; adversaries learn beside it", async () => {
    const plain = await valuesOf((await trained(noiseDaWay(undefined, { mode: 0 }), { mode: 0 })).restorer);
    const [gan, dann] = [ganWay(0.01, 1, "signed"), dannWay(net, 1, "signed")];
    const ways: Record<string, Way<object>> = {
      tv: tvWay(0.2, "signed"),
      gan: gan as Way<object>,
      dann: dann as Way<object>,
      neighbours: neighbourWay(),
    };
    for (const [name, way] of Object.entries(ways)) {
      const result = await trained(way, { mode: 0, steps: 2 });
      expect(gap(await valuesOf(result.restorer), plain), name).toBeGreaterThan(1e-6);
      if (way.helper)
        expect(gap(await valuesOf(result.helper!), await valuesOf(way.helper)), name).toBeGreaterThan(1e-6);
    }
  });

  it("a strong diffusion model learns from every batch four times", async () => {
    const way = strongWay(guesser, SETTINGS, noiseDaWay(guesser, SETTINGS));
    const strong = await trained(way, { steps: 1 });
    expect(Object.keys(strong.curves[0]!)).toEqual(
      expect.arrayContaining(["diffusion 1 loss", "diffusion 2 loss", "diffusion 3 loss"]),
    );
  });

  it("a reversed gradient is the negative, times lambda; the value stays", async () => {
    const x = tensor([1, -2, 3]);
    expect(await reversed(x, 0.5).toArray()).toEqual([1, -2, 3]);
    const gradient = grad((v: Tensor) =>
      reversed(v, 0.5)
        .mul(tensor([2, 4, 6]))
        .sum(),
    )(x);
    expect(await gradient.toArray()).toEqual([-1, -2, -3]);
  });

  it("neighbours are two different pixels of each cell that touch, the same cells for every picture", async () => {
    const values = Float32Array.from({ length: 64 }, (_, i) => i);
    const y = tensor(values, { shape: [1, 1, 8, 8] });
    const pair = neighbours(makeKey(3, { step: 1 }), y);
    const [a, b] = (await Promise.all(pair(y).map((t) => t.toArray()))).map((v) => v.flat(3)) as number[][];
    const seen = new Set<number>();
    for (let k = 0; k < 16; k++) {
      const cell = (v: number) => [(v % 8) >> 1, v >> 4];
      expect([cell(a![k]!), cell(b![k]!)]).toEqual([
        [k % 4, k >> 2],
        [k % 4, k >> 2],
      ]);
      const distance = Math.abs(a![k]! - b![k]!);
      expect([1, 8]).toContain(distance);
      seen.add(distance);
    }
    expect(seen.size).toBe(2);
    const shifted = pair(y.add(100));
    expect((await shifted[0].toArray()).flat(3)).toEqual(a!.map((v) => v + 100));
  });
});
