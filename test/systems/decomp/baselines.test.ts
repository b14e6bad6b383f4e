import { describe, expect, it } from "vitest";
import { blankRng, mapParameters, parameters } from "../../../src/nn/index.ts";
import {
  BetaVAE,
  baselineTraining,
  type Comet,
  type CometBatch,
  type CometConfig,
  cometLoss,
  cometSurrogate,
  freshComet,
  freshVAE,
  trainComet,
  trainVAE,
  vaeLoss,
} from "../../../src/systems/decomp/baselines.ts";
import { madeSet } from "../../../src/systems/decomp/data.ts";
import { createNoise, fromHost, grad, jit, type Tensor, zeros } from "../../../src/tensor/index.ts";
import { drained } from "../../../src/work.ts";

const CONFIG: CometConfig = { size: 8, components: 2, latent: 4, filters: 8, steps: 1, rate: 500 };
const uniform = (seed: number, shape: readonly number[]): Tensor =>
  fromHost("f32", shape, createNoise("philox", seed).uniform(shape) as Float32Array);
const batch: CometBatch = { x: uniform(1, [3, 3, 8, 8]), start: uniform(2, [3, 3, 8, 8]) };
const numbers = async (x: Tensor): Promise<Float32Array> => (await x.data()) as Float32Array;

/** A model whose energies are steep: those of a fresh one are so flat that differences drown in rounding. */
function steep(more: Partial<CometConfig> = {}): Comet {
  return mapParameters(freshComet({ ...CONFIG, ...more }, 3), (leaf, key) => {
    if (key.endsWith("conv2.weight") && key.startsWith("energy"))
      return uniform(4, leaf.shape).sub(0.5).mul(0.6);
    if (key === "energy.last.weight") return leaf.mul(20);
    return leaf.rank > 1 && key.startsWith("energy") ? leaf.mul(1.8) : leaf;
  });
}

describe("COMET", () => {
  const model = steep({ steps: 2 });

  it("goes down the sum of its energies, inside of [0, 1]", async () => {
    const gentle = steep({ steps: 3, rate: 2 });
    const z = gentle.encode(batch.x);
    const energies = [await gentle.total(batch.start, z).item()];
    let at = batch.start;
    for (let i = 0; i < 3; i++) {
      at = gentle.step(at, z);
      energies.push(await gentle.total(at, z).item());
    }
    for (const [i, energy] of energies.slice(1).entries()) expect(energy).toBeLessThan(energies[i]!);
    const values = await numbers(at);
    expect(values.every((v) => v >= 0 && v <= 1)).toBe(true);
    expect(await numbers(gentle.refine(batch.start, z))).toEqual(values);
  });

  it("has the exact gradient through the gradient: as differences of first-order gradients give it", async () => {
    const both = jit((net: Comet, given: CometBatch) => ({
      exact: grad(cometLoss)(net, given),
      differences: grad((one: Comet, its: CometBatch) => cometSurrogate(one, its))(net, given),
    }));
    const found = await both(model, batch);
    const [exact, differences] = [parameters(found.exact), parameters(found.differences)];
    let [gaps, sizes] = [0, 0];
    for (const [key, t] of exact) {
      const [a, b] = [await numbers(t), await numbers(differences.get(key)!)];
      const size = a.reduce((sum, v) => sum + v * v, 0);
      const gap = a.reduce((sum, v, i) => sum + (v - b[i]!) ** 2, 0);
      if (size > 1e-12) expect(Math.sqrt(gap / size), key).toBeLessThan(5e-2);
      [gaps, sizes] = [gaps + gap, sizes + size];
    }
    expect(Math.sqrt(gaps / sizes)).toBeLessThan(1e-2);
    // The encoder is trained through the last step alone: its gradient is not nothing.
    expect((await numbers(exact.get("last.weight")!)).some((v) => v !== 0)).toBe(true);
  }, 60_000);

  it("has the gradient of its loss: as differences of the loss give it, the steps before the last left out", async () => {
    const one = steep();
    const slopes = jit((net: Comet, given: CometBatch) => grad(cometLoss)(net, given));
    const loss = jit(cometLoss);
    const slope = parameters(await slopes(one, batch)).get("energy.last.weight")!;
    const values = await numbers(slope);
    const at = values.reduce((best, v, i) => (Math.abs(v) > Math.abs(values[best]!) ? i : best), 0);
    const shifted = async (by: number): Promise<number> => {
      const weight = await numbers(one.energy.last.weight);
      const moved = weight.map((v, i) => (i === at ? v + by : v));
      const other = mapParameters(one, (leaf, key) => {
        return key === "energy.last.weight" ? fromHost("f32", leaf.shape, moved) : leaf;
      });
      return await (await loss(other, batch)).item();
    };
    const difference = ((await shifted(1e-2)) - (await shifted(-1e-2))) / 2e-2;
    expect(Math.abs(difference / values[at]! - 1)).toBeLessThan(2e-2);
  });

  it("trains", async () => {
    const set = await madeSet("blocks2", "train", 8, 40);
    const settings = baselineTraining({ steps: 2, batch: 4, seed: 1 });
    const { model: after } = await drained(trainComet({ stage: "t", model, set, settings, threads: 1 }));
    expect(await numbers(after.hidden.weight)).not.toEqual(await numbers(model.hidden.weight));
  }, 60_000);
});

describe("the beta-VAE", () => {
  it("has as many halvings as the size allows, and gives back the size", () => {
    for (const [size, layers] of [
      [8, 2],
      [16, 3],
      [64, 4],
    ] as const) {
      const model = new BetaVAE({ size, latent: 6, beta: 4 }, blankRng);
      expect(model.down).toHaveLength(layers);
      expect(model.encode(zeros([2, 3, size, size]))[0].shape).toEqual([2, 6]);
      expect(model.decode(zeros([2, 6])).shape).toEqual([2, 3, size, size]);
    }
    expect(() => new BetaVAE({ size: 2, latent: 2, beta: 4 }, blankRng)).toThrow(/halved to 2, got 2/);
  });

  it("weighs the divergence by beta, and the cross entropy by the pixels", async () => {
    const noise = zeros([3, 6]);
    const of = (beta: number) => freshVAE({ size: 8, latent: 6, beta }, 5);
    const model = of(0);
    const plain = await vaeLoss(model, { x: batch.x, noise }).item();
    const [mean, log] = await Promise.all(model.encode(batch.x).map(numbers));
    const divergence =
      mean!.reduce((sum, m, i) => sum + (m * m + Math.exp(log![i]!) - log![i]! - 1) / 2, 0) / 3;
    expect((await vaeLoss(of(4), { x: batch.x, noise }).item()) - plain).toBeCloseTo(4 * divergence, 2);
    const logits = await numbers(model.decode(model.encode(batch.x)[0]));
    const truth = await numbers(batch.x);
    const entropy = logits.reduce((sum, l, i) => sum + Math.log(1 + Math.exp(l)) - l * truth[i]!, 0) / 3;
    expect(plain).toBeCloseTo(entropy, 2);
  });

  it("trains", async () => {
    const set = await madeSet("blocks2", "train", 8, 40);
    const settings = baselineTraining({ steps: 2, batch: 4, seed: 1, learningRate: 1e-3 });
    const model = freshVAE({ size: 8, latent: 6, beta: 4 }, 5);
    const { model: after } = await drained(trainVAE({ stage: "t", model, set, settings, threads: 1 }));
    expect(await numbers(after.moments.weight)).not.toEqual(await numbers(model.moments.weight));
  });
});
