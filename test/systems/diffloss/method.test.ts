/** DiffLoss is what its equations say: both sides noised alike, gradients through the frozen prior, none into it. */
import { describe, expect, it } from "vitest";
import { addNoise } from "../../../src/diffusion/index.ts";
import { ArgumentError, ShapeError } from "../../../src/errors.ts";
import { blankRng, parameters } from "../../../src/nn/index.ts";
import {
  checkRange,
  diffLoss,
  distances,
  gradientDistance,
  type Prior,
  type SharedNoise,
  type Weights,
} from "../../../src/systems/diffloss/method.ts";
import {
  createPrior,
  PRIOR_SIZES,
  PriorNetwork,
  priorAlphaBars,
  randomPrior,
  withRecomputation,
} from "../../../src/systems/diffloss/model.ts";
import { calibrated, diffLossOf } from "../../../src/systems/diffloss/train.ts";
import { createNoise, grad, jit, type Tensor, tensor } from "../../../src/tensor/index.ts";

const prior = randomPrior("smoke", 3);
const noise = createNoise("philox", 5);
const SHAPE = [2, 3, 8, 8];
const random = (sample: number, scale = 1): Tensor =>
  tensor(
    noise.normal(SHAPE, { sample, purpose: "test", step: 0 }).map((v) => v * scale),
    { shape: SHAPE },
  );
const sharedAt = (t: number): SharedNoise => {
  const alphaBar = priorAlphaBars({ timesteps: 1000 })[t]!;
  const both = (v: number) => tensor([v, v]);
  return {
    t: both(t),
    level: { alpha: both(Math.sqrt(alphaBar)), sigma: both(Math.sqrt(1 - alphaBar)) },
    noise: random(9),
  };
};
const ONE: Weights = { natural: 1, semantic: 1 };
const x = random(1, 0.4);
const z = x.add(random(2, 0.1));
const total = (p: Prior, a: Tensor, b: Tensor, shared: SharedNoise, weights = ONE, controls = {}) =>
  diffLoss(p, [a, b], shared, weights, controls).loss as Tensor;

