import { describe, expect, it } from "vitest";
import {
  adaptiveProjectedGuidance,
  autoguidance,
  type ConditionalDenoise,
  classifierFreeGuidance,
  composedGuidance,
  normalizeMasks,
  perturbedAttentionGuidance,
  projectedGuess,
  rescaleSpread,
  swapCondition,
  withCondition,
} from "../../src/diffusion/guidance/index.ts";
import { finalSample } from "../../src/diffusion/sample.ts";
import { euler } from "../../src/diffusion/samplers/euler.ts";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { createRng } from "../../src/nn/index.ts";
import { cachedSessions, jit, ones, stack, type Tensor, tensor } from "../../src/tensor/index.ts";
import { gaussian, geometric, type Mean, maxDifference, posteriorMean, scalar } from "./gaussian.ts";

const rng = createRng(3);
const x = rng.normal([2, 3, 4, 4], 2);
const a: Mean = { mean: rng.normal([2, 3, 4, 4]) };
const b: Mean = { mean: rng.normal([2, 3, 4, 4]) };
const SIGMA = 1.3;
const denoise = gaussian(0.25);

/** Counts calls and the batch of each. */
function counted<C>(f: ConditionalDenoise<C>): { f: ConditionalDenoise<C>; batches: number[] } {
  const batches: number[] = [];
  return {
    batches,
    f: (z, sigma, c) => {
      batches.push(z.shape[0]!);
      return f(z, sigma, c);
    },
  };
}

describe("classifier-free guidance", () => {
  it("of two Gaussians of one variance is the Gaussian of the extrapolated mean", async () => {
    const guided = classifierFreeGuidance(denoise, { condition: a, negative: b, scale: 3 });
    const mean = b.mean.add(a.mean.sub(b.mean).mul(3));
    const want = posteriorMean(x, scalar(SIGMA), mean, 0.25);
    expect(await maxDifference(await guided(x, SIGMA), want)).toBeLessThan(1e-5);
  });

  it("samples that Gaussian", async () => {
    const guided = classifierFreeGuidance(denoise, { condition: a, negative: b, scale: 2 });
    const mean = b.mean.add(a.mean.sub(b.mean).mul(2));
    // the flow keeps the standard score: (x - mean) / sqrt(variance + sigma^2)
    const exact = mean.add(
      x
        .mul(4)
        .sub(mean)
        .mul(0.5 / Math.sqrt(0.25 + 8 ** 2)),
    );
    const error = async (steps: number): Promise<number> =>
      maxDifference(await finalSample(euler(guided, x.mul(4), geometric(8, 0.01, steps))), exact);
    const [coarse, fine] = [await error(40), await error(120)];
    expect(fine).toBeLessThan(0.03);
    expect(fine).toBeLessThan(coarse / 2.5); // Euler's method is of first order
  });

  it("of Gaussians of two variances follows the product of powers of their densities", async () => {
    const both: ConditionalDenoise<Mean & { wide: Tensor }> = (z, sigma, { mean, wide }) => {
      const s2 = scalar(sigma * sigma);
      const variance = wide.mul(0.75).add(0.25); // [N, 1, 1, 1]
      return z.mul(variance).add(mean.mul(s2)).div(variance.add(s2));
    };
    const narrow = { mean: a.mean, wide: tensor([[[[0]]]]) };
    const wide = { mean: b.mean, wide: tensor([[[[1]]]]) };
    const guided = classifierFreeGuidance(both, { condition: narrow, negative: wide, scale: 2 });
    const s2 = SIGMA ** 2;
    const score = a.mean
      .sub(x)
      .mul(2 / (0.25 + s2))
      .sub(b.mean.sub(x).mul(1 / (1 + s2)));
    expect(await maxDifference(await guided(x, SIGMA), x.add(score.mul(s2)))).toBeLessThan(1e-5);
  });

  it("asks the network once for both, or twice when told to save memory, with the same result", async () => {
    const once = counted(denoise);
    const twice = counted(denoise);
    const options = { condition: a, negative: b, scale: 3 };
    const p = await classifierFreeGuidance(once.f, options)(x, SIGMA);
    const q = await classifierFreeGuidance(twice.f, { ...options, separate: true })(x, SIGMA);
    expect(once.batches).toEqual([4]);
    expect(twice.batches).toEqual([2, 2]);
    expect(await maxDifference(p, q)).toBeLessThan(1e-6);
  });

  it("repeats a condition given once, and takes conditions of different lengths one by one", async () => {
    const tokens: ConditionalDenoise<{ tokens: Tensor }> = (z, _sigma, c) =>
      z.mul(c.tokens.mean([1, 2], true).unsqueeze(3));
    const short = { tokens: ones([1, 77, 8]) };
    const long = { tokens: ones([2, 154, 8]).mul(2) };
    const net = counted(tokens);
    const guided = classifierFreeGuidance(net.f, { condition: long, negative: short, scale: 2 });
    expect(await maxDifference(await guided(x, SIGMA), x.mul(3))).toBeLessThan(1e-4);
    expect(net.batches).toEqual([2, 2]);
    const wrong = classifierFreeGuidance(net.f, {
      condition: { tokens: ones([3, 77, 8]) },
      negative: short,
      scale: 2,
    });
    await expect(wrong(x, SIGMA)).rejects.toThrow(ShapeError);
  });

  it("is the conditional guess alone at scale 1 and outside of the interval, in one call without the negative", async () => {
    const net = counted(denoise);
    const conditional = await denoise(x, SIGMA, a);
    const one = classifierFreeGuidance(net.f, { condition: a, negative: b, scale: 1 });
    const outside = classifierFreeGuidance(net.f, {
      condition: a,
      negative: b,
      scale: 9,
      interval: [1.3, 5],
    });
    expect(await maxDifference(await one(x, SIGMA), conditional)).toBe(0);
    expect(await maxDifference(await outside(x, SIGMA), conditional)).toBe(0);
    expect(net.batches).toEqual([2, 2]);
    expect(await maxDifference(await outside(x, 5), await denoise(x, 5, a))).toBeGreaterThan(0.1);
    expect(net.batches).toEqual([2, 2, 4]);
    expect(() =>
      classifierFreeGuidance(net.f, { condition: a, negative: b, scale: 2, interval: [5, 1] }),
    ).toThrow(ArgumentError);
  });

  it("compiles nothing anew from step to step, whatever sigma and the scale are", async () => {
    const network = jit((z: Tensor, sigma: Tensor, c: Mean) => posteriorMean(z, sigma, c.mean, 0.25));
    const guided = classifierFreeGuidance<Mean>((z, sigma, c) => network(z, scalar(sigma), c), {
      condition: a,
      negative: b,
      scale: (sigma) => 1.5 + sigma,
      rescale: 0.7,
    });
    const sigmas = geometric(10, 0.1, 12);
    const sampling = euler(guided, x, sigmas);
    await sampling.next();
    await sampling.next();
    const [compiled, eager] = [network.signatures, cachedSessions()];
    await finalSample(sampling);
    expect([network.signatures, cachedSessions()]).toEqual([compiled, eager]);
    await network.close();
  });
});

