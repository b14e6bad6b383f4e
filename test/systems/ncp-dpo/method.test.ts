import { describe, expect, it } from "vitest";
import {
  adamW,
  type LossParts,
  loraParameters,
  mergeLora,
  parameters,
  train,
  withLoraParameters,
} from "../../../src/nn/index.ts";
import { stepNumbers } from "../../../src/systems/ncp-dpo/batches.ts";
import {
  type PairBatch,
  type PreferenceOptions,
  preferenceLoss,
  stepped,
} from "../../../src/systems/ncp-dpo/method.ts";
import { type NetworkOptions, networksOf, type PairCondition } from "../../../src/systems/ncp-dpo/model.ts";
import {
  evaluate,
  fromHost,
  grad,
  jit,
  type Tensor,
  treeLeaves,
  valueAndGrad,
} from "../../../src/tensor/index.ts";
import { pairsAt, schedule, smallPolicy } from "./small.ts";

const OPTIONS: PreferenceOptions & NetworkOptions = {
  ...{ space: "ncp", loss: "dpo", beta: 1000, lambda: 1, kappa: 1, pooled: false },
  ...{ prediction: "epsilon", tap: "down", encoder: "reference", balanced: false, recompute: false },
};
type Given = Partial<PreferenceOptions & NetworkOptions>;
const policy = smallPolicy();
const fresh = loraParameters(policy);
const lossOf =
  (given: Given = {}) =>
  (adapters: Record<string, Tensor>, batch: PairBatch<PairCondition>): LossParts =>
    preferenceLoss(networksOf(policy, adapters, { ...OPTIONS, ...given }), { ...OPTIONS, ...given }, batch);
const floats = async (x: Tensor): Promise<Float32Array> => (await x.data()) as Float32Array;
const norm = async (x: Tensor): Promise<number> => Math.hypot(...(await floats(x)));

/** Computes all gradients at once. */
const gradients = async <T extends object>(f: (x: T) => Tensor, at: T): Promise<T> => {
  const found = grad(f)(at);
  await evaluate(treeLeaves(found));
  return found;
};

/** Adapters that change something. */
const moved = Object.fromEntries(
  Object.entries(fresh).map(([key, t], k) => {
    const values = Float32Array.from({ length: t.size }, (_, i) => 0.1 * Math.sin(7 * i + k));
    return [key, fromHost("f32", t.shape, values)];
  }),
);

describe("before the first step", () => {
  it.each(["latent", "ncp", "both"] as const)(
    "the loss of DPO is ln 2, and only B has a gradient (%s)",
    async (space) => {
      const run = jit((adapters: typeof fresh, batch: PairBatch<PairCondition>) =>
        valueAndGrad((a: typeof fresh) => lossOf({ space })(a, batch).loss)(adapters),
      );
      const [loss, gradients] = await run(fresh, pairsAt([300, 700]));
      expect(await loss.item()).toBe(Math.fround(Math.LN2));
      let ups = 0;
      for (const [key, g] of Object.entries(gradients)) {
        if (key.includes(".down.")) expect(await norm(g), key).toBe(0);
        else ups += await norm(g);
      }
      expect(ups).toBeGreaterThan(0);
      await run.close();
    },
  );
});

