/** Random numbers inside graphs are the host's. */
import { describe, expect, it } from "vitest";
import {
  bernoulli,
  fillNormal,
  fillUniform,
  jit,
  makeKey,
  philox4x32,
  randomBits,
  randomNormal,
  randomUniform,
  type Tensor,
} from "../../src/tensor/index.ts";

const at = { seed: 0xfedcba9876543210n, sample: 4_000_000_000, step: 4_294_967_295, purpose: "noise" };
const key = makeKey(at.seed, at);

describe("philox in a graph", () => {
  it("gives the cipher's words", async () => {
    const words = await randomBits(key, [2, 4], { purpose: 7 }).data();
    for (const block of [0, 1]) {
      const expected = philox4x32([0x76543210, 0xfedcba98], [block, at.sample, 7, at.step]);
      expect([...words.slice(4 * block, 4 * block + 4)]).toEqual(expected);
    }
  });

  it.each([0, 1, 3, 5, 4096, 10_001])("draws %i uniforms equal to the host's bit for bit", async (n) => {
    const drawn = await randomUniform(key, [n], at).data();
    expect(drawn).toEqual(fillUniform(new Float32Array(n), at));
  });

  it("draws normals equal to the host's up to the last bit", async () => {
    const drawn = (await randomNormal(key, [3, 3333], at).data()) as Float32Array;
    const host = fillNormal(new Float32Array(9999), at);
    expect(drawn.length).toBe(9999);
    expect(drawn.reduce((worst, v, i) => Math.max(worst, Math.abs(v - host[i]!)), 0)).toBeLessThan(5e-7);
  });

  it("draws anew in a compiled function when the key moves, and by purpose", async () => {
    const f = jit((k: Tensor) => ({
      a: randomUniform(k, [8], { purpose: "a" }),
      b: randomUniform(k, [8], { purpose: "b" }),
    }));
    const draw = async (step: number): Promise<{ a: number[]; b: number[] }> => {
      const { a, b } = await f(makeKey(1, { step }));
      return { a: await a.toArray(), b: await b.toArray() };
    };
    const [first, second, again] = [await draw(0), await draw(1), await draw(0)];
    expect(first.a).not.toEqual(first.b);
    expect(first.a).not.toEqual(second.a);
    expect(again).toEqual(first);
    expect(f.signatures).toBe(1);
    await f.close();
  });

  it("tosses coins at the given rate", async () => {
    const heads = await bernoulli(key, [20_000], 0.3).cast("f32").mean().item();
    expect(Math.abs(heads - 0.3)).toBeLessThan(4 * Math.sqrt(0.21 / 20_000));
  });
});
