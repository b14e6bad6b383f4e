import { describe, expect, it } from "vitest";
import {
  addNoise,
  type DiffusionBatch,
  debiasedWeight,
  diffusionLoss,
  drawDropout,
  dropCondition,
  edmObjective,
  edmWeight,
  epsilonObjective,
  explodingLevel,
  flowLevel,
  flowObjective,
  type LossWeight,
  levelOfAlphaBar,
  minSnrWeight,
  type NoiseLevel,
  type Objective,
  p2Weight,
  preservingLevel,
  sampleLosses,
  sampleObjective,
  softMinSnrWeight,
  trainingNoise,
  uniformWeight,
  vObjective,
} from "../../src/diffusion/objectives/index.ts";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { createRng, Linear, MLP } from "../../src/nn/index.ts";
import { createNoise, jit, ones, type Tensor, tensor, valueAndGrad } from "../../src/tensor/index.ts";
import { maxDifference } from "./gaussian.ts";

const rng = createRng(9);
const shape = [4, 2, 3, 3];
const x0 = rng.normal(shape);
const noise = rng.normal(shape);
const SIGMAS = [0.05, 0.6, 2, 30];
const TIMES = [0.02, 0.3, 0.7, 0.99];
const preserving = preservingLevel(tensor(SIGMAS));
const straight = flowLevel(tensor(TIMES));
const exploding = explodingLevel(tensor(SIGMAS));
const CASES: readonly [name: string, Objective, NoiseLevel, snr: readonly number[]][] = [
  ["eps", epsilonObjective, preserving, SIGMAS.map((s) => 1 / s ** 2)],
  ["x0", sampleObjective, preserving, SIGMAS.map((s) => 1 / s ** 2)],
  ["v", vObjective, preserving, SIGMAS.map((s) => 1 / s ** 2)],
  ["flow", flowObjective, straight, TIMES.map((t) => ((1 - t) / t) ** 2)],
  ["edm", edmObjective(0.5), exploding, SIGMAS.map((s) => 1 / s ** 2)],
];
const batchOf = (level: NoiseLevel): DiffusionBatch<undefined> => ({
  x0,
  noise,
  level,
  timestep: tensor([1, 2, 3, 4]),
  condition: undefined,
});
const close = (got: readonly number[], want: readonly number[], relative = 1e-4): void => {
  expect(got.length).toBe(want.length);
  got.forEach((value, i) => {
    expect(Math.abs(value - want[i]!), `entry ${i}: ${value} for ${want[i]}`).toBeLessThan(
      relative * Math.max(Math.abs(want[i]!), 1e-6),
    );
  });
};

describe("noise levels", () => {
  it("are those of variance-preserving, straight and exploding paths", async () => {
    const [a, s] = [await preserving.alpha.toArray(), await preserving.sigma.toArray()];
    a.forEach((alpha, i) => {
      expect(alpha ** 2 + s[i]! ** 2).toBeCloseTo(1, 6);
      expect(s[i]! / alpha).toBeCloseTo(SIGMAS[i]!, 4);
    });
    const bar = levelOfAlphaBar(tensor([0.36, 0]));
    close(await bar.alpha.toArray(), [0.6, 0]);
    close(await bar.sigma.toArray(), [0.8, 1]);
    const x = addNoise(x0, noise, straight);
    const want = x0
      .sliceAxis(0, 1, 2)
      .mul(0.7)
      .add(noise.sliceAxis(0, 1, 2).mul(0.3));
    expect(await maxDifference(x.sliceAxis(0, 1, 2), want)).toBeLessThan(1e-6);
  });
});