describe("rescaling", () => {
  const options = { condition: a, negative: b, scale: 6 };
  const spread = (t: Tensor): Promise<number[]> => t.variance([1, 2, 3]).sqrt().toArray();

  it("by phi 0 is the identity; by phi 1 gives the network's output the conditional spread", async () => {
    const plain = await classifierFreeGuidance(denoise, options)(x, SIGMA);
    const zero = await classifierFreeGuidance(denoise, { ...options, rescale: 0 })(x, SIGMA);
    expect(await maxDifference(plain, zero)).toBe(0);
    expect(await maxDifference(rescaleSpread(plain, a.mean, scalar(0), x), plain)).toBeLessThan(1e-5);
    const conditional = await denoise(x, SIGMA, a);
    const eps = (d: Tensor): Tensor => x.sub(d).mul(1 / SIGMA);
    const [signal, noise] = [1 / Math.sqrt(1 + SIGMA ** 2), SIGMA / Math.sqrt(1 + SIGMA ** 2)];
    const v = (d: Tensor): Tensor => eps(d).mul(signal).sub(d.mul(noise));
    for (const [prediction, output] of [
      ["eps", eps],
      ["flow", eps],
      ["v", v],
      ["x0", (d: Tensor) => d],
    ] as const) {
      const guided = await classifierFreeGuidance(denoise, { ...options, rescale: 1, prediction })(x, SIGMA);
      const [got, want] = [await spread(output(guided)), await spread(output(conditional))];
      got.forEach((s, i) => {
        expect(s).toBeCloseTo(want[i]!, 4);
      });
      // as the formula on the output itself, mixed by phi
      const half = await classifierFreeGuidance(denoise, { ...options, rescale: 0.5, prediction })(x, SIGMA);
      expect(await maxDifference(half, plain.add(guided).mul(0.5))).toBeLessThan(1e-4);
    }
  });

  it("refuses phi outside of [0, 1]", () => {
    expect(() => classifierFreeGuidance(denoise, { ...options, rescale: 1.5 })).toThrow(/rescale.*1\.5/);
  });
});

