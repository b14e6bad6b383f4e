/** Building blocks of the cases: drawn inputs by domain, and references for families of operations. */
import type * as tw from "../../src/tensor/index.ts";
import { at, type Draw, type Input, type Nd, nd, type OpCase } from "./op-check.ts";

export type T = tw.Tensor;

export function jointShape(xs: readonly Nd[]): number[] {
  const rank = Math.max(...xs.map((x) => x.shape.length));
  return Array.from({ length: rank }, (_, i) =>
    Math.max(...xs.map((x) => x.shape[i - rank + x.shape.length] ?? 1)),
  );
}
/** A reference that works element by element, with broadcasting. */
export const elementwise =
  (f: (...vs: number[]) => number) =>
  (...xs: Nd[]): Nd =>
    nd(jointShape(xs), (...i) => f(...xs.map((x) => at(x, i))));

export type Domain = (d: Draw, shape: readonly number[]) => Input;
export const wide: Domain = (d, s) => d.real(s);
export const positive: Domain = (d, s) => d.real(s, 0.4, 2);
export const inside: Domain = (d, s) => d.real(s, -0.8, 0.8);
export const smooth: Domain = (d, s) => d.away(s);
export const spaced: Domain = (d, s) => d.spaced(s);

export function unary(
  f: (x: T) => T,
  reference: (x: number) => number,
  domain: Domain = wide,
  options: Omit<OpCase, "draw"> = {},
): OpCase {
  return {
    ...options,
    draw: (d) => ({ inputs: [domain(d, d.shape(0, 3))], f, reference: elementwise(reference) }),
  };
}

export function binary(
  f: (a: T, b: T) => T,
  reference: (a: number, b: number) => number,
  domains: readonly [Domain, Domain] = [wide, wide],
  options: Omit<OpCase, "draw"> = {},
): OpCase {
  return {
    ...options,
    draw: (d) => {
      const shape = d.shape(0, 3);
      const [a, b] = [domains[0](d, shape), domains[1](d, d.broadcastable(shape))];
      return d.int(0, 1)
        ? { inputs: [a, b], f, reference: elementwise(reference) }
        : { inputs: [b, a], f: (y, x) => f(x!, y!), reference: (y, x) => elementwise(reference)(x!, y!) };
    },
  };
}

export const flag = (v: boolean): number => (v ? 1 : 0);
export const integers =
  (low: number, high: number, dtype: tw.DType): Domain =>
  (d, s) =>
    d.ints(s, low, high, dtype);
export const bools: Domain = (d, s) => d.bools(s);
/** erf by its Taylor series, in double precision enough for |x| < 3. */
export function erf(x: number): number {
  let [term, total] = [x, x];
  for (let n = 1; n < 60; n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}
export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
export const geluTanh = (x: number): number =>
  0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

export const drawAxes = (d: Draw, rank: number): number[] | undefined =>
  d.int(0, 2) === 0 ? undefined : d.distinct(rank, d.int(1, rank));

/** Reference of a reduction: `f` gets the values along the reduced axes. */
export function reduced(
  x: Nd,
  axes: readonly number[] | undefined,
  keep: boolean,
  f: (v: number[]) => number,
): Nd {
  const list = axes ?? x.shape.map((_, i) => i);
  const full = nd(
    x.shape.map((n, i) => (list.includes(i) ? 1 : n)),
    (...i) =>
      f(
        nd(
          x.shape.map((n, k) => (list.includes(k) ? n : 1)),
          (...j) =>
            at(
              x,
              i.map((v, k) => v + j[k]!),
            ),
        ).data as number[],
      ),
  );
  return keep ? full : { ...full, shape: x.shape.filter((_, i) => !list.includes(i)) };
}

export function reduction(
  f: (x: T, axes: number[] | undefined, keep: boolean) => T,
  reference: (v: number[]) => number,
  domain: Domain = wide,
  options: Omit<OpCase, "draw"> = {},
): OpCase {
  return {
    ...options,
    draw: (d) => {
      const x = domain(d, d.shape(1, 4, 3));
      const [axes, keep] = [drawAxes(d, x.shape.length), d.int(0, 1) === 1];
      return {
        inputs: [x],
        f: (t) => f(t!, axes, keep),
        reference: (t) => reduced(t!, axes, keep, reference),
      };
    },
  };
}

/** Applies `f` to each line along an axis. */
export function alongAxis(x: Nd, axis: number, f: (line: number[]) => number[]): Nd {
  const lines = nd(
    x.shape.map((n, i) => (i === axis ? 1 : n)),
    () => 0,
  );
  const out = new Map<string, number[]>();
  nd(lines.shape, (...i) => {
    out.set(i.join(), f(Array.from({ length: x.shape[axis]! }, (_, k) => at(x, i.with(axis, k)))));
    return 0;
  });
  const length = out.values().next().value!.length;
  return nd(x.shape.with(axis, length), (...i) => out.get(i.with(axis, 0).join())![i[axis]!]!);
}

export function axisCase(
  f: (x: T, axis: number) => T | T[],
  reference: (x: Nd, axis: number) => Nd | Nd[],
  domain: Domain = wide,
  options: Omit<OpCase, "draw"> = {},
): OpCase {
  return {
    ...options,
    draw: (d) => {
      const x = domain(d, d.shape(1, 3, 5));
      const axis = d.int(0, x.shape.length - 1);
      return { inputs: [x], f: (t) => f(t!, axis), reference: (t) => reference(t!, axis) };
    },
  };
}

export const softmaxOf = (v: number[]): number[] => {
  const e = v.map((x) => Math.exp(x));
  const total = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / total);
};
export const argBest = (v: number[], better: (a: number, b: number) => boolean): number =>
  v.reduce((best, x, i) => (better(x, v[best]!) ? i : best), 0);

/** The second element is zero. */
export const withZero = (d: Draw, s: readonly number[]) => ({
  ...d.away(s),
  data: d.away(s).data.map((v, i) => (i === 1 ? 0 : v)),
});
