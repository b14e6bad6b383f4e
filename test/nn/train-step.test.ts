import { describe, expect, it } from "vitest";
import {
  adamW,
  BatchNorm,
  constantDecay,
  createRng,
  firstState,
  Linear,
  Module,
  makeTrainStep,
  type StepOptions,
  sgd,
  type TrainState,
  train,
} from "../../src/nn/index.ts";
import { fillNormal, fromHost, type Tensor, treeMap } from "../../src/tensor/index.ts";

/** Two scalars that play against each other: a lowers (a - b)^2, b raises a b. */
interface Pair {
  readonly a: Tensor;
  readonly b: Tensor;
}
const scalar = (value: number): Tensor => fromHost("f32", [], Float32Array.of(value));
const pair = (): Pair => ({ a: scalar(1), b: scalar(3) });
const rate = 0.1;

const game = (more: Partial<StepOptions<Pair, Tensor>> = {}): StepOptions<Pair, Tensor> => ({
  loss: ({ a, b }, x) => ({ loss: a.sub(b).square().mul(x), metrics: { distance: a.sub(b).abs() } }),
  optimizer: sgd({ learningRate: rate }),
  frozen: (path) => path !== "a",
  further: [
    {
      name: "critic",
      loss: ({ a, b }, x) => a.mul(b).mul(x).neg(),
      optimizer: sgd({ learningRate: rate }),
      frozen: (path) => path !== "b",
    },
  ],
  ...more,
});

/** One step on own copies: the step takes the memory of its state. */
async function stepped(options: StepOptions<Pair, Tensor>, steps = 1) {
  const step = makeTrainStep(options);
  let state: TrainState<Pair> = firstState(pair(), options);
  let metrics: Record<string, number> = {};
  for (let i = 0; i < steps; i++) {
    const copy = new Map<Tensor, Tensor>();
    for (const t of Object.values({ ...state.model }))
      copy.set(t, fromHost("f32", [], Float32Array.of(await t.item())));
    const result = await step({ ...state, model: treeMap((t) => copy.get(t)!, state.model) }, scalar(1));
    state = result.state;
    metrics = {};
    for (const [name, t] of Object.entries(result.metrics)) metrics[name] = await t.item();
  }
  const [a, b] = [await state.model.a.item(), await state.model.b.item()];
  const ema = state.ema && [await state.ema.a.item(), await state.ema.b.item()];
  await step.close();
  return { a, b, ema, metrics };
}

describe("a step of several updates", () => {
  it("in turn: the second sees what the first has changed", async () => {
    const { a, b, metrics } = await stepped(game());
    const newA = 1 - rate * 2 * (1 - 3);
    expect(a).toBeCloseTo(newA, 6);
    expect(b).toBeCloseTo(3 + rate * newA, 6);
    expect(metrics.distance).toBeCloseTo(2, 6);
    expect(metrics["critic loss"]).toBeCloseTo(-newA * 3, 6);
    expect(metrics["critic gradient norm"]).toBeCloseTo(newA, 6);
  });

  it("together: both start from the model before the step", async () => {
    const { a, b } = await stepped(game({ together: true }));
    expect(a).toBeCloseTo(1 - rate * 2 * (1 - 3), 6);
    expect(b).toBeCloseTo(3 + rate * 1, 6);
  });

  it("averages what any of them trains", async () => {
    const { a, b, ema } = await stepped(game({ ema: constantDecay(0.5) }));
    expect(ema![0]).toBeCloseTo(0.5 * 1 + 0.5 * a, 6);
    expect(ema![1]).toBeCloseTo(0.5 * 3 + 0.5 * b, 6);
  });

  it("refuses two that start together and train the same, and two of one name", async () => {
    const { further } = game();
    await expect(stepped(game({ together: true, frozen: (key) => key !== "b" }))).rejects.toThrow(
      /start together train b/,
    );
    await expect(stepped(game({ further: [...further!, ...further!] }))).rejects.toThrow(
      /names of their own/,
    );
  });

  it("names the update whose loss is not finite", async () => {
    const bad = game();
    const [critic] = bad.further!;
    const options = { ...bad, further: [{ ...critic!, loss: ({ b }: Pair) => b.sub(4).log() }] };
    const run = async (): Promise<void> => {
      for await (const _ of train({ ...options, model: pair(), batch: () => scalar(1), steps: 2 }));
    };
    await expect(run()).rejects.toThrow(/^critic, step 1: the loss is NaN/);
  });
});

