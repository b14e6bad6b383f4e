/** Noise-DA is what its equations say: levels, weights, coins, swapped residuals, and gradients into the network through both pictures. */
import { describe, expect, it } from "vitest";
import { addNoise } from "../../../src/diffusion/index.ts";
import { ArgumentError, ShapeError } from "../../../src/errors.ts";
import { createRestorer, type Restorer } from "../../../src/networks/index.ts";
import { blankRng, createRng, parameters } from "../../../src/nn/index.ts";
import {
  alphaAt,
  checkJoint,
  checkJointBatch,
  diffusionTerms,
  gammaLevels,
  gammas,
  inOrder,
  type JointBatch,
  type JointOptions,
  jointLoss,
  swappedResiduals,
} from "../../../src/systems/noise-da/method.ts";
import { createNoiseGuesser, DIFFUSION_SIZES, NoiseGuesser } from "../../../src/systems/noise-da/model.ts";
import { createNoise, grad, jit, makeKey, type Tensor, tensor } from "../../../src/tensor/index.ts";

const SHAPE = [2, 3, 8, 8];
const source = createNoise("philox", 7);
const random = (sample: number, scale = 0.2, shift = 0.5): Tensor =>
  tensor(
    source.normal(SHAPE, { sample, purpose: "test", step: 0 }).map((v) => shift + scale * v),
    { shape: SHAPE },
  );
const coins = (...values: boolean[]): Tensor => tensor(values, { dtype: "bool" });
const batchOf = (more: Partial<JointBatch> = {}): JointBatch => {
  const drawn = gammaLevels(gammas(), [300, 700]).levelOf(Float32Array.of(0.6, 0.4));
  return {
    ...{ clean: random(1), synthetic: random(2), real: random(3), noise: random(4, 1, 0) },
    ...{ gamma: tensor([0.6, 0.4]), level: drawn, alpha: tensor(0.2) },
    coins: { good: coins(true, false), worse: coins(false, true) },
    keys: { good: makeKey(0, { step: 0 }), worse: makeKey(0, { step: 1 }) },
    ...more,
  };
};
const guesser = createNoiseGuesser("smoke", 1);
const net = createRestorer({ network: "unet", base: 4, depth: 2 }, createRng(2)) as Restorer;
const item = (t: Tensor): Promise<number> => t.item();

describe("what is drawn", () => {
  it("levels lie between those of their timestep and the one before, and reach both ends of the range", () => {
    const table = gammas();
    for (const range of [
      [1, 999],
      [1, 100],
      [500, 500],
    ] as const) {
      const { drawn } = gammaLevels(table, range);
      expect(drawn(0)).toBeCloseTo(table[range[0] - 1]!, 6);
      expect(drawn(1 - 1e-9)).toBeCloseTo(table[range[1]]!, 4);
      for (let i = 0; i < 50; i++) {
        const position = range[0] + (i / 50) * (range[1] - range[0] + 1);
        const t = Math.floor(position);
        const gamma = drawn(i / 50);
        expect(gamma).toBeLessThanOrEqual(table[t - 1]! + 1e-7);
        expect(gamma).toBeGreaterThanOrEqual(table[t]! - 1e-7);
      }
    }
    expect(table[999]).toBeCloseTo(0.0066, 3);
  });

  it("the weight grows from 0 to 0.1973, and stays", () => {
    const schedule = { cap: 0.2, ramp: 300 };
    expect(alphaAt(0, schedule)).toBe(0);
    expect(alphaAt(300, schedule)).toBeCloseTo(0.1973, 4);
    expect(alphaAt(9000, schedule)).toBe(alphaAt(300, schedule));
    expect(alphaAt(100, schedule)).toBeLessThan(alphaAt(101, schedule));
  });
});

