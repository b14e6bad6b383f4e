/** Functions composed of operations: values against loops, and derivatives. */
import * as tw from "../../src/tensor/index.ts";
import { einsumCases } from "./composite-einsum.ts";
import { linearCases } from "./composite-linear.ts";
import {
  alongAxis,
  axisCase,
  reduced,
  reduction,
  softmaxOf,
  spaced,
  unary,
  withZero,
} from "./op-cases-kit.ts";
import { at, type Draw, type Nd, nd, type OpCase, sumOver } from "./op-check.ts";

const mean = (v: readonly number[]): number => v.reduce((a, b) => a + b, 0) / v.length;
const varianceOf = (v: readonly number[], correction = 0): number =>
  v.reduce((s, x) => s + (x - mean(v)) ** 2, 0) / (v.length - correction);
const nonzero = (d: Draw, s: readonly number[]) => d.away(s);

const padCase = (mode: tw.BorderMode): OpCase => ({
  name: mode,
  draw: (d) => {
    const x = d.real(d.shape(1, 3).map((n) => n + 2));
    const pads = x.shape.map((): [number, number] => [d.int(0, 2), d.int(0, 2)]);
    return {
      inputs: [x],
      f: (t) => t!.pad(pads, mode),
      reference: (t) =>
        nd(
          x.shape.map((n, i) => n + pads[i]![0] + pads[i]![1]),
          (...i) => {
            const from = i.map((v, k) => {
              const [p, last] = [v - pads[k]![0], x.shape[k]! - 1];
              if (mode === "circular") return (p + x.shape[k]!) % x.shape[k]!;
              if (mode === "replicate") return Math.min(last, Math.max(0, p));
              return p < 0 ? -p : p > last ? 2 * last - p : p;
            });
            return at(t!, from);
          },
        ),
    };
  },
});

const attentionCase = (mask: "none" | "bool" | "float"): OpCase => ({
  name: `${mask} mask`,
  draw: (d) => {
    const [q, k, depth, e] = [d.int(1, 3), d.int(1, 4), d.int(1, 4), d.int(1, 3)];
    const batch = d.shape(0, 2, 2);
    const extra =
      mask === "none"
        ? []
        : mask === "float"
          ? [d.real([q, k])]
          : [{ ...nd([q, k], (r, c) => (c === 0 ? 1 : (r + c) % 2)), dtype: "bool" as const }];
    return {
      inputs: [
        d.real([...batch, q, depth]),
        d.real([...batch, k, depth]),
        d.real([...batch, k, e]),
        ...extra,
      ],
      f: (a, b, v, m) => tw.attention(a!, b!, v!, m ? { mask: m } : {}),
      reference: (a, b, v, m) =>
        nd([...batch, q, e], (...i) => {
          const [head, r, c] = [i.slice(0, -2), i.at(-2)!, i.at(-1)!];
          const scores = Array.from({ length: k }, (_, j) => {
            const s =
              sumOver([depth], (z) => at(a!, [...head, r, z!]) * at(b!, [...head, j, z!])) / Math.sqrt(depth);
            const bias = m ? at(m, [r, j]) : 0;
            return mask === "bool" ? (bias ? s : -1e9) : s + bias;
          });
          return softmaxOf(scores).reduce((t, p, j) => t + p * at(v!, [...head, j, c]), 0);
        }),
    };
  },
});

const batchNormCase: OpCase = {
  tolerance: 2e-5,
  draw: (d) => {
    const c = d.int(1, 3);
    const x = d.real([d.int(2, 3), c, ...d.shape(1, 2, 3)]);
    return {
      inputs: [x, d.real([c]), d.real([c])],
      f: (t, w, b) => tw.batchNorm(t!, w!, b!, undefined, 1e-3),
      reference: (t, w, b) =>
        nd(x.shape, (...i) => {
          const own = nd(x.shape.with(1, 1), (...j) => at(t!, j.with(1, i[1]!))).data;
          return (
            ((at(t!, i) - mean(own)) / Math.sqrt(varianceOf(own) + 1e-3)) * w!.data[i[1]!]! + b!.data[i[1]!]!
          );
        }),
    };
  },
};

const rmsNormCase: OpCase = {
  draw: (d) => {
    const x = d.real([...d.shape(0, 2), d.int(2, 5)]);
    return {
      inputs: [x, d.real([x.shape.at(-1)!])],
      f: (t, w) => tw.rmsNorm(t!, w, 1e-3),
      reference: (t, w) =>
        alongAxis(t!, x.shape.length - 1, (v) =>
          v.map((y, i) => (y * w!.data[i]!) / Math.sqrt(mean(v.map((z) => z * z)) + 1e-3)),
        ),
    };
  },
};

const setSliceCase: OpCase = {
  draw: (d) => {
    const x = d.real(d.shape(1, 3));
    const size = x.shape.map((n) => d.int(1, n));
    const starts = x.shape.map((n, i) => d.int(0, n - size[i]!));
    return {
      inputs: [x, d.real(size)],
      f: (t, v) => t!.setSlice(starts, v!),
      reference: (t, v) =>
        nd(x.shape, (...i) => {
          const j = i.map((k, axis) => k - starts[axis]!);
          return j.every((k, axis) => k >= 0 && k < size[axis]!) ? at(v!, j) : at(t!, i);
        }),
    };
  },
};

