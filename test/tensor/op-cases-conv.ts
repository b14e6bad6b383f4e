/** Cases of convolutions, their adjoints and pooling, in 1 to 3 dimensions, against loops. */
import * as tw from "../../src/tensor/index.ts";
import { at, type Draw, type Nd, nd, type OpCase } from "./op-check.ts";

interface Geometry {
  readonly stride: number[];
  readonly dilation: number[];
  readonly padding: [number, number][];
  readonly groups: number;
}

interface Drawn extends Geometry {
  /** Shapes of the input, the kernel and the result. */
  readonly x: number[];
  readonly w: number[];
  readonly y: number[];
}

function drawGeometry(d: Draw, rank: number): Drawn {
  const each = <V>(f: (i: number) => V): V[] => Array.from({ length: rank }, (_, i) => f(i));
  const groups = d.int(1, 2);
  const kernel = each(() => d.int(1, rank === 3 ? 2 : 3));
  const stride = each(() => d.int(1, 2));
  const dilation = each(() => d.int(1, 2));
  const padding = each((): [number, number] => [d.int(0, 2), d.int(0, 2)]);
  const reach = kernel.map((k, i) => dilation[i]! * (k - 1) + 1);
  const size = each((i) => Math.max(1, reach[i]! - padding[i]![0] - padding[i]![1]) + d.int(0, 3));
  const out = size.map(
    (n, i) => Math.floor((n + padding[i]![0] + padding[i]![1] - reach[i]!) / stride[i]!) + 1,
  );
  const [n, c, k] = [d.int(1, 2), groups * d.int(1, 2), groups * d.int(1, 2)];
  return {
    stride,
    dilation,
    padding,
    groups,
    x: [n, c, ...size],
    w: [k, c / groups, ...kernel],
    y: [n, k, ...out],
  };
}

/** Calls back for every product of the trilinear form, with the indices into input, kernel and result. */
function eachTerm(g: Drawn, use: (x: number[], w: number[], y: number[]) => void): void {
  nd([...g.y, g.w[1]!, ...g.w.slice(2)], (...index) => {
    const y = index.slice(0, g.y.length);
    const [c, ...o] = index.slice(g.y.length) as [number, ...number[]];
    const group = Math.floor(y[1]! / (g.w[0]! / g.groups));
    const q = o.map((v, i) => y[i + 2]! * g.stride[i]! + v * g.dilation[i]! - g.padding[i]![0]);
    if (q.every((v, i) => v >= 0 && v < g.x[i + 2]!))
      use([y[0]!, group * g.w[1]! + c, ...q], [y[1]!, c, ...o], y);
    return 0;
  });
}

/** Adds up terms at string keys. */
function accumulate(shape: readonly number[], fill: (add: (index: number[], v: number) => void) => void): Nd {
  const sums = new Map<string, number>();
  fill((index, v) => sums.set(index.join(), (sums.get(index.join()) ?? 0) + v));
  return nd(shape, (...i) => sums.get(i.join()) ?? 0);
}

function convOf(g: Drawn): ReturnType<OpCase["draw"]>["reference"] {
  return (x, w, b) => {
    const y = accumulate(g.y, (add) => eachTerm(g, (i, j, k) => add(k, at(x!, i) * at(w!, j))));
    return b ? nd(g.y, (...i) => at(y, i) + b.data[i[1]!]!) : y;
  };
}

export const convCase = (rank: number): OpCase => ({
  name: `${rank}-d`,
  f64: false,
  draw: (d) => {
    const g = drawGeometry(d, rank);
    const bias = d.int(0, 1) ? [d.real([g.w[0]!])] : [];
    return {
      inputs: [d.real(g.x), d.real(g.w), ...bias],
      f: (x, w, b) => tw.conv(x!, w!, b, g),
      reference: convOf(g),
    };
  },
});

/** Large enough for the weight gradient's other path: more than 256 positions. */
export const largeConvCase: OpCase = {
  name: "2-d, large",
  f64: false,
  draw: (d) => {
    const [n, c, k] = [2, d.int(1, 2), d.int(1, 2)];
    const g: Drawn = {
      stride: [1, 1],
      dilation: [1, 1],
      padding: [
        [1, 1],
        [0, 2],
      ],
      groups: 1,
      x: [n, c, 17, 16],
      w: [k, c, 3, 3],
      y: [n, k, 17, 16],
    };
    return {
      inputs: [d.real(g.x), d.real(g.w)],
      f: (x, w) => tw.conv(x!, w!, undefined, g),
      reference: convOf(g),
    };
  },
};

