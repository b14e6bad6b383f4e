/** Trainings that are wrong, each of which ran once without a word and trained nothing, or something else. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  adamW,
  createRng,
  Linear,
  Module,
  normsByPath,
  sgd,
  type TrainOptions,
  train,
} from "../../src/nn/index.ts";
import { type Tensor, tensor } from "../../src/tensor/index.ts";

class Net extends Module {
  readonly downBlocks: Linear[];
  readonly act: (x: Tensor) => Tensor;
  constructor(
    act: (x: Tensor) => Tensor = function relu(x) {
      return x.relu().add(x.mul(0.1));
    },
  ) {
    super();
    this.downBlocks = [new Linear(2, 4, createRng(0)), new Linear(4, 1, createRng(1))];
    this.act = act;
  }
  call(x: Tensor): Tensor {
    return this.downBlocks[1]!.call(this.act(this.downBlocks[0]!.call(x)));
  }
}

const x = tensor([
  [1, 2],
  [3, 4],
]);
type Batch = { x: Tensor };

async function run<M>(
  options: Partial<TrainOptions<M, Batch>> & Pick<TrainOptions<M, Batch>, "model" | "loss">,
) {
  const losses: number[] = [];
  const optimizer = sgd({ learningRate: 0.01 });
  for await (const event of train<M, Batch>({ steps: 2, batch: () => ({ x }), optimizer, ...options }))
    if (event.type === "step") losses.push(event.loss);
  return losses;
}

const squares = (m: Net, batch: Batch) => m.call(batch.x).sub(1).square().mean();

describe("train refuses", () => {
  it("a loss that uses the model from outside, by the name of the first tensor", async () => {
    const model = new Net();
    await expect(run({ model, loss: (_: Net, b: Batch) => model.call(b.x).sum() })).rejects.toThrow(
      /"downBlocks.0.weight" from outside/,
    );
  });
  it("one block that is bound to the model that it was made in", async () => {
    class Half extends Module {
      readonly free = new Linear(2, 1, createRng(0));
      readonly bound = new Linear(2, 1, createRng(1));
      readonly forward = (y: Tensor): Tensor => this.bound.call(y);
    }
    const loss = (m: Half, b: Batch) => m.free.call(b.x).add(m.forward(b.x)).square().mean();
    await expect(run({ model: new Half(), loss })).rejects.toThrow(/"bound.weight" from outside/);
  });
  it("a first gradient of exactly 0, and explains it", async () => {
    const loss = (m: Net, b: Batch) => squares(m, b).stopGradient().add(m.downBlocks[0]!.weight.sum().mul(0));
    await expect(run({ model: new Net(), loss })).rejects.toThrow(/first step is exactly 0.*the loss is/);
  });
  it("a model that is no tree", async () => {
    const model = { w: 3 };
    await expect(run({ model, loss: () => tensor(1) })).rejects.toThrow(/expected a tree with float tensors/);
  });
  it("one tensor in two fields", async () => {
    const w = tensor([[1], [1]]);
    const loss = (m: { a: Tensor; b: Tensor }, b: Batch) => b.x.matmul(m.a.add(m.b)).square().mean();
    await expect(run({ model: { a: w, b: w }, loss })).rejects.toThrow(/"a" and "b" are the same tensor/);
  });
  it("predicates that hold for no parameter, and tells the keys", async () => {
    const model = new Net();
    const keys = /matches none of the 4 parameters.*down_blocks\.0\.weight/;
    const frozen = (key: string) => key.startsWith("downBlocks");
    await expect(run({ model, loss: squares, frozen })).rejects.toThrow(keys);
    const optimizer = adamW({ learningRate: 0.1, groups: [{ match: frozen, rateScale: 0 }] });
    await expect(run({ model, loss: squares, optimizer })).rejects.toThrow(/groups\[0\] matches none/);
  });
  it("to resume with another static value, by its name", async () => {
    const directory = await mkdtemp(join(tmpdir(), "tweedie-statics-"));
    function silu(y: Tensor) {
      return y.silu();
    }
    await run({ model: new Net(), loss: squares, directory });
    await expect(run({ model: new Net(silu), loss: squares, directory, steps: 4 })).rejects.toThrow(
      /act = function relu, this one has function silu/,
    );
    expect(await run({ model: new Net(), loss: squares, directory, steps: 4 })).toHaveLength(2);
    await rm(directory, { recursive: true });
  });
});

describe("a parameter has one name, its key,", () => {
  it("for frozen parts, groups and norms", async () => {
    const seen = new Set<string>();
    const see = (key: string): boolean => {
      seen.add(key);
      return key.startsWith("down_blocks.0");
    };
    const model = new Net();
    await run({ model, loss: squares, frozen: see });
    const all = [0, 1].flatMap((i) => [`down_blocks.${i}.weight`, `down_blocks.${i}.bias`]);
    expect([...seen].sort()).toEqual([...all].sort());
    seen.clear();
    await run({
      model,
      loss: squares,
      optimizer: sgd({ learningRate: 0.1, groups: [{ match: see, rateScale: 0 }] }),
    });
    expect([...seen].sort()).toEqual([...all].sort());
    expect(Object.keys(normsByPath(model)).sort()).toEqual([...all].sort());
  });
});
