/** Small linear algebra and what goes with it: values by definition, and derivatives of both orders. */
import * as tw from "../../src/tensor/index.ts";
import { binary, smooth, type T, unary, wide } from "./op-cases-kit.ts";
import { at, type Draw, type Input, type Nd, nd, type OpCase, sumOver } from "./op-check.ts";

/** Matrices whose diagonal outweighs the rest, so that nothing is near singular. */
function sound(d: Draw, n: number, lead: readonly number[]): Input {
  const x = d.real([...lead, n, n], -0.4, 0.4);
  return { ...x, data: x.data.map((v, i) => (Math.floor(i / n) % n === i % n ? v + 2 : v)) };
}

const product = (a: Nd, b: Nd, shape: readonly number[]): Nd =>
  nd(shape, (...i) => {
    const [lead, r, c] = [i.slice(0, -2), i.at(-2)!, i.at(-1)!];
    return sumOver([a.shape.at(-1)!], (k) => at(a, [...lead, r, k!]) * at(b, [...lead, k!, c]));
  });

const eyes = (shape: readonly number[]): Nd => nd(shape, (...i) => (i.at(-1) === i.at(-2) ? 1 : 0));

/** Something known of sound matrices. */
const matrices = (f: (a: T) => T, reference: (shape: readonly number[], a: Nd) => Nd): OpCase => ({
  tolerance: 2e-5,
  order: 0,
  draw: (d) => {
    const a = sound(d, d.int(1, 4), d.shape(0, 1, 2));
    return { inputs: [a], f: (x) => f(x!), reference: (x) => reference(a.shape, x!) };
  },
});

const plain = (f: (a: T) => T): OpCase => ({
  draw: (d) => ({ inputs: [sound(d, d.int(1, 4), d.shape(0, 1, 2))], f: (x) => f(x!) }),
});

const transposed = (x: T): T =>
  x.transpose([...Array.from({ length: x.rank - 2 }, (_, i) => i), x.rank - 1, x.rank - 2]);

export const linearCases: Record<string, OpCase | readonly OpCase[]> = {
  inverse: [matrices((a) => a.matmul(tw.inverse(a)), eyes), plain(tw.inverse)],
  solve: {
    tolerance: 2e-5,
    draw: (d) => {
      const n = d.int(1, 3);
      return {
        inputs: [sound(d, n, d.shape(0, 1, 2)), d.real([n, 2])],
        f: (a, b) => tw.solve(a!, b!),
      };
    },
  },
  determinant: [
    matrices(
      (a) => tw.determinant(a.matmul(tw.inverse(a))),
      (shape) => nd(shape.slice(0, -2), () => 1),
    ),
    plain(tw.determinant),
  ],
  cholesky: [
    matrices(
      (a) => {
        const l = tw.cholesky(a.matmul(transposed(a)));
        return l.matmul(transposed(l));
      },
      (shape, a) =>
        product(
          a,
          nd(shape, (...i) => at(a, [...i.slice(0, -2), i.at(-1)!, i.at(-2)!])),
          shape,
        ),
    ),
    plain((a) => tw.cholesky(a.matmul(transposed(a)))),
  ],
  triangularSolve: (["lower", "upper"] as const).map(
    (which): OpCase => ({
      name: which,
      draw: (d) => {
        const options = { upper: which === "upper", transposed: d.int(0, 1) === 1 };
        return {
          inputs: [sound(d, 3, [2]), d.real([3, 2])],
          f: (a, b) => tw.triangularSolve(a!, b!, options),
        };
      },
    }),
  ),
  cross: {
    draw: (d) => ({
      inputs: [d.real([2, 3]), d.real([3])],
      f: (a, b) => tw.cross(a!, b!),
      reference: (a, b) =>
        nd([2, 3], (r, i) => {
          const [j, k] = [(i! + 1) % 3, (i! + 2) % 3];
          return at(a!, [r!, j]) * at(b!, [k]) - at(a!, [r!, k]) * at(b!, [j]);
        }),
    }),
  },
  atan2: binary((y, x) => y.atan2(x), Math.atan2, [smooth, smooth], { f64: false }),
  log1p: unary(
    (x) => x.log1p(),
    Math.log1p,
    (d, s) => d.real(s, -0.7, 2),
  ),
  expm1: unary((x) => x.expm1(), Math.expm1, wide),
  elu: unary(
    (x) => x.elu(0.5),
    (v) => (v > 0 ? v : 0.5 * Math.expm1(v)),
    smooth,
  ),
  leakyRelu: unary(
    (x) => x.leakyRelu(0.1),
    (v) => (v > 0 ? v : 0.1 * v),
    smooth,
  ),
  isFinite: unary(
    (x) => x.div(x.sub(1)).isFinite(),
    (v) => (v === 1 ? 0 : 1),
    (d, s) => d.ints(s, 0, 2, "f32"),
    { order: 0 },
  ),
};
