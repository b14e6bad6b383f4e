/** Transformations of functions, and what they promise beyond the derivatives of single operations. */
import { describe, expect, it } from "vitest";
import {
  checkpoint,
  conv,
  customGradient,
  evaluate,
  grad,
  jit,
  jvp,
  stopGradient,
  type Tensor,
  tensor,
  valueAndGrad,
  vjp,
  vmap,
} from "../../src/tensor/index.ts";
import { assertClose, type OpCase, runGradients } from "./op-check.ts";

const close = async (t: Tensor, expected: readonly number[], tolerance = 2e-6): Promise<void> =>
  assertClose(await t.toArray(), expected, tolerance, String(t));
const bits = async (t: Tensor): Promise<string> => String(await t.data());

describe("the gradient check itself", () => {
  const wrong = (backward: (ct: Tensor, x: Tensor) => Tensor): OpCase => ({
    draw: (d) => ({
      inputs: [d.real([3])],
      f: (x) =>
        customGradient(
          (y: Tensor) => y.exp(),
          (ct, [y]) => [backward(ct, y)],
        )(x!),
    }),
  });

  it("accepts the right derivative", () => runGradients(wrong((ct, x) => ct.mul(x.exp()))));
  it("rejects a wrong first derivative", () =>
    expect(runGradients(wrong((ct, x) => ct.mul(x.exp()).mul(1.01)))).rejects.toThrow(/first order/));
  it("rejects a wrong second derivative", () =>
    expect(runGradients(wrong((ct, x) => ct.mul(stopGradient(x.exp()))))).rejects.toThrow(/second order/));
});

describe("grad", () => {
  it("differentiates again and again: x^5", async () => {
    const f = (x: Tensor): Tensor => x.pow(5).sum();
    const [f1, f2, f3] = [
      grad(f),
      grad((x: Tensor) => grad(f)(x).sum()),
      grad((x: Tensor) => grad((y: Tensor) => grad(f)(y).sum())(x).sum()),
    ];
    const x = tensor([0.5, 2]);
    await close(f1(x), [5 * 0.5 ** 4, 80]);
    await close(f2(x), [20 * 0.5 ** 3, 160]);
    await close(f3(x), [60 * 0.25, 240]);
  });

  it("keeps the structure of a tree, with zeros for what does not matter", async () => {
    const at = { w: tensor([1, 2]), rest: [tensor([3]), tensor([1], { dtype: "i32" })] };
    const g = grad((p: typeof at) => p.w.square().sum())(at);
    await close(g.w, [2, 4]);
    await close(g.rest[0]!, [0]);
    expect(g.rest[1]!.dtype).toBe("i32");
    await close(g.rest[1]!, [0]);
  });

  it("sees only the uses inside the function, not the same tensor captured", async () => {
    const x = tensor([3]);
    await close(grad((y: Tensor) => y.mul(x).sum())(x), [3]);
  });

  it("stops at stopGradient", async () => {
    await close(grad((x: Tensor) => x.mul(stopGradient(x)).sum())(tensor([3])), [3]);
  });

  it("shares the gradient of tied maxima", async () => {
    await close(grad((x: Tensor) => x.max())(tensor([2, 1, 2])), [0.5, 0, 0.5]);
    await close(grad((x: Tensor) => x.maximum(2).sum())(tensor([2, 1, 3])), [0.5, 0, 1]);
  });

  it("gives the value and what else the function returns", async () => {
    const f = (x: Tensor): [Tensor, { twice: Tensor }] => [x.square().sum(), { twice: x.mul(2) }];
    const [[loss, { twice }], g] = valueAndGrad(f, { aux: true })(tensor([1, 3]));
    await close(loss, [10]);
    await close(twice, [2, 6]);
    await close(g, [2, 6]);
  });

  it("refuses results that are not float scalars", () => {
    expect(() => grad((x: Tensor) => x.mul(2))(tensor([1, 2]))).toThrow(/scalar.*\[2\]/);
    expect(() => grad((x: Tensor) => x.argmax(0))(tensor([1, 2]))).toThrow(/float/);
  });
});

