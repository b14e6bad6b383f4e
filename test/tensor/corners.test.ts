/** Values and slopes at the corners, as torch 2.13 gives them. */
import { describe, expect, it } from "vitest";
import { grad, type Tensor, tensor } from "../../src/tensor/index.ts";

const NAN = Number.NaN;

describe("a NaN comes through", () => {
  it.each(["f32", "f64", "f16"] as const)("extremes of %s, wherever it is", async (dtype) => {
    for (const n of [2, 3, 8, 17, 33]) {
      for (let at = 0; at < n; at++) {
        const values = Array.from({ length: n }, (_, i) => (i === at ? NAN : ((i * 7) % 5) - 1));
        const x = tensor([values, values.map((_, i) => i), values], { dtype });
        for (const found of [x.max(1), x.min(1)]) {
          const [first, clean, last] = await found.toArray();
          expect([first, last]).toEqual([NAN, NAN]);
          expect(clean).not.toBeNaN();
        }
        expect(await x.max(0).toArray()).toEqual(values.map((v, i) => (i === at ? NAN : Math.max(v, i))));
        expect(await x.min().item()).toBeNaN();
        for (const found of [x.argmax(1), x.argmin(1)]) {
          const [first, , last] = await found.toArray();
          expect([first, last]).toEqual([at, at]);
        }
      }
    }
  });
  it("and infinities are none", async () => {
    const x = tensor([Infinity, -Infinity, 1]);
    expect(await x.max().item()).toBe(Infinity);
    expect(await x.min().item()).toBe(-Infinity);
    expect(await tensor([3e38, 3e38]).max().item()).toBe(Math.fround(3e38));
  });
});

describe("slopes", () => {
  // [base, exponent, power, slope in the base, slope in the exponent]
  const powers: readonly (readonly number[])[] = [
    [0, 0, 1, 0, 0],
    [-2, 2, 4, -4, NAN],
    [-2, 0, 1, 0, NAN],
    [0, 2, 0, 0, 0],
    [0, -1, Infinity, -Infinity, -Infinity],
    [0, 1, 0, 1, 0],
    [0, 0.5, 0, Infinity, 0],
    [2, 0, 1, 0, Math.fround(Math.log(2))],
  ];
  it.each(powers)("of %d to the power of %d", async (base, exponent, value, inBase, inExponent) => {
    const [a, b] = [tensor(base!), tensor(exponent!)];
    expect(await a.pow(b).item()).toBe(value);
    expect((await grad((x: Tensor) => x.pow(b))(a).item()) + 0).toBe(inBase! + 0);
    expect((await grad((x: Tensor) => x.pow(exponent!))(a).item()) + 0).toBe(inBase! + 0);
    expect((await grad((e: Tensor) => a.pow(e))(b).item()) + 0).toBe(inExponent! + 0);
  });
  it("of a power of 0, again", async () => {
    const second = grad((x: Tensor) => grad((y: Tensor) => y.pow(tensor([0, 1, 2])).sum())(x).sum());
    expect(await second(tensor([0, 0, 0])).toArray()).toEqual([0, 0, 2]);
  });
  it("of a norm at zero are zero, elsewhere the direction", async () => {
    const slope = grad((x: Tensor) => x.norm(1).sum());
    expect(
      await slope(
        tensor([
          [0, 0],
          [3, 4],
        ]),
      ).toArray(),
    ).toEqual([0, 0, 3 / 5, 4 / 5].map(Math.fround));
    const second = grad((x: Tensor) => slope(x).sum());
    expect((await second(tensor([[0, 0]])).toArray()).every(Number.isFinite)).toBe(true);
  });
  it("of products through one zero and two", async () => {
    const weights = tensor([1, 2, 3, 4, 5]);
    const slope = grad((x: Tensor) => x.cumprod(0).mul(weights).sum());
    expect(await slope(tensor([0, 2, 3, 0, 4])).toArray()).toEqual([23, 0, 0, 0, 0]);
    expect(await slope(tensor([2, 0, 3, 0.5, 4])).toArray()).toEqual([1, 94, 0, 0, 0]);
  });
});

describe("logSumExp", () => {
  it.each([
    [[-Infinity, -Infinity], -Infinity],
    [[Infinity, 1], Infinity],
    [[-Infinity, 1], 1],
    [[NAN, 1], NAN],
  ])("of %j", async (values, expected) => {
    expect(await tensor(values).logSumExp().item()).toBe(expected);
  });
});

// torch 2.13: NaN is the greatest of all; beside an infinity the earlier one comes first here.
it.each([
  [
    [3, Number.NaN, 1, 2],
    [2, 3, 0, 1],
    [1, 0, 3, 2],
  ],
  [
    [Number.NaN, 5, 4],
    [2, 1, 0],
    [0, 1, 2],
  ],
  [
    [1, 2, 3, Number.NaN],
    [0, 1, 2, 3],
    [3, 2, 1, 0],
  ],
])("%j is sorted with NaN as the greatest", async (values, rising, falling) => {
  for (const [descending, order] of [
    [false, rising],
    [true, falling],
  ] as const) {
    const [sorted, indices] = tensor(values).sort(-1, descending);
    expect((await indices.toArray()).map(Number)).toEqual(order);
    expect(await sorted.toArray()).toEqual(order.map((i) => values[i]));
  }
});