describe("conditions", () => {
  it("coins swap whole pictures of single samples", async () => {
    const [a, b] = [random(5), random(6)];
    const [first, second] = inOrder(coins(true, false), a, b);
    const part = async (t: Tensor, i: number) => await t.sliceAxis(0, i, i + 1).toArray();
    expect(await part(first, 0)).toEqual(await part(b, 0));
    expect(await part(second, 0)).toEqual(await part(a, 0));
    expect(await part(first, 1)).toEqual(await part(a, 1));
    expect(await part(second, 1)).toEqual(await part(b, 1));
  });

  it("swapped residuals move what one restoration took away to the other picture", async () => {
    const batch = batchOf();
    const [s, r] = [random(8), random(9)];
    const [ns, nr] = swappedResiduals(batch, s, r);
    expect(await item(ns.add(nr).sub(s.add(r)).abs().max())).toBeLessThan(1e-6);
    expect(await item(ns.sub(batch.synthetic.add(r).sub(batch.real)).abs().max())).toBeLessThan(1e-6);
  });

  it("come after the noised picture, which is made of the truth, in the order of the coins", async () => {
    const seen: Tensor[][] = [];
    const spy = {
      predict: (...given: (Tensor | undefined)[]) => {
        seen.push(given.slice(0, 4) as Tensor[]);
        return given[0]!;
      },
    };
    const batch = batchOf();
    const [s, r] = [random(8), random(9)];
    diffusionTerms(spy as never, batch, [s, r]);
    const [x, first, second, gamma] = seen[0]!;
    expect(await x!.toArray()).toEqual(await addNoise(batch.clean, batch.noise, batch.level).toArray());
    const expected = inOrder(batch.coins.good, s, r);
    expect(await first!.toArray()).toEqual(await expected[0].toArray());
    expect(await second!.toArray()).toEqual(await expected[1].toArray());
    expect(await gamma!.toArray()).toEqual(await batch.gamma.toArray());
    const worse = inOrder(batch.coins.worse, ...swappedResiduals(batch, s, r));
    expect(await seen[1]![1]!.toArray()).toEqual(await worse[0].toArray());
  });
});

/** The loss and its gradients to both restored pictures. */
const pulled = (options: JointOptions) =>
  jit((s: Tensor, r: Tensor, batch: JointBatch) => {
    const loss = (a: Tensor, b: Tensor) => diffusionTerms(guesser, batch, [a, b], options).diffusion;
    return {
      value: loss(s, r),
      synthetic: grad((v: Tensor) => loss(v, r))(s),
      real: grad((v: Tensor) => loss(s, v))(r),
    };
  });

describe("the loss", () => {
  it("reaches both restored pictures: gradients are those of finite differences", async () => {
    const run = pulled({});
    const [s, r, batch] = [random(8), random(9), batchOf()];
    const at = await run(s, r, batch);
    for (const [which, other] of [
      ["synthetic", random(10, 1, 0)],
      ["real", random(11, 1, 0)],
    ] as const) {
      const along = await item(at[which].mul(other).sum());
      const e = 3e-3;
      const moved = async (sign: number) => {
        const step = other.mul(sign * e);
        const [a, b] = which === "real" ? [s, r.add(step)] : [s.add(step), r];
        return item((await run(a, b, batch)).value);
      };
      const difference = ((await moved(1)) - (await moved(-1))) / (2 * e);
      expect(Math.abs(along / difference - 1), which).toBeLessThan(2e-2);
    }
    await run.close();
  });

  it.each([
    ["synthetic", "real"],
    ["real", "synthetic"],
  ] as const)("with the %s condition alone gives none to the %s picture", async (conditions, other) => {
    const run = pulled({ conditions });
    const at = await run(random(8), random(9), batchOf());
    expect(await item(at[other].abs().max())).toBe(0);
    expect(await item(at[conditions].abs().max())).toBeGreaterThan(0);
    await run.close();
  });

  it("has a contrast of 0 exactly where the worse conditions are worse by the margin", async () => {
    for (const margin of [0, 0.1, 1, 50]) {
      const { positive, negative, contrast, diffusion } = diffusionTerms(
        guesser,
        batchOf(),
        [random(8), random(9)],
        { margin },
      );
      const [p, n, c, d] = await Promise.all([positive, negative, contrast, diffusion].map(item));
      expect(c === 0).toBe(n! >= p! + margin);
      expect(c).toBeCloseTo(Math.max(0, p! - n! + margin), 4);
      expect(d).toBeCloseTo((p! + c!) / 2, 4);
    }
  });

  it("without swaps halves the error as with them; mode 2 takes it whole, from other clean pictures", async () => {
    const pair = [random(8), random(9)] as const;
    const plain = diffusionTerms(guesser, batchOf(), pair, { swap: false });
    expect(await item(plain.diffusion)).toBeCloseTo((await item(plain.positive)) / 2, 5);
    const other = diffusionTerms(guesser, batchOf({ reference: random(12) }), pair, { mode: 2 });
    expect(await item(other.diffusion)).toBe(await item(other.positive));
    expect(await item(other.positive)).not.toBe(await item(plain.positive));
  });

  it("is L_pix + alpha L_dif in the range of the task; mode 0 is L_pix", async () => {
    const batch = batchOf();
    const parts = jointLoss({ restorer: net, diffusion: guesser }, batch, { range: "signed" });
    const [loss, pixels, dif] = [parts.loss, parts.metrics!.pixels!, parts.metrics!.diffusion!];
    expect(await item(loss)).toBeCloseTo((await item(pixels)) + 0.2 * (await item(dif)), 4);
    const d = net.restore(batch.synthetic).sub(batch.clean).mul(2);
    expect(await item(pixels)).toBeCloseTo(await item(d.square().add(1e-6).sqrt().mean()), 5);
    const alone = jointLoss({ restorer: net }, batch, { mode: 0, range: "signed" });
    expect(await item(alone.loss)).toBe(await item(pixels));
  });

  it("takes a batch of one", async () => {
    const one = (t: Tensor): Tensor => t.sliceAxis(0, 0, 1);
    const whole = batchOf();
    const batch: JointBatch = {
      ...whole,
      ...{ clean: one(whole.clean), synthetic: one(whole.synthetic), real: one(whole.real) },
      ...{ noise: one(whole.noise), gamma: one(whole.gamma) },
      level: { alpha: one(whole.level.alpha), sigma: one(whole.level.sigma) },
      coins: { good: coins(true), worse: coins(true) },
    };
    expect(await item(jointLoss({ restorer: net, diffusion: guesser }, batch).loss)).toBeGreaterThan(0);
  });
});