describe("the step to a later time", () => {
  it("leads predictions that differ apart by gamma of DDPM's step, exactly as the formula says", () => {
    const levels = schedule();
    for (const t of [1, 10, 100, 999]) {
      const [bar, bar2] = [levels.alphas[t]! ** 2, levels.alphas[t - 1]! ** 2];
      const share = bar / bar2;
      const { gain, stretch, spread } = stepNumbers(levels, t, t - 1, "t-1");
      expect(gain).toBeCloseTo(-(1 - share) / Math.sqrt(share * (1 - bar)), 9);
      expect(stretch).toBeCloseTo(1 / Math.sqrt(share), 9);
      expect(spread ** 2).toBeCloseTo(((1 - share) * (1 - bar2)) / (1 - bar), 9);
    }
  });

  it("has the published weights of timesteps", () => {
    const levels = schedule();
    const squared = (t: number) => stepNumbers(levels, t, t - 1, "t-1").gain ** 2;
    for (const [t, weight] of [
      [1, 4.3e-4],
      [10, 8.4e-5],
      [50, 2.5e-5],
      [100, 1.8e-5],
      [500, 3.2e-5],
      [999, 1.5e-4],
    ] as const)
      expect(squared(t) / weight).toBeCloseTo(1, 1);
  });

  it("is the same for the same guess, whether noise or velocity is predicted", () => {
    const [eps, v] = [schedule(), schedule("v_prediction")];
    const [x, x0] = [0.7, -0.4];
    for (const course of ["t-1", "uniform", "0"] as const) {
      const [alpha, sigma] = [eps.alphas[400]!, eps.sigmas[400]!];
      const noise = (x - alpha * x0) / sigma;
      const to = (levels: typeof eps, o: number): number => {
        const { stretch, gain, spread } = stepNumbers(levels, 400, course === "0" ? -1 : 250, course);
        return stretch * x + gain * o + spread * 0.3;
      };
      expect(to(v, alpha * noise - sigma * x0)).toBeCloseTo(to(eps, noise), 9);
    }
  });

  it("leads to the clean sample, to another level, and along the straight path of a flow", () => {
    const eps = schedule();
    const [alpha, sigma] = [eps.alphas[400]!, eps.sigmas[400]!];
    const x = alpha * 0.2 + sigma * 1.5;
    const clean = stepNumbers(eps, 400, -1, "0");
    expect(clean.stretch * x + clean.gain * 1.5).toBeCloseTo(0.2, 9);
    const other = stepNumbers(eps, 400, 600, "uniform");
    expect(other.stretch * x + other.gain * 1.5).toBeCloseTo(
      eps.alphas[600]! * 0.2 + eps.sigmas[600]! * 1.5,
      9,
    );
    const flow = {
      prediction: "flow_prediction",
      alphas: Float64Array.of(0.75, 0.5),
      sigmas: Float64Array.of(0.25, 0.5),
      timesteps: Float64Array.of(250, 500),
    } as const;
    const step = stepNumbers(flow, 1, 0, "t-1");
    expect([step.stretch, step.gain, step.spread]).toEqual([1, -0.25, 0].map((v) => expect.closeTo(v, 9)));
  });

  it("ends at the last timestep: no loss, no gradient there", async () => {
    expect(stepNumbers(schedule(), 0, 0, "t-1")).toEqual({ stretch: 1, gain: -0, spread: 0 });
    const found = await gradients((a: typeof fresh) => lossOf()(a, pairsAt([0])).loss, moved);
    for (const g of Object.values(found)) expect(await norm(g)).toBe(0);
  });
});