class Net extends Module {
  norm = new BatchNorm(2);
  out: Linear;
  constructor() {
    super();
    this.out = new Linear(2, 1, createRng(3));
  }
  call(x: Tensor): Tensor {
    return this.out.call(this.norm.call(x, "batch"));
  }
}

describe("running statistics of batch norms", () => {
  const values = (step: number): Tensor => {
    const x = fillNormal(new Float32Array(32), { seed: 1, step });
    return fromHost(
      "f32",
      [16, 2],
      x.map((v, i) => (i % 2 ? 5 + 2 * v : v)),
    );
  };
  const options = { optimizer: adamW({ learningRate: 0.01 }), steps: 3, batch: values };
  const ends = async (more: object) => {
    for await (const event of train<Net, Tensor>({
      ...options,
      model: new Net(),
      loss: (m, x) => m.call(x).square().mean(),
      ...more,
    }))
      if (event.type === "done") return event.state;
    throw new Error("not done");
  };
  const expected = async (calls: readonly Tensor[]): Promise<BatchNorm> => {
    let norm = new BatchNorm(2);
    for (const x of calls) norm = norm.updated(x);
    return norm;
  };
  const close = async (got: Tensor, want: Tensor): Promise<void> => {
    const [a, b] = [(await got.toArray()) as number[], (await want.toArray()) as number[]];
    for (const [i, v] of b.entries()) expect(a[i]).toBeCloseTo(v, 5);
  };

  it("move once for each step, also in the average, and are not trained", async () => {
    const { model, ema } = await ends({ ema: constantDecay(0.99) });
    const want = await expected([values(0), values(1), values(2)]);
    for (const norm of [model.norm, ema!.norm]) {
      await close(norm.runningMean, want.runningMean);
      await close(norm.runningVar, want.runningVar);
    }
  });

  it("move once for each call, in order, when a step calls the network on two domains", async () => {
    const loss = (m: Net, x: Tensor): Tensor =>
      m
        .call(x)
        .square()
        .mean()
        .add(m.call(x.mul(3)).square().mean());
    const { model } = await ends({ loss });
    const calls = [0, 1, 2].flatMap((step) => [values(step), values(step).mul(3)]);
    const want = await expected(calls);
    await close(model.norm.runningMean, want.runningMean);
    await close(model.norm.runningVar, want.runningVar);
  });

  it("move in frozen parts too, and stay where statistics are frozen", async () => {
    const { model } = await ends({ frozen: (path: string) => path.startsWith("norm") });
    const want = await expected([values(0), values(1), values(2)]);
    await close(model.norm.runningMean, want.runningMean);
    await close(model.norm.weight, new BatchNorm(2).weight);
    const still = await ends({ loss: (m: Net, x: Tensor) => m.out.call(m.norm.call(x)).square().mean() });
    await close(still.model.norm.runningMean, new BatchNorm(2).runningMean);
  });

  it("are averaged over the slices of an accumulated step", async () => {
    const { model } = await ends({ accumulate: 2, steps: 1 });
    const x = values(0);
    const [one, two] = [await expected([x.sliceAxis(0, 0, 8)]), await expected([x.sliceAxis(0, 8, 16)])];
    await close(model.norm.runningMean, one.runningMean.add(two.runningMean).mul(0.5));
  });
});
