import { describe, expect, it } from "vitest";
import { TreeError } from "../../src/errors.ts";
import {
  blankRng,
  Conv2d,
  createRng,
  FeedForward,
  GroupNorm,
  Linear,
  loadParameters,
  MLP,
  Module,
  MultiHeadAttention,
  mapModules,
  mapParameters,
  modules,
  parameterCount,
  parameters,
  type Rng,
  summary,
  TimestepEmbedding,
  zeroed,
} from "../../src/nn/index.ts";
import {
  castHost,
  flatten,
  grad,
  jit,
  ones,
  type Tensor,
  tensor,
  treeEntries,
  valueAndGrad,
  zeros,
} from "../../src/tensor/index.ts";

class Resnet extends Module {
  readonly norm1: GroupNorm;
  readonly conv1: Conv2d;
  readonly timeEmbProj: Linear;
  readonly convShortcut: Conv2d | undefined;

  constructor(inChannels: number, outChannels: number, rng: Rng) {
    super();
    this.norm1 = new GroupNorm(2, inChannels);
    this.conv1 = new Conv2d(inChannels, outChannels, 3, rng, { padding: 1 });
    this.timeEmbProj = new Linear(8, outChannels, rng);
    this.convShortcut = inChannels === outChannels ? undefined : new Conv2d(inChannels, outChannels, 1, rng);
  }
  call(x: Tensor, time: Tensor): Tensor {
    const bias = this.timeEmbProj.call(time).unsqueeze(2).unsqueeze(3);
    return this.conv1
      .call(this.norm1.call(x).silu())
      .add(bias)
      .add(this.convShortcut?.call(x) ?? x);
  }
}

class Block extends Module {
  readonly resnets: readonly Resnet[];
  readonly attn1: MultiHeadAttention;
  readonly ff: FeedForward;

  constructor(rng: Rng) {
    super();
    this.resnets = [new Resnet(2, 4, rng), new Resnet(4, 4, rng)];
    this.attn1 = new MultiHeadAttention(4, rng, { heads: 2 });
    this.ff = new FeedForward(4, rng);
  }
}

class Net extends Module {
  readonly timeEmbedding: TimestepEmbedding;
  readonly downBlocks: readonly Block[];

  constructor(rng: Rng) {
    super();
    this.timeEmbedding = new TimestepEmbedding(4, 8, rng);
    this.downBlocks = [new Block(rng)];
  }
  call(x: Tensor, time: Tensor): Tensor {
    const embedding = this.timeEmbedding.call(time);
    const block = this.downBlocks[0]!;
    const y = block.resnets.reduce((h, resnet) => resnet.call(h, embedding), x);
    const tokens = y.reshape([y.shape[0]!, 4, -1]).transpose([0, 2, 1]);
    return block.ff.call(block.attn1.call(tokens));
  }
}

const net = (): Net => new Net(createRng(1));
const inputs = (): [Tensor, Tensor] => {
  const rng = createRng(2);
  return [rng.normal([2, 2, 3, 3]), rng.normal([2, 4])];
};

describe("keys", () => {
  it("are the property paths in snake_case, in the layout of diffusers", () => {
    const block = "down_blocks.0";
    expect([...parameters(net()).keys()]).toEqual([
      "time_embedding.linear_1.weight",
      "time_embedding.linear_1.bias",
      "time_embedding.linear_2.weight",
      "time_embedding.linear_2.bias",
      ...["norm1", "conv1", "time_emb_proj", "conv_shortcut"].flatMap((name) =>
        ["weight", "bias"].map((part) => `${block}.resnets.0.${name}.${part}`),
      ),
      ...["norm1", "conv1", "time_emb_proj"].flatMap((name) =>
        ["weight", "bias"].map((part) => `${block}.resnets.1.${name}.${part}`),
      ),
      ...["to_q", "to_k", "to_v"].map((name) => `${block}.attn1.${name}.weight`),
      `${block}.attn1.to_out.0.weight`,
      `${block}.attn1.to_out.0.bias`,
      `${block}.ff.net.0.proj.weight`,
      `${block}.ff.net.0.proj.bias`,
      `${block}.ff.net.2.weight`,
      `${block}.ff.net.2.bias`,
    ]);
  });

  it("belong to the leaves in the order of flatten", () => {
    const model = net();
    expect([...parameters(model).values()]).toEqual(flatten(model).leaves);
  });

  it("that two tensors share are refused", () => {
    expect(() => parameters({ inProj: ones([1]), in_proj: ones([1]) })).toThrow(/"in_proj"/);
  });

  it("give modules their place", () => {
    const found = modules(net());
    expect(found.get("")).toBeInstanceOf(Net);
    expect(found.get("down_blocks.0.resnets.1.conv1")).toBeInstanceOf(Conv2d);
    expect(found.get("down_blocks.0.attn1.to_out.0")).toBeInstanceOf(Linear);
  });
});

