/** At least one case for every operation of the table: a new operation without one does not compile. */
import * as tw from "../../src/tensor/index.ts";
import type { OpName } from "../../src/tensor/ops/table.ts";
import { convCase, convTransposeCase, largeConvCase, poolCase, weightGradCase } from "./op-cases-conv.ts";
import {
  alongAxis,
  argBest,
  axisCase,
  binary,
  bools,
  elementwise,
  erf,
  flag,
  geluTanh,
  inside,
  integers,
  jointShape,
  positive,
  reduction,
  sigmoid,
  smooth,
  softmaxOf,
  spaced,
  type T,
  unary,
  wide,
} from "./op-cases-kit.ts";
import * as structure from "./op-cases-structure.ts";
import { at, nd, type OpCase, sumOver } from "./op-check.ts";

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

const matmulCase: OpCase = {
  draw: (d) => {
    const [m, k, n] = [d.int(1, 4), d.int(1, 4), d.int(1, 4)];
    const [transA, transB, alpha] = [d.int(0, 1) === 1, d.int(0, 1) === 1, d.pick(1, 0.5, -1.25)];
    const batch = d.shape(0, 2, 3);
    const a = d.real([...d.broadcastable(batch), ...(transA ? [k, m] : [m, k])]);
    const b = d.real([...(d.int(0, 1) ? batch : d.broadcastable(batch)), ...(transB ? [n, k] : [k, n])]);
    const lead = jointShape([a, b].map((x) => ({ shape: x.shape.slice(0, -2), data: [] })));
    return {
      inputs: [a, b],
      f: (x, y) => tw.matmul(x!, y!, { transA, transB, alpha }),
      reference: (x, y) =>
        nd([...lead, m, n], (...i) => {
          const [head, r, c] = [i.slice(0, -2), i.at(-2)!, i.at(-1)!];
          return (
            alpha *
            sumOver(
              [k],
              (j) =>
                at(x!, [...head, ...(transA ? [j!, r] : [r, j!])]) *
                at(y!, [...head, ...(transB ? [c, j!] : [j!, c])]),
            )
          );
        }),
    };
  },
};

const standardizeCase: OpCase = {
  tolerance: 2e-5,
  draw: (d) => ({
    inputs: [d.real([...d.shape(0, 2, 3), d.int(3, 6)])],
    f: (x) => tw.standardize(x!, 1e-3),
    reference: (x) =>
      alongAxis(x!, x!.shape.length - 1, (v) => {
        const mean = v.reduce((a, b) => a + b, 0) / v.length;
        const variance = v.reduce((a, b) => a + (b - mean) ** 2, 0) / v.length;
        return v.map((y) => (y - mean) / Math.sqrt(variance + 1e-3));
      }),
  }),
};