describe("errors of features", () => {
  it("without features are the errors of the prediction times gamma squared", async () => {
    const batch = pairsAt([50, 600]);
    const error = async (given: Given): Promise<number> =>
      await lossOf({ loss: "sft", ...given })(moved, batch).loss.item();
    const alone = async (t: number, given: Given): Promise<number> =>
      await lossOf({ loss: "sft", ...given })(moved, pairsAt([t])).loss.item();
    expect(await error({ space: "latent" })).toBeGreaterThan(0);
    const gamma = stepNumbers(schedule(), 600, 599, "t-1").gain;
    expect(
      (await alone(600, { tap: "identity" })) / ((await alone(600, { space: "latent" })) * gamma ** 2),
    ).toBeCloseTo(1, 4);
  });

  it("count every map of the multi tap by its numbers, and balance them by channels when asked", async () => {
    const maps = [
      fromHost("f32", [2, 2, 1, 1], Float32Array.of(1, 1, 2, 2)),
      fromHost("f32", [2, 4, 1, 1], new Float32Array(8).fill(3)),
    ];
    const nets = (weights: readonly number[]) => ({
      prediction: "epsilon" as const,
      policy: (x: Tensor) => x.mul(0),
      reference: (x: Tensor) => x,
      features: (x: Tensor) =>
        maps.map((map, i) => ({
          map: map.mul(x.mean([1, 2, 3]).reshape([2, 1, 1, 1])),
          weight: weights[i]!,
        })),
    });
    const batch = { ...pairsAt([300]), condition: {} };
    const o = { ...OPTIONS, loss: "sft" as const };
    const plain = await preferenceLoss(nets([1, 1]), o, batch).loss.item();
    const balanced = await preferenceLoss(nets([2, 1]), o, batch).loss.item();
    // winner: maps of 1 and 3, whose differences have the same factor d: (2 d^2 + 4 (3 d)^2) / 6 and (2 (2 d)^2 + …) / 6
    expect(balanced / plain).toBeCloseTo((8 + 36) / (2 + 36), 5);
  });

  it("flow through the encoder's activations to the policy, and not into its weights", async () => {
    const batch = pairsAt([300]);
    const through = await gradients(
      (p: typeof policy) => preferenceLoss(networksOf(p, moved, OPTIONS), OPTIONS, batch).loss,
      policy,
    );
    for (const [key, g] of parameters(through))
      if (!/\.(down|up)\.weight$/.test(key)) expect(await norm(g), key).toBe(0);
    const found = await gradients((a: typeof fresh) => lossOf()(a, batch).loss, moved);
    expect(Math.max(...(await Promise.all(Object.values(found).map(norm))))).toBeGreaterThan(0);
  });

  it("have the gradient that finite differences give", async () => {
    const batch = pairsAt([300, 700]);
    const o: Given = { loss: "sft", tap: "mid" };
    const run = jit((a: typeof fresh) =>
      valueAndGrad((x: typeof fresh) => lossOf(o)(x, batch).loss.mul(1e4))(a),
    );
    const [, slopes] = await run(moved);
    const norms = await Promise.all(Object.values(slopes).map(norm));
    const length = Math.hypot(...norms);
    /** The loss, some way along the gradient. */
    const along = async (by: number): Promise<number> => {
      const there: Record<string, Tensor> = {};
      for (const [key, t] of Object.entries(moved)) {
        const [values, g] = [await floats(t), await floats(slopes[key]!)];
        there[key] = fromHost(
          "f32",
          t.shape,
          values.map((v, i) => v + (by * g[i]!) / length),
        );
      }
      return (await run(there))[0].item();
    };
    expect(((await along(0.02)) - (await along(-0.02))) / 0.04 / length).toBeCloseTo(1, 1);
    await run.close();
  });
});

