import { describe, expect, it } from "vitest";
import {
  accumulatedValueAndGrad,
  adam,
  adamW,
  BatchNorm,
  clipByGlobalNorm,
  clipByValue,
  constantDecay,
  cosineDecay,
  createRng,
  fixedPaths,
  GaussianFourierFeatures,
  globalNorm,
  lars,
  Module,
  normsByPath,
  type Optimizer,
  parameterCount,
  piecewiseConstant,
  polynomialDecay,
  powerDecay,
  sgd,
  updateEma,
  warmup,
  warmupDecay,
} from "../../src/nn/index.ts";
import { jit, type Tensor, tensor, treeMap, valueAndGrad } from "../../src/tensor/index.ts";

type Params = { a: Tensor; b: Tensor };
const start = (): Params => ({ a: tensor([1, -2, 3]), b: tensor([[0.5], [-0.25]]) });
/** A fixed gradient sequence: sin of a running count, so that reference loops can repeat it. */
const gradient = (step: number): Params => ({
  a: tensor([0, 1, 2].map((i) => Math.sin(step * 5 + i))),
  b: tensor([3, 4].map((i) => [Math.sin(step * 5 + i)])),
});

/** Runs five steps of the compiled optimiser. */
async function run(optimizer: Optimizer, steps = 5): Promise<number[]> {
  const update = jit((p: Params, g: Params, s: ReturnType<Optimizer["init"]>) => optimizer.update(p, g, s));
  let [parameters, state] = [start(), optimizer.init(start())];
  for (let i = 0; i < steps; i++) ({ parameters, state } = await update(parameters, gradient(i), state));
  await update.close();
  return [...(await parameters.a.toArray()), ...(await parameters.b.toArray())];
}

type Rule = (p: number, g: number, memory: Record<string, number>, step: number) => number;

/** The same five steps in plain double precision. */
function reference(rule: Rule, steps = 5): number[] {
  return [1, -2, 3, 0.5, -0.25].map((initial, i) => {
    const memory: Record<string, number> = { m: 0, v: 0 };
    let p = initial;
    for (let t = 0; t < steps; t++) p = rule(p, Math.fround(Math.sin(t * 5 + i)), memory, t + 1);
    return p;
  });
}

const adamRule =
  (lr: number, decay: number, decoupled: boolean): Rule =>
  (p, gradientValue, memory, t) => {
    const g = decoupled ? gradientValue : gradientValue + decay * p;
    memory.m = 0.9 * memory.m! + 0.1 * g;
    memory.v = 0.999 * memory.v! + 0.001 * g * g;
    const [m, v] = [memory.m / (1 - 0.9 ** t), memory.v / (1 - 0.999 ** t)];
    return (decoupled ? p * (1 - lr * decay) : p) - (lr * m) / (Math.sqrt(v) + 1e-8);
  };

const close = (got: readonly number[], expected: readonly number[], tolerance = 2e-6): void => {
  expect(got.length).toBe(expected.length);
  for (const [i, value] of got.entries())
    expect(Math.abs(value - expected[i]!)).toBeLessThan(tolerance * (1 + Math.abs(expected[i]!)));
};

