import { describe, expect, it } from "vitest";
import { activate, createRng, multiHeadAttention } from "../../src/nn/index.ts";
import { cast, grad, type Tensor, tensor } from "../../src/tensor/index.ts";
import { expectClose } from "./layer-kit.ts";

const rng = createRng(4);
const random = (...shape: number[]): Tensor => rng.normal(shape);

describe("multiHeadAttention", () => {
  it("gives the same with a mask that hides nothing, and the same gradients", async () => {
    const [q, k, v] = [random(2, 5, 6), random(2, 3, 6), random(2, 3, 4)];
    const mask = tensor(new Float32Array(15), { shape: [5, 3] });
    const loss = (options: object) => (x: readonly Tensor[]) =>
      multiHeadAttention(x[0]!, x[1]!, x[2]!, { heads: 2, ...options })
        .square()
        .sum();
    const direct = grad(loss({}))([q, k, v]);
    const masked = grad(loss({ mask }))([q, k, v]);
    for (const [i, g] of direct.entries())
      expectClose(await g.toArray(), await masked[i]!.toArray(), 1e-5, `gradient ${i}`);
  });

  it("one set of keys serves a whole batch", async () => {
    const [q, k, v] = [random(2, 5, 4), random(1, 3, 4), random(1, 3, 4)];
    const expected = multiHeadAttention(q, k.concat(k, 0), v.concat(v, 0), { heads: 2 });
    expectClose(await multiHeadAttention(q, k, v, { heads: 2 }).toArray(), await expected.toArray(), 1e-6);
  });

  it("upcast keeps scores beyond the range of half precision", async () => {
    const half = (t: Tensor): Tensor => cast(t, "f16");
    const [q, k, v] = [half(random(1, 3, 8).mul(300)), half(random(1, 4, 8).mul(300)), half(random(1, 4, 8))];
    const wide = multiHeadAttention(cast(q, "f32"), cast(k, "f32"), cast(v, "f32"), { heads: 1 });
    const upcast = multiHeadAttention(q, k, v, { heads: 1, upcast: true });
    expect(upcast.dtype).toBe("f16");
    expectClose(await upcast.toArray(), await wide.toArray(), 2e-3);
  });
});

it("mish is x tanh(softplus(x))", async () => {
  const values = [-3, -0.5, 0, 0.5, 3];
  const expected = values.map((x) => x * Math.tanh(Math.log1p(Math.exp(x))));
  expectClose(await activate("mish", tensor(values)).toArray(), expected, 1e-6);
});