describe("wrappers", () => {
  const batch = pairsAt([400]);
  const numbers = async (given: Given, b = batch) => {
    const { loss, metrics } = lossOf({ space: "latent", ...given })(moved, b);
    await evaluate([loss, ...Object.values(metrics!)]);
    const entries = await Promise.all(
      Object.entries(metrics!).map(async ([k, v]) => [k, await v.item()] as const),
    );
    return { loss: await loss.item(), ...Object.fromEntries(entries) } as Record<string, number> & {
      loss: number;
    };
  };
  const gain = async (): Promise<number> => {
    const { "winner's reward": w, "loser's reward": l } = await numbers({ beta: 1 });
    return w! - l!;
  };

  it("are what they are called, of the same errors", async () => {
    const [{ "winner's error": w, "loser's error": l }, d] = [await numbers({}), await gain()];
    const surprise = (a: number): number => Math.log1p(Math.exp(-a));
    const beta = 3;
    expect((await numbers({ loss: "dpo", beta })).loss).toBeCloseTo(surprise(beta * d), 5);
    expect((await numbers({ loss: "cpo", beta, lambda: 0.5 })).loss).toBeCloseTo(
      surprise(beta * (l! - w!)) + 0.5 * w!,
      5,
    );
    expect((await numbers({ loss: "sft" })).loss).toBeCloseTo(w!, 5);
    expect((await numbers({ loss: "ipo", beta })).loss).toBeCloseTo((d - 1 / (2 * beta)) ** 2, 5);
    expect((await numbers({ loss: "hinge", beta })).loss).toBeCloseTo(Math.max(0, 1 - beta * d), 5);
    expect((await numbers({ loss: "orpo", lambda: 0.5 })).loss).toBeCloseTo(w! + 0.5 * surprise(l! - w!), 5);
  });

  it("turn round when winner and loser change places", async () => {
    const rows = await floats(batch.x0);
    const half = rows.length / 2;
    const x0 = fromHost(
      "f32",
      batch.x0.shape,
      Float32Array.of(...rows.subarray(half), ...rows.subarray(0, half)),
    );
    const [one, other] = [await numbers({ beta: 2 }), await numbers({ beta: 2 }, { ...batch, x0 })];
    expect(one["winner's reward"]).toBeCloseTo(other["loser's reward"]!, 6);
    expect(one["implicit accuracy"]! + other["implicit accuracy"]!).toBe(1);
    expect(one.loss - other.loss).toBeCloseTo(-2 * (await gain()), 4); // -log σ(a) + log σ(-a) = -a
  });

  it("give equal pictures no gradient", async () => {
    const rows = await floats(batch.x0);
    const half = rows.subarray(0, rows.length / 2);
    const same = { ...batch, x0: fromHost("f32", batch.x0.shape, Float32Array.of(...half, ...half)) };
    const found = await gradients((a: typeof fresh) => lossOf({ space: "latent" })(a, same).loss, moved);
    for (const g of Object.values(found)) expect(await norm(g)).toBeLessThan(1e-4);
  });
});

it.each(["latent", "ncp"] as const)("learns which of two pictures is better (%s)", async (space) => {
  const batch = pairsAt([200, 400, 600, 800]);
  const beta = space === "latent" ? 20 : 3e4;
  const run = train({
    ...{ model: fresh, steps: 40, batch: () => batch, loss: lossOf({ space, beta }) },
    optimizer: adamW({ learningRate: 1e-2, eps: 1e-12 }),
  });
  const last: Record<string, number> = {};
  for await (const event of run)
    if (event.type === "step") Object.assign(last, event.metrics, { loss: event.loss });
  expect(last.loss).toBeLessThan(0.5);
  expect(last["implicit accuracy"]).toBe(1);
});

describe("the LoRA", () => {
  it("computes the same merged as beside the layers", async () => {
    const { t, condition, x0 } = pairsAt([250]);
    const beside = withLoraParameters(policy, moved);
    const [one, other] = [beside, mergeLora(beside)].map((net) => net.call(x0, t, condition.context));
    const [a, b] = [await floats(one!), await floats(other!)];
    for (let i = 0; i < a.length; i++) expect(Math.abs(a[i]! - b[i]!)).toBeLessThan(1e-5);
  });

  it("computes the same with blocks that are computed again", async () => {
    const batch = pairsAt([250]);
    const of = (recompute: boolean) =>
      jit((a: typeof fresh) => grad((x: typeof fresh) => lossOf({ recompute })(x, batch).loss)(a));
    const [one, other] = [of(false), of(true)];
    const [a, b] = [await one(moved), await other(moved)];
    for (const [key, g] of Object.entries(a)) {
      const [x, y] = [await floats(g), await floats(b[key]!)];
      const scale = Math.max(1e-6, ...x.map(Math.abs));
      for (let i = 0; i < x.length; i++) expect(Math.abs(x[i]! - y[i]!) / scale).toBeLessThan(1e-3);
    }
    await Promise.all([one.close(), other.close()]);
  });
});

it("the step's tensors do what its numbers say", async () => {
  const { x0, noise, z, step } = pairsAt([400]);
  const { stretch, gain, spread } = stepNumbers(schedule(), 400, 399, "t-1");
  const [out, a, b, c] = await Promise.all([stepped(x0, noise, z, step), x0, noise, z].map(floats));
  for (let i = 0; i < 50; i++)
    expect(out![i]).toBeCloseTo(stretch * a![i]! + gain * b![i]! + spread * c![i]!, 5);
});