describe("optimisers follow their published update rules", () => {
  it("SGD", async () => {
    close(
      await run(sgd({ learningRate: 0.1 })),
      reference((p, g) => p - 0.1 * g),
    );
  });
  it("SGD with momentum, Nesterov and weight decay", async () => {
    const rule: Rule = (p, g, memory) => {
      const d = g + 0.01 * p;
      memory.m = 0.9 * memory.m! + d;
      return p - 0.1 * (d + 0.9 * memory.m);
    };
    close(
      await run(sgd({ learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.01 })),
      reference(rule),
    );
  });
  it("Adam with weight decay in the gradient", async () => {
    close(await run(adam({ learningRate: 0.05, weightDecay: 0.1 })), reference(adamRule(0.05, 0.1, false)));
  });
  it("AdamW with decoupled weight decay", async () => {
    close(await run(adamW({ learningRate: 0.05, weightDecay: 0.1 })), reference(adamRule(0.05, 0.1, true)));
  });
  it("LARS: steps of matrices in proportion to their norm, vectors by momentum alone", async () => {
    const got = await run(lars({ learningRate: 2, momentum: 0.9, weightDecay: 0.01, trust: 0.1 }), 5);
    close(
      got.slice(0, 3),
      reference((p, g, memory) => {
        memory.m = 0.9 * memory.m! + g;
        return p - 2 * memory.m;
      }).slice(0, 3),
    );
    let [b, velocity] = [
      [0.5, -0.25],
      [0, 0],
    ];
    const norm = (v: readonly number[]): number => Math.hypot(...v);
    for (let step = 0; step < 5; step++) {
      const g = b.map((p, i) => Math.sin(step * 5 + 3 + i) + 0.01 * p);
      const ratio = (0.1 * norm(b)) / norm(g);
      velocity = velocity.map((v, i) => 0.9 * v + ratio * g[i]!);
      b = b.map((p, i) => p - 2 * velocity[i]!);
    }
    close(got.slice(3), b);
  });
  it("AdamW stays accurate after a thousand steps", async () => {
    close(await run(adamW({ learningRate: 1e-3 }), 1000), reference(adamRule(1e-3, 0.01, true), 1000), 2e-5);
  });
});

describe("parameter groups", () => {
  it("scale the rate, replace the decay and freeze by path", async () => {
    const half = await run(
      sgd({ learningRate: 0.1, groups: [{ match: (path) => path === "a", rateScale: 0.5 }] }),
    );
    close(half.slice(0, 3), reference((p, g) => p - 0.05 * g).slice(0, 3));
    close(half.slice(3), reference((p, g) => p - 0.1 * g).slice(3));
    const frozen = await run(
      adamW({ learningRate: 0.1, groups: [{ match: (path) => path === "b", rateScale: 0 }] }),
    );
    expect(frozen.slice(3)).toEqual([0.5, -0.25]);
    const noDecay = await run(
      adamW({ learningRate: 0.05, weightDecay: 0.1, groups: [{ match: () => true, weightDecay: 0 }] }),
    );
    close(noDecay, reference(adamRule(0.05, 0, true)));
  });
  it("refuse impossible settings", () => {
    expect(() => adamW({ learningRate: Number.NaN })).toThrow(/learning rate/);
    expect(() => adamW({ learningRate: 1, beta1: 1 })).toThrow(/beta1/);
  });
});

describe("learning-rate schedules", () => {
  const at = async (schedule: (step: Tensor) => Tensor, step: number): Promise<number> =>
    schedule(tensor(step)).item();
  it("warm up linearly and then follow the next one", async () => {
    const schedule = warmup(4, 0.8);
    close(
      [await at(schedule, 0), await at(schedule, 1), await at(schedule, 3), await at(schedule, 100)],
      [0.2, 0.4, 0.8, 0.8],
    );
  });
  it("decay along a cosine, a line, a power and steps", async () => {
    close(
      [
        await at(cosineDecay(1, 10, 0.1), 0),
        await at(cosineDecay(1, 10, 0.1), 5),
        await at(cosineDecay(1, 10, 0.1), 20),
      ],
      [1, 0.55, 0.1],
    );
    close([await at(polynomialDecay(1, 10), 5), await at(polynomialDecay(1, 10, 0, 2), 5)], [0.5, 0.25]);
    const steps = piecewiseConstant([2, 5], [1, 0.1, 0.01]);
    close([await at(steps, 1), await at(steps, 2), await at(steps, 5)], [1, 0.1, 0.01]);
    expect(() => piecewiseConstant([1], [1])).toThrow(/2 rates/);
  });
});

