/**
 * Linear algebra of many small matrices, as of cameras, covariances and homographies: unrolled for sizes up to 8, over any
 * leading axes. Gradients follow from the results (Giles 2008, "Collected matrix derivative results"), not through the
 * elimination.
 */
import { ShapeError } from "../../errors.ts";
import type { Tensor } from "../tensor.ts";
import { where } from "./arithmetic.ts";
import { arange, eye, full, ones } from "./create.ts";
import { abs, sqrt } from "./elementwise.ts";
import { customVjp, stopGradient } from "./gradient-control.ts";
import { gatherElements } from "./indexing.ts";
import { matmul } from "./matmul.ts";
import { needFloat } from "./op.ts";
import { argmax } from "./reduce.ts";
import { broadcastTo, concat, reshape, transpose } from "./shape.ts";
import { flip, sliceAxis } from "./slice.ts";

/** Largest matrices: the graph grows with the square of the size. */
const LARGEST = 8;

/** The size of square matrices. Throws `ShapeError` unless they are, and small. */
function sizeOfSquare(what: string, a: Tensor): number {
  needFloat(a);
  const n = a.shape.at(-1);
  if (a.rank < 2 || a.shape.at(-2) !== n || n! < 1 || n! > LARGEST)
    throw new ShapeError(
      `${what}: expected square matrices [..., n, n] with n from 1 to ${LARGEST}, got ${a}`,
    );
  return n!;
}

/** Both with the same leading axes: a [..., n, n] and b [..., n, m]. */
function alike(what: string, a: Tensor, b: Tensor): [a: Tensor, b: Tensor, n: number] {
  const n = sizeOfSquare(what, a);
  if (b.rank < 2 || b.shape.at(-2) !== n)
    throw new ShapeError(`${what}: ${a} needs right-hand sides [..., ${n}, m], got ${b}`);
  const lead = broadcastLead(a, b);
  return [broadcastTo(a, [...lead, n, n]), broadcastTo(b, [...lead, n, b.shape.at(-1)!]), n];
}

/** Leading axes that both broadcast to. */
function broadcastLead(a: Tensor, b: Tensor): readonly number[] {
  const corner = (x: Tensor): Tensor => sliceAxis(sliceAxis(x, -1, 0, 1), -2, 0, 1);
  return corner(a).add(corner(b)).shape.slice(0, -2);
}

/** The last two axes exchanged. */
const adjoint = (x: Tensor): Tensor =>
  transpose(x, [...Array.from({ length: x.rank - 2 }, (_, i) => i), x.rank - 1, x.rank - 2]);

const rowOf = (x: Tensor, i: number): Tensor => sliceAxis(x, -2, i, i + 1);
const columnOf = (x: Tensor, i: number): Tensor => sliceAxis(x, -1, i, i + 1);

/** A function of the row index that is true for one row, [n, 1]. */
const isRow = (n: number, row: Tensor): Tensor => reshape(arange(0, n), [n, 1]).equal(row);

/**
 * Gauss-Jordan elimination of [a | b] with partial pivoting: what stands right of a in the end, and the determinant of
 * a, [..., 1, 1]. A singular matrix gives infinities and NaN there, and the determinant 0.
 */
function eliminate(a: Tensor, b: Tensor, n: number): { solution: Tensor; determinant: Tensor } {
  let rows = concat(a, b, -1); // [..., n, n + m]
  let determinant = ones([...a.shape.slice(0, -2), 1, 1], a.dtype);
  for (let k = 0; k < n; k++) {
    const here = full([1, 1], k, "i64");
    const below = sliceAxis(abs(columnOf(rows, k)), -2, k, n);
    const best = argmax(below, -2, true).add(k); // [..., 1, 1]
    const index = broadcastTo(best, [...rows.shape.slice(0, -2), 1, rows.shape.at(-1)!]);
    const pivotRow = gatherElements(rows, index, rows.rank - 2);
    const swapped = where(isRow(n, best), rowOf(rows, k), rows);
    const pivot = columnOf(pivotRow, k);
    const product = determinant.mul(where(best.equal(k), pivot, pivot.neg()));
    determinant = where(determinant.equal(0), determinant, product); // behind a pivot of 0 nothing is a number
    const scaled = pivotRow.div(pivot);
    const cleared = swapped.sub(columnOf(swapped, k).mul(scaled));
    rows = where(isRow(n, here), scaled, cleared);
  }
  return { solution: sliceAxis(rows, -1, n, rows.shape.at(-1)!), determinant };
}

/**
 * x with a x = b, for a [..., n, n], n from 1 to 8, and b [..., n, m]; leading axes broadcast. By elimination with pivots.
 * Singular matrices give infinities or NaN.
 */