describe("the loss", () => {
  it("is 0 for equal pictures, and the same from either side", async () => {
    const shared = sharedAt(300);
    const { natural, semantic } = distances(prior, x, x, shared);
    expect([await natural.item(), await semantic.item()]).toEqual([0, 0]);
    const [a, b] = [total(prior, z, x, shared), total(prior, x, z, shared)];
    expect(await a.item()).toBeCloseTo(await b.item(), 6);
    expect(await a.item()).toBeGreaterThan(0);
  });

  it.each([5, 300, 900])(
    "has the gradient of its finite differences at t = %i, through z alone",
    async (t) => {
      const shared = sharedAt(t);
      const run = jit((a: Tensor, b: Tensor) => {
        const gradient = grad((v: Tensor) => total(prior, v, b, shared))(a);
        const other = grad((v: Tensor) => total(prior, a, v, shared))(b);
        return { gradient, other: other.abs().max(), value: total(prior, a, b, shared) };
      });
      const { gradient, other } = await run(z, x);
      expect(await other.item()).toBe(0);
      const direction = random(4);
      const along = await gradient.mul(direction).sum().item();
      const e = 1e-2;
      const [up, down] = [await run(z.add(direction.mul(e)), x), await run(z.sub(direction.mul(e)), x)];
      const difference = ((await up.value.item()) - (await down.value.item())) / (2 * e);
      expect(Math.abs(along / difference - 1)).toBeLessThan(1e-2);
      await run.close();
    },
  );

  it("notices neither variances nor what is not fed to it: only the first three channels count", async () => {
    const config = { ...prior.config, unet: { ...PRIOR_SIZES.smoke, learn_sigma: true } };
    const six = new PriorNetwork(config, blankRng);
    const { noise: guess, h } = six.features(x, sharedAt(1).t, sharedAt(1).level);
    expect(guess.shape).toEqual(SHAPE);
    expect(h.shape).toEqual([2, 16, 4, 4]);
  });

  it("turns guesses of the clean picture and of v into guesses of the noise", async () => {
    const { level, t } = sharedAt(400);
    const like = (prediction: "noise" | "sample" | "v") =>
      Object.assign(Object.create(Object.getPrototypeOf(prior)), prior, {
        config: { ...prior.config, prediction },
      }) as PriorNetwork;
    const shared = sharedAt(400);
    const xt = addNoise(x, shared.noise, level);
    const out = await like("noise").features(xt, t, level).noise.toArray();
    const [a, s] = [await level.alpha.toArray(), await level.sigma.toArray()].map((v) => v[0]!) as [
      number,
      number,
    ];
    const seen = await xt.toArray();
    const fromSample = await like("sample").features(xt, t, level).noise.toArray();
    const fromV = await like("v").features(xt, t, level).noise.toArray();
    for (const i of [0, 100, 300]) {
      expect(fromSample[i]).toBeCloseTo((seen[i]! - a * out[i]!) / s, 4);
      expect(fromV[i]).toBeCloseTo(a * out[i]! + s * seen[i]!, 4);
    }
  });

  it("gives no gradient to the restored picture when it is detached, as the published code does", async () => {
    const pull = async (controls: object) =>
      await grad((v: Tensor) => total(prior, v, x, sharedAt(300), ONE, controls))(z)
        .abs()
        .max()
        .item();
    expect(await pull({ detachPrior: true })).toBe(0);
    expect(await pull({})).toBeGreaterThan(0);
  });

  it("leaves a term of weight 0 out, and gives 0 without any", async () => {
    const shared = sharedAt(300);
    const { natural } = distances(prior, z, x, shared);
    expect(await total(prior, z, x, shared, { natural: 2, semantic: 0 }).item()).toBeCloseTo(
      2 * (await natural.item()),
      6,
    );
    expect(await total(prior, z, x, shared, { natural: 0, semantic: 0 }).item()).toBe(0);
  });

  it("is the same with recomputation, gradient included", async () => {
    const large = withRecomputation(prior);
    const run = jit((a: Tensor) =>
      [prior, large].map((p) => grad((v: Tensor) => total(p, v, x, sharedAt(300)))(a)),
    );
    const [plain, again] = await run(z);
    const gap = await plain!.sub(again!).abs().max().item();
    expect(gap).toBeLessThan(1e-6 * (await plain!.abs().max().item()) + 1e-9);
    expect([...parameters(large).keys()]).toEqual([...parameters(prior).keys()]);
    await run.close();
  });
});

describe("a Gaussian prior, for which the loss is known in closed form", () => {
  // The best guess of the noise in x_t of variance a² S + s² is s x_t / (a² S + s²).
  const gaussian = (variance: number): Prior => ({
    channels: 1,
    sizeFactor: 1,
    timesteps: 1000,
    features: (v, _t, { alpha, sigma }) => {
      const per = (t: Tensor): Tensor => t.reshape([-1, 1, 1, 1]);
      const [a, s] = [per(alpha), per(sigma)];
      return { noise: v.mul(s.div(a.square().mul(variance).add(s.square()))), h: v };
    },
  });

  it("weighs an error by rho / (1 + rho S)^2", async () => {
    for (const variance of [1, 0.1, 0.001]) {
      for (const rho of [0.01, 1, 100]) {
        const alpha = Math.sqrt(rho / (1 + rho));
        const level = { alpha: tensor([alpha]), sigma: tensor([Math.sqrt(1 - alpha ** 2)]) };
        const one = (v: number) => tensor([v], { shape: [1, 1, 1, 1] });
        const shared = { t: tensor([0]), level, noise: one(0.3) };
        const { natural } = distances(gaussian(variance), one(0.5), one(0.25), shared);
        const expected = (0.25 ** 2 * rho) / (1 + rho * variance) ** 2;
        expect(Math.abs((await natural.item()) / expected - 1)).toBeLessThan(1e-3);
      }
    }
  });

  it("averages over the published timesteps to the weights of the specification", () => {
    const alphaBars = priorAlphaBars({ timesteps: 1000 });
    const weight = (variance: number, from = 0): number => {
      let sum = 0;
      for (let t = from; t < 1000; t++) {
        const rho = alphaBars[t]! / (1 - alphaBars[t]!);
        sum += rho / (1 + rho * variance) ** 2;
      }
      return sum / (1000 - from);
    };
    for (const [variance, expected] of [
      [1, 0.082],
      [0.1, 0.5],
      [0.01, 2.1],
      [1e-3, 7],
      [1e-4, 18],
    ] as const)
      expect(Math.abs(weight(variance) / expected - 1)).toBeLessThan(0.05);
    expect(weight(1e-9, 10)).toBeLessThan(7); // most of it comes from t < 10
  });

  it("has gradients as its simplest form: mean squared differences of neighbours", async () => {
    const a = tensor([1, 2, 4, 8], { shape: [1, 1, 2, 2] });
    const b = tensor([0, 0, 0, 0], { shape: [1, 1, 2, 2] });
    expect(await gradientDistance(a, b).item()).toBeCloseTo((3 ** 2 + 6 ** 2) / 2 + (1 + 4 ** 2) / 2, 5);
  });
});

