import { describe, expect, it } from "vitest";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import * as tw from "../../src/tensor/index.ts";

const { tensor, zeros } = tw;

describe("small linear algebra", () => {
  it("pivots: a permutation is its own kind of matrix", async () => {
    const turn = tensor([
      [0, 0, 1, 0],
      [1, 0, 0, 0],
      [0, 0, 0, 1],
      [0, 1, 0, 0],
    ]);
    expect(await tw.inverse(turn).toArray()).toEqual(await turn.transpose().toArray());
    expect(await tw.determinant(turn).item()).toBe(-1);
  });

  it("of a singular matrix has the determinant 0 and no inverse; what is no number stays none", async () => {
    const singular = tensor([
      [1, 2, 0, 0],
      [2, 4, 0, 0],
      [0, 0, 1, 0],
      [0, 0, 0, 1],
    ]);
    expect(await tw.determinant(singular).item()).toBe(0);
    expect((await tw.inverse(singular).toArray()).every(Number.isFinite)).toBe(false);
    expect(await tw.determinant(singular.mul(Number.NaN)).item()).toBeNaN();
    expect((await tw.cholesky(tensor([[-1]])).toArray())[0]).toBeNaN();
  });

  it("keeps the digits of a badly scaled matrix by pivoting", async () => {
    const a = tensor([
      [1e-7, 1],
      [1, 1],
    ]);
    const x = await tw.solve(a, tensor([[1], [2]])).toArray();
    expect(x[0]).toBeCloseTo(1, 5);
    expect(x[1]).toBeCloseTo(1, 5);
  });

  it("computes in f64 where the matrices are", async () => {
    const a = tensor(Float64Array.of(2, 1, 1, 3), { shape: [2, 2] });
    const unit = await a.matmul(tw.inverse(a)).toArray();
    unit.forEach((v, i) => {
      expect(Math.abs(v - (i % 3 === 0 ? 1 : 0))).toBeLessThan(1e-15);
    });
  });

  it("refuses what it cannot take", () => {
    expect(() => tw.inverse(zeros([2, 3]))).toThrow(ShapeError);
    expect(() => tw.determinant(zeros([9, 9]))).toThrow(/from 1 to 8/);
    expect(() => tw.solve(zeros([2, 2]), zeros([3, 1]))).toThrow(/right-hand sides \[..., 2, m\]/);
    expect(() => tw.inverse(zeros([2, 2], "i64"))).toThrow(/float/);
    expect(() => tw.cross(zeros([2]), zeros([2]))).toThrow(ShapeError);
    expect(() => tw.meshgrid([zeros([2, 2])])).toThrow(ShapeError);
    expect(() => tw.meshgrid([zeros([2])], "yx" as "xy")).toThrow(ArgumentError);
  });
});

describe("functions with care", () => {
  const across = Float32Array.from([1e-30, -1e-20, 3e-9, -2e-7, 1e-6, -5e-4, 0.01, -0.3, 0.9, 4, 60]);

  it("log1p and expm1 keep the digits of small numbers", async () => {
    for (const [name, reference] of [
      ["log1p", Math.log1p],
      ["expm1", Math.expm1],
    ] as const) {
      const y = await tensor(across)[name]().toArray();
      y.forEach((v, i) => {
        expect(Math.abs(v / reference(across[i]!) - 1), `${name}(${across[i]})`).toBeLessThan(1e-6);
      });
    }
  });

  it("and have their limits", async () => {
    const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
    expect(await tensor([-1, inf, -2, nan]).log1p().toArray()).toEqual([-inf, inf, nan, nan]);
    expect(await tensor([-inf, inf, -200, 200, nan]).expm1().toArray()).toEqual([-1, inf, -1, inf, nan]);
    expect(await tensor([1, inf, -inf, nan]).isFinite().toArray()).toEqual([1, 0, 0, 0]);
  });

  it("the deviation of equal numbers is 0, with a gradient of 0", async () => {
    const x = tensor([2, 2, 2]);
    expect(await x.std().item()).toBe(0);
    expect(
      await tw
        .grad((t: tw.Tensor) => t.std())(x)
        .toArray(),
    ).toEqual([0, 0, 0]);
  });
});

describe("groups and places", () => {
  it("empty groups have their value", async () => {
    const ids = tensor([1, 1], { dtype: "i64" });
    const x = tensor([[3], [5]]);
    expect(await tw.segmentMax(x, ids, 3).toArray()).toEqual([-Infinity, 5, -Infinity]);
    expect(await tw.segmentSum(x, ids, 3).toArray()).toEqual([0, 8, 0]);
  });

  it("one row serves values of any shape, with repeated numbers", async () => {
    const row = tensor([0, 1, 1, 1, 2]);
    const values = tensor([
      [-1, 0, 1],
      [1.5, 2, 3],
    ]);
    expect(await tw.searchsorted(row, values).toArray()).toEqual([0, 0, 1, 4, 4, 5]);
    expect(await tw.searchsorted(row, values, "right").toArray()).toEqual([0, 1, 4, 4, 5, 5]);
  });

  it("refuse what does not fit", () => {
    const x = zeros([2, 2]);
    expect(() => tw.segmentSum(x, zeros([3], "i64"), 2)).toThrow(ShapeError);
    expect(() => tw.segmentMax(x, zeros([2], "i64"), 0)).toThrow(ArgumentError);
    expect(() => tw.searchsorted(zeros([3, 2]), x)).toThrow(ShapeError);
    expect(() => tw.searchsorted(zeros([2]), x, "middle" as "left")).toThrow(ArgumentError);
    expect(() =>
      tw.conv(zeros([1, 1, 4]), zeros([1, 1, 3]), undefined, { causal: true, padding: 1 }),
    ).toThrow(/causal axis/);
  });
});