export function solve(a: Tensor, b: Tensor): Tensor {
  const [left, right, n] = alike("solve", a, b);
  const { solution } = eliminate(stopGradient(left), stopGradient(right), n);
  return customVjp([solution], [left, right], ([ct], [m], [x]) => {
    if (!ct) return [];
    const ofRight = solve(adjoint(m!), ct);
    return [matmul(ofRight, x!, { transB: true }).neg(), ofRight];
  })[0]!;
}

/** The inverses of [..., n, n], n from 1 to 8, by elimination with pivots. Singular matrices give infinities or NaN. */
export function inverse(a: Tensor): Tensor {
  const n = sizeOfSquare("inverse", a);
  const { solution } = eliminate(stopGradient(a), broadcastTo(eye(n, a.dtype), a.shape), n);
  return customVjp([solution], [a], ([ct], _, [y]) => {
    if (!ct) return [];
    return [matmul(matmul(y!, ct, { transA: true }), y!, { transB: true }).neg()];
  })[0]!;
}

/** Determinants of 1 x 1 to 3 x 3 matrices, by their polynomial. */
function polynomial(a: Tensor, n: number): Tensor {
  const at = (i: number, j: number): Tensor => columnOf(rowOf(a, i), j);
  if (n === 1) return a;
  const minor = (i: number, j: number): Tensor => at(1, i).mul(at(n === 2 ? 0 : 2, j));
  if (n === 2)
    return at(0, 0)
      .mul(at(1, 1))
      .sub(at(0, 1).mul(at(1, 0)));
  return [0, 1, 2]
    .map((i) => {
      const [j, k] = [(i + 1) % 3, (i + 2) % 3];
      return at(0, i).mul(minor(j, k).sub(minor(k, j)));
    })
    .reduce((x, y) => x.add(y));
}

/**
 * Determinants [...] of [..., n, n], n from 1 to 8: polynomials up to 3, beyond by elimination with pivots, where the
 * gradient of a singular matrix is not a number.
 */
export function determinant(a: Tensor): Tensor {
  const n = sizeOfSquare("determinant", a);
  const lead = a.shape.slice(0, -2);
  if (n <= 3) return reshape(polynomial(a, n), lead);
  const { determinant: value } = eliminate(stopGradient(a), stopGradient(sliceAxis(a, -1, 0, 1)), n);
  const [result] = customVjp([value], [a], ([ct], [m], [y]) => [ct && adjoint(inverse(m!)).mul(ct.mul(y!))]);
  return reshape(result!, lead);
}

/**
 * The lower triangular L with L Lᵀ = a, for symmetric positive definite a [..., n, n], n from 1 to 8. Only the symmetric part
 * (a + aᵀ) / 2 counts. Other matrices give NaN.
 */
export function cholesky(a: Tensor): Tensor {
  const n = sizeOfSquare("cholesky", a);
  const symmetric = a.add(adjoint(a)).mul(0.5);
  const columns: Tensor[] = [];
  for (let j = 0; j < n; j++) {
    const lower = (x: Tensor): Tensor => sliceAxis(x, -2, j, n);
    // What the columns before leave of this one, from the diagonal downwards.
    const rest = columns.reduce(
      (left, done) => left.sub(lower(done).mul(rowOf(done, j))),
      lower(columnOf(symmetric, j)),
    );
    const column = rest.div(sqrt(rowOf(rest, 0)));
    const above = full([...a.shape.slice(0, -2), j, 1], 0, a.dtype);
    columns.push(j === 0 ? column : concat(above, column, -2));
  }
  return columns.length === 1 ? columns[0]! : concat(columns[0]!, columns.slice(1), -1);
}

/** Options of `triangularSolve`. */
export interface TriangularOptions {
  /** The matrices are upper triangular. Default lower. */
  readonly upper?: boolean;
  /** Solves with the transposed matrix. Default false. */
  readonly transposed?: boolean;
}

/**
 * x with a x = b, for triangular a [..., n, n], n from 1 to 8, of which the other triangle does not count, and b [..., n, m];
 * leading axes broadcast. Zeros on the diagonal give infinities or NaN.
 */
export function triangularSolve(a: Tensor, b: Tensor, options: TriangularOptions = {}): Tensor {
  const { upper = false, transposed = false } = options;
  const [given, right, n] = alike("triangularSolve", a, b);
  const left = transposed ? adjoint(given) : given;
  if (upper !== transposed) return flip(triangularSolve(flip(left, [-2, -1]), flip(right, -2)), -2);
  const rows: Tensor[] = [];
  for (let i = 0; i < n; i++) {
    const row = rowOf(left, i);
    const rest = rows.reduce((sofar, x, j) => sofar.sub(columnOf(row, j).mul(x)), rowOf(right, i));
    rows.push(rest.div(columnOf(row, i)));
  }
  return rows.length === 1 ? rows[0]! : concat(rows[0]!, rows.slice(1), -2);
}