/** Of a map whose points were doubled, which has gradients of its own. */
export const doubledConvCase: OpCase = {
  name: "2-d",
  f64: false,
  draw: (d) => {
    const [n, c, k] = [d.int(1, 2), d.int(1, 3), d.int(1, 3)];
    const small = [n, c, d.int(1, 4), d.int(1, 4)];
    const size = [2 * small[2]!, 2 * small[3]!];
    const g: Drawn = {
      stride: [1, 1],
      dilation: [1, 1],
      padding: [
        [1, 1],
        [1, 1],
      ],
      groups: 1,
      x: [n, c, ...size],
      w: [k, c, 3, 3],
      y: [n, k, ...size],
    };
    const bias = d.int(0, 1) ? [d.real([k])] : [];
    return {
      inputs: [d.real(small), d.real(g.w), ...bias],
      f: (x, w, b) => tw.conv(tw.upsample(x!, 2), w!, b, g),
      reference: (x, w, b) => {
        const doubled = nd(g.x, (i, j, p, q) => at(x!, [i!, j!, p! >> 1, q! >> 1]));
        return convOf(g)!({ ...x!, ...doubled }, w!, b!);
      },
    };
  },
};

export const convTransposeCase = (rank: number): OpCase => ({
  name: `${rank}-d`,
  f64: false,
  draw: (d) => {
    const g = drawGeometry(d, rank);
    const outputPadding = g.x
      .slice(2)
      .map(
        (n, i) =>
          n -
          ((g.y[i + 2]! - 1) * g.stride[i]! -
            g.padding[i]![0] -
            g.padding[i]![1] +
            g.dilation[i]! * (g.w[i + 2]! - 1) +
            1),
      );
    const bias = d.int(0, 1) ? [d.real([g.x[1]!])] : [];
    return {
      inputs: [d.real(g.y), d.real(g.w), ...bias],
      f: (y, w, b) => tw.convTranspose(y!, w!, b, { ...g, outputPadding }),
      reference: (y, w, b) => {
        const x = accumulate(g.x, (add) => eachTerm(g, (i, j, k) => add(i, at(y!, k) * at(w!, j))));
        return b ? nd(g.x, (...i) => at(x, i) + b.data[i[1]!]!) : x;
      },
    };
  },
});

export const weightGradCase = (rank: number): OpCase => ({
  name: `${rank}-d`,
  f64: false,
  draw: (d) => {
    const g = drawGeometry(d, rank);
    return {
      inputs: [d.real(g.x), d.real(g.y)],
      f: (x, y) => tw.vjp((w: tw.Tensor) => tw.conv(x!, w, undefined, g), tw.zeros(g.w, x!.dtype))[1](y!)[0],
      reference: (x, y) => accumulate(g.w, (add) => eachTerm(g, (i, j, k) => add(j, at(x!, i) * at(y!, k)))),
    };
  },
});

export const poolCase = (kind: "avgPool" | "maxPool", rank: number): OpCase => ({
  name: `${rank}-d`,
  f64: false,
  draw: (d) => {
    const window = Array.from({ length: rank }, () => d.int(1, 3));
    const stride = window.map(() => d.int(1, 3));
    const padding = window.map((k) => d.int(0, Math.floor(k / 2)));
    const size = window.map((k) => k + d.int(0, 3));
    const out = size.map((n, i) => Math.floor((n + 2 * padding[i]! - window[i]!) / stride[i]!) + 1);
    const lead = [d.int(1, 2), d.int(1, 2)];
    const x = kind === "maxPool" ? d.spaced([...lead, ...size]) : d.real([...lead, ...size]);
    return {
      inputs: [x],
      f: (t) => (kind === "avgPool" ? tw.avgPool : tw.maxPool)(t!, window, { stride, padding }),
      reference: (t) =>
        nd([...lead, ...out], (n, c, ...p) => {
          const values = nd(window, (...o) => {
            const q = o.map((v, i) => p[i]! * stride[i]! + v - padding[i]!);
            const inside = q.every((v, i) => v >= 0 && v < size[i]!);
            return inside ? at(t!, [n!, c!, ...q]) : kind === "avgPool" ? 0 : Number.NEGATIVE_INFINITY;
          }).data;
          return kind === "avgPool" ? values.reduce((a, b) => a + b, 0) / values.length : Math.max(...values);
        }),
    };
  },
});

export const upsampleCase = (rank: number): OpCase => ({
  name: `${rank}-d`,
  f64: false,
  draw: (d) => {
    const factors = Array.from({ length: rank }, () => d.int(1, 3));
    const x = d.real([d.int(1, 2), d.int(1, 2), ...factors.map(() => d.int(1, 3))]);
    return {
      inputs: [x],
      f: (t) => tw.upsample(t!, factors),
      reference: (t) =>
        nd(
          x.shape.map((n, i) => (i < 2 ? n : n * factors[i - 2]!)),
          (...i) =>
            at(
              t!,
              i.map((v, k) => (k < 2 ? v : Math.floor(v / factors[k - 2]!))),
            ),
        ),
    };
  },
});
