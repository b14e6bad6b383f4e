import { afterEach, describe, expect, it } from "vitest";
import { DeviceError, LifetimeError } from "../../src/errors.ts";
import { createRng, Linear } from "../../src/nn/index.ts";
import {
  cast,
  fromHost,
  grad,
  jit,
  listDevices,
  matmul,
  peekHost,
  setDefaultDevice,
  setMemoryLimit,
  type Tensor,
  tensor,
  valueAndGrad,
  zeros,
} from "../../src/tensor/index.ts";
import { lowerGraph } from "../../src/tensor/lower.ts";
import { input } from "../../src/tensor/ops/create.ts";
import { runtime } from "../../src/tensor/runtime/devices.ts";

afterEach(() => setMemoryLimit(undefined));

const state = () => ({ w: tensor([1, 2, 3]), steps: tensor(0) });

describe("a compiled function", () => {
  it("gives what the plain function gives, for trees in and out", async () => {
    const f = (p: { a: Tensor; list: [Tensor, Tensor] }, scale: number) => ({
      sum: p.a.add(p.list[0]).mul(scale),
      last: p.list[1],
    });
    const args = [
      { a: tensor([1, 2]), list: [tensor([3, 4]), tensor([[5]])] as [Tensor, Tensor] },
      10,
    ] as const;
    const compiled = jit(f);
    const out = await compiled(...args);
    expect(await out.sum.toArray()).toEqual(await f(...args).sum.toArray());
    expect(await out.last.toArray()).toEqual([5]);
    await compiled.close();
  });

  it("is compiled once per signature: shapes, dtypes, static values, classes", async () => {
    const f = jit((x: Tensor, k: number) => x.mul(k));
    await f(tensor([1, 2]), 2);
    await f(tensor([3, 4]), 2);
    expect(f.signatures).toBe(1);
    expect(await (await f(tensor([3, 4]), 3)).toArray()).toEqual([9, 12]);
    await f(tensor([1, 2, 3]), 2);
    expect(f.signatures).toBe(3);
    await f.close();
  });

  it("gives results of every element type, also empty ones", async () => {
    const types = ["f64", "f16", "i8", "u8", "i32", "u32", "i64", "u64", "bool"] as const;
    const f = jit((x: Tensor) => [...types.map((type) => x.cast(type)), x.slice([0], [0]), x.sum()]);
    const results = await f(tensor([1, 0, 1]));
    for (const [i, type] of types.entries()) {
      expect(results[i]!.dtype).toBe(type);
      expect(await results[i]!.toArray()).toEqual([1, 0, 1]);
    }
    expect(await results[types.length]!.toArray()).toEqual([]);
    expect(await results.at(-1)!.item()).toBe(2);
    await f.close();
  });

  it("writes its results into the memory that it is given, and into no other", async () => {
    const rt = await runtime();
    const x = input([3], "f32");
    const { model } = lowerGraph([x.mul(2)], {
      capabilities: await rt.capabilities("cpu"),
      inputs: [x],
      data: "embed",
      into: true,
    });
    const session = await rt.createSession(model, "cpu");
    const data = new Float32Array(3);
    const feed = (values: number[]) => new rt.Tensor("float32", Float32Array.from(values), [values.length]);
    await session.runInto({ i0: feed([1, 2, 3]) }, { o0: new rt.Tensor("float32", data, [3]) });
    expect([...data]).toEqual([2, 4, 6]);
    const wrong = session.runInto({ i0: feed([1, 2]) }, { o0: new rt.Tensor("float32", data, [3]) });
    await expect(wrong).rejects.toThrow(DeviceError);
    await session.close();
    await expect(session.runInto({}, {})).rejects.toThrow(LifetimeError);
  });

  it("takes modules as arguments and compiles a whole training step as one run", async () => {
    const layer = new Linear(3, 1, createRng(0));
    const loss = (m: Linear, x: Tensor): Tensor => m.call(x).square().mean();
    const step = jit((m: Linear, x: Tensor) => valueAndGrad(loss)(m, x));
    const [value, gradient] = await step(layer, tensor([[1, 2, 3]]));
    expect(gradient).toBeInstanceOf(Linear);
    expect(await value.item()).toBeCloseTo(await loss(layer, tensor([[1, 2, 3]])).item(), 5);
    expect((await gradient.weight.toArray()).length).toBe(3);
    await step.close();
  });

  it("embeds what it captures and passes arguments through unchanged", async () => {
    const weights = tensor([
      [2, 0],
      [0, 2],
    ]);
    const f = jit((x: Tensor) => [x.matmul(weights), x] as const);
    const x = tensor([[1, 2]]);
    const [y, same] = await f(x);
    expect(await y.toArray()).toEqual([2, 4]);
    expect(same).toBe(x);
    await f.close();
  });

  it("computes inputs that are still lazy, and results can go on lazily", async () => {
    const f = jit((x: Tensor) => x.add(1));
    const lazy = tensor([1]).mul(2);
    expect(await (await f(lazy)).mul(10).item()).toBe(30);
    await f.close();
  });

  it("is fed widened half-precision weights as they are stored, and widens them inside", async () => {
    const stored = tensor([1.5, -2, 0.25], { dtype: "f16" });
    const weights = { w: cast(stored, "f32"), b: tensor([1, 2, 3]) };
    const f = jit((m: typeof weights, x: Tensor) => ({ y: m.w.mul(x).add(m.b), w: m.w }));
    for (const scale of [2, 4]) {
      const { y, w } = await f(weights, tensor([scale, scale, scale]));
      expect(await y.toArray()).toEqual([1.5 * scale + 1, -2 * scale + 2, 0.25 * scale + 3]);
      expect([w.dtype, await w.toArray()]).toEqual(["f32", [1.5, -2, 0.25]]);
    }
    expect(f.signatures).toBe(1);
    expect(weights.w.value).toBeUndefined(); // no copy in full precision was kept
    await f.close();
  });

  it("widens a donated half-precision state once, so that the next call finds the same signature", async () => {
    const f = jit((s: { w: Tensor }) => ({ w: s.w.add(1) }), { donate: [0] });
    const first = await f({ w: cast(tensor([1], { dtype: "f16" }), "f32") });
    const second = await f(first);
    expect(await second.w.toArray()).toEqual([3]);
    expect(f.signatures).toBe(1);
    await f.close();
  });

  it("accepts views into a larger buffer", async () => {
    const buffer = Float32Array.from([0, 1, 2, 3, 4, 5]);
    const f = jit((x: Tensor) => x.mul(2));
    expect(await (await f(fromHost("f32", [2], buffer.subarray(3, 5)))).toArray()).toEqual([6, 8]);
    await f.close();
  });
});