describe("several conditions", () => {
  const left = tensor([[[[1, 1, 0.25, 0]]]]);
  const right = tensor([[[[0, 0, 0.75, 1]]]]);

  it("one of weight 1 is classifier-free guidance", async () => {
    const composed = composedGuidance(denoise, { conditions: [{ condition: a }], negative: b, scale: 3 });
    const plain = classifierFreeGuidance(denoise, { condition: a, negative: b, scale: 3 });
    expect(await maxDifference(await composed(x, SIGMA), await plain(x, SIGMA))).toBeLessThan(1e-5);
  });

  it("weights add up: two halves of a condition are the condition", async () => {
    const conditions = [
      { condition: a, weight: 0.25 },
      { condition: a, weight: 0.75 },
    ];
    const net = counted(denoise);
    const composed = composedGuidance(net.f, { conditions, negative: b, scale: 3 });
    const plain = classifierFreeGuidance(denoise, { condition: a, negative: b, scale: 3 });
    expect(await maxDifference(await composed(x, SIGMA), await plain(x, SIGMA))).toBeLessThan(1e-5);
    expect(net.batches).toEqual([6]);
  });

  it("masks that add up to one divide the image", async () => {
    const c: Mean = { mean: rng.normal([2, 3, 4, 4]) };
    const composed = composedGuidance(denoise, {
      conditions: [
        { condition: a, mask: left },
        { condition: c, mask: right },
      ],
      negative: b,
      scale: 3,
    });
    const alone = (m: Mean) =>
      classifierFreeGuidance(denoise, { condition: m, negative: b, scale: 3 })(x, SIGMA);
    const [ofA, ofC] = [await alone(a), await alone(c)];
    const want = ofA.mul(left).add(ofC.mul(right));
    expect(await maxDifference(await composed(x, SIGMA), want)).toBeLessThan(1e-5);
  });

  it("normalised masks add up to one everywhere", async () => {
    const masks = [
      rng.normal([1, 1, 4, 4]).abs(),
      rng.normal([1, 1, 4, 4]).abs(),
      rng.normal([1, 1, 4, 4]).abs(),
    ];
    const hole = tensor([[[[0, 1, 1, 1]]]]);
    const shared = normalizeMasks(masks.map((m) => m.mul(hole)));
    const sum = shared.reduce((p, q) => p.add(q));
    expect(await maxDifference(sum, ones([1, 1, 4, 4]))).toBeLessThan(1e-6);
    const none = normalizeMasks(
      masks.map((m) => m.mul(hole)),
      "none",
    ).reduce((p, q) => p.add(q));
    expect(await maxDifference(none, hole.broadcastTo([1, 1, 4, 4]))).toBeLessThan(1e-6);
  });

  it("averaging: overlapping regions are weighted means, uncovered ones unguided", async () => {
    const composed = composedGuidance(denoise, {
      conditions: [
        { condition: a, weight: 3, mask: tensor([[[[1, 1, 0, 0]]]]) },
        { condition: b, weight: 1, mask: tensor([[[[0, 1, 1, 0]]]]) },
      ],
      negative: { mean: x.mul(0) },
      scale: 2,
      average: true,
    });
    const [ofA, ofB, base] = await Promise.all([a, b, { mean: x.mul(0) }].map((m) => denoise(x, SIGMA, m)));
    const g = (towards: Tensor): Tensor => base!.add(towards.sub(base!).mul(2));
    const columns = [g(ofA!), g(ofA!.mul(0.75).add(ofB!.mul(0.25))), g(ofB!), base!];
    const want = stack(
      columns.map((t, i) => t.select(3, i)),
      3,
    );
    expect(await maxDifference(await composed(x, SIGMA), want)).toBeLessThan(1e-5);
  });

  it("outside of the interval is the conditions at scale 1", async () => {
    const conditions = [
      { condition: a, mask: left },
      { condition: b, mask: right },
    ];
    const composed = composedGuidance(denoise, { conditions, negative: b, scale: 8, interval: [0, 1] });
    const want = (await denoise(x, SIGMA, a)).mul(left).add((await denoise(x, SIGMA, b)).mul(right));
    expect(await maxDifference(await composed(x, SIGMA), want)).toBeLessThan(1e-5);
  });
});