describe("gradients between loss and optimiser", () => {
  it("the global norm joins all leaves, and each has its own by path", async () => {
    expect(await globalNorm({ x: tensor([3]), y: [tensor([[4]])] }).item()).toBeCloseTo(5, 6);
    const norms = normsByPath({ x: tensor([3]), y: [tensor([[4]])] });
    expect(await norms["y.0"]!.item()).toBeCloseTo(4, 6);
  });
  it("clipping leaves small gradients alone and shortens large ones to the bound", async () => {
    const { clipped, norm } = clipByGlobalNorm({ x: tensor([30, 40]) }, 5);
    expect(await norm.item()).toBeCloseTo(50, 4);
    close(await clipped.x.toArray(), [3, 4], 1e-5);
    close(await clipByGlobalNorm({ x: tensor([3, 4]) }, 50).clipped.x.toArray(), [3, 4]);
    close(await clipByValue([tensor([-3, 0.5])], 1)[0]!.toArray(), [-1, 0.5]);
  });
  it("accumulation over slices equals the whole batch", async () => {
    const loss = (w: Tensor, x: Tensor): Tensor => x.matmul(w).square().mean();
    const [w, x] = [
      tensor([[1], [2]]),
      tensor([
        [1, 0],
        [0, 1],
        [2, 1],
        [-1, 3],
      ]),
    ];
    const [whole, g] = valueAndGrad(loss)(w, x);
    const [parts, h] = accumulatedValueAndGrad(loss, 2)(w, x);
    expect(await parts.item()).toBeCloseTo(await whole.item(), 5);
    close(await h.toArray(), await g.toArray());
    expect(() => accumulatedValueAndGrad(loss, 3)(w, x)).toThrow(/does not split into 3/);
  });
});

describe("exponential moving averages", () => {
  it("move by one minus the decay", async () => {
    const average = updateEma({ p: tensor([1]) }, { p: tensor([3]) }, constantDecay(0.9)(tensor(0)));
    expect(await average.p.item()).toBeCloseTo(1.2, 6);
  });
  it("warm up as their schedules say", async () => {
    expect(await warmupDecay(0.999)(tensor(0)).item()).toBeCloseTo(0.1, 6);
    expect(await powerDecay(2 / 3)(tensor(7)).item()).toBeCloseTo(0.75, 6);
    expect(await powerDecay(2 / 3, 1, 0.5)(tensor(7)).item()).toBeCloseTo(0.5, 6);
  });
});

describe("what a module declares as fixed", () => {
  const model = () => ({
    norm: new BatchNorm(2),
    waves: new GaussianFourierFeatures(3, createRng(0)),
    w: tensor([1, 2]),
  });
  const ones = <T>(tree: T): T => treeMap((t) => t.mul(0).add(1), tree);

  it("is neither updated nor decayed", async () => {
    const before = model();
    const optimizer = adamW({ learningRate: 0.1, weightDecay: 0.5 });
    const { parameters: after } = optimizer.update(before, ones(before), optimizer.init(before));
    for (const leaf of ["runningMean", "runningVar"] as const)
      expect(await after.norm[leaf].toArray()).toEqual(await before.norm[leaf].toArray());
    expect(await after.waves.weight.toArray()).toEqual(await before.waves.weight.toArray());
    expect(await after.norm.weight.toArray()).not.toEqual(await before.norm.weight.toArray());
    expect(await after.w.toArray()).not.toEqual([1, 2]);
  });
  it("does not count in the norm of the gradient", async () => {
    expect(await globalNorm(ones(model())).item()).toBeCloseTo(Math.sqrt(6), 6); // weight, bias and w of 2 each
  });
  it("is taken as it is by an average, also deep inside a field", async () => {
    class Statistics extends Module {
      static override readonly fixed = ["seen"];
      readonly seen = [{ mean: tensor([8]) }];
      readonly scale = tensor([8]);
    }
    const start = treeMap((t) => t.mul(0), new Statistics());
    const average = updateEma(start, new Statistics(), constantDecay(0.75)(tensor(0)));
    expect(await average.seen[0]!.mean.item()).toBe(8);
    expect(await average.scale.item()).toBe(2);
    expect([...fixedPaths({ a: [start] })]).toEqual(["a.0.seen.0.mean"]);
  });
  it("is counted among all values and not among the trained ones", () => {
    expect(parameterCount(model())).toBe(2 * 4 + 3 + 2);
    expect(parameterCount(model(), { trained: true })).toBe(6);
  });
});
