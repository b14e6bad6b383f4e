/** At least one case for every operation of the table: a new operation without one does not compile. */
import * as tw from "../../src/tensor/index.ts";
import type { OpName } from "../../src/tensor/ops/table.ts";
import {
  convCase,
  convTransposeCase,
  doubledConvCase,
  largeConvCase,
  poolCase,
  upsampleCase,
  weightGradCase,
} from "./op-cases-conv.ts";
import { elementwiseCases } from "./op-cases-elementwise.ts";
import {
  alongAxis,
  argBest,
  axisCase,
  elementwise,
  flag,
  integers,
  jointShape,
  reduction,
  softmaxOf,
  spaced,
  type T,
  unary,
  wide,
  withZero,
} from "./op-cases-kit.ts";
import { quantCases } from "./op-cases-quant.ts";
import * as structure from "./op-cases-structure.ts";
import { at, nd, type OpCase, sumOver } from "./op-check.ts";

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

const headsAttentionCase: OpCase = {
  draw: (d) => {
    const [n, heads, q, k] = [d.int(1, 2), d.int(1, 3), d.int(1, 4), d.int(1, 5)];
    const [depth, e] = [d.int(1, 3), d.int(1, 3)];
    const scale = d.pick(undefined, 0.7);
    return {
      inputs: [d.real([n, q, heads * depth]), d.real([n, k, heads * depth]), d.real([n, k, heads * e])],
      f: (a, b, v) => tw.headsAttention(a!, b!, v!, heads, scale),
      reference: (a, b, v) =>
        nd([n, q, heads * e], (i, r, c) => {
          const h = Math.floor(c! / e);
          const scores = Array.from(
            { length: k },
            (_, j) =>
              (scale ?? 1 / Math.sqrt(depth)) *
              sumOver([depth], (z) => at(a!, [i!, r!, h * depth + z!]) * at(b!, [i!, j, h * depth + z!])),
          );
          return softmaxOf(scores).reduce((t, p, j) => t + p * at(v!, [i!, j, c!]), 0);
        }),
    };
  },
};

const weightedSumCase: OpCase = {
  draw: (d) => {
    const shape = d.shape();
    const weights = Array.from({ length: d.int(1, 3) }, () => d.pick(1, -0.75, 2.5, 1 / 3));
    return {
      inputs: weights.map(() => d.real(shape)),
      f: (...xs) => tw.sumOfWeighted(xs, weights),
      reference: (...xs) => nd(shape, (...i) => xs.reduce((sum, x, k) => sum + weights[k]! * at(x, i), 0)),
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

const groupNormCase: OpCase = {
  tolerance: 2e-5,
  draw: (d) => {
    const groups = d.int(1, 3);
    const channels = groups * d.int(1, 2);
    const x = d.real([d.int(1, 2), channels, ...d.shape(0, 2, 3), d.int(3, 4)]);
    const per = channels / groups;
    return {
      inputs: [x, d.real([channels]), d.real([channels])],
      f: (t, w, b) => tw.groupNorm(t!, groups, w!, b!, 1e-3),
      reference: (t, w, b) =>
        nd(x.shape, (n, c, ...p) => {
          const first = Math.floor(c! / per) * per;
          const group = nd([per, ...x.shape.slice(2)], (k, ...q) => at(t!, [n!, first + k!, ...q])).data;
          const mean = group.reduce((s, v) => s + v, 0) / group.length;
          const variance = group.reduce((s, v) => s + (v - mean) ** 2, 0) / group.length;
          return ((at(t!, [n!, c!, ...p]) - mean) / Math.sqrt(variance + 1e-3)) * w!.data[c!]! + b!.data[c!]!;
        }),
    };
  },
};

const exact = { order: 0 } as const;
const noF64 = { f64: false } as const;
const truncated: OpCase = {
  ...exact,
  draw: (d) => {
    const to = d.pick("i32", "i64", "i8");
    return { inputs: [d.spaced(d.shape())], f: (x) => x!.cast(to), reference: elementwise(Math.trunc) };
  },
};

export const CASES: Record<OpName, OpCase | readonly OpCase[]> = {
  ...structure.shapeCases,
  ...elementwiseCases,
  ...quantCases,
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
    exact,
  ),
  argmin: axisCase(
    (x, a) => x.argmin(a, true),
    (x, a) => alongAxis(x, a, (v) => [argBest(v, (p, q) => p < q)]),
    (d, s) => d.ints(s, 0, 3, "f32"),
    exact,
  ),
  cumsum: axisCase(
    (x, a) => x.cumsum(a),
    (x, a) => alongAxis(x, a, (v) => v.map((_, i) => v.slice(0, i + 1).reduce((p, q) => p + q, 0))),
  ),
  cumprod: axisCase(
    (x, a) => x.cumprod(a),
    (x, a) => alongAxis(x, a, (v) => v.map((_, i) => v.slice(0, i + 1).reduce((p, q) => p * q, 1))),
    withZero,
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
  convDoubled: doubledConvCase,
  convTranspose: [convTransposeCase(1), convTransposeCase(2), convTransposeCase(3)],
  convWeightGrad: [weightGradCase(1), weightGradCase(2), weightGradCase(3)],
  headsAttention: headsAttentionCase,
  avgPool: [poolCase("avgPool", 1), poolCase("avgPool", 2), poolCase("avgPool", 3)],
  maxPool: [poolCase("maxPool", 1), poolCase("maxPool", 2), poolCase("maxPool", 3)],
  upsample: [upsampleCase(1), upsampleCase(2), upsampleCase(3)],
  standardize: standardizeCase,
  groupNorm: groupNormCase,

  gather: structure.gatherCase,
  gatherElements: structure.gatherElementsCase,
  scatterElements: (["none", "add", "max", "min"] as const).map(structure.scatterElementsCase),
  gatherND: structure.gatherNDCase,
  scatterND: [
    ...(["none", "add", "max", "min"] as const).map(structure.scatterNDCase),
    structure.scatterNDAddDeepCase,
  ],

  weightedSum: weightedSumCase,

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
        (y: T) => y.exp(),
        (ct, [y]) => [ct.mul(y.exp())],
      )(x),
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
      exact,
    ),
  ],
};