describe("perturbed-attention guidance and autoguidance", () => {
  it("leads away from the perturbed guess, beside classifier-free guidance", async () => {
    const worse = gaussian(4);
    const [c, u, p] = [await denoise(x, SIGMA, a), await denoise(x, SIGMA, b), await worse(x, SIGMA, a)];
    const options = { condition: a, negative: b, scale: 4, perturbedScale: 3 };
    const guided = perturbedAttentionGuidance(denoise, worse, options);
    const want = u.add(c.sub(u).mul(4)).add(c.sub(p).mul(3));
    expect(await maxDifference(await guided(x, SIGMA), want)).toBeLessThan(1e-5);
    const alone = perturbedAttentionGuidance(denoise, worse, { ...options, scale: 1 });
    expect(await maxDifference(await alone(x, SIGMA), c.add(c.sub(p).mul(3)))).toBeLessThan(1e-5);
    const off = counted(worse);
    const outside = perturbedAttentionGuidance(denoise, off.f, { ...options, interval: [0, 1] });
    expect(await maxDifference(await outside(x, SIGMA), c)).toBe(0);
    expect(off.batches).toEqual([]);
  });

  it("a bad version of itself: the difference in precision is exaggerated", async () => {
    const guided = autoguidance(denoise, gaussian(1), { condition: a, scale: 2 });
    const s2 = SIGMA ** 2;
    const score = a.mean.sub(x).mul(2 / (0.25 + s2) - 1 / (1 + s2));
    expect(await maxDifference(await guided(x, SIGMA), x.add(score.mul(s2)))).toBeLessThan(1e-5);
  });
});

describe("adaptive projected guidance", () => {
  const options = { condition: a, negative: b, scale: 5 };

  it("with eta 1, no momentum and no limit is classifier-free guidance", async () => {
    const plain = await classifierFreeGuidance(denoise, options)(x, SIGMA);
    const projected = await adaptiveProjectedGuidance(denoise, { ...options, eta: 1 })(x, SIGMA);
    expect(await maxDifference(projected, plain)).toBeLessThan(1e-5);
  });

  it("with eta 0 moves at right angles to the conditional guess, no further than the limit", async () => {
    const conditional = await denoise(x, SIGMA, a);
    const guided = await adaptiveProjectedGuidance(denoise, { ...options, maxNorm: 0.5 })(x, SIGMA);
    const move = guided.sub(conditional);
    for (const dot of await move.mul(conditional).sum([1, 2, 3]).toArray())
      expect(Math.abs(dot)).toBeLessThan(1e-4);
    for (const size of await move.norm([1, 2, 3]).toArray()) {
      expect(size).toBeLessThanOrEqual(0.5 * 4 + 1e-4);
      expect(size).toBeGreaterThan(0.5);
    }
  });

  it("splits the difference: eta 1/2 lies half-way", async () => {
    const difference = a.mean.sub(b.mean);
    const guess = (eta: number) => projectedGuess(x, difference, 3, { eta });
    expect(await maxDifference(guess(0.5), guess(0).add(guess(1)).mul(0.5))).toBeLessThan(1e-5);
  });

  it("with momentum averages over steps, in one graph", async () => {
    const guided = adaptiveProjectedGuidance(denoise, { ...options, eta: 1, momentum: -0.5 });
    const plain = async (sigma: number): Promise<Tensor> =>
      (await denoise(x, sigma, a)).sub(await denoise(x, sigma, b));
    await guided(x, 3);
    await guided(x, 2);
    const graphs = cachedSessions();
    const third = await guided(x, 1);
    expect(cachedSessions()).toBe(graphs);
    const running = (await plain(1)).sub((await plain(2)).mul(0.5)).add((await plain(3)).mul(0.25));
    const want = (await denoise(x, 1, a)).add(running.mul(4));
    expect(await maxDifference(third, want)).toBeLessThan(1e-5);
  });
});

describe("swapping conditions", () => {
  it("takes another condition in an interval of noise levels, under any guidance", async () => {
    const swapped = swapCondition(a, [{ condition: b, interval: [0, 1] }]);
    const plain = withCondition(denoise, swapped);
    expect(await maxDifference(await plain(x, 1.01), await denoise(x, 1.01, a))).toBe(0);
    expect(await maxDifference(await plain(x, 1), await denoise(x, 1, b))).toBe(0);
    const c: Mean = { mean: x };
    const guided = classifierFreeGuidance(denoise, { condition: swapped, negative: c, scale: 2 });
    const direct = classifierFreeGuidance(denoise, { condition: b, negative: c, scale: 2 });
    expect(await maxDifference(await guided(x, 0.5), await direct(x, 0.5))).toBe(0);
  });
});

describe("a batch", () => {
  it("is guided sample by sample", async () => {
    const row = (m: Tensor, i: number): Tensor => m.sliceAxis(0, i, i + 1);
    const make = (c: Mean, n: Mean) => [
      classifierFreeGuidance(denoise, { condition: c, negative: n, scale: 4, rescale: 0.7 }),
      adaptiveProjectedGuidance(denoise, { condition: c, negative: n, scale: 4, maxNorm: 1 }),
    ];
    const together = make(a, b);
    const alone = make({ mean: row(a.mean, 1) }, { mean: row(b.mean, 1) });
    for (const [i, guided] of together.entries()) {
      const want = await alone[i]!(row(x, 1), SIGMA);
      expect(await maxDifference(row(await guided(x, SIGMA), 1), want)).toBeLessThan(1e-5);
    }
  });
});