describe.each(CASES)("objective %s", (_name, objective, level, snr) => {
  const x = addNoise(x0, noise, level);
  const target = objective.target(x0, noise, level);

  it("a network that is right has no loss, and its prediction means the clean sample", async () => {
    const loss = diffusionLoss(() => target, batchOf(level), { objective, weight: edmWeight() });
    expect(await loss.item()).toBe(0);
    const share = await maxDifference(objective.clean(target, x, level), x0);
    expect(share).toBeLessThan(2e-4); // x - sigma eps at sigma 30, in f32
  });

  it("its error is that of the clean sample over the square root of cleanShare; noiseShare is SNR times that", async () => {
    const wrong = target.add(0.5);
    const off = (await objective.clean(wrong, x, level).sub(x0).square().mean([1, 2, 3]).toArray()).map(
      (e) => e / 0.25,
    );
    close(await objective.cleanShare(level).toArray(), off, 2e-3);
    close(
      await objective.noiseShare(level).toArray(),
      off.map((share, i) => share * snr[i]!),
      2e-3,
    );
  });

  it("weights are the papers', stated for the clean sample", async () => {
    const share = await objective.cleanShare(level).toArray();
    const closed: readonly [LossWeight, (snr: number) => number][] = [
      [minSnrWeight(5), (r) => Math.min(r, 5)],
      [minSnrWeight(1), (r) => Math.min(r, 1)],
      [softMinSnrWeight(4), (r) => (4 * r) / (4 + r)],
      [p2Weight(), (r) => r / (1 + r)],
      [p2Weight({ k: 2, gamma: 0.5 }), (r) => r / Math.sqrt(2 + r)],
      [edmWeight(0.5), (r) => r + 4],
      [debiasedWeight(1e-6), (r) => Math.sqrt(r)],
    ];
    for (const [weight, ofClean] of closed)
      close(
        await weight(objective, level).toArray(),
        snr.map((r, i) => ofClean(r) * share[i]!),
        1e-3,
      );
    close(await uniformWeight(objective, level).toArray(), [1, 1, 1, 1]);
  });

  it("losses are weighted means per sample; the loss is their mean, by importance where given", async () => {
    const prediction = (z: Tensor): Tensor => z.mul(0.3);
    const weight = minSnrWeight();
    const losses = await sampleLosses(prediction, batchOf(level), { objective, weight }).toArray();
    const error = prediction(objective.input(x, level)).sub(target).square().mean([1, 2, 3]);
    close(losses, await error.mul(weight(objective, level)).toArray());
    const importance = [0.5, 2, 1, 0.1];
    const loss = diffusionLoss(
      prediction,
      { ...batchOf(level), importance: tensor(importance) },
      { objective, weight },
    );
    close([await loss.item()], [losses.reduce((sum, l, i) => sum + (l * importance[i]!) / 4, 0)]);
  });
});

describe("closed forms of the weights by prediction", () => {
  const snr = SIGMAS.map((s) => 1 / s ** 2);
  it("min-SNR: min(SNR, g)/SNR for eps, min(SNR, g) for x0, min(SNR, g)/(SNR + 1) for v", async () => {
    const weight = minSnrWeight(5);
    close(
      await weight(epsilonObjective, preserving).toArray(),
      snr.map((r) => Math.min(r, 5) / r),
    );
    close(
      await weight(sampleObjective, preserving).toArray(),
      snr.map((r) => Math.min(r, 5)),
    );
    close(
      await weight(vObjective, preserving).toArray(),
      snr.map((r) => Math.min(r, 5) / (r + 1)),
    );
  });
  it("P2 is (k + SNR)^-g for eps; EDM's weight is 1 for EDM's network, and for v at deviation 1", async () => {
    close(
      await p2Weight()(epsilonObjective, preserving).toArray(),
      snr.map((r) => 1 / (1 + r)),
    );
    close(await edmWeight(0.5)(edmObjective(0.5), exploding).toArray(), [1, 1, 1, 1]);
    close(await edmWeight(1)(vObjective, preserving).toArray(), [1, 1, 1, 1]);
  });
  it("is finite at both ends: no signal, and no noise", async () => {
    const ends = levelOfAlphaBar(tensor([0, 1]));
    for (const weight of [minSnrWeight(), softMinSnrWeight(), p2Weight(), debiasedWeight()])
      for (const objective of [epsilonObjective, sampleObjective, vObjective])
        for (const w of await weight(objective, ends).toArray()) expect(Number.isFinite(w)).toBe(true);
    close(await minSnrWeight(5)(epsilonObjective, ends).toArray(), [1, 0]);
    close(await minSnrWeight(5)(vObjective, ends).toArray(), [0, 0]);
    close(await minSnrWeight(5)(sampleObjective, ends).toArray(), [0, 5]);
  });
  it("EDM's preconditioned loss is lambda(sigma) |D - x0|^2", async () => {
    const objective = edmObjective(0.5);
    const f = (z: Tensor): Tensor => z.tanh();
    const got = await sampleLosses(f, batchOf(exploding), { objective, weight: edmWeight(0.5) }).toArray();
    const x = addNoise(x0, noise, exploding);
    const s = (values: readonly number[]): Tensor => tensor(values).reshape([4, 1, 1, 1]);
    const total = SIGMAS.map((v) => v * v + 0.25);
    const d = x
      .mul(s(total.map((t) => 0.25 / t)))
      .add(
        f(x.mul(s(total.map((t) => 1 / Math.sqrt(t))))).mul(
          s(SIGMAS.map((v, i) => (v * 0.5) / Math.sqrt(total[i]!))),
        ),
      );
    const lambda = tensor(SIGMAS.map((v, i) => total[i]! / (v * 0.5) ** 2));
    close(got, await d.sub(x0).square().mean([1, 2, 3]).mul(lambda).toArray(), 1e-3);
  });
  it("refuses settings that are not positive", () => {
    expect(() => minSnrWeight(0)).toThrow(ArgumentError);
    expect(() => p2Weight({ k: -1 })).toThrow(ArgumentError);
  });
});