const specials = {
  shape: [5],
  data: [0, 1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  dtype: "f32",
} as const;
const smallScalar = { order: 0 } as const;
const noF64 = { f64: false } as const;
const truncated: OpCase = {
  ...smallScalar,
  draw: (d) => {
    const to = d.pick("i32", "i64", "i8");
    return { inputs: [d.spaced(d.shape())], f: (x) => x!.cast(to), reference: elementwise(Math.trunc) };
  },
};

export const CASES: Record<OpName, OpCase | readonly OpCase[]> = {
  ...structure.shapeCases,
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
  tan: unary((x) => x.tan(), Math.tan, inside),
  asin: unary((x) => x.asin(), Math.asin, inside),
  acos: unary((x) => x.acos(), Math.acos, inside),
  atan: unary((x) => x.atan(), Math.atan),
  tanh: unary((x) => x.tanh(), Math.tanh),
  erf: unary((x) => x.erf(), erf),
  sigmoid: unary((x) => x.sigmoid(), sigmoid),
  softplus: [
    unary(
      (x) => x.softplus(),
      (x) => Math.log1p(Math.exp(x)),
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
    smallScalar,
  ),
  bitwiseNot: (["i32", "i64", "i8"] as const).map((t) =>
    unary(
      (x) => x.bitwiseNot(),
      (v) => ~v,
      integers(-100, 100, t),
      { ...smallScalar, name: t },
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
      smallScalar,
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
    smallScalar,
  ),
  logicalOr: binary(
    (a, b) => a.logicalOr(b),
    (a, b) => a | b,
    [bools, bools],
    smallScalar,
  ),
  logicalXor: binary(
    (a, b) => a.logicalXor(b),
    (a, b) => a ^ b,
    [bools, bools],
    smallScalar,
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

  sum: reduction(
    (x, axes, keep) => x.sum(axes, keep),
    (v) => v.reduce((a, b) => a + b, 0),
  ),
  max: reduction(
    (x, axes, keep) => x.max(axes, keep),
    (v) => Math.max(...v),
    spaced,
  ),
  min: reduction(
    (x, axes, keep) => x.min(axes, keep),
    (v) => Math.min(...v),
    spaced,
  ),
  argmax: axisCase(
    (x, a) => x.argmax(a, true),
    (x, a) => alongAxis(x, a, (v) => [argBest(v, (p, q) => p > q)]),
    (d, s) => d.ints(s, 0, 3, "f32"),
    smallScalar,
  ),
  argmin: axisCase(
    (x, a) => x.argmin(a, true),
    (x, a) => alongAxis(x, a, (v) => [argBest(v, (p, q) => p < q)]),
    (d, s) => d.ints(s, 0, 3, "f32"),
    smallScalar,
  ),
  cumsum: axisCase(
    (x, a) => x.cumsum(a),
    (x, a) => alongAxis(x, a, (v) => v.map((_, i) => v.slice(0, i + 1).reduce((p, q) => p + q, 0))),
  ),
  topK: axisCase(
    (x, a) => x.sort(a, true),
    (x, a) => {
      const sorted = (v: number[]) => v.map((y, i) => [y, i] as const).sort((p, q) => q[0] - p[0]);
      return [
        alongAxis(x, a, (v) => sorted(v).map((p) => p[0])),
        alongAxis(x, a, (v) => sorted(v).map((p) => p[1])),
      ];
    },
    spaced,
  ),
  softmax: axisCase(
    (x, a) => x.softmax(a),
    (x, a) => alongAxis(x, a, softmaxOf),
  ),
  logSoftmax: axisCase(
    (x, a) => x.logSoftmax(a),
    (x, a) => alongAxis(x, a, (v) => softmaxOf(v).map(Math.log)),
  ),

  matmul: matmulCase,
  conv: [convCase(1), convCase(2), convCase(3), largeConvCase],
  convTranspose: [convTransposeCase(1), convTransposeCase(2), convTransposeCase(3)],
  convWeightGrad: [weightGradCase(1), weightGradCase(2), weightGradCase(3)],
  avgPool: [poolCase("avgPool", 1), poolCase("avgPool", 2), poolCase("avgPool", 3)],
  maxPool: [poolCase("maxPool", 1), poolCase("maxPool", 2), poolCase("maxPool", 3)],
  standardize: standardizeCase,

  gather: structure.gatherCase,
  gatherElements: structure.gatherElementsCase,
  scatterElements: [structure.scatterElementsCase("none"), structure.scatterElementsCase("add")],
  gatherND: structure.gatherNDCase,
  scatterND: [structure.scatterNDCase("none"), structure.scatterNDCase("add")],

  alias: unary(
    (x) => tw.grad((y: T) => y.mul(x).square().sum())(x),
    (x) => 2 * x ** 3,
    wide,
  ),
  stopGradient: unary(
    (x) => x.stopGradient(),
    (x) => x,
    wide,
    { order: 0 },
  ),
  barrier: {
    draw: (d) => ({
      inputs: [d.real(d.shape()), d.real(d.shape())],
      f: (x, token) => tw.barrier(x!, token!).exp(),
      reference: (x) => nd(x!.shape, (...i) => Math.exp(at(x!, i))),
    }),
    // The token's own gradient is zero.
  },
  customGradient: unary(
    (x) =>
      tw.customGradient(
        (y) => y!.exp(),
        ([ct], [y]) => [ct!.mul(y!.exp())],
      )(x)[0]!,
    Math.exp,
  ),
  cast: [
    truncated,
    unary(
      (x) => x.cast("f64").square().cast("f32"),
      (x) => x * x,
      wide,
      noF64,
    ),
    unary(
      (x) => x.cast("bool"),
      (x) => flag(x !== 0),
      integers(-1, 1, "f32"),
      smallScalar,
    ),
  ],
};