describe("donation", () => {
  const advance = () =>
    jit((s: { w: Tensor; steps: Tensor }) => ({ w: s.w.mul(2), steps: s.steps.add(1) }), { donate: [0] });

  it("double-buffers: two memories serve any number of steps, and old states are gone", async () => {
    const step = advance();
    let s = state();
    const first = s;
    const buffers = new Set<unknown>();
    for (let i = 0; i < 10; i++) {
      s = await step(s);
      buffers.add(peekHost(s.w).buffer);
    }
    expect(await s.w.toArray()).toEqual([1024, 2048, 3072]);
    expect(await s.steps.item()).toBe(10);
    expect(buffers.size).toBe(2);
    await expect(first.w.data()).rejects.toMatchObject({ code: "LIFETIME" });
    await step.close();
  });

  it("never reuses memory that is still in use: twice in the state, or also an argument that is kept", async () => {
    const shared = tensor([1, 2, 3]);
    const f = jit((s: { a: Tensor; b: Tensor }, kept: Tensor) => ({ a: s.a.add(kept), b: s.b.mul(2) }), {
      donate: [0],
    });
    let s = { a: shared, b: shared };
    const kept = tensor([1, 1, 1]);
    for (let i = 0; i < 3; i++) s = await f(s, kept);
    expect(await s.a.toArray()).toEqual([4, 5, 6]);
    expect(await s.b.toArray()).toEqual([8, 16, 24]);
    expect(await kept.toArray()).toEqual([1, 1, 1]);
    const g = jit((x: Tensor, y: Tensor) => x.add(y), { donate: [0] });
    const both = tensor([5]);
    expect(await (await g(both, both)).item()).toBe(10);
    expect(await both.item()).toBe(5);
    await f.close();
    await g.close();
  });

  it("can be taken back by its result, whoever called in between, until the result is donated", async () => {
    const step = advance();
    const [mine, theirs] = [await step(state()), await step({ w: tensor([10, 20, 30]), steps: tensor(0) })];
    const goneOn = await step(theirs);
    expect(step.takeBack(theirs)).toBeUndefined();
    expect(await mine.w.toArray()).toEqual([2, 4, 6]);
    const [before] = step.takeBack(mine)!;
    expect(await before!.w.toArray()).toEqual([1, 2, 3]);
    expect(step.takeBack(mine)).toBeUndefined();
    const again = await step(before!);
    expect(await again.w.toArray()).toEqual([2, 4, 6]);
    expect(await step.takeBack(goneOn)![0]!.w.toArray()).toEqual([20, 40, 60]);
    await step.close();
  });

  it("leaves alone what data() has handed out", async () => {
    const step = advance();
    let s = state();
    const seen: Float32Array[] = [];
    for (let i = 0; i < 6; i++) {
      s = await step(s);
      seen.push((await s.w.data()) as Float32Array);
    }
    expect(seen.map((w) => w[0])).toEqual([2, 4, 8, 16, 32, 64]);
    await step.close();
  });

  it("leaves alone the arrays that tensors were made of, taken back or not", async () => {
    const own = [Float32Array.of(1, 2, 3), Float32Array.of(1, 2, 3)] as const;
    const step = advance();
    for (const [i, make] of [
      (w: Float32Array) => tensor(w),
      (w: Float32Array) => fromHost("f32", [3], w),
    ].entries()) {
      let s = await step({ w: make(own[i]!), steps: tensor(0) });
      s = await step(step.takeBack(s)![0]!);
      for (let k = 0; k < 4; k++) s = await step(s);
      expect([...own[i]!]).toEqual([1, 2, 3]);
      expect(await s.w.toArray()).toEqual([32, 64, 96]);
    }
    await step.close();
  });

  it("leaves alone memory that an evaluated alias shares", async () => {
    const x = await tensor([1, 2]).add(0).eval();
    const alias = await x.stopGradient().eval();
    const double = jit((s: Tensor) => s.mul(2), { donate: [0] });
    let s = await double(alias);
    for (let i = 0; i < 3; i++) s = await double(s);
    expect(await x.toArray()).toEqual([1, 2]);
    await double.close();
  });
});

