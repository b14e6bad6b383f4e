/**
 * The arithmetic of samplers: weighted sums of tensors. Where the values are there it is done on the host: the weights are
 * new numbers at every step, and a graph with other constants would have to be compiled again; a pass over a latent in
 * JavaScript takes microseconds. Tensors without a value yet (inside of `jit` and `grad`) become an expression instead,
 * which gives the same numbers.
 */
import { ArgumentError, LifetimeError, NonFiniteError, ShapeError } from "../errors.ts";
import {
  convertHost,
  type DType,
  peekHost,
  sumOfWeighted,
  type Tensor,
  tensor,
  zerosLike,
} from "../tensor/index.ts";

/** A weight and its tensor. */
export type Term = readonly [weight: number, x: Tensor];

type Floats = Float32Array | Float64Array;

/** Whether numbers can be read at once. Others are computed, or read from a file, when they are asked for. */
export const isEvaluated = (x: Tensor): boolean => {
  const { value } = x;
  return value !== undefined && (value.host !== undefined || value.device !== undefined);
};

/** The elements of an evaluated float tensor; halves are widened to f32. Throws `LifetimeError` for one without a value. */
export function floatsOf(x: Tensor): Floats {
  if (!x.value)
    throw new LifetimeError(
      `${x} has no value yet, and samplers compute on the host: await its eval() first; inside of jit and grad unroll is the way`,
    );
  const host = peekHost(x);
  return (x.dtype === "f32" || x.dtype === "f64" ? host : convertHost(host, x.dtype, "f32")) as Floats;
}

/** A tensor of the given dtype over numbers computed on the host. */
export function fromFloats(values: Floats, shape: readonly number[], dtype: DType): Tensor {
  const from = values instanceof Float64Array ? "f64" : "f32";
  return tensor(convertHost(values, from, dtype), { shape, dtype });
}

/**
 * Sum of weight * x over the terms, summed in double precision and rounded once to the first term's dtype. Terms of
 * weight 0 do not count, whatever they hold. Computed at once when all tensors are evaluated, else an expression that can be
 * traced and differentiated and gives the same bits (on devices without double precision: nearly). Throws `ShapeError`
 * when shapes differ, `ArgumentError` for a weight that is no finite number.
 */
export function weightedSum(...terms: readonly Term[]): Tensor {
  const { shape, size, dtype } = terms[0]![1];
  for (const [weight, x] of terms) {
    if (!Number.isFinite(weight)) throw new ArgumentError(`linear: expected finite weights, got ${weight}`);
    if (x.shape.join() !== shape.join()) {
      throw new ShapeError(`linear: expected terms of one shape, got [${shape}] and [${x.shape}]`);
    }
  }
  const counted = terms.filter(([weight]) => weight !== 0);
  if (!terms.every(([, x]) => isEvaluated(x))) return expression(counted, terms[0]![1]);
  const sum = new Float64Array(size);
  for (const [weight, x] of counted) {
    const values = floatsOf(x);
    for (let i = 0; i < size; i++) sum[i]! += weight * values[i]!;
  }
  return fromFloats(dtype === "f64" ? sum : new Float32Array(sum), shape, dtype);
}

/** The sum as an expression, in the dtype of the first term even where that one does not count. */
function expression(counted: readonly Term[], first: Tensor): Tensor {
  if (counted.length === 0) return zerosLike(first);
  const sum = sumOfWeighted(
    counted.map(([, x]) => x),
    counted.map(([weight]) => weight),
  );
  return sum.cast(first.dtype);
}

/** A function of each element, on the host. */
export function mapElements(x: Tensor, f: (value: number, index: number) => number): Tensor {
  return fromFloats(
    floatsOf(x).map((value, i) => f(value, i)),
    x.shape,
    x.dtype,
  );
}

/** The sample with its noise scaled: denoised + ratio * (x - denoised). Exact for ratio 0, precise for huge noise. */
export const scaleNoise = (x: Tensor, denoised: Tensor, ratio: number): Tensor =>
  weightedSum([ratio, x], [1 - ratio, denoised]);

/** Weighted terms of the noise in x, for samplers that work with noise: (x - denoised) / sigma times a factor. */
export const noiseTerms = (factor: number, x: Tensor, denoised: Tensor, sigma: number): [Term, Term] => [
  [factor / sigma, x],
  [-factor / sigma, denoised],
];

/** The noise in x: (x - denoised) / sigma. */
export const noiseIn = (x: Tensor, denoised: Tensor, sigma: number): Tensor =>
  weightedSum(...noiseTerms(1, x, denoised, sigma));

/** Throws `NonFiniteError` when an evaluated tensor holds a NaN or infinity; `what` and `where` say which it is. */
export function assertFinite(x: Tensor, what: string, where: string): void {
  const values = floatsOf(x);
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i]!)) {
      throw new NonFiniteError(`${what} has ${values[i]} at element ${i} of [${x.shape}], in ${where}`);
    }
  }
}