describe("gradients of indexing", () => {
  it("have the same bits in every run, however many threads add", async () => {
    const [rows, n, width] = [3, 20_000, 32];
    const indices = tensor(BigInt64Array.from({ length: n }, (_, i) => BigInt((i * 7919) % rows)));
    const weight = tensor(
      Float32Array.from({ length: n * width }, (_, i) => Math.sin(i)),
      { shape: [n, width] },
    );
    const f = grad((x: Tensor) => x.gather(indices).mul(weight).sum());
    const table = tensor(new Float32Array(rows * width), { shape: [rows, width] });
    const seen = new Set<string>();
    for (let run = 0; run < 4; run++) seen.add(await bits(f(table)));
    expect(seen.size).toBe(1);
  });

  it("add half-precision numbers", async () => {
    const f = grad((x: Tensor) => x.gather([0, 0, 1]).mul(2).sum());
    await close(f(tensor([1, 2]).cast("f16")).cast("f32"), [4, 2]);
  });
});

describe("vjp", () => {
  it("pulls back after the result was evaluated, which frees the graph", async () => {
    const [y, pullback] = vjp((x: Tensor) => x.exp().mul(x).sum(), tensor([1, 2]));
    await evaluate([y]);
    const [g] = pullback(tensor(1).reshape([]));
    await close(g!, [2 * Math.E, 3 * Math.E ** 2]);
  });

  it("differentiates with respect to evaluated tensors", async () => {
    const x = await tensor([1, 2]).mul(3).eval();
    await close(grad((y: Tensor) => y.square().sum())(x), [6, 12]);
  });

  it("pulls back several times, and several results at once", async () => {
    const [, pullback] = vjp((x: Tensor) => [x.sin(), x.square()], tensor([0.5]));
    await close(pullback([tensor([1]), tensor([0])])[0], [Math.cos(0.5)]);
    await close(pullback([tensor([0]), tensor([1])])[0], [1]);
    expect(() => pullback([tensor([1])])).toThrow(/expected 2 cotangents, got 1/);
  });
});

describe("jvp", () => {
  it("is the directional derivative", async () => {
    const [y, dy] = jvp(
      (a: Tensor, b: Tensor) => a.mul(b).sin(),
      [tensor([1, 2]), tensor([3, 0.5])],
      [tensor([1, 0]), tensor([0.5, 2])],
    );
    await close(y, [Math.sin(3), Math.sin(1)]);
    await close(dy, [Math.cos(3) * 3.5, Math.cos(1) * 4]);
  });

  it("goes through convolution and differentiates further", async () => {
    const x = tensor([[[1, 2, -1, 0.5]]]);
    const w = tensor([[[0.5, -1]]]);
    const f = (t: Tensor): Tensor => conv(t, w).tanh();
    const [, tangent] = jvp(f, [x], [x]);
    const h = 1e-3;
    const [plus, minus] = [await f(x.mul(1 + h)).toArray(), await f(x.mul(1 - h)).toArray()];
    await close(
      tangent,
      plus.map((v, i) => (v - minus[i]!) / (2 * h)),
      1e-3,
    );
    const along = (t: Tensor): Tensor => jvp(f, [t], [x])[1].sum();
    const [up, down] = [await along(x.mul(1 + h)).item(), await along(x.mul(1 - h)).item()];
    const slope = grad(along)(x).mul(x).sum();
    await close(slope, [(up - down) / (2 * h)], 2e-3);
  });
});