describe("a compiled function refuses", () => {
  it("a donated state that changes its structure", async () => {
    const step = jit((s: Record<string, Tensor>) => s, { donate: [0] });
    await step({ a: tensor([1]) });
    await expect(step({ a: tensor([1]), extra: tensor([2]) })).rejects.toThrow(
      /changed its structure.*extra/s,
    );
    await step.close();
  });
  it("asynchronous functions and values read while tracing", async () => {
    await expect(jit(async (x: Tensor) => x)(tensor([1]))).rejects.toThrow(/must not be async/);
    let leaked: Tensor | undefined;
    const f = jit((x: Tensor) => (leaked = x.add(1)));
    await f(tensor([1]));
    await expect(leaked!.data()).rejects.toThrow(/input of a trace/);
    await f.close();
  });
  it("devices that are not there, naming those that are", async () => {
    const [here] = await listDevices();
    await expect(setDefaultDevice("coreml")).rejects.toThrow(
      new RegExp(`"coreml" is not available here; available: ${here}`),
    );
    await expect(jit((x: Tensor) => x.add(1), { device: "dml" })(tensor([1]))).rejects.toMatchObject({
      code: "DEVICE",
    });
  });
  it("tensors and graphs that would not fit, before allocating anything", async () => {
    expect(() => zeros([1e6, 1e6, 1e3])).toThrow(/needs .* more than the limit/);
    expect(() => matmul(zeros([1e6, 1]), zeros([1, 1e7]))).toThrow(/TiB/);
    setMemoryLimit(1000);
    await expect(jit((x: Tensor) => x.mul(2).sum())(tensor(new Float32Array(200)))).rejects.toMatchObject({
      code: "MEMORY",
    });
  });
  it("use of disposed tensors", async () => {
    const x = tensor([1, 2]);
    x.dispose();
    await expect(x.add(1).data()).rejects.toThrow(/disposed/);
  });
});

describe("eager values", () => {
  it("free the graph that led to them, and gradients keep what they need", async () => {
    const x = tensor([3]);
    const y = x.square();
    await y.eval();
    expect(y.node.inputs.length).toBe(0);
    expect(await grad((t: Tensor) => t.square().sum())(x).item()).toBe(6);
  });
  it("are shared: many asked for at once take one run and agree", async () => {
    const a = tensor([1, 2]).mul(3);
    const b = a.add(1);
    expect(await Promise.all([a.toArray(), b.toArray(), a.sum().item()])).toEqual([[3, 6], [4, 7], 9]);
  });
});
