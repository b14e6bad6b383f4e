import { describe, expect, it } from "vitest";
import { createRng, Dropout, FeedForward } from "../../src/nn/index.ts";
import { fillUniform, grad, jit, makeKey, ones, type Tensor } from "../../src/tensor/index.ts";

const x = ones([100, 80]);
const key = (step: number): Tensor => makeKey(7, { sample: 3, step });

describe("Dropout", () => {
  const layer = new Dropout(0.3);

  it("is the identity without a key", () => {
    expect(layer.call(x)).toBe(x);
    expect(new Dropout(0).call(x, key(0))).toBe(x);
  });

  it("drops the given share and keeps the mean", async () => {
    const values = await layer.call(x, key(0)).toArray();
    expect(new Set(values)).toEqual(new Set([0, Math.fround(1 / 0.7)]));
    const dropped = values.filter((v) => v === 0).length / values.length;
    expect(Math.abs(dropped - 0.3)).toBeLessThan(0.02); // four deviations
    expect(Math.abs(values.reduce((a, b) => a + b, 0) / values.length - 1)).toBeLessThan(0.03);
  });

  it("is decided by the key and the purpose, by the host's numbers", async () => {
    const first = await layer.call(x, key(0)).toArray();
    expect(await new Dropout(0.3).call(x, key(0)).toArray()).toEqual(first);
    expect(await layer.call(x, key(1)).toArray()).not.toEqual(first);
    expect(await new Dropout(0.3, { purpose: "other" }).call(x, key(0)).toArray()).not.toEqual(first);
    const at = { seed: 7, sample: 3, purpose: "dropout", step: 0 };
    const uniforms = fillUniform(new Float32Array(x.size), at);
    expect(first.map((v) => v > 0)).toEqual(Array.from(uniforms, (u) => u < Math.fround(0.7)));
  });

  it("lets gradients through where values were kept", async () => {
    const kept = await layer.call(x, key(2)).toArray();
    const gradient = grad((v: Tensor) => layer.call(v, key(2)).sum())(x);
    expect(await gradient.toArray()).toEqual(kept);
  });

  it("draws anew in one compiled function", async () => {
    const f = jit((v: Tensor, k: Tensor) => layer.call(v, k));
    const [a, b] = [await f(x, key(0)), await f(x, key(1))];
    expect(await a.toArray()).toEqual(await layer.call(x, key(0)).toArray());
    expect(await b.toArray()).toEqual(await layer.call(x, key(1)).toArray());
    expect(f.signatures).toBe(1);
    await f.close();
  });

  it("sits inside FeedForward", async () => {
    const net = new FeedForward(4, createRng(1), { dropout: 0.5, purpose: "ff0" });
    const input = createRng(2).normal([3, 4]);
    const plain = new FeedForward(4, createRng(1));
    expect(net.net[1].purpose).toBe("ff0");
    expect(await net.call(input).toArray()).toEqual(await plain.call(input).toArray());
    expect(await net.call(input, key(0)).toArray()).not.toEqual(await plain.call(input).toArray());
  });

  it("refuses impossible probabilities", () => {
    expect(() => new Dropout(1)).toThrow(/got 1/);
    expect(() => new Dropout(-0.1)).toThrow(/got -0.1/);
  });
});