describe("modules as trees", () => {
  const loss = (model: Net, x: Tensor, t: Tensor): Tensor => model.call(x, t).square().mean();

  it("give gradients of the module's structure", async () => {
    const model = net();
    const gradient = grad(loss)(model, ...inputs());
    expect(gradient).toBeInstanceOf(Net);
    expect(flatten(gradient).def.key).toBe(flatten(model).def.key);
    for (const [path, leaf] of treeEntries(gradient)) {
      const largest = await leaf.abs().max().item();
      expect(largest, path).toBeGreaterThan(0);
    }
  });

  it("are arguments of compiled functions, not constants in them", async () => {
    const step = jit((model: Net, x: Tensor, t: Tensor) => {
      const [value, gradient] = valueAndGrad(loss)(model, x, t);
      return { value, model: mapParameters(gradient, (g) => g.mul(2)) };
    });
    const [x, t] = inputs();
    const [first, second] = [net(), new Net(createRng(5))];
    for (const model of [first, second]) {
      const result = await step(model, x, t);
      expect(await result.value.item()).toBeCloseTo(await loss(model, x, t).item(), 6);
      expect(result.model).toBeInstanceOf(Net);
    }
    expect(step.signatures).toBe(1);
    await step.close();
  });
});

describe("counting and mapping", () => {
  it("counts values", () => {
    expect(parameterCount(new Linear(3, 5, blankRng))).toBe(20);
    expect(parameterCount(new Linear(3, 5, blankRng, { bias: false }))).toBe(15);
  });

  it("prints a table", () => {
    expect(summary(new MLP([3, 400, 5], blankRng)).split("\n")).toEqual([
      "layers.0.weight  [400, 3]  f32  1,200",
      "layers.0.bias    [400]     f32    400",
      "layers.1.weight  [5, 400]  f32  2,000",
      "layers.1.bias    [5]       f32      5",
      "total: 4 tensors, 3,605 values, 14.1 KiB",
    ]);
    expect(summary({})).toBe("total: 0 tensors, 0 values, 0 B");
  });

  it("leaves the original alone", async () => {
    const model = new Linear(2, 2, createRng(0));
    const before = await model.weight.toArray();
    const keys: string[] = [];
    const changed = mapParameters(model, (t, key) => {
      keys.push(key);
      return t.mul(0);
    });
    expect(keys).toEqual(["weight", "bias"]);
    expect(changed).toBeInstanceOf(Linear);
    expect(await changed.weight.abs().max().item()).toBe(0);
    expect(await model.weight.toArray()).toEqual(before);
    expect(await zeroed(model).bias!.toArray()).toEqual([0, 0]);
  });

  it("replaces modules from the root down", () => {
    const model = { a: new Linear(1, 1, blankRng), b: [new MLP([1, 1], blankRng)], n: 3 };
    const seen: string[] = [];
    const changed = mapModules(model, (module, key) => {
      seen.push(key);
      return module instanceof MLP ? "gone" : module;
    });
    expect(seen).toEqual(["a", "b.0"]);
    expect(changed.b).toEqual(["gone"]);
    expect(changed.n).toBe(3);
    expect(model.b[0]).toBeInstanceOf(MLP);
  });
});

describe("loading", () => {
  it("takes the weights of another instance", async () => {
    const source = net();
    const loaded = loadParameters(new Net(blankRng), parameters(source));
    const [x, t] = inputs();
    expect(await loaded.call(x, t).toArray()).toEqual(await source.call(x, t).toArray());
  });

  it("lists every problem at once", () => {
    const model = new MLP([2, 3, 1], blankRng);
    const weights = parameters(model);
    weights.delete("layers.0.bias");
    weights.set("layers.0.weight", zeros([2, 3]));
    weights.set("layers.1.bias", zeros([1], "f64"));
    weights.set("extra", zeros([4]));
    let message = "";
    try {
      loadParameters(model, weights);
    } catch (error) {
      expect(error).toBeInstanceOf(TreeError);
      message = (error as Error).message;
    }
    expect(message.split("\n").slice(1)).toEqual([
      '  wrong "layers.0.weight": expected f32[3, 2], got f32[2, 3]',
      '  missing "layers.0.bias": expected f32[3]',
      '  wrong "layers.1.bias": expected f32[1], got f64[1]',
      '  unexpected "extra": got f32[4]',
    ]);
    expect(message).toMatch(/4 problems, nothing was loaded/);
  });

  it("ignores names on request", () => {
    const model = new Linear(1, 1, blankRng);
    const weights = parameters(model).set("position_ids", zeros([3], "i64"));
    expect(() => loadParameters(model, weights)).toThrow(/position_ids/);
    expect(() => loadParameters(model, weights, { ignore: (key) => key === "position_ids" })).not.toThrow();
  });

  it("widens half precision only on request", async () => {
    const model = new Linear(2, 1, blankRng);
    const weights = new Map([
      ["weight", await castHost(tensor([[1.5, -2]]), "f16")],
      ["bias", await castHost(tensor([0.25]), "bf16")],
    ]);
    expect(() => loadParameters(model, weights)).toThrow(/got f16\[1, 2\]\n.*got bf16\[1\]/);
    const loaded = loadParameters(model, weights, { widen: true });
    expect(loaded.weight.dtype).toBe("f32");
    expect(await loaded.call(tensor([[2, 3]])).toArray()).toEqual([-2.75]);
  });
});
