/** Initialisation: sources of random tensors, and the usual initialisers with PyTorch's definitions. */
import { ArgumentError, ShapeError } from "../errors.ts";
import {
  fillNormal,
  fillUniform,
  fnv1a32,
  fromHost,
  type RandomAddress,
  type Seed,
  sizeOf,
  type Tensor,
  zeros,
} from "../tensor/index.ts";

/** Fills an array with the numbers of an address. */
export type Fill = (out: Float32Array, address: RandomAddress) => unknown;

/**
 * Draws the initial parameters, one after the other; each draw is its own stream, so the order of construction decides.
 */
export interface Rng {
  /** Normal with mean 0. */
  normal(shape: readonly number[], std?: number): Tensor;
  /** Uniform in [low, high). */
  uniform(shape: readonly number[], low: number, high: number): Tensor;
  /** Whatever `fill` writes. */
  draw(shape: readonly number[], fill: Fill): Tensor;
}

/** Separates initialisation from training noise under the same seed. */
const SAMPLE = fnv1a32("parameters");

/** Parameters from Philox: draw k is the stream (seed, sample "parameters", purpose k). */
export function createRng(seed: Seed): Rng {
  let drawn = 0;
  return fromDraw((shape, fill) => {
    const out = new Float32Array(sizeOf(shape));
    fill(out, { seed, sample: SAMPLE, purpose: drawn++ });
    return fromHost("f32", shape, out);
  });
}

/** A placeholder: zeros that take neither time nor memory, for modules whose weights are loaded next. */
export const blankRng: Rng = fromDraw((shape) => zeros(shape));

function fromDraw(draw: Rng["draw"]): Rng {
  return {
    draw,
    normal: (shape, std = 1) =>
      draw(shape, (out, address) => {
        fillNormal(out, address);
        for (let i = 0; i < out.length; i++) out[i]! *= std;
      }),
    uniform: (shape, low, high) =>
      draw(shape, (out, address) => {
        fillUniform(out, address);
        for (let i = 0; i < out.length; i++) out[i] = low + (high - low) * out[i]!;
      }),
  };
}

/** Makes a parameter of the given shape. */
export type Initializer = (rng: Rng, shape: readonly number[]) => Tensor;

/** Connections into and out of one unit of a weight [out, in, ...kernel], as PyTorch counts them. */
export function fans(shape: readonly number[]): { fanIn: number; fanOut: number } {
  const [out, input, ...kernel] = shape;
  if (out === undefined || input === undefined)
    throw new ShapeError(`fans: expected a weight [out, in, ...], got [${shape.join(", ")}]`);
  return { fanIn: input * sizeOf(kernel), fanOut: out * sizeOf(kernel) };
}

/** What follows a layer, which decides the gain of its first weights. */
export type Nonlinearity = "linear" | "sigmoid" | "tanh" | "relu" | "leakyRelu" | "selu";

/** The factor that keeps the variance through a nonlinearity (`slope` is that of the leaky rectifier). */
export function gainOf(nonlinearity: Nonlinearity, slope = 0.01): number {
  switch (nonlinearity) {
    case "tanh":
      return 5 / 3;
    case "relu":
      return Math.SQRT2;
    case "leakyRelu":
      return Math.sqrt(2 / (1 + slope * slope));
    case "selu":
      return 3 / 4;
    default:
      return 1;
  }
}

/** Options of `kaimingUniform` and `kaimingNormal`. */
export interface KaimingOptions {
  readonly mode?: "fanIn" | "fanOut";
  /** Default: that of the rectifier. */
  readonly gain?: number;
}

const kaimingStd = (
  shape: readonly number[],
  { mode = "fanIn", gain = Math.SQRT2 }: KaimingOptions,
): number => gain / Math.sqrt(fans(shape)[mode]);

const xavierStd = (shape: readonly number[], gain: number): number => {
  const { fanIn, fanOut } = fans(shape);
  return gain * Math.sqrt(2 / (fanIn + fanOut));
};

const symmetric = (rng: Rng, shape: readonly number[], bound: number): Tensor =>
  rng.uniform(shape, -bound, bound);

