/**
 * How operations are put to the proof: problems of random small shapes, plain-JavaScript references for values, and
 * central differences for gradients of first and second order. Imports nothing of Node, so it runs in browsers too.
 */
import fc from "fast-check";
import { type DType, evaluate, fromHost, hostArray, isFloat, Tensor, vjp } from "../../src/tensor/index.ts";

/** A small array in plain JavaScript. */
export interface Nd {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

export interface Input extends Nd {
  readonly dtype: DType;
}

const strides = (shape: readonly number[]): number[] =>
  shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
export const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** An array by a formula of the index. */
export function nd(shape: readonly number[], f: (...index: number[]) => number): Nd {
  const step = strides(shape);
  const data = Array.from({ length: count(shape) }, (_, i) =>
    f(...shape.map((d, axis) => Math.floor(i / step[axis]!) % d)),
  );
  return { shape, data };
}

/** Element at an index; axes of size 1 broadcast and extra leading indices are ignored, as in NumPy. */
export function at(x: Nd, index: readonly number[]): number {
  const own = index.slice(index.length - x.shape.length);
  const step = strides(x.shape);
  return x.data[own.reduce((sum, v, axis) => sum + (x.shape[axis] === 1 ? 0 : v) * step[axis]!, 0)]!;
}

/** Sum of a formula over all indices below the bounds. */
export function sumOver(bounds: readonly number[], f: (...index: number[]) => number): number {
  return nd(bounds, f).data.reduce((a, b) => a + b, 0);
}

/** Draws shapes and values. Fast-check chooses the sizes and one seed per input; the values follow from the seed. */
export class Draw {
  private readonly g: fc.GeneratorValue;
  constructor(g: fc.GeneratorValue) {
    this.g = g;
  }
  int(low: number, high: number): number {
    return this.g(fc.integer, { min: low, max: high });
  }
  pick<T>(...options: readonly T[]): T {
    return options[this.int(0, options.length - 1)]!;
  }
  shape(minRank = 1, maxRank = 3, largest = 4): number[] {
    return Array.from({ length: this.int(minRank, maxRank) }, () => this.int(1, largest));
  }
  /** Some axes at 1, some leading ones missing: a shape that broadcasts to the given one. */
  broadcastable(shape: readonly number[]): number[] {
    return shape.slice(this.int(0, shape.length)).map((d) => (this.int(0, 2) === 0 ? 1 : d));
  }
  private random(): () => number {
    let state = this.int(1, 2 ** 30);
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }
  /** Uniform numbers, exact in f32. */
  real(shape: readonly number[], low = -1.5, high = 1.5): Input {
    const next = this.random();
    return { ...nd(shape, () => Math.fround(low + (high - low) * next())), dtype: "f32" };
  }
  /** Numbers of either sign, away from zero. */
  away(shape: readonly number[], low = 0.3, high = 1.5): Input {
    const next = this.random();
    const one = (): number => Math.fround((next() < 0.5 ? -1 : 1) * (low + (high - low) * next()));
    return { ...nd(shape, one), dtype: "f32" };
  }
  /** Numbers of which any two are at least 0.1 apart, and none of which is near a multiple of a half. */
  spaced(shape: readonly number[]): Input {
    const next = this.random();
    const order = nd(shape, next).data.map((v, i) => [v, i] as const);
    order.sort((a, b) => a[0] - b[0]);
    const data = new Array<number>(order.length);
    for (const [rank, [, i]] of order.entries()) {
      data[i] = Math.fround((rank - Math.floor(order.length / 2)) * 0.25 + 0.125 + 0.1 * (next() - 0.5));
    }
    return { shape, data, dtype: "f32" };
  }
  /** Integers, both bounds included. */
  ints(shape: readonly number[], low: number, high: number, dtype: DType = "i64"): Input {
    const next = this.random();
    return { ...nd(shape, () => low + Math.floor(next() * (high - low + 1))), dtype };
  }
  bools(shape: readonly number[]): Input {
    return this.ints(shape, 0, 1, "bool");
  }
  /** The first `k` of a random order of 0 … n - 1. */
  distinct(n: number, k: number): number[] {
    const next = this.random();
    const all = Array.from({ length: n }, (_, i) => [next(), i] as const);
    return all
      .sort((a, b) => a[0] - b[0])
      .slice(0, k)
      .map(([, i]) => i);
  }
}

/** One drawn problem: inputs, the function, and what it should give. */
export interface Problem {
  readonly inputs: readonly Input[];
  readonly f: (...xs: Tensor[]) => Tensor | readonly Tensor[];
  readonly reference?: (...xs: Input[]) => Nd | readonly Nd[];
}

export interface OpCase {
  readonly name?: string;
  readonly draw: (d: Draw) => Problem;
  /** Derivatives to check: 0 where there are none. Default 2. */
  readonly order?: 0 | 1 | 2;
  /** False where the CPU provider has no f64 kernel for the operation or its derivatives. Default true. */
  readonly f64?: boolean;
  /** Error of values relative to the largest. Default 2e-6. */
  readonly tolerance?: number;
}

type ListFunction = (xs: readonly Tensor[]) => readonly Tensor[];

const asTensorOf = (x: Input, data: ArrayLike<number> = x.data): Tensor =>
  fromHost(x.dtype, x.shape, hostArray(x.dtype, data));
const list = (out: Tensor | readonly Tensor[]): readonly Tensor[] => (out instanceof Tensor ? [out] : out);

async function read(tensors: readonly Tensor[]): Promise<number[][]> {
  await evaluate(tensors);
  return Promise.all(tensors.map((t) => t.toArray()));
}

/** Fails unless the numbers agree relative to the largest of the expected ones. */
export function assertClose(
  actual: readonly number[],
  expected: readonly number[],
  tolerance: number,
  what: string,
): void {
  if (actual.length !== expected.length)
    throw new Error(`${what}: ${actual.length} elements, expected ${expected.length}`);
  const scale = expected.reduce((m, v) => (Number.isFinite(v) ? Math.max(m, Math.abs(v)) : m), 1);
  for (const [i, want] of expected.entries()) {
    const got = actual[i]!;
    if (!(Object.is(got, want) || got === want || Math.abs(got - want) <= tolerance * scale))
      throw new Error(`${what}: element ${i} is ${got}, expected ${want}`);
  }
}

/** Values and shapes against the reference. */
export async function checkValues(problem: Problem, tolerance = 2e-6): Promise<void> {
  if (!problem.reference) return;
  const outputs = list(problem.f(...problem.inputs.map((x) => asTensorOf(x))));
  const expected = [problem.reference(...problem.inputs)].flat() as Nd[];
  if (outputs.length !== expected.length)
    throw new Error(`${outputs.length} results, expected ${expected.length}`);
  const values = await read(outputs);
  for (const [i, want] of expected.entries()) {
    const got = outputs[i]!;
    if (got.shape.join() !== want.shape.join())
      throw new Error(`result ${i}: shape [${got.shape}], expected [${want.shape}]`);
    assertClose(values[i]!, want.data, tolerance, `result ${i}`);
  }
}

/** Steps and tolerances by precision: rounding noise grows as 1 / step, the remainder shrinks as its fourth power. */
const PRECISION = {
  f32: { step: 2e-2, tolerance: 2e-3 },
  f64: { step: 2e-3, tolerance: 1e-6 },
} as const;

/**
 * The derivative of `sum_i <w_i, f_i(x)>` along random directions against central differences with one Richardson
 * step. The sums are taken in double precision outside the graph.
 */
async function checkDirections(
  f: ListFunction,
  inputs: readonly Input[],
  precision: keyof typeof PRECISION,
  d: Draw,
  what: string,
): Promise<void> {
  const { step, tolerance } = PRECISION[precision];
  const tensors = (): Tensor[] => inputs.map((x) => asTensorOf(x));
  const xs = tensors();
  const [outputs, pullback] = vjp((...args: Tensor[]) => [...f(args)], ...xs);
  const weights = outputs.map((t) => ({ ...d.real(t.shape), dtype: t.dtype }));
  const gradients = await read(pullback(weights.map((w) => asTensorOf(w))));
  const weigh = (values: readonly number[][]): number =>
    values.reduce((s, v, i) => s + v.reduce((t, y, j) => t + y * weights[i]!.data[j]!, 0), 0);
  for (let trial = 0; trial < 2; trial++) {
    const direction = inputs.map((x) => d.real(x.shape, -1, 1).data);
    const moved = async (h: number): Promise<number[][]> =>
      read(
        f(
          inputs.map((x, i) =>
            asTensorOf(
              x,
              x.data.map((v, j) => v + h * direction[i]![j]!),
            ),
          ),
        ),
      );
    const difference = async (h: number): Promise<[slope: number, size: number]> => {
      const [plus, minus] = [await moved(h), await moved(-h)];
      const size = plus.reduce(
        (s, v, i) => v.reduce((t, y, j) => t + Math.abs(y * weights[i]!.data[j]!), s),
        0,
      );
      return [(weigh(plus) - weigh(minus)) / (2 * h), size];
    };
    const [[wide, size], [narrow]] = [await difference(step), await difference(step / 2)];
    const numeric = (4 * narrow - wide) / 3;
    let [analytic, scale] = [0, 0];
    for (const [i, gradient] of gradients.entries()) {
      for (const [j, v] of gradient.entries()) {
        analytic += v * direction[i]![j]!;
        scale += Math.abs(v * direction[i]![j]!);
      }
    }
    if (!(Math.abs(analytic - numeric) <= tolerance * (scale + 0.01 * size) + 1e-9))
      throw new Error(`${what} in ${precision}: derivative ${analytic}, by differences ${numeric}`);
  }
}

/** `f` as a function of its float inputs, with its float results. */
function floatsOnly({ inputs, f }: Problem, precision: keyof typeof PRECISION): [ListFunction, Input[]] {
  const widen = (x: Input): Input => (x.dtype === "f32" ? { ...x, dtype: precision } : x);
  const floats = inputs.filter((x) => isFloat(x.dtype)).map(widen);
  const g: ListFunction = (xs) => {
    let next = 0;
    const all = inputs.map((x) => (isFloat(x.dtype) ? xs[next++]! : asTensorOf(x)));
    return list(f(...all)).filter((t) => isFloat(t.dtype));
  };
  return [g, floats];
}

/** Gradients up to the given order by differences, and the same bits from two backward runs. */
export async function checkGradients(
  problem: Problem,
  order: 0 | 1 | 2,
  precision: keyof typeof PRECISION,
  d: Draw,
): Promise<void> {
  if (order === 0) return;
  const [f, inputs] = floatsOnly(problem, precision);
  await checkDirections(f, inputs, precision, d, "first order");
  const outputs = f(inputs.map((x) => asTensorOf(x)));
  const weights = outputs.map((t) => ({ ...d.real(t.shape), dtype: t.dtype }));
  const gradient: ListFunction = (all) => {
    const [xs, ws] = [all.slice(0, inputs.length), all.slice(inputs.length)];
    return vjp((...args: Tensor[]) => [...f(args)], ...xs)[1]([...ws]);
  };
  const all = [...inputs, ...weights];
  const [once, again] = [
    await read(gradient(all.map((x) => asTensorOf(x)))),
    await read(gradient(all.map((x) => asTensorOf(x)))),
  ];
  if (once.some((v, i) => v.some((y, j) => !Object.is(y, again[i]![j]))))
    throw new Error("two backward runs differ");
  if (order === 2) await checkDirections(gradient, all, precision, d, "second order");
}

/** How many problems are drawn, and from which seed on: fixed, so that every run draws the same. */
interface Runs {
  readonly numRuns?: number;
  readonly seed?: number;
}

/** Runs a case's values on a few drawn problems. */
export async function runValues(c: OpCase, runs: Runs = {}): Promise<void> {
  const property = fc.asyncProperty(fc.gen(), async (g) =>
    checkValues(c.draw(new Draw(g)), c.tolerance ?? 2e-6),
  );
  await fc.assert(property, { numRuns: 4, seed: 20260, includeErrorInReport: true, ...runs });
}

/** Runs a case's gradients on a few drawn problems, in f32 and where possible in f64. */
export async function runGradients(c: OpCase, runs: Runs = {}): Promise<void> {
  const property = fc.asyncProperty(fc.gen(), async (g) => {
    const d = new Draw(g);
    const problem = c.draw(d);
    await checkGradients(problem, c.order ?? 2, "f32", d);
    if (c.f64 ?? true) await checkGradients(problem, c.order ?? 2, "f64", d);
  });
  await fc.assert(property, { numRuns: 2, seed: 20260, includeErrorInReport: true, ...runs });
}
