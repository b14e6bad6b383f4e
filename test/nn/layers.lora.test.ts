import { describe, expect, it } from "vitest";
import {
  addLora,
  Conv2d,
  createRng,
  Linear,
  Lora,
  loraParameters,
  MLP,
  Module,
  mapParameters,
  mergeLora,
  parameters,
  type Rng,
  withLoraParameters,
} from "../../src/nn/index.ts";
import { flatten, grad, jit, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";

class Net extends Module {
  readonly convIn: Conv2d;
  readonly mlp: MLP;

  constructor(rng: Rng) {
    super();
    this.convIn = new Conv2d(2, 4, 3, rng, { stride: 2, padding: 1 });
    this.mlp = new MLP([4, 8, 3], rng);
  }
  call(x: Tensor): Tensor {
    return this.mlp.call(this.convIn.call(x).mean([2, 3]));
  }
}

const net = (): Net => new Net(createRng(1));
const x = createRng(2).normal([3, 2, 6, 6]);
const adapt = (model: Net): Net =>
  addLora(model, { rank: 2, alpha: 3, match: /conv_in|layers\.1/, rng: createRng(3) });

/** Adapters as training would leave them. */
const trained = (model: Net): Net => {
  const rng = createRng(4);
  const adapters = Object.entries(loraParameters(model)).map(([key, t]) => [key, rng.normal(t.shape, 0.3)]);
  return withLoraParameters(model, Object.fromEntries(adapters));
};

async function largestDifference(a: Tensor, b: Tensor): Promise<number> {
  return a.sub(b).abs().max().item();
}

describe("LoRA", () => {
  it("changes nothing at first", async () => {
    const model = net();
    const adapted = adapt(model);
    expect(await adapted.call(x).toArray()).toEqual(await model.call(x).toArray());
    expect(adapted.convIn).toBeInstanceOf(Lora);
    expect(adapted.mlp.layers[0]).toBeInstanceOf(Linear);
    expect(adapted.mlp.layers[1]).toBeInstanceOf(Lora);
    expect(model.convIn).toBeInstanceOf(Conv2d);
  });

  it("changes the result once trained, by alpha / rank", async () => {
    const model = trained(adapt(net()));
    expect(await largestDifference(model.call(x), net().call(x))).toBeGreaterThan(0.01);
    const lora = model.mlp.layers[1] as unknown as Lora;
    const h = createRng(5).normal([2, 8]);
    const change = h.matmul(lora.down.weight, { transB: true }).matmul(lora.up.weight, { transB: true });
    const expected = (lora.base as Linear).call(h).add(change.mul(1.5));
    expect(await largestDifference(lora.call(h), expected)).toBeLessThan(1e-6);
  });

  it("merges into the layers it came from", async () => {
    const model = trained(adapt(net()));
    const merged = mergeLora(model);
    expect(flatten(merged).def.key).toBe(flatten(net()).def.key);
    expect(merged.convIn).toBeInstanceOf(Conv2d);
    expect(await largestDifference(merged.call(x), model.call(x))).toBeLessThan(1e-6);
  });

  it("has the adapters alone, by key", () => {
    const adapted = adapt(net());
    const adapters = loraParameters(adapted);
    expect(Object.entries(adapters).map(([key, t]) => `${key} ${t.shape.join("x")}`)).toEqual([
      "conv_in.down.weight 2x2x3x3",
      "conv_in.up.weight 4x2x1x1",
      "mlp.layers.1.down.weight 2x8",
      "mlp.layers.1.up.weight 3x2",
    ]);
    expect([...parameters(adapted).keys()]).toContain("conv_in.base.weight");
    expect(() => withLoraParameters(adapted, { ...adapters, other: x })).toThrow(/unexpected \[other\]/);
    expect(() => withLoraParameters(adapted, {})).toThrow(/missing \[conv_in\.down\.weight/);
  });

  it("freezes the base and trains the adapters", async () => {
    const loss = (model: Net): Tensor => model.call(x).square().sum();
    const gradients = parameters(grad(loss)(trained(adapt(net()))));
    for (const [key, g] of gradients) {
      const largest = await g.abs().max().item();
      if (key.includes(".base.")) expect(largest, key).toBe(0);
      else expect(largest, key).toBeGreaterThan(0);
    }
  });

  it("trains by its adapters in a compiled step", async () => {
    const model = adapt(net());
    const step = jit((frozen: Net, adapters: Record<string, Tensor>) => {
      const loss = (a: Record<string, Tensor>): Tensor =>
        withLoraParameters(frozen, a).call(x).square().mean();
      const [value, g] = valueAndGrad(loss)(adapters);
      return { value, adapters: mapParameters(adapters, (t, key) => t.sub(g[key]!.mul(1))) };
    });
    let adapters = loraParameters(model);
    const values: number[] = [];
    for (let i = 0; i < 30; i++) {
      const result = await step(model, adapters);
      values.push(await result.value.item());
      adapters = result.adapters;
    }
    for (let i = 1; i < values.length; i++) expect(values[i]).toBeLessThan(values[i - 1]!);
    expect(values.at(-1)).toBeLessThan(0.5 * values[0]!);
    expect(step.signatures).toBe(1);
    await step.close();
  });

  it("leaves adapted layers as they are, and refuses what it cannot adapt", () => {
    const once = adapt(net());
    const twice = addLora(once, { rank: 1, match: () => true, rng: createRng(0) });
    expect((twice.convIn as unknown as Lora).base).toBeInstanceOf(Conv2d);
    expect(Object.keys(loraParameters(twice))).toEqual([
      ...Object.keys(loraParameters(once)).slice(0, 2),
      "mlp.layers.0.down.weight",
      "mlp.layers.0.up.weight",
      ...Object.keys(loraParameters(once)).slice(2),
    ]);
    const grouped = { conv: new Conv2d(4, 4, 3, createRng(0), { groups: 4 }) };
    const options = { rank: 1, match: () => true, rng: createRng(0) };
    expect(() => addLora(grouped, options)).toThrow(/4 groups/);
    expect(() => addLora(net(), { ...options, match: /nothing/ })).toThrow(/nothing/);
    expect(() => addLora(net(), { ...options, rank: 0 })).toThrow(/rank/);
  });
});