/** PyTorch's default for Linear and Conv, weight and bias: uniform within 1 / sqrt(fanIn). */
export function uniformFanIn(rng: Rng, shape: readonly number[], fanIn = fans(shape).fanIn): Tensor {
  return symmetric(rng, shape, fanIn > 0 ? 1 / Math.sqrt(fanIn) : 0);
}
/** He et al. 2015. */
export function kaimingUniform(rng: Rng, shape: readonly number[], options: KaimingOptions = {}): Tensor {
  return symmetric(rng, shape, Math.sqrt(3) * kaimingStd(shape, options));
}
/** He et al. 2015. */
export function kaimingNormal(rng: Rng, shape: readonly number[], options: KaimingOptions = {}): Tensor {
  return rng.normal(shape, kaimingStd(shape, options));
}
/** Glorot and Bengio 2010. */
export function xavierUniform(rng: Rng, shape: readonly number[], gain = 1): Tensor {
  return symmetric(rng, shape, Math.sqrt(3) * xavierStd(shape, gain));
}
/** Glorot and Bengio 2010. */
export function xavierNormal(rng: Rng, shape: readonly number[], gain = 1): Tensor {
  return rng.normal(shape, xavierStd(shape, gain));
}

/** Options of `truncatedNormal`. */
export interface TruncatedNormalOptions {
  readonly mean?: number;
  readonly std?: number;
  /** Bounds of the values themselves, not in units of `std`. */
  readonly low?: number;
  readonly high?: number;
}

const MAX_REDRAWS = 256;

/** Normal, drawn again wherever it falls outside [low, high]. Defaults as in PyTorch: mean 0, std 1, within 2. */
export function truncatedNormal(
  rng: Rng,
  shape: readonly number[],
  { mean = 0, std = 1, low = -2, high = 2 }: TruncatedNormalOptions = {},
): Tensor {
  if (!(low < high)) throw new ArgumentError(`truncatedNormal: expected low < high, got ${low} and ${high}`);
  return rng.draw(shape, (out, address) => {
    const fresh = new Float32Array(out.length);
    let open = Array.from(out.keys());
    for (let step = 0; open.length > 0; step++) {
      if (step > MAX_REDRAWS)
        throw new ArgumentError(
          `truncatedNormal: [${low}, ${high}] holds too little of a normal with mean ${mean} and std ${std}`,
        );
      fillNormal(fresh, { ...address, step });
      for (const i of open) out[i] = mean + std * fresh[i]!;
      open = open.filter((i) => out[i]! < low || out[i]! > high);
    }
  });
}

/**
 * Orthonormal rows or columns, whichever are fewer, times `gain`; further axes join the columns (Saxe et al. 2014).
 * Uniformly distributed: Gram-Schmidt on normals, in double precision, twice.
 */
export function orthogonal(rng: Rng, shape: readonly number[], gain = 1): Tensor {
  const { fanIn } = fans(shape);
  const [rows, columns] = [shape[0]!, fanIn];
  return rng.draw(shape, (out, address) => {
    fillNormal(out, address);
    const wide = rows <= columns;
    const [count, length] = wide ? [rows, columns] : [columns, rows];
    const at = (v: number, i: number): number => (wide ? v * columns + i : i * columns + v);
    const vectors = Array.from({ length: count }, (_, v) =>
      Float64Array.from({ length }, (_, i) => out[at(v, i)]!),
    );
    vectors.forEach((vector, v) => {
      orthonormalize(vector, vectors.slice(0, v));
      for (let i = 0; i < length; i++) out[at(v, i)] = gain * vector[i]!;
    });
  });
}

/** Makes a vector orthogonal to others and of length one. */
function orthonormalize(vector: Float64Array, others: readonly Float64Array[]): void {
  for (let pass = 0; pass < 2; pass++) {
    for (const other of others) {
      const along = vector.reduce((sum, x, i) => sum + x * other[i]!, 0);
      for (let i = 0; i < vector.length; i++) vector[i]! -= along * other[i]!;
    }
  }
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  for (let i = 0; i < vector.length; i++) vector[i]! /= length;
}
