/** Programs that are wrong, each of which ran once without a word and gave wrong numbers. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { ArgumentError, DTypeError, ShapeError, TreeError } from "../../src/errors.ts";
import { adamW, createRng, Linear, Module, parameters } from "../../src/nn/index.ts";
import {
  exportOnnx,
  full,
  grad,
  gridSample,
  importOnnx,
  jit,
  jvp,
  ones,
  setSlice,
  type Tensor,
  tensor,
  valueAndGrad,
  vjp,
  vmap,
} from "../../src/tensor/index.ts";

afterEach(() => vi.restoreAllMocks());

class Plain {
  w = tensor([2]);
}

class Scale extends Module {
  w = tensor([2]);
  call(x: Tensor): Tensor {
    return x.mul(this.w);
  }
}

describe("what is no tree is refused by name", () => {
  it.each([
    ["a number", 5, /a number/],
    ["numbers", [1, 2], /array of 2 without tensors/],
    ["a typed array", Float32Array.of(1), /Float32Array.*use fromHost/],
    ["integers", tensor([1], { dtype: "i64" }), /tensors of i64 only/],
    ["nothing", undefined, /undefined/],
  ])("by grad: %s", (_, x, message) => {
    expect(() => grad((_x: unknown) => tensor(1))(x)).toThrow(message);
    expect(() => vjp((_x: unknown) => tensor(1), x)).toThrow(ArgumentError);
  });
  it("by grad: a Map, a class of one's own, also below a tree", () => {
    const sum = (_: unknown) => tensor(1);
    expect(() => grad(sum)(new Map([["w", tensor([2])]]))).toThrow(/Map, which is no tree/);
    expect(() => grad(sum)(new Plain())).toThrow(/instance of Plain.*must extend Module/);
    expect(() => grad(sum)({ a: tensor([1]), deep: { b: new Plain() } })).toThrow(/"deep.b"/);
    expect(() => grad(sum)({ a: tensor([1]), layers: new Map([["l", new Scale()]]) })).toThrow(TreeError);
  });
  it("by optimisers", () => {
    const model = new Linear(2, 2, createRng(0));
    const optimizer = adamW({ learningRate: 0.1 });
    expect(() => optimizer.init(parameters(model))).toThrow(/Map, which is no tree/);
    expect(() => optimizer.init({ rate: 3 })).toThrow(/expected a tree with float tensors/);
    const state = optimizer.init(model);
    expect(() => optimizer.update({} as typeof model, {} as typeof model, state)).toThrow(ArgumentError);
    expect(() => adamW({} as never)).toThrow(/learning rate.*undefined/);
  });
  it("as the result of a differentiated function", () => {
    expect(() => grad((async (x: Tensor) => x.sum()) as never)(tensor([1]))).toThrow(/a Promise/);
    expect(() => grad((() => 3) as never)(tensor([1]))).toThrow(/result is a tensor, got a number/);
    expect(() => vjp((_: Tensor) => 3, tensor([1]))).toThrow(/result holds tensors/);
  });
});

describe("tensors used past the argument are refused by name", () => {
  const model = { inner: new Scale(), other: tensor([1]) };
  const x = tensor([3]);

  it("by grad and vjp", () => {
    const outside = (_: typeof model) => model.inner.call(x).sum();
    expect(() => grad(outside)(model)).toThrow(/"inner.w" from outside/);
    expect(() => vjp(outside, model)).toThrow(/"0.inner.w" from outside/);
    const half = (m: typeof model) => model.inner.call(x).add(m.other).sum();
    expect(() => grad(half)(model)).toThrow(/"inner.w" from outside/);
  });
  it("by jit and exportOnnx", async () => {
    const outside = (_: typeof model, y: Tensor) => model.inner.call(y);
    await expect(jit(outside)(model, x)).rejects.toThrow(/"0.inner.w" from outside/);
    await expect(exportOnnx(outside, [model, x])).rejects.toThrow(/"0.inner.w" from outside/);
    const step = jit((m: typeof model) => valueAndGrad(() => model.inner.call(x).sum())(m));
    await expect(step(model)).rejects.toThrow(/"inner.w" from outside/);
  });
  it("and not where both ways are meant, or the argument does not matter", async () => {
    const start = tensor([3]);
    const penalty = grad((w: Tensor) => w.sub(start).square().sum().add(w.sum()))(start);
    expect(await penalty.item()).toBe(1);
    expect(await grad((_: Tensor) => x.sum())(start).item()).toBe(0);
    const nested = grad((a: Tensor) => grad((b: Tensor) => a.mul(b).sum())(a).sum())(start);
    expect(await nested.item()).toBe(1);
  });
  it("as a field `call`, which is bound to the module that it was made in", () => {
    class Arrow extends Module {
      w = tensor([2]);
      call = (y: Tensor): Tensor => y.mul(this.w);
    }
    expect(() => grad((m: { block: Arrow }) => m.block.call(x).sum())({ block: new Arrow() })).toThrow(
      /"block" \(Arrow\) has call as a field/,
    );
  });
  it("in a module: a Map of layers, a block that does not extend Module", () => {
    class Layers extends Module {
      layers = new Map([["a", new Scale()]]);
    }
    class Block extends Module {
      block = [new Plain()];
      w = tensor([1]);
    }
    expect(() => parameters(new Layers())).toThrow(/"layers".*Map/);
    expect(() => parameters(new Block())).toThrow(/"block.0".*Plain/);
  });
});

describe("JavaScript's operators", () => {
  const t = tensor([5]) as unknown as number;
  it("throw instead of comparing or joining texts", () => {
    for (const wrong of [() => t > 0, () => t + 1, () => -t, () => t * 5])
      expect(wrong).toThrow(/operators of JavaScript do not work on tensors/);
    expect(`${t}`).toBe("Tensor f32[1]");
  });
  it("throw inside of compiled functions", async () => {
    await expect(jit((x: Tensor) => ((x as never) > 0 ? x : x.neg()))(tensor([5]))).rejects.toThrow(
      /operators/,
    );
  });
});

describe("a compiled function refuses", () => {
  it.each([
    ["a Map", new Map([["a", 1]])],
    ["a Set", new Set([1])],
    ["a typed array", Float32Array.of(1)],
    ["a promise", Promise.resolve(1)],
  ])("%s as an argument", async (_, value) => {
    const f = jit((x: Tensor, _v: unknown) => x);
    await expect(f(tensor([1]), value)).rejects.toThrow(/argument 1 is a/);
    await expect(f(tensor([1]), { deep: value })).rejects.toThrow(/argument 1.deep is a/);
  });
  it("donated arguments that are not there or hold nothing", async () => {
    await expect(jit((x: Tensor) => x.add(1), { donate: [3] })(tensor([1]))).rejects.toThrow(
      /donate names argument 3.*1 arguments/,
    );
    await expect(jit((x: number) => tensor(x), { donate: [0] })(4)).rejects.toThrow(/argument 0 is a number/);
  });
  it("to take -0 for 0, or one text for two", async () => {
    const f = jit((x: Tensor, k: number) => x.mul(1 / k));
    expect(await (await f(tensor([1]), 0)).item()).toBe(Infinity);
    expect(await (await f(tensor([1]), -0)).item()).toBe(-Infinity);
    const g = jit((x: Tensor, o: { a: string; b?: number }) => x.mul(o.b ?? 7));
    expect(await (await g(tensor([1]), { a: "x b= number:1" })).item()).toBe(7);
    expect(await (await g(tensor([1]), { a: "x", b: 1 })).item()).toBe(1);
    await Promise.all([f.close(), g.close()]);
  });

  it("values and compiled functions inside of it, without a rejection that nobody can catch", async () => {
    const inner = jit((x: Tensor) => x.add(1));
    const foreign = await importOnnx(await exportOnnx((x: Tensor) => x.add(1), [tensor([1])]));
    const late: unknown[] = [];
    const listener = (error: unknown) => late.push(error);
    process.on("unhandledRejection", listener);
    const wrong: ((x: Tensor) => unknown)[] = [
      async (x) => (await x.data())[0],
      async (x) => (await inner(x)).add(1),
      async (x) => (await foreign.run({ input: x })).output,
      async () => {
        throw new Error("of its own");
      },
      (x) => {
        x.data();
        return x;
      },
      (x) => {
        void inner(x);
        return x;
      },
      (x) => {
        void foreign.run({ "input.0": x });
        return x;
      },
    ];
    for (const f of wrong)
      await expect(jit(f as (x: Tensor) => Tensor)(tensor([1]))).rejects.toThrow(ArgumentError);
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
    process.off("unhandledRejection", listener);
    expect(late).toEqual([]);
    await Promise.all([inner.close(), foreign.close()]);
  });

  it("to be compiled again and again without a word, once", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const f = jit((x: Tensor, rate: number) => x.mul(rate));
    for (let i = 0; i < 45; i++) await f(tensor([1]), i / 10);
    expect(f.signatures).toBe(45);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]![0]).toMatch(/compiled 20 times.*number:1.8.*number:1.9/);
    await f.close();
  });
});

describe("shapes and values are checked by", () => {
  it("vmap: as many elements on axis 0", () => {
    const add = vmap((a: Tensor, b: Tensor) => a.add(b));
    expect(() => add(tensor([1, 2]), tensor([1, 2, 3]))).toThrow(/axis 0 of "1" must have 2 elements/);
    expect(() => add(tensor([1, 2]), tensor(1))).toThrow(ShapeError);
  });
  it("jvp and pullbacks: tangents like arguments, cotangents like results", () => {
    const f = (x: Tensor) => x.square();
    expect(() => jvp(f, [tensor([1, 2])], [tensor([1])])).toThrow(/shape \[2\], got \[1\]/);
    expect(() => jvp(f, [tensor([1])], [tensor([1], { dtype: "f64" })])).toThrow(DTypeError);
    expect(() => jvp((o: { a: Tensor }) => o.a, [{ a: tensor([1]) }], [{ b: tensor([1]) } as never])).toThrow(
      TreeError,
    );
    expect(() => vjp(f, tensor([1, 2]))[1](tensor([1]))).toThrow(/cotangent must have the shape \[2\]/);
  });
  it("tensor: numbers and booleans", () => {
    expect(() => tensor(undefined as never)).toThrow(/expected numbers or booleans, got undefined/);
    expect(() => tensor("abc" as never)).toThrow(/got "abc"/);
    expect(() => tensor([1, null] as never)).toThrow(/got null as element 1/);
    expect(() => full([2], undefined as never)).toThrow(/expected a number, got undefined/);
  });
  it("setSlice: the block lies inside", async () => {
    const x = ones([3]);
    expect(() => setSlice(x, [2], tensor([1, 2]))).toThrow(/does not lie inside/);
    expect(() => setSlice(x, [-1], tensor([1]))).toThrow(/does not lie inside/);
    expect(() => setSlice(x, [0, 0], tensor([1]))).toThrow(ShapeError);
    expect(() => setSlice(x, [0], tensor([[1]]))).toThrow(ShapeError);
    expect(await setSlice(x, [1], tensor([5, 6])).toArray()).toEqual([1, 5, 6]);
  });
  it("gridSample: modes that exist", () => {
    const [x, grid] = [ones([1, 1, 2, 2]), ones([1, 1, 1, 2])];
    expect(() => gridSample(x, grid, { mode: "bicubic" as never })).toThrow(
      /mode.*bilinear, nearest.*bicubic/,
    );
    expect(() => gridSample(x, grid, { padding: "wrap" as never })).toThrow(/padding.*wrap/);
  });
  it("grad: a loss without axes", () => {
    expect(() => grad((x: Tensor) => x.reshape([1, 1]))(tensor([1]))).toThrow(
      /scalar result, got shape \[1,1\]/,
    );
  });
});
