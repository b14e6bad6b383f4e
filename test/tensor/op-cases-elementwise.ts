/** Cases of the operations that work element by element. */
import * as tw from "../../src/tensor/index.ts";
import {
  binary,
  bools,
  elementwise,
  erf,
  flag,
  geluTanh,
  inside,
  integers,
  positive,
  sigmoid,
  smooth,
  spaced,
  type T,
  unary,
  wide,
} from "./op-cases-kit.ts";
import type { OpCase } from "./op-check.ts";

const comparison = (f: (a: T, b: T) => T, reference: (a: number, b: number) => boolean): OpCase[] =>
  (["f32", "i64", "i32"] as const).map((dtype) =>
    binary(f, (a, b) => flag(reference(a, b)), [integers(-2, 2, dtype), integers(-2, 2, dtype)], {
      order: 0,
      name: dtype,
    }),
  );
const onIntegers = (
  f: (a: T, b: T) => T,
  reference: (a: number, b: number) => number,
  dtypes: readonly tw.DType[],
  low = 0,
): OpCase[] =>
  dtypes.map((dtype) =>
    binary(f, reference, [integers(low, 100, dtype), integers(1, 6, dtype)], { order: 0, name: dtype }),
  );

const specials = {
  shape: [5],
  data: [0, 1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  dtype: "f32",
} as const;
const exact = { order: 0 } as const;
const noF64 = { f64: false } as const;

export const elementwiseCases = {
  neg: unary(
    (x) => x.neg(),
    (x) => -x,
  ),
  abs: unary((x) => x.abs(), Math.abs, smooth),
  sign: unary((x) => x.sign(), Math.sign, smooth, { order: 1 }),
  exp: unary((x) => x.exp(), Math.exp),
  log: unary((x) => x.log(), Math.log, positive),
  sqrt: unary((x) => x.sqrt(), Math.sqrt, positive),
  reciprocal: [
    unary(
      (x) => x.reciprocal(),
      (x) => 1 / x,
      smooth,
    ),
    unary(
      (x) => x.rsqrt(),
      (x) => x ** -0.5,
      positive,
    ),
  ],
  sin: unary((x) => x.sin(), Math.sin),
  cos: unary((x) => x.cos(), Math.cos),
  tan: unary((x) => x.tan(), Math.tan, inside, noF64),
  asin: unary((x) => x.asin(), Math.asin, inside, noF64),
  acos: unary((x) => x.acos(), Math.acos, inside, noF64),
  atan: unary((x) => x.atan(), Math.atan, wide, noF64),
  tanh: unary((x) => x.tanh(), Math.tanh),
  erf: unary((x) => x.erf(), erf, wide, noF64),
  sigmoid: unary((x) => x.sigmoid(), sigmoid),
  softplus: [
    unary(
      (x) => x.softplus(),
      (x) => Math.log1p(Math.exp(x)),
      wide,
      noF64,
    ),
    unary(
      (x) => x.softplus(),
      (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
      (d, s) => d.real(s, -120, 120),
      { order: 0 },
    ),
  ],
  relu: unary(
    (x) => x.relu(),
    (x) => Math.max(x, 0),
    smooth,
  ),
  swish: [
    unary(
      (x) => x.silu(),
      (x) => x * sigmoid(x),
    ),
    unary(
      (x) => x.quickGelu(),
      (x) => x * sigmoid(1.702 * x),
    ),
  ],
  gelu: [
    unary(
      (x) => x.gelu(),
      (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
      wide,
      noF64,
    ),
    unary((x) => x.gelu("tanh"), geluTanh),
  ],
  floor: unary((x) => x.floor(), Math.floor, spaced, { order: 1 }),
  ceil: unary((x) => x.ceil(), Math.ceil, spaced, { order: 1 }),
  round: [
    unary(
      (x) => x.round(),
      Math.round,
      (d, s) => d.away(s, 0.6, 1.4),
      { order: 1 },
    ),
    {
      order: 0,
      draw: () => ({
        inputs: [{ shape: [4], data: [0.5, 1.5, 2.5, -0.5], dtype: "f32" }],
        f: (x) => x!.round(),
        reference: () => ({ shape: [4], data: [0, 2, 2, -0] }),
      }),
    },
  ],
  isNaN: {
    order: 0,
    draw: () => ({
      inputs: [specials],
      f: (x) => x!.isNan(),
      reference: elementwise((v) => flag(Number.isNaN(v))),
    }),
  },
  isInf: {
    order: 0,
    draw: () => ({
      inputs: [specials],
      f: (x) => x!.isInf(),
      reference: elementwise((v) => flag(Math.abs(v) === Number.POSITIVE_INFINITY)),
    }),
  },
  logicalNot: unary(
    (x) => x.logicalNot(),
    (v) => 1 - v,
    bools,
    exact,
  ),
  bitwiseNot: (["i32", "i64", "i8"] as const).map((t) =>
    unary(
      (x) => x.bitwiseNot(),
      (v) => ~v,
      integers(-100, 100, t),
      { ...exact, name: t },
    ),
  ),
  clip: [
    unary(
      (x) => x.clip(-0.51, 0.76),
      (v) => Math.min(Math.max(v, -0.51), 0.76),
      (d, s) => d.pick(d.away(s, 0.9, 2), d.real(s, -0.4, 0.6)),
    ),
    unary(
      (x) => x.clip(Number.NEGATIVE_INFINITY, 0.1),
      (v) => Math.min(v, 0.1),
      smooth,
    ),
    unary(
      (x) => x.clip(-3, 4),
      (v) => Math.min(Math.max(v, -3), 4),
      integers(-9, 9, "i32"),
      exact,
    ),
  ],

  add: [
    binary(
      (a, b) => a.add(b),
      (a, b) => a + b,
    ),
    ...onIntegers(
      (a, b) => a.add(b),
      (a, b) => a + b,
      ["i32", "i64"],
      -9,
    ),
  ],
  sub: [
    binary(
      (a, b) => a.sub(b),
      (a, b) => a - b,
    ),
    ...onIntegers(
      (a, b) => a.sub(b),
      (a, b) => a - b,
      ["i32", "i64"],
      -9,
    ),
  ],
  mul: [
    binary(
      (a, b) => a.mul(b),
      (a, b) => a * b,
    ),
    ...onIntegers(
      (a, b) => a.mul(b),
      (a, b) => a * b,
      ["i32", "i64"],
      -9,
    ),
  ],
  div: [
    binary(
      (a, b) => a.div(b),
      (a, b) => a / b,
      [wide, smooth],
    ),
    ...onIntegers(
      (a, b) => a.div(b),
      (a, b) => Math.trunc(a / b),
      ["i32", "i64"],
      -50,
    ),
  ],
  pow: [
    binary(
      (a, b) => a.pow(b),
      (a, b) => a ** b,
      [positive, wide],
    ),
    unary(
      (x) => x.pow(3),
      (x) => x ** 3,
    ),
    unary(
      (x) => x.pow(2),
      (x) => x ** 2,
    ),
  ],
  maximum: [
    binary((a, b) => a.maximum(b), Math.max, [(d, s) => d.away(s, 0.6, 2), (d, s) => d.real(s, -0.4, 0.4)]),
    ...onIntegers((a, b) => a.maximum(b), Math.max, ["i32", "i64"], -9),
  ],
  minimum: [
    binary((a, b) => a.minimum(b), Math.min, [(d, s) => d.away(s, 0.6, 2), (d, s) => d.real(s, -0.4, 0.4)]),
    ...onIntegers((a, b) => a.minimum(b), Math.min, ["i32", "i64"], -9),
  ],
  mod: [
    binary(
      (a, b) => a.mod(b),
      (a, b) => a % b,
      [(d, s) => d.away(s, 1.3, 1.7), (d, s) => d.away(s, 0.9, 1.1)],
    ),
    ...onIntegers(
      (a, b) => a.mod(b),
      (a, b) => ((a % b) + b) % b,
      ["i32", "i64"],
      -50,
    ),
  ],
  equal: comparison(
    (a, b) => a.equal(b),
    (a, b) => a === b,
  ),
  less: comparison(
    (a, b) => a.less(b),
    (a, b) => a < b,
  ),
  lessEqual: comparison(
    (a, b) => a.lessEqual(b),
    (a, b) => a <= b,
  ),
  greater: comparison(
    (a, b) => a.greater(b),
    (a, b) => a > b,
  ),
  greaterEqual: comparison(
    (a, b) => a.greaterEqual(b),
    (a, b) => a >= b,
  ),
  logicalAnd: binary(
    (a, b) => a.logicalAnd(b),
    (a, b) => a & b,
    [bools, bools],
    exact,
  ),
  logicalOr: binary(
    (a, b) => a.logicalOr(b),
    (a, b) => a | b,
    [bools, bools],
    exact,
  ),
  logicalXor: binary(
    (a, b) => a.logicalXor(b),
    (a, b) => a ^ b,
    [bools, bools],
    exact,
  ),
  bitwiseAnd: onIntegers(
    (a, b) => a.bitwiseAnd(b),
    (a, b) => a & b,
    ["i32", "i64", "u8", "u32"],
  ),
  bitwiseOr: onIntegers(
    (a, b) => a.bitwiseOr(b),
    (a, b) => a | b,
    ["i32", "i64", "u8", "u32"],
  ),
  bitwiseXor: onIntegers(
    (a, b) => a.bitwiseXor(b),
    (a, b) => a ^ b,
    ["i32", "i64", "u8", "u32"],
  ),
  shiftLeft: onIntegers(
    (a, b) => a.shiftLeft(b),
    (a, b) => a * 2 ** b,
    ["u32", "u64"],
  ),
  shiftRight: onIntegers(
    (a, b) => a.shiftRight(b),
    (a, b) => Math.floor(a / 2 ** b),
    ["u8", "u32", "u64"],
  ),
  where: {
    draw: (d) => {
      const shape = d.shape(1, 3);
      const inputs = [d.bools(d.broadcastable(shape)), d.real(shape), d.real(d.broadcastable(shape))];
      return {
        inputs,
        f: (c, a, b) => tw.where(c!, a!, b!),
        reference: elementwise((c, a, b) => (c ? a! : b!)),
      };
    },
  },
} satisfies Record<string, OpCase | readonly OpCase[]>;
