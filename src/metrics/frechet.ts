/** Fréchet distance between feature distributions (Heusel et al., 2017): FID over any feature extractor. */
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { ArgumentError, NonFiniteError, ShapeError } from "../errors.ts";
import type { SampleTable } from "./sample-table.ts";

/** Mean and covariance of features. */
export interface Moments {
  readonly count: number;
  /** [D] */
  readonly mean: Float64Array;
  /** Unbiased covariance, row-major. // [D, D] */
  readonly covariance: Float64Array;
}

/** Mean and unbiased covariance of feature rows. @throws ArgumentError for fewer than 2 samples. */
export function featureMoments(features: SampleTable): Moments {
  const { size: count, width: d } = features;
  if (count < 2)
    throw new ArgumentError(`featureMoments: a covariance needs at least 2 samples, got ${count}`);
  const rows = features.values();
  const bad = rows.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0)
    throw new NonFiniteError(
      `featureMoments: feature ${bad % d} of sample ${Math.floor(bad / d)} is ${rows[bad]}`,
    );
  const mean = features.mean();
  const covariance = new Float64Array(d * d);
  const centred = new Float64Array(d);
  for (let n = 0; n < count; n++) {
    for (let i = 0; i < d; i++) centred[i] = rows[n * d + i]! - mean[i]!;
    for (let i = 0; i < d; i++) {
      const x = centred[i]!;
      for (let j = i; j < d; j++) covariance[i * d + j]! += x * centred[j]!;
    }
  }
  for (let i = 0; i < d; i++) {
    for (let j = i; j < d; j++) {
      covariance[i * d + j]! /= count - 1;
      covariance[j * d + i] = covariance[i * d + j]!;
    }
  }
  return { count, mean, covariance };
}

/** Symmetric eigenvalues cannot turn imaginary, which the root of a product of two covariances can. */
function eigen(matrix: Matrix): EigenvalueDecomposition {
  return new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
}

/** Root of a symmetric positive semi-definite matrix; rounding's negative eigenvalues count as 0. */
function symmetricRoot(matrix: Matrix): Matrix {
  const { realEigenvalues, eigenvectorMatrix: v } = eigen(matrix);
  const scaled = v.clone();
  realEigenvalues.forEach((value, j) => {
    scaled.mulColumn(j, Math.sqrt(Math.max(0, value)));
  });
  return scaled.mmul(v.transpose());
}

/**
 * |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½), with the trace of the root as the sum of the roots of the eigenvalues of
 * C1^½ C2 C1^½, which is symmetric. @throws ShapeError for features of different widths.
 */
export function frechetDistance(a: Moments, b: Moments): number {
  const d = a.mean.length;
  if (b.mean.length !== d)
    throw new ShapeError(`frechetDistance: features of width ${d} and ${b.mean.length}`);
  const [ca, cb] = [a, b].map((m) => Matrix.from1DArray(d, d, m.covariance)) as [Matrix, Matrix];
  const root = symmetricRoot(ca);
  const inner = root.mmul(cb).mmul(root);
  const symmetric = inner.clone().add(inner.transpose()).mul(0.5);
  const crossTrace = eigen(symmetric).realEigenvalues.reduce((sum, x) => sum + Math.sqrt(Math.max(0, x)), 0);
  const meanGap = a.mean.reduce((sum, x, i) => sum + (x - b.mean[i]!) ** 2, 0);
  return meanGap + ca.trace() + cb.trace() - 2 * crossTrace;
}

/** FID of two sets of features. Biased upwards for small sets: compare at equal counts only. */
export const frechetFeatureDistance = (real: SampleTable, generated: SampleTable): number =>
  frechetDistance(featureMoments(real), featureMoments(generated));