describe("vmap", () => {
  it("maps over axis 0 of every leaf", async () => {
    const a = tensor([
      [1, 2],
      [3, 4],
    ]);
    const b = tensor([10, 20]);
    await close(vmap((x: Tensor, s: Tensor) => x.sum().mul(s))(a, b), [30, 140]);
  });

  it("gives per-sample gradients", async () => {
    const x = tensor([
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    await close(vmap(grad((row: Tensor) => row.prod(0)))(x), [2, 1, 4, 3, 6, 5]);
  });
});

describe("customGradient", () => {
  it("passes gradients straight through a rounding", async () => {
    const straight = customGradient(
      (x: Tensor) => x.round(),
      (ct) => [ct],
    );
    const f = (x: Tensor): Tensor =>
      straight(x)
        .mul(tensor([2, 3]))
        .sum();
    const [y, g] = valueAndGrad(f)(tensor([0.4, 1.6]));
    await close(y, [6]);
    await close(g, [2, 3]);
  });

  it("handles several inputs and results, and missing cotangents", async () => {
    const f = customGradient(
      (a: Tensor, b: Tensor) => [a.mul(b), a.add(b)],
      ([first, second], [a, b]) => [first!.mul(b).add(second!), first!.mul(a).add(second!)],
    );
    const g = grad((p: Tensor[]) => f(p[0]!, p[1]!)[0]!.sum())([tensor([2]), tensor([5])]);
    await close(g[0]!, [5]);
    await close(g[1]!, [2]);
  });

  it("takes trees, gives what the function gives, and what is left out counts as zero", async () => {
    interface Model {
      readonly weight: Tensor;
      readonly bias: Tensor;
      readonly name: string;
    }
    const f = customGradient(
      (model: Model, x: Tensor) => ({ y: x.mul(model.weight).add(model.bias), named: model.name }),
      (ct, [model, x], { y }) => [{ weight: ct.y.mul(x).mul(y) }, ct.y.mul(model.weight)],
    );
    const model = { weight: tensor([3]), bias: tensor([1]), name: "m" };
    expect(f(model, tensor([2])).named).toBe("m");
    const gradient = grad((all: { model: Model; x: Tensor }) => f(all.model, all.x).y.sum());
    const g = gradient({ model, x: tensor([2]) });
    await close(g.model.weight, [2 * 7]);
    await close(g.model.bias, [0]);
    await close(g.x, [3]);
  });

  it("refuses gradients that belong to nothing, or are of another shape", () => {
    const at = (backward: () => unknown[]) => () =>
      grad((x: Tensor) => customGradient((y: { a: Tensor }) => y.a.exp(), backward)({ a: x }).sum())(
        tensor([1]),
      );
    expect(at(() => [{ b: tensor([1]) }])).toThrow(/gradients for "0.b".*"0.a"/);
    expect(at(() => [{ a: tensor([1, 2]) }])).toThrow(/"0.a" must have the shape \[1\]/);
    expect(() =>
      customGradient(
        () => 3,
        () => [],
      )(),
    ).toThrow(/result holds tensors/);
  });
});

describe("checkpoint", () => {
  const w = tensor([
    [0.5, -1],
    [2, 0.25],
  ]);
  const block = (x: Tensor): Tensor => x.matmul(w).silu().matmul(w).tanh();

  it("has the values and gradients of the function, bit for bit, captured tensors included", async () => {
    const x = tensor([
      [1, 2],
      [-1, 0.5],
    ]);
    const loss = (f: (x: Tensor) => Tensor) => (x: Tensor) => f(f(x)).square().sum();
    const [plain, plainGrad] = valueAndGrad(loss(block))(x);
    const [kept, keptGrad] = valueAndGrad(loss(checkpoint(block)))(x);
    expect(await bits(kept)).toBe(await bits(plain));
    expect(await bits(keptGrad)).toBe(await bits(plainGrad));
    const train = (wrap: <A extends unknown[], R>(f: (...a: A) => R) => (...a: A) => R) =>
      grad((p: Tensor) =>
        wrap((y: Tensor) => y.matmul(p).silu().matmul(p))(x)
          .square()
          .sum(),
      )(w);
    expect(await bits(train(checkpoint))).toBe(await bits(train((f) => f)));
  });

  it("works when compiled, and twice over", async () => {
    const x = tensor([
      [1, 2],
      [-1, 0.5],
    ]);
    const f = (t: Tensor): Tensor => checkpoint((y: Tensor) => checkpoint(block)(y).mul(2))(t).sum();
    const g = (t: Tensor): Tensor => block(t).mul(2).sum();
    const compiled = jit(grad(f));
    await close(await compiled(x), await grad(g)(x).toArray());
    await compiled.close();
    const second = (h: (t: Tensor) => Tensor) => grad((t: Tensor) => grad(h)(t).square().sum())(x);
    await close(second(f), await second(g).toArray(), 1e-5);
  });
});