const oneHotCase: OpCase = {
  order: 0,
  draw: (d) => {
    const indices = d.ints(d.shape(0, 2), -1, 4);
    return {
      inputs: [indices],
      f: (i) => tw.oneHot(i!, 4),
      reference: (i) => nd([...indices.shape, 4], (...j) => (at(i!, j.slice(0, -1)) === j.at(-1) ? 1 : 0)),
    };
  },
};

const tileCase: OpCase = {
  draw: (d) => {
    const x = d.real(d.shape(1, 3, 3));
    const repeats = x.shape.map(() => d.int(1, 3));
    return {
      inputs: [x],
      f: (t) => t!.tile(repeats),
      reference: (t) =>
        nd(
          x.shape.map((n, i) => n * repeats[i]!),
          (...i) =>
            at(
              t!,
              i.map((v, k) => v % x.shape[k]!),
            ),
        ),
    };
  },
};

const linearCase: OpCase = {
  draw: (d) => {
    const [i, o] = [d.int(1, 4), d.int(1, 4)];
    const lead = d.shape(0, 3, 3);
    return {
      inputs: [d.real([...lead, i]), d.real([o, i]), d.real([o])],
      f: (x, w, b) => tw.linear(x!, w!, b!),
      reference: (x, w, b) =>
        nd(
          [...lead, o],
          (...j) =>
            b!.data[j.at(-1)!]! +
            sumOver([i], (k) => at(x!, [...j.slice(0, -1), k!]) * at(w!, [j.at(-1)!, k!])),
        ),
    };
  },
};

const gridCase: OpCase = {
  draw: (d) => {
    const options = { padding: d.pick("zeros", "border", "reflection"), alignCorners: true } as const;
    const x = d.real([2, d.int(1, 2), 4, 5]);
    // Away from whole positions, where the slope jumps.
    const cell = d.ints([2, 3, 2], 0, 2);
    const part = d.real([2, 3, 2], 0.2, 0.8);
    const grid = nd([2, 3, 2], (...i) =>
      Math.fround(((at(cell, i) + at(part, i)) / (i[2] === 0 ? 4 : 3)) * 2 - 1),
    );
    return {
      inputs: [x, { ...grid, dtype: "f32" }],
      f: (t, g) => tw.gridSample(t!, g!, options),
    };
  },
};

const resizeCase = (mode: tw.ResizeMode, antialias = false): OpCase => ({
  name: antialias ? `${mode}, antialias` : mode,
  draw: (d) => {
    const to = [d.int(1, 5), d.int(1, 5)];
    return {
      inputs: [d.real([1, 2, d.int(1, 5), d.int(1, 5)])],
      f: (x) => x!.resize(to, { mode, antialias }),
    };
  },
  f64: mode === "bilinear" || mode === "bicubic",
});

const scatterAddCase: OpCase = {
  draw: (d) => {
    const x = d.real(d.shape(1, 3));
    const rows = d.ints([d.int(1, 5)], 0, x.shape[0]! - 1);
    return {
      inputs: [x, rows, d.real([rows.data.length, ...x.shape.slice(1)])],
      f: (t, r, u) => tw.scatterAdd(t!, r!, u!),
      reference: (t, r, u) =>
        nd(x.shape, (...i) =>
          r!.data.reduce((s, row, k) => (row === i[0] ? s + at(u!, i.with(0, k)) : s), at(t!, i)),
        ),
    };
  },
};

const shuffleCase: OpCase = {
  draw: (d) => {
    const factor = d.int(1, 3);
    return {
      inputs: [d.real([1, factor ** 2 * d.int(1, 2), 2, 3])],
      f: (x) => x!.pixelShuffle(factor),
      reference: (x) =>
        nd([1, x!.shape[1]! / factor ** 2, 2 * factor, 3 * factor], (n, c, i, j) =>
          at(x!, [
            n!,
            c! * factor ** 2 + (i! % factor) * factor + (j! % factor),
            Math.floor(i! / factor),
            Math.floor(j! / factor),
          ]),
        ),
    };
  },
};

const foldAxis =
  (f: (v: number[]) => number) =>
  (x: Nd, axis: number): Nd =>
    reduced(x, [axis], false, f);
