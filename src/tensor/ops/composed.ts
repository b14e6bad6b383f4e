/** Functions made of others, with care where the plain formula loses digits or slopes. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import type { Tensor } from "../tensor.ts";
import { logicalOr, maximum, minimum, where } from "./arithmetic.ts";
import { eye, zerosLike } from "./create.ts";
import { abs, atan, exp, isInf, isNan, log, logicalNot, sqrt } from "./elementwise.ts";
import { customVjp, stopGradient } from "./gradient-control.ts";
import { broadcastShapes, normalizeAxis } from "./op.ts";
import { type Axes, sort, sum, sumTo, variance } from "./reduce.ts";
import { broadcastTo, concat, reshape, unsqueeze } from "./shape.ts";
import { sliceAxis } from "./slice.ts";

/** log(1 + x), accurate near 0 too. */
export function log1p(x: Tensor): Tensor {
  const z = stopGradient(x);
  const shifted = z.add(1);
  // Kahan's correction: what was lost in the sum is lost in the difference as well.
  const lost = shifted.sub(1);
  const none = lost.equal(0);
  const near = log(shifted).mul(z.div(where(none, 1, lost)));
  const value = where(none, z, where(isInf(shifted), shifted, near));
  return customVjp([value], [x], ([ct], [at]) => [ct?.div(at!.add(1))])[0]!;
}

/** exp(x) - 1, accurate near 0 too. */
export function expm1(x: Tensor): Tensor {
  const z = stopGradient(x);
  const grown = exp(z);
  const difference = grown.sub(1);
  const none = difference.equal(0);
  const plain = logicalOr(difference.equal(-1), isInf(grown));
  const logarithm = log(where(logicalOr(none, plain), 2, grown));
  const value = where(none, z, where(plain, difference, difference.mul(z.div(logarithm))));
  return customVjp([value], [x], ([ct], _, [y]) => [ct?.mul(y!.add(1))])[0]!;
}

/**
 * Angle of the point (x, y) in (-pi, pi], with broadcasting: atan(y / x) in the right quadrant. 0 at the origin, where its
 * gradients are 0 too; both signs of zero count alike. Of finite numbers.
 */
export function atan2(y: Tensor, x: Tensor): Tensor {
  const [a, b] = [abs(stopGradient(y)), abs(stopGradient(x))];
  const larger = maximum(a, b);
  const slope = atan(minimum(a, b).div(where(larger.equal(0), 1, larger)));
  const quarter = where(a.greater(b), slope.neg().add(Math.PI / 2), slope);
  const half = where(x.less(0), quarter.neg().add(Math.PI), quarter);
  const value = where(y.less(0), half.neg(), half);
  return customVjp([value], [y, x], ([ct], [p, q]) => {
    if (!ct) return [];
    const square = p!.square().add(q!.square());
    const scaled = ct.div(where(square.equal(0), 1, square));
    return [sumTo(scaled.mul(q!), p!.shape), sumTo(scaled.mul(p!).neg(), q!.shape)];
  })[0]!;
}

/** x above 0, slope times x below. */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  return where(x.greater(0), x, x.mul(slope));
}

/** x above 0, alpha (exp(x) - 1) below. */
export function elu(x: Tensor, alpha = 1): Tensor {
  const positive = x.greater(0);
  return where(positive, x, expm1(where(positive, 0, x)).mul(alpha));
}

/** Where x is neither NaN nor infinite, as bool. */
// biome-ignore lint/suspicious/noShadowRestrictedNames: beside isNan and isInf no other name would be looked for
export function isFinite(x: Tensor): Tensor {
  return logicalNot(logicalOr(isNan(x), isInf(x)));
}

/**
 * Standard deviation over axes; `correction` 0 divides the squares by n, 1 by n - 1. Its gradient where all elements are
 * equal is 0.
 */
export function std(x: Tensor, axes?: Axes, keepDims = false, correction = 0): Tensor {
  const spread = variance(x, axes, keepDims, correction);
  const none = spread.equal(0);
  return where(none, 0, sqrt(where(none, 1, spread)));
}

/** Indices that put the elements of an axis in ascending (or descending) order, as i64; of equal ones the first leads. */
export function argsort(x: Tensor, axis = -1, descending = false): Tensor {
  return sort(x, axis, descending)[1];
}

/** Cross product of vectors along an axis of size 3, with broadcasting over the other axes. */
export function cross(a: Tensor, b: Tensor, axis = -1): Tensor {
  const shape = broadcastShapes(a.shape, b.shape);
  const at = normalizeAxis(axis, shape.length);
  if (shape[at] !== 3) throw new ShapeError(`cross: expected 3 elements on axis ${at}, got ${a} and ${b}`);
  const [u, v] = [broadcastTo(a, shape), broadcastTo(b, shape)];
  // (1, 2, 0) and (2, 0, 1) of the elements.
  const turned = (x: Tensor, by: number): Tensor =>
    concat(sliceAxis(x, at, by, 3), sliceAxis(x, at, 0, by), at);
  return turned(u, 1)
    .mul(turned(v, 2))
    .sub(turned(u, 2).mul(turned(v, 1)));
}

/** Outer products: a [..., n] and b [..., m] give [..., n, m]; leading axes broadcast. */
export function outer(a: Tensor, b: Tensor): Tensor {
  return unsqueeze(a, -1).mul(unsqueeze(b, -2));
}

/** Diagonal matrices [..., n, n] of vectors [..., n]. */
export function diag(x: Tensor): Tensor {
  const n = x.shape.at(-1);
  if (n === undefined) throw new ShapeError(`diag: expected vectors [..., n], got ${x}`);
  const full = broadcastTo(unsqueeze(x, -1), [...x.shape, n]);
  return where(eye(n).greater(0), full, zerosLike(full));
}

/** The diagonals [..., n] of square matrices [..., n, n]. */
export function diagonal(x: Tensor): Tensor {
  const n = x.shape.at(-1);
  if (x.rank < 2 || x.shape.at(-2) !== n)
    throw new ShapeError(`diagonal: expected square matrices [..., n, n], got ${x}`);
  return sum(where(eye(n!).greater(0), x, zerosLike(x)), -1);
}

/**
 * Coordinates of a grid: from vectors of n, m, … elements as many tensors [n, m, …], each of which varies along its own axis
 * ("ij", default). With "xy" the first two axes are exchanged, so that the first vector runs along the rows of a picture.
 */
export function meshgrid(vectors: readonly Tensor[], indexing: "ij" | "xy" = "ij"): Tensor[] {
  if (indexing !== "ij" && indexing !== "xy")
    throw new ArgumentError(`meshgrid: indexing is "ij" or "xy", got ${JSON.stringify(indexing)}`);
  for (const v of vectors) if (v.rank !== 1) throw new ShapeError(`meshgrid: expected vectors [n], got ${v}`);
  const order = vectors.map((_, i) => (indexing === "xy" && i < 2 && vectors.length > 1 ? 1 - i : i));
  const shape = order.map((i) => vectors[i]!.size);
  return vectors.map((v, i) => {
    const own = shape.map((n, axis) => (order[axis] === i ? n : 1));
    return broadcastTo(reshape(v, own), shape);
  });
}