describe("the diffusion model", () => {
  it.each([
    ["published", 62_643_075, 326],
    ["mini", 1_670_619, undefined],
  ] as const)("%s has %i parameters, attention in the middle alone", (size, count, tensors) => {
    const own = parameters(new NoiseGuesser(DIFFUSION_SIZES[size], blankRng));
    expect([...own.values()].reduce((sum, t) => sum + t.size, 0)).toBe(count);
    if (tensors !== undefined) expect(own.size).toBe(tensors);
    expect([...own.keys()].filter((key) => key.includes("qkv")).sort()).toEqual([
      "middle_block.1.qkv.bias",
      "middle_block.1.qkv.weight",
    ]);
  });

  it("begins with no layer at 0, which guided-diffusion has, and with biases of 0", async () => {
    for (const [key, t] of parameters(guesser)) {
      const size = await item(t.abs().max());
      if (t.rank >= 2) expect(size, key).toBeGreaterThan(0);
      else if (key.endsWith("bias")) expect(size, key).toBe(0);
    }
  });

  it("drops differently in both passes: the same conditions give other errors with other keys", async () => {
    const pair = [random(8), random(9)] as const;
    const batch = batchOf();
    const error = (key: Tensor | undefined) =>
      item(diffusionTerms(guesser, { ...batch, keys: key && { good: key, worse: key } }, pair).positive);
    expect(await error(batch.keys!.good)).not.toBe(await error(batch.keys!.worse));
    expect(await error(undefined)).not.toBe(await error(batch.keys!.good));
  });
});

describe("what cannot be is refused by name", () => {
  const guessed = (more: object) => () => new NoiseGuesser({ ...DIFFUSION_SIZES.smoke, ...more }, blankRng);
  it.each([
    ["a mode", () => checkJoint({ mode: 3 as 2 }), ArgumentError, /mode 0, 1 or 2, got 3/],
    ["a margin below 0", () => checkJoint({ margin: -1 }), ArgumentError, /margin of 0 or more, got -1/],
    ["conditions", () => checkJoint({ conditions: "none" as "real" }), ArgumentError, /got none/],
    ["timesteps from 0", () => gammaLevels(gammas(), [0, 10]), ArgumentError, /1 to 999.*got 0 to 10/],
    ["timesteps reversed", () => gammaLevels(gammas(), [9, 3]), ArgumentError, /least first, got 9 to 3/],
    ["a weight below 0", () => alphaAt(0, { cap: -1, ramp: 1 }), ArgumentError, /alpha of 0 or more, got -1/],
    ["no ramp", () => alphaAt(0, { cap: 1, ramp: 0 }), ArgumentError, /ramp above 0 steps, got 0/],
    [
      "pictures of two sizes",
      () => checkJointBatch(batchOf({ real: random(3).sliceAxis(2, 0, 4) })),
      ShapeError,
      /real .* differ in shape/,
    ],
    [
      "mode 2 without references",
      () => checkJointBatch(batchOf(), { mode: 2 }),
      ArgumentError,
      /no reference/,
    ],
    ["six channels", guessed({ concat_channels: 3 }), ArgumentError, /9 channels to 3, got one from 6 to 3/],
    ["four outputs", guessed({ out_channels: 4 }), ArgumentError, /from 9 to 4/],
    ["classes", guessed({ num_classes: 3 }), ArgumentError, /without class labels/],
  ] as const)("%s", (_, make, error, message) => {
    expect(make).toThrow(error);
    expect(make).toThrow(message);
  });
});
