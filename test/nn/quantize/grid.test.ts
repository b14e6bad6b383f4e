/** Grids and GPTQ on the host, against their definitions. */
import { describe, expect, test } from "vitest";
import { ArgumentError, CalibrationError, NonFiniteError, ShapeError } from "../../../src/errors.ts";
import {
  cholesky,
  dequantizeMatrix,
  type Granularity,
  gptq,
  quantizeMatrix,
  roundEven,
  stepOf,
} from "../../../src/nn/index.ts";
import { correlated, hessianOf, normals, product, relativeError } from "./matrices.ts";

const [ROWS, COLUMNS] = [12, 64];
const weight = normals(ROWS * COLUMNS, 1).map((w, i) => w * (i % 7 === 0 ? 5 : 1) + (i % 2 ? 0.3 : 0));

describe.each([2, 3, 4, 6, 8])("%i bits", (bits) => {
  test.each<[Granularity, boolean]>([
    ["tensor", false],
    ["row", false],
    ["row", true],
    [16, false],
    [16, true],
    [32, false],
  ])("by %s (symmetric: %s): no value is off by more than half a step", (granularity, symmetric) => {
    const q = quantizeMatrix(weight, ROWS, COLUMNS, { bits, granularity, symmetric });
    const back = dequantizeMatrix(q);
    for (let i = 0; i < weight.length; i++) {
      const u = Math.floor(i / q.group);
      // Where the zero was rounded, the ends of the range may be cut by another half step.
      const bound = symmetric ? 0.5 : 1;
      expect(Math.abs(back[i]! - weight[i]!)).toBeLessThanOrEqual(bound * q.scales[u]! * 1.001);
      expect(q.codes[i]).toBeLessThan(2 ** bits);
    }
  });
});

test("zero is exact on every grid, and a range of one sign is extended to hold it", () => {
  for (const [low, high] of [
    [-1, 2],
    [0.5, 2],
    [-3, -1],
    [0, 0],
  ] as const) {
    const { scale, zero } = stepOf(low, high, { bits: 4, symmetric: false });
    expect(Number.isInteger(zero)).toBe(true);
    expect(scale).toBeGreaterThan(0);
    expect(scale * (15 - zero)).toBeGreaterThanOrEqual(high - scale * 0.501);
    expect(scale * (0 - zero)).toBeLessThanOrEqual(low + scale * 0.501);
  }
});

test("halves are rounded to even", () => {
  expect([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.4, -2.6].map(roundEven).map((x) => x + 0)).toEqual([
    0, 2, 2, 0, -2, -2, 2, -3,
  ]);
});

test("smaller groups lose less on outliers of input channels; groups of outputs would not", () => {
  const outliers = weight.map((w, i) => (i % COLUMNS === 5 ? w * 30 : w));
  const errors = (["tensor", "row", 32, 16] as const).map((granularity) =>
    relativeError(
      outliers,
      dequantizeMatrix(quantizeMatrix(outliers, ROWS, COLUMNS, { bits: 4, granularity, symmetric: false })),
    ),
  );
  for (let i = 1; i < errors.length; i++) expect(errors[i]).toBeLessThan(errors[i - 1]!);
});

test("shrunk ranges have no larger error of the power they minimise", () => {
  const error = (shrink: boolean): number => {
    const q = quantizeMatrix(weight, ROWS, COLUMNS, { bits: 3, granularity: 32, symmetric: false, shrink });
    return dequantizeMatrix(q).reduce((sum, w, i) => sum + Math.abs(w - weight[i]!) ** 2.4, 0);
  };
  expect(error(true)).toBeLessThan(error(false));
});

test("groups that do not divide, bits out of range and weights that are not finite are named", () => {
  const grid = { bits: 4, granularity: 24, symmetric: false };
  expect(() => quantizeMatrix(weight, ROWS, COLUMNS, grid, '"ff.net.2"')).toThrow(ArgumentError);
  expect(() => quantizeMatrix(weight, ROWS, COLUMNS, grid, '"ff.net.2"')).toThrow(
    /"ff.net.2": groups of 24 do not divide 64 input channels; possible are 16, 32, 64/,
  );
  expect(() => quantizeMatrix(weight.slice(0, 16), 2, 8, { ...grid, granularity: 64 }, '"to_k"')).toThrow(
    '"to_k": groups of 64 do not divide 8 input channels; none that divides them is a multiple of 16, which packing needs: ' +
      "exclude the layer (without packing: 1, 2, 4, 8)",
  );
  expect(() => quantizeMatrix(weight, ROWS, COLUMNS, { ...grid, bits: 9 })).toThrow(/2 to 8 bits, got 9/);
  const broken = weight.slice();
  broken[COLUMNS + 3] = Number.NaN;
  const named = (): unknown => quantizeMatrix(broken, ROWS, COLUMNS, { ...grid, granularity: 16 }, '"proj"');
  expect(named).toThrow(NonFiniteError);
  expect(named).toThrow(/"proj": the value at row 1, column 3 is NaN/);
});