describe("the loss", () => {
  it("compiles once, and its gradient is that of differences", async () => {
    const net = new MLP([10, 8, 9], createRng(1));
    const objective = vObjective;
    const flat = (t: Tensor): Tensor => t.select(1, 0).reshape([4, 9]);
    const batch = { ...batchOf(preserving), x0: flat(x0), noise: flat(noise) };
    const loss = (m: MLP, b: DiffusionBatch<undefined>): Tensor =>
      diffusionLoss((z, t) => m.call(z.concat(t.reshape([-1, 1]).mul(0.1), 1)), b, {
        objective,
        weight: minSnrWeight(),
      });
    const step = jit((m: MLP, b: DiffusionBatch<undefined>) => valueAndGrad(loss)(m, b));
    const [, gradient] = await step(net, batch);
    const direction = new MLP([10, 8, 9], createRng(2));
    const h = 1e-2;
    const moved = (sign: number): MLP => {
      const layers = net.layers.map((layer, i) => {
        const d = direction.layers[i] as Linear;
        const { weight, bias } = layer as Linear;
        return Object.assign(Object.create(Linear.prototype), layer, {
          weight: weight.add(d.weight.mul(sign * h)),
          bias: bias!.add(d.bias!.mul(sign * h)),
        });
      });
      return Object.assign(Object.create(MLP.prototype), net, { layers });
    };
    const numeric = ((await loss(moved(1), batch).item()) - (await loss(moved(-1), batch).item())) / (2 * h);
    let analytic = 0;
    for (const [i, layer] of gradient.layers.entries()) {
      const [g, d] = [layer as Linear, direction.layers[i] as Linear];
      analytic += await g.weight.mul(d.weight).sum().add(g.bias!.mul(d.bias!).sum()).item();
    }
    expect(Math.abs(numeric)).toBeGreaterThan(1e-3);
    expect(Math.abs(analytic - numeric)).toBeLessThan(5e-3 * Math.abs(numeric) + 1e-5);
    await step(net, { ...batch, level: preservingLevel(tensor([1, 2, 3, 4])), noise: batch.noise.mul(2) });
    expect(step.signatures).toBe(1);
    await step.close();
  });

  it("input perturbation changes what the network sees, not what it should say", async () => {
    const extra = rng.normal(shape);
    const batch = { ...batchOf(preserving), perturbation: extra };
    const seen: Tensor[] = [];
    const network = (z: Tensor): Tensor => {
      seen.push(z);
      return noise;
    };
    expect(await diffusionLoss(network, batch, { objective: epsilonObjective, perturb: 0.2 }).item()).toBe(0);
    expect(await maxDifference(seen[0]!, addNoise(x0, noise.add(extra.mul(0.2)), preserving))).toBeLessThan(
      1e-6,
    );
  });

  it("takes other errors than the square", async () => {
    const l1 = (p: Tensor, t: Tensor): Tensor => p.sub(t).abs();
    const loss = diffusionLoss(() => noise.add(2), batchOf(preserving), {
      objective: epsilonObjective,
      error: l1,
    });
    expect(await loss.item()).toBeCloseTo(2, 5);
  });

  it("says when the prediction has another shape", () => {
    const twice = (z: Tensor): Tensor => z.concat(z, 1);
    expect(() => diffusionLoss(twice, batchOf(preserving), { objective: epsilonObjective })).toThrow(
      ShapeError,
    );
    const level = preservingLevel(tensor([1, 2]));
    expect(() => diffusionLoss((z) => z, batchOf(level), { objective: epsilonObjective })).toThrow(
      ShapeError,
    );
  });
});

