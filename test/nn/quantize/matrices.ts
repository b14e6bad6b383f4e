/** Matrices with the features that quantisation cares about. */
import { fillNormal } from "../../../src/tensor/index.ts";

export const normals = (size: number, seed: number): Float32Array =>
  fillNormal(new Float32Array(size), { seed, sample: 0, purpose: 0, step: 0 });

/** Rows x = A z with fewer z than x: strongly correlated channels, and some of them large. // [rows, columns] */
export function correlated(rows: number, columns: number, seed: number): Float32Array {
  const rank = Math.ceil(columns / 4);
  const [mix, z, own] = [
    normals(rank * columns, seed),
    normals(rows * rank, seed + 1),
    normals(rows * columns, seed + 2),
  ];
  const out = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      let sum = 0.1 * own[r * columns + c]!;
      for (let k = 0; k < rank; k++) sum += z[r * rank + k]! * mix[k * columns + c]!;
      out[r * columns + c] = sum * (c % 11 === 3 ? 8 : 1);
    }
  }
  return out;
}

/** 2/n Σ x xᵀ of rows. */
export function hessianOf(x: Float32Array, columns: number): Float64Array {
  const rows = x.length / columns;
  const out = new Float64Array(columns * columns);
  for (let r = 0; r < rows; r++)
    for (let i = 0; i < columns; i++)
      for (let j = 0; j < columns; j++)
        out[i * columns + j]! += (2 * x[r * columns + i]! * x[r * columns + j]!) / rows;
  return out;
}

/** x wᵀ in double precision. // [M, N] */
export function product(x: Float32Array, w: ArrayLike<number>, columns: number): Float64Array {
  const [m, n] = [x.length / columns, w.length / columns];
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++)
      for (let k = 0; k < columns; k++) out[i * n + j]! += x[i * columns + k]! * w[j * columns + k]!;
  return out;
}

/** |a - b|² / |a|² */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [error, power] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    error += (a[i]! - b[i]!) ** 2;
    power += a[i]! ** 2;
  }
  return error / power;
}
