import { describe, expect, it } from "vitest";
import { TreeError } from "../../src/errors.ts";
import {
  captureFeatures,
  createRng,
  frozen,
  initialState,
  Linear,
  Module,
  makeTrainStep,
  mapParameters,
  parameters,
  type Rng,
  sgd,
  withHooks,
} from "../../src/nn/index.ts";
import { flatten, grad, jit, type Tensor, treeLeaves } from "../../src/tensor/index.ts";

class Middle extends Module {
  readonly inner: Linear;
  constructor(rng: Rng) {
    super();
    this.inner = new Linear(4, 4, rng);
  }
  call(h: Tensor): Tensor {
    return this.inner.call(h).tanh();
  }
}

class Net extends Module {
  readonly convIn: Linear;
  readonly midBlock: Middle;
  readonly blocks: readonly Linear[];
  constructor(rng: Rng) {
    super();
    this.convIn = new Linear(3, 4, rng);
    this.midBlock = new Middle(rng);
    this.blocks = [new Linear(4, 4, rng), new Linear(4, 2, rng)];
  }
  call(x: Tensor): Tensor {
    const h = this.midBlock.call(this.convIn.call(x));
    return this.blocks.reduce((y, block) => block.call(y), h);
  }
}

const net = new Net(createRng(1));
const x = createRng(2).normal([2, 3]);
const middle = (): Tensor => net.convIn.call(x).matmul(net.midBlock.inner.weight, { transB: true });
const h = (): Tensor => middle().add(net.midBlock.inner.bias!).tanh();

describe("captureFeatures", () => {
  it("gives the results of modules by key, nested ones and list entries too, and leaves the result alone", async () => {
    const keys = ["mid_block", "mid_block.inner", "blocks.1", ""];
    const [y, features] = captureFeatures(net, keys, (m) => m.call(x));
    expect(await y.toArray()).toEqual(await net.call(x).toArray());
    expect(Object.keys(features).sort()).toEqual([...keys].sort());
    const [got, want] = [await features.mid_block!.toArray(), await h().toArray()];
    got.forEach((value, i) => {
      expect(value).toBeCloseTo(want[i]!, 6);
    });
    expect(await features["blocks.1"]!.toArray()).toEqual(await y.toArray());
    expect(await features[""]!.toArray()).toEqual(await y.toArray());
  });

  it("works inside jit, with the module as an argument", async () => {
    const f = jit((m: Net, input: Tensor) => captureFeatures(m, ["mid_block"], (n) => n.call(input))[1]);
    const first = await f(net, x);
    expect(await first.mid_block!.sub(h()).abs().max().item()).toBeLessThan(1e-6);
    await f(net, createRng(3).normal([2, 3]));
    expect(f.signatures).toBe(1);
    await f.close();
  });

  it("lets gradients through: a loss on features has a gradient with respect to the input and the parameters", async () => {
    const loss = (input: Tensor, m: Net): Tensor =>
      captureFeatures(m, ["mid_block"], (n) => n.call(input))[1]
        .mid_block!.square()
        .sum();
    const direct = (input: Tensor, m: Net): Tensor => m.midBlock.call(m.convIn.call(input)).square().sum();
    const byHook = await grad(loss)(x, net).toArray();
    const plain = await grad(direct)(x, net).toArray();
    expect(Math.max(...plain.map(Math.abs))).toBeGreaterThan(0.01);
    byHook.forEach((value, i) => {
      expect(value).toBeCloseTo(plain[i]!, 6);
    });
    const gradient = grad((m: Net) => loss(x, m))(net);
    expect(gradient).toBeInstanceOf(Net);
    expect(await gradient.midBlock.inner.weight.abs().sum().item()).toBeGreaterThan(0.01);
    expect(await gradient.blocks[0]!.weight.abs().sum().item()).toBe(0);
  });

  it("names keys that are not there, are not called, or are called twice", () => {
    expect(() => captureFeatures(net, ["mid"], (m) => m.call(x))).toThrow(/no module "mid".*mid_block/s);
    expect(() => captureFeatures(net, ["mid_block"], (m) => m.convIn.call(x))).toThrow(
      /not called: mid_block/,
    );
    expect(() => captureFeatures(net, ["conv_in"], (m) => m.convIn.call(x).add(m.convIn.call(x)))).toThrow(
      TreeError,
    );
  });
});

describe("withHooks", () => {
  it("edits features: what the hook returns is what the network goes on with", async () => {
    const edited = withHooks(net, { mid_block: (out: Tensor) => out.add(1) });
    expect(edited).toBeInstanceOf(Net);
    expect(edited.midBlock).toBeInstanceOf(Middle);
    const want = net.blocks[1]!.call(net.blocks[0]!.call(h().add(1)));
    expect(await edited.call(x).sub(want).abs().max().item()).toBeLessThan(1e-5);
    expect([...parameters(edited).keys()]).toEqual([...parameters(net).keys()]);
  });

  it("sees the arguments, and survives the module being rebuilt", async () => {
    const swap = withHooks(net, { mid_block: (_out: Tensor, [input]: readonly Tensor[]) => input });
    const want = net.blocks[1]!.call(net.blocks[0]!.call(net.convIn.call(x)));
    const rebuilt = mapParameters(swap, (t) => t);
    expect(await rebuilt.call(x).sub(want).abs().max().item()).toBeLessThan(1e-6);
  });
});

describe("a frozen network", () => {
  const head = new Linear(3, 3, createRng(5));
  interface Batch {
    readonly x: Tensor;
    readonly denoiser: Net;
  }
  const loss = (m: Linear, batch: Batch): Tensor =>
    frozen(batch.denoiser).call(m.call(batch.x)).square().mean();

  it("passes gradients to what is in front of it and takes none", async () => {
    const [gHead, gNet] = grad((both: readonly [Linear, Net]) => loss(both[0], { x, denoiser: both[1] }))([
      head,
      net,
    ]);
    expect(await gHead.weight.abs().sum().item()).toBeGreaterThan(0.01);
    for (const leaf of treeLeaves(gNet)) expect(await leaf.abs().sum().item()).toBe(0);
  });

  it("trains what is in front of it, outside of the trainable state", async () => {
    const optimizer = sgd({ learningRate: 0.1 });
    const step = makeTrainStep<Linear, Batch>({ loss, optimizer });
    const before = await treeLeaves(net)[0]!.toArray();
    let state = initialState(head, optimizer);
    expect(flatten(state.model).leaves.length).toBe(2);
    const copy = jit((m: Linear) => mapParameters(m, (t) => t.mul(1)));
    state = { ...state, model: await copy(head) };
    const losses: number[] = [];
    for (let i = 0; i < 5; i++) {
      const out = await step(state, { x, denoiser: net });
      losses.push(await out.loss.item());
      state = out.state;
    }
    expect(losses.at(-1)).toBeLessThan(losses[0]!);
    expect(await treeLeaves(net)[0]!.toArray()).toEqual(before);
    expect(step.signatures).toBe(1);
    await step.close();
    await copy.close();
  });
});