describe("GPTQ", () => {
  const x = correlated(256, COLUMNS, 5);
  const hessian = hessianOf(x, COLUMNS);
  const exact = product(x, weight, COLUMNS);
  const outputError = (w: Float32Array): number => relativeError(exact, product(x, w, COLUMNS));

  test.each<[number, Granularity]>([
    [2, 16],
    [3, "row"],
    [4, "row"],
    [4, 16],
    [4, "tensor"],
    [8, 32],
  ])(
    "at %i bits by %s: less than half the error of rounding to nearest on correlated inputs",
    (bits, granularity) => {
      const grid = { bits, granularity, symmetric: false };
      const nearest = outputError(dequantizeMatrix(quantizeMatrix(weight, ROWS, COLUMNS, grid)));
      for (const order of ["columns", "largest-first"] as const) {
        const adapted = gptq(weight, ROWS, COLUMNS, hessian, grid, { order });
        expect(outputError(dequantizeMatrix(adapted))).toBeLessThan(0.5 * nearest);
      }
    },
  );

  test("on uncorrelated inputs of one size it is rounding to nearest", () => {
    const identity = Float64Array.from({ length: COLUMNS ** 2 }, (_, i) => (i % (COLUMNS + 1) === 0 ? 2 : 0));
    const grid = { bits: 4, granularity: 16, symmetric: false };
    const q = gptq(weight, ROWS, COLUMNS, identity, grid);
    expect(q.codes).toEqual(quantizeMatrix(weight, ROWS, COLUMNS, grid).codes);
  });

  test("a few large inputs with small weights: rounding their columns first more than halves the error", () => {
    const factor = (i: number): number => ([11, 30, 58].includes(i % COLUMNS) ? 24 : 1);
    const large = x.map((v, i) => v * factor(i));
    const small = weight.map((w, i) => w / factor(i));
    const grid = { bits: 4, granularity: 16, symmetric: false };
    const error = (order: "columns" | "largest-first"): number => {
      const q = gptq(small, ROWS, COLUMNS, hessianOf(large, COLUMNS), grid, { order });
      return relativeError(exact, product(large, dequantizeMatrix(q), COLUMNS));
    };
    expect(error("largest-first")).toBeLessThan(0.5 * error("columns"));
  });

  test("inputs that are always 0 get weight 0, and do not disturb the others", () => {
    const quiet = x.map((v, i) => (i % COLUMNS === 9 ? 0 : v));
    const q = gptq(weight, ROWS, COLUMNS, hessianOf(quiet, COLUMNS), {
      bits: 4,
      granularity: 16,
      symmetric: false,
    });
    const back = dequantizeMatrix(q);
    for (let r = 0; r < ROWS; r++) expect(back[r * COLUMNS + 9]).toBe(0);
  });

  test("a Hessian of too few samples is damped until it can be factorised", () => {
    const few = hessianOf(x.subarray(0, 3 * COLUMNS), COLUMNS);
    const q = gptq(weight, ROWS, COLUMNS, few, { bits: 4, granularity: 16, symmetric: false });
    expect(dequantizeMatrix(q).every(Number.isFinite)).toBe(true);
  });

  test("a Hessian that no damping saves, or of another size, is an error that says so", () => {
    const indefinite = hessian.map((h, i) => (i % (COLUMNS + 1) === 0 ? h : 1e9));
    const grid = { bits: 4, granularity: 16, symmetric: false };
    const run = (h: Float64Array) => () => gptq(weight, ROWS, COLUMNS, h, grid, {}, '"attn.to_q"');
    expect(run(indefinite)).toThrow(CalibrationError);
    expect(run(indefinite)).toThrow(
      /"attn.to_q": .* not positive definite, even with 0.01 to 10 of their mean/,
    );
    expect(run(new Float64Array(9))).toThrow(ShapeError);
  });

  test("the Cholesky factor gives the matrix back", () => {
    const damped = hessian.map((h, i) => (i % (COLUMNS + 1) === 0 ? h * 1.01 : h));
    const lower = cholesky(damped, COLUMNS)!;
    for (let i = 0; i < COLUMNS; i++) {
      for (let j = 0; j <= i; j++) {
        let sum = 0;
        for (let k = 0; k <= j; k++) sum += lower[i * COLUMNS + k]! * lower[j * COLUMNS + k]!;
        expect(Math.abs(sum - damped[i * COLUMNS + j]!)).toBeLessThan(1e-9 * damped[0]! + 1e-9);
      }
    }
  });
});
