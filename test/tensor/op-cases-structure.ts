/** Cases of the operations that move elements: indexing and shapes. */
import * as tw from "../../src/tensor/index.ts";
import type { T } from "./op-cases-kit.ts";
import { at, count, type Input, nd, type OpCase } from "./op-check.ts";

const fromEnd = (i: number, size: number): number => (i < 0 ? i + size : i);

export const gatherCase: OpCase = {
  draw: (d) => {
    const x = d.real(d.shape(1, 3));
    const axis = d.int(0, x.shape.length - 1);
    const n = x.shape[axis]!;
    const indices = d.ints(d.shape(0, 2), -n, n - 1, d.pick("i64", "i32"));
    const k = indices.shape.length;
    return {
      inputs: [x, indices],
      f: (t, i) => tw.gather(t!, i!, axis),
      reference: (t, i) =>
        nd([...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)], (...j) =>
          at(t!, [...j.slice(0, axis), fromEnd(at(i!, j.slice(axis, axis + k)), n), ...j.slice(axis + k)]),
        ),
    };
  },
};

export const gatherElementsCase: OpCase = {
  draw: (d) => {
    const x = d.real(d.shape(1, 3));
    const axis = d.int(0, x.shape.length - 1);
    const n = x.shape[axis]!;
    const shape = x.shape.map((s, i) => (i === axis ? d.int(1, 5) : d.int(1, s)));
    return {
      inputs: [x, d.ints(shape, -n, n - 1)],
      f: (t, i) => tw.gatherElements(t!, i!, axis),
      reference: (t, i) => nd(shape, (...j) => at(t!, j.with(axis, fromEnd(at(i!, j), n)))),
    };
  },
};

/** What is there and what is written, by the rule of a reduction. */
const meet = (reduction: tw.Reduction, there: number, written: readonly number[]): number => {
  if (reduction === "add") return written.reduce((a, b) => a + b, there);
  if (reduction === "max") return Math.max(there, ...written);
  if (reduction === "min") return Math.min(there, ...written);
  return written[0] ?? there;
};

export const scatterElementsCase = (reduction: tw.Reduction): OpCase => ({
  name: reduction,
  draw: (d) => {
    const x = d.real(d.shape(1, 3));
    const axis = d.int(0, x.shape.length - 1);
    const n = x.shape[axis]!;
    const k = reduction === "none" ? d.int(1, n) : d.int(1, 5);
    const shape = x.shape.with(axis, k);
    const unique = d.distinct(n, Math.min(n, k));
    const indices: Input =
      reduction === "none"
        ? { ...nd(shape, (...i) => unique[i[axis]!]!), dtype: "i64" }
        : d.ints(shape, 0, n - 1);
    return {
      inputs: [x, indices, d.real(shape)],
      f: (t, i, u) => tw.scatterElements(t!, i!, u!, axis, reduction),
      reference: (t, i, u) =>
        nd(x.shape, (...j) => {
          const hits = Array.from({ length: k }, (_, m) => j.with(axis, m)).filter(
            (m) => at(i!, m) === j[axis],
          );
          return meet(
            reduction,
            at(t!, j),
            hits.map((m) => at(u!, m)),
          );
        }),
    };
  },
});

export const gatherNDCase: OpCase = {
  draw: (d) => {
    const x = d.real(d.shape(1, 3));
    const depth = d.int(1, x.shape.length);
    const lead = d.shape(1, 2);
    const columns = Array.from({ length: depth }, (_, i) => d.ints(lead, 0, x.shape[i]! - 1));
    const dtype = d.pick("i64", "i32");
    const indices: Input = {
      ...nd([...lead, depth], (...i) => at(columns[i.at(-1)!]!, i.slice(0, -1))),
      dtype,
    };
    return {
      inputs: [x, indices],
      f: (t, i) => tw.gatherND(t!, i!),
      reference: (t, i) =>
        nd([...lead, ...x.shape.slice(depth)], (...j) => {
          const head = j.slice(0, lead.length);
          return at(t!, [
            ...Array.from({ length: depth }, (_, c) => at(i!, [...head, c])),
            ...j.slice(lead.length),
          ]);
        }),
    };
  },
};

export const scatterNDCase = (reduction: tw.Reduction): OpCase => ({
  name: reduction,
  draw: (d) => {
    const x = d.real(d.shape(1, 3));
    const n = x.shape[0]!;
    const k = reduction === "none" ? d.int(1, n) : d.int(1, 5);
    const rows = reduction === "none" ? d.distinct(n, k) : d.ints([k], 0, n - 1).data;
    return {
      inputs: [x, { shape: [k, 1], data: rows, dtype: "i64" }, d.real([k, ...x.shape.slice(1)])],
      f: (t, i, u) => tw.scatterND(t!, i!, u!, reduction),
      reference: (t, _, u) =>
        nd(x.shape, (...j) => {
          const hits = rows.flatMap((r, m) => (r === j[0] ? [at(u!, j.with(0, m))] : []));
          return meet(reduction, at(t!, j), hits);
        }),
    };
  },
});