describe("what cannot be is refused by name, before anything is computed", () => {
  const of =
    (a: Tensor, b: Tensor, weights: Weights = ONE) =>
    () =>
      diffLoss(prior, [a, b], sharedAt(1), weights);
  const zero = (...shape: number[]) => tensor(new Float32Array(shape.reduce((p, q) => p * q)), { shape });
  const unet = PRIOR_SIZES.smoke;
  const build =
    (more: object, timesteps = 1000) =>
    () =>
      new PriorNetwork({ unet: { ...unet, ...more }, timesteps, prediction: "noise" }, blankRng);
  it.each([
    ["other shapes", of(zero(1, 3, 8, 8), zero(1, 3, 8, 16)), ShapeError, /differ in shape/],
    [
      "gray pictures",
      of(zero(1, 1, 8, 8), zero(1, 1, 8, 8)),
      ShapeError,
      /prior takes pictures of 3 channels/,
    ],
    ["sides of no multiple", of(zero(1, 3, 8, 7), zero(1, 3, 8, 7)), ShapeError, /multiples of 2, got 8 x 7/],
    [
      "weights below 0",
      of(z, x, { natural: -1, semantic: 1 }),
      ArgumentError,
      /weight natural of 0 or more, got -1/,
    ],
    ["weights that are none", of(z, x, { natural: 1, semantic: Number.NaN }), ArgumentError, /semantic.*NaN/],
    [
      "timesteps beyond the schedule",
      () => checkRange([0, 1000], 1000),
      ArgumentError,
      /0 to 999.*got 0 to 1000/,
    ],
    [
      "timesteps in the wrong order",
      () => checkRange([400, 10], 1000),
      ArgumentError,
      /least first, got 400 to 10/,
    ],
    [
      "a range beyond the prior's schedule",
      () => diffLossOf(createPrior("smoke", 0), { weights: ONE, range: [0, 2000], seed: 0 }),
      ArgumentError,
      /got 0 to 2000/,
    ],
    ["a prior of gray pictures", build({ in_channels: 1 }), ArgumentError, /3 input channels, got 1/],
    ["a prior of latents", build({ out_channels: 4 }), ArgumentError, /3 output channels.*got 4/],
    ["a prior with classes", build({ num_classes: 10 }), ArgumentError, /without class labels/],
    ["a prior without timesteps", build({}, 0), ArgumentError, /timesteps from 1 up, got 0/],
    [
      "nothing to calibrate",
      () => calibrated(1, 0, 1),
      ArgumentError,
      /nothing to calibrate.*further loss is 0/,
    ],
  ] as const)("%s", (_, make, error, message) => {
    expect(make).toThrow(error);
    expect(make).toThrow(message);
  });
});