export const COMPOSITES: Record<string, OpCase | readonly OpCase[]> = {
  prod: [
    axisCase(
      (x, a) => x.prod(a),
      foldAxis((v) => v.reduce((p, q) => p * q, 1)),
      nonzero,
    ),
    {
      ...axisCase(
        (x, a) => x.prod(a),
        foldAxis((v) => v.reduce((p, q) => p * q, 1)),
        withZero,
      ),
      name: "with a zero",
    },
  ],
  exclusive: [
    axisCase(
      (x, a) => x.cumprod(a, { exclusive: true }),
      (x, a) => alongAxis(x, a, (v) => v.map((_, i) => v.slice(0, i).reduce((p, q) => p * q, 1))),
      withZero,
    ),
    axisCase(
      (x, a) => x.cumsum(a, { exclusive: true }),
      (x, a) => alongAxis(x, a, (v) => v.map((_, i) => v.slice(0, i).reduce((p, q) => p + q, 0))),
    ),
    axisCase(
      (x, a) => x.cumsum(a, { exclusive: true, reverse: true }),
      (x, a) => alongAxis(x, a, (v) => v.map((_, i) => v.slice(i + 1).reduce((p, q) => p + q, 0))),
    ),
  ],
  logSumExp: reduction(
    (x, axes, keep) => x.logSumExp(axes, keep),
    (v) => Math.log(v.reduce((s, x) => s + Math.exp(x), 0)),
  ),
  mean: reduction((x, axes, keep) => x.mean(axes, keep), mean),
  variance: reduction((x, axes, keep) => x.variance(axes, keep), varianceOf),
  norm: reduction(
    (x, axes, keep) => x.norm(axes, keep, 0.01),
    (v) => Math.sqrt(v.reduce((s, x) => s + x * x, 0.01)),
  ),
  einsum: einsumCases,
  roll: axisCase(
    (x, a) => x.roll(2, a),
    (x, a) =>
      nd(x.shape, (...i) => at(x, i.with(a, (((i[a]! - 2) % x.shape[a]!) + x.shape[a]!) % x.shape[a]!))),
  ),
  tile: tileCase,
  repeat: axisCase(
    (x, a) => x.repeat(3, a),
    (x, a) => nd(x.shape.with(a, x.shape[a]! * 3), (...i) => at(x, i.with(a, Math.floor(i[a]! / 3)))),
  ),
  ...linearCases,
  pad: [padCase("reflect"), padCase("replicate"), padCase("circular")],
  setSlice: setSliceCase,
  oneHot: oneHotCase,
  select: axisCase(
    (x, a) => x.select(a, -1),
    (x, a) => ({ ...alongAxis(x, a, (v) => [v.at(-1)!]), shape: x.shape.filter((_, i) => i !== a) }),
  ),
  stack: axisCase(
    (x, a) => tw.stack([x, x.mul(2)], a),
    (x, a) =>
      nd(
        [...x.shape.slice(0, a), 2, ...x.shape.slice(a)],
        (...i) => at(x, [...i.slice(0, a), ...i.slice(a + 1)]) * (i[a]! + 1),
      ),
  ),
  split: axisCase(
    (x, a) => tw.split(x.repeat(2, a), 2, a),
    (x, a) =>
      [0, 1].map((half) =>
        nd(x.shape, (...i) => at(x, i.with(a, Math.floor((i[a]! + half * x.shape[a]!) / 2)))),
      ),
  ),
  sortAscending: axisCase(
    (x, a) => x.sort(a)[0],
    (x, a) => alongAxis(x, a, (v) => [...v].sort((p, q) => p - q)),
    spaced,
  ),
  clipTo: unary(
    (x) => x.clipTo(x.mul(0).sub(0.2), x.mul(0).add(0.2)),
    (v) => Math.min(0.2, Math.max(-0.2, v)),
    nonzero,
  ),
  linear: linearCase,
  dot: {
    draw: (d) => ({
      inputs: [d.real([4]), d.real([4])],
      f: (a, b) => tw.dot(a!, b!),
      reference: (a, b) => nd([], () => sumOver([4], (i) => a!.data[i!]! * b!.data[i!]!)),
    }),
  },
  scatterAdd: scatterAddCase,
  batchNorm: batchNormCase,
  rmsNorm: rmsNormCase,
  instanceNorm: {
    draw: (d) => ({
      inputs: [d.real([2, 2, 2, 3])],
      f: (x) => tw.instanceNorm(x!, undefined, undefined, 1e-2),
    }),
  },
  layerNorm: {
    draw: (d) => ({
      inputs: [d.real([2, 5]), d.real([5]), d.real([5])],
      f: (x, w, b) => tw.layerNorm(x!, w, b, 1e-2),
    }),
  },
  groupNormPlain: {
    draw: (d) => ({ inputs: [d.real([2, 4, 3])], f: (x) => tw.groupNorm(x!, 2, undefined, undefined, 1e-2) }),
  },
  attention: [attentionCase("none"), attentionCase("bool"), attentionCase("float")],
  gridSample: gridCase,
  resize: [
    resizeCase("nearest"),
    resizeCase("bilinear"),
    resizeCase("bicubic"),
    resizeCase("area"),
    resizeCase("bilinear", true),
    resizeCase("bicubic", true),
  ],
  pixelShuffle: shuffleCase,
  pixelUnshuffle: unary(
    (x) => x.reshape([1, 1, -1, 1]).repeat(2, 2).repeat(2, 3).pixelUnshuffle(2).sum(1).reshape(x.shape),
    (v) => 4 * v,
  ),
};