/** Adding at multi-indices, some of them negative, some of them repeated. */
export const scatterNDAddDeepCase: OpCase = {
  name: "add, deep",
  draw: (d) => {
    const x = d.real(d.shape(2, 3, 3));
    const k = d.int(1, 5);
    const [rows, columns] = [
      d.ints([k], -x.shape[0]!, x.shape[0]! - 1),
      d.ints([k], -x.shape[1]!, x.shape[1]! - 1),
    ];
    const indices: Input = {
      ...nd([k, 2], (i, c) => (c ? columns : rows).data[i!]!),
      dtype: d.pick("i64", "i32"),
    };
    return {
      inputs: [x, indices, d.real([k, ...x.shape.slice(2)])],
      f: (t, i, u) => tw.scatterND(t!, i!, u!, "add"),
      reference: (t, _, u) =>
        nd(x.shape, (...j) => {
          const hit = (m: number): boolean =>
            fromEnd(rows.data[m]!, x.shape[0]!) === j[0] && fromEnd(columns.data[m]!, x.shape[1]!) === j[1];
          return rows.data.reduce((s, _v, m) => (hit(m) ? s + at(u!, [m, ...j.slice(2)]) : s), at(t!, j));
        }),
    };
  },
};

export const shapeCases = {
  reshape: {
    draw: (d) => {
      const x = d.real(d.shape(0, 3));
      const to = d.pick([-1], [count(x.shape), 1], [...x.shape].reverse());
      return {
        inputs: [x],
        f: (t) => tw.reshape(t!, to),
        reference: (t) => ({ shape: to.map((v) => (v < 0 ? count(x.shape) : v)), data: t!.data }),
      };
    },
  },
  transpose: {
    draw: (d) => {
      const x = d.real(d.shape(1, 4, 3));
      const perm = d.distinct(x.shape.length, x.shape.length);
      return {
        inputs: [x],
        f: (t) => tw.transpose(t!, perm),
        reference: (t) =>
          nd(
            perm.map((p) => x.shape[p]!),
            (...i) =>
              at(
                t!,
                x.shape.map((_, k) => i[perm.indexOf(k)]!),
              ),
          ),
      };
    },
  },
  broadcastTo: {
    draw: (d) => {
      const shape = d.shape(1, 3);
      return {
        inputs: [d.real(d.broadcastable(shape))],
        f: (t) => tw.broadcastTo(t!, shape),
        reference: (t) => nd(shape, (...i) => at(t!, i)),
      };
    },
  },
  concat: {
    draw: (d) => {
      const shape = d.shape(1, 3);
      const axis = d.int(0, shape.length - 1);
      const parts = Array.from({ length: d.int(1, 3) }, () => d.real(shape.with(axis, d.int(0, 3))));
      const from = parts.flatMap((p, k) => Array.from({ length: p.shape[axis]! }, (_, i) => [k, i] as const));
      return {
        inputs: parts,
        f: (first, ...rest) => tw.concat(first!, rest as T[], axis),
        reference: (...xs) =>
          nd(shape.with(axis, from.length), (...i) =>
            at(xs[from[i[axis]!]![0]]!, i.with(axis, from[i[axis]!]![1])),
          ),
      };
    },
  },
  split: {
    draw: (d) => {
      const shape = d.shape(1, 3);
      const axis = d.int(0, shape.length - 1);
      const sizes = Array.from({ length: d.int(2, 3) }, () => d.int(1, 3));
      const total = sizes.reduce((a, b) => a + b, 0);
      const starts = sizes.map((_, k) => sizes.slice(0, k).reduce((a, b) => a + b, 0));
      return {
        inputs: [d.real(shape.with(axis, total))],
        f: (t) => tw.split(t!, sizes, axis),
        reference: (t) =>
          sizes.map((size, k) =>
            nd(shape.with(axis, size), (...i) => at(t!, i.with(axis, starts[k]! + i[axis]!))),
          ),
      };
    },
  },
  slice: [
    {
      draw: (d) => {
        const x = d.real(d.shape(1, 3, 6));
        const starts = x.shape.map((n) => d.int(0, n - 1));
        const ends = x.shape.map((n, i) => d.int(starts[i]! + 1, n));
        const steps = x.shape.map(() => d.int(1, 3));
        return {
          inputs: [x],
          f: (t) => tw.slice(t!, starts, ends, steps),
          reference: (t) =>
            nd(
              starts.map((s, i) => Math.ceil((ends[i]! - s) / steps[i]!)),
              (...i) =>
                at(
                  t!,
                  i.map((v, k) => starts[k]! + v * steps[k]!),
                ),
            ),
        };
      },
    },
    {
      name: "flip",
      draw: (d) => {
        const x = d.real(d.shape(1, 3));
        const axes = d.distinct(x.shape.length, d.int(1, x.shape.length));
        return {
          inputs: [x],
          f: (t) => tw.flip(t!, axes),
          reference: (t) =>
            nd(x.shape, (...i) =>
              at(
                t!,
                i.map((v, k) => (axes.includes(k) ? x.shape[k]! - 1 - v : v)),
              ),
            ),
        };
      },
    },
  ],
  pad: {
    draw: (d) => {
      const x = d.real(d.shape(1, 3, 5).map((n) => n + 2));
      const pads = x.shape.map((): [number, number] => [d.int(-1, 2), d.int(-1, 2)]);
      const value = d.pick(0, 1.5);
      return {
        inputs: [x],
        f: (t) => tw.pad(t!, pads, "constant", value),
        reference: (t) =>
          nd(
            x.shape.map((n, i) => n + pads[i]![0] + pads[i]![1]),
            (...i) => {
              const from = i.map((v, k) => v - pads[k]![0]);
              return from.every((v, k) => v >= 0 && v < x.shape[k]!) ? at(t!, from) : value;
            },
          ),
      };
    },
  },
} satisfies Record<string, OpCase | OpCase[]>;
