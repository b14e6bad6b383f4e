import { describe, expect, it } from "vitest";
import { frames, interpolateConditions, lerp, slerp } from "../../src/diffusion/interpolate.ts";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { createRng } from "../../src/nn/index.ts";
import { cachedSessions, type Tensor, tensor, zeros } from "../../src/tensor/index.ts";
import { maxDifference } from "./gaussian.ts";

const rng = createRng(41);
const a = rng.normal([2, 4, 8, 8]);
const b = rng.normal([2, 4, 8, 8]);
const norms = (t: Tensor): Promise<number[]> => t.norm([1, 2, 3]).toArray();

describe("spherical interpolation", () => {
  it("begins at a and ends at b", async () => {
    expect(await maxDifference(slerp(a, b, 0), a)).toBeLessThan(1e-6);
    expect(await maxDifference(slerp(a, b, 1), b)).toBeLessThan(1e-6);
    expect(await maxDifference(lerp(a, b, 0), a)).toBe(0);
    expect(await maxDifference(lerp(a, b, 1), b)).toBe(0);
  });

  it("keeps the norm of equally long samples, at equal angles; a straight line does not", async () => {
    const unit = (t: Tensor): Tensor => t.div(t.norm([1, 2, 3], true));
    const [p, q] = [unit(a), unit(b)];
    const middle = slerp(p, q, 0.3);
    for (const n of await norms(middle)) expect(n).toBeCloseTo(1, 5);
    for (const n of await norms(lerp(p, q, 0.5))) expect(n).toBeLessThan(0.8);
    const angle = async (u: Tensor, v: Tensor): Promise<number[]> =>
      (await u.mul(v).sum([1, 2, 3]).toArray()).map(Math.acos);
    const [part, whole] = [await angle(p, middle), await angle(p, q)];
    part.forEach((value, i) => {
      expect(value).toBeCloseTo(0.3 * whole[i]!, 4);
    });
  });

  it("a right angle in two dimensions", async () => {
    const out = slerp(tensor([[1, 0]]), tensor([[0, 1]]), 1 / 3);
    const [x, y] = await out.toArray();
    expect(x).toBeCloseTo(Math.cos(Math.PI / 6), 6);
    expect(y).toBeCloseTo(Math.sin(Math.PI / 6), 6);
  });

  it("of parallel, opposite and zero samples is straight, and finite", async () => {
    expect(await maxDifference(slerp(a, a.mul(2), 0.5), a.mul(1.5))).toBeLessThan(1e-5);
    expect(await maxDifference(slerp(a, a.neg(), 0.25), a.mul(0.5))).toBeLessThan(1e-5);
    for (const v of await slerp(a, zeros(a.shape), 0.5).toArray()) expect(Number.isFinite(v)).toBe(true);
  });

  it("is sample by sample", async () => {
    const second = (t: Tensor): Tensor => t.sliceAxis(0, 1);
    expect(await maxDifference(second(slerp(a, b, 0.4)), slerp(second(a), second(b), 0.4))).toBeLessThan(
      1e-6,
    );
  });
});

describe("sequences", () => {
  it("are one graph for all frames", async () => {
    const all = frames(a, b, 5);
    await all[0]!.eval();
    const graphs = cachedSessions();
    for (const frame of all) await frame.eval();
    expect(cachedSessions()).toBe(graphs);
    expect(all.length).toBe(5);
    expect(await maxDifference(all[2]!, slerp(a, b, 0.5))).toBe(0);
    expect(() => frames(a, b, 1)).toThrow(ArgumentError);
  });

  it("of conditions interpolate each tensor", async () => {
    const from = { text: a, pooled: tensor([[1, 2]]), guess: false };
    const to = { text: b, pooled: tensor([[3, 6]]), guess: false };
    const half = interpolateConditions(from, to, 0.5);
    expect(await half.pooled.toArray()).toEqual([2, 4]);
    expect(await maxDifference(half.text, a.add(b).mul(0.5))).toBeLessThan(1e-6);
    expect(half.guess).toBe(false);
    expect(await maxDifference(interpolateConditions(from, to, 0.5, slerp).text, slerp(a, b, 0.5))).toBe(0);
  });

  it("need equal shapes and a position", () => {
    expect(() => slerp(a, tensor([[1]]), 0.5)).toThrow(ShapeError);
    expect(() => lerp(a, b, Number.NaN)).toThrow(ArgumentError);
  });
});