describe("noise for training", () => {
  it("with an offset shares part of itself within a channel", async () => {
    const size = [64, 3, 8, 8];
    const plain = trainingNoise(createNoise("philox", 1), size, { at: { step: 3 } });
    const shifted = trainingNoise(createNoise("philox", 1), size, { at: { step: 3 }, offset: 0.1 });
    const offsets = shifted.sub(plain);
    expect(await offsets.variance([2, 3]).max().item()).toBeLessThan(1e-10);
    const shared = await offsets.mean([2, 3]).toArray();
    const deviation = Math.sqrt(shared.reduce((sum, v) => sum + v * v, 0) / shared.length);
    expect(deviation).toBeGreaterThan(0.085);
    expect(deviation).toBeLessThan(0.115);
    expect(() => trainingNoise(createNoise("philox", 1), size, { offset: -1 })).toThrow(ArgumentError);
  });

  it("of a sample does not depend on its batch", async () => {
    const options = { offset: 0.1, at: { step: 3 } };
    const batch = trainingNoise(createNoise("philox", 1), [3, 2, 4, 4], options);
    const alone = trainingNoise(createNoise("philox", 1), [1, 2, 4, 4], {
      ...options,
      at: { step: 3, sample: 2 },
    });
    expect(await maxDifference(batch.sliceAxis(0, 2), alone)).toBe(0);
  });
});

describe("condition dropout", () => {
  it("drops at the rate", async () => {
    const drawn = await drawDropout(createNoise("philox", 2), 20000, 0.1).toArray();
    expect(drawn.reduce((a, b) => a + b) / 20000).toBeCloseTo(0.1, 2);
    const all = await drawDropout(createNoise("philox", 2), 100, 1).toArray();
    expect(all.every((d) => d === 1)).toBe(true);
    expect((await drawDropout(createNoise("philox", 2), 100, 0).toArray()).some((d) => d === 1)).toBe(false);
    expect(() => drawDropout(createNoise("philox", 2), 4, 1.1)).toThrow(ArgumentError);
  });

  it("replaces embeddings and labels of the samples that lose theirs, inside of jit", async () => {
    const condition = { text: ones([3, 2, 2]), label: tensor([3, 4, 5], { dtype: "i64" }) };
    const empty = { text: ones([1, 2, 2]).mul(-1), label: tensor([1000], { dtype: "i64" }) };
    const drop = jit(dropCondition<typeof condition>);
    const out = await drop(condition, empty, tensor([false, true, false]));
    expect(await out.label.toArray()).toEqual([3, 1000, 5]);
    expect(await out.text.mean([1, 2]).toArray()).toEqual([1, -1, 1]);
    await drop(condition, empty, tensor([true, true, false]));
    expect(drop.signatures).toBe(1);
    await drop.close();
    expect(() => dropCondition(condition, empty, tensor([true]))).toThrow(ShapeError);
  });
});
