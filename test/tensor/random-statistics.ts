/** What the tests of the random generators share. */
import { expect } from "vitest";
import { fillNormal, fillUniform, type RandomAddress } from "../../src/tensor/random/index.ts";

export const normals = (n: number, address: RandomAddress) => fillNormal(new Float32Array(n), address);
export const uniforms = (n: number, address: RandomAddress) => fillUniform(new Float32Array(n), address);

export function maxError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  for (let i = 0; i < actual.length; i++) worst = Math.max(worst, Math.abs(actual[i]! - expected[i]!));
  return worst;
}

/** Mean, variance and kurtosis. */
export function moments(x: Float32Array): { mean: number; variance: number; kurtosis: number } {
  const mean = x.reduce((s, v) => s + v, 0) / x.length;
  let m2 = 0;
  let m4 = 0;
  for (const v of x) {
    const d = (v - mean) ** 2;
    m2 += d / x.length;
    m4 += (d * d) / x.length;
  }
  return { mean, variance: m2, kurtosis: m4 / (m2 * m2) };
}

export function correlation(a: Float32Array, b: Float32Array): number {
  let ab = 0;
  for (let i = 0; i < a.length; i++) ab += a[i]! * b[i]!;
  return ab / a.length;
}

/** Kolmogorov-Smirnov distance times sqrt(n): above 1.95 once in a thousand. */
export function kolmogorov(x: Float32Array, cdf: (v: number) => number): number {
  const sorted = Float32Array.from(x).sort();
  let worst = 0;
  for (let i = 0; i < x.length; i++) {
    const p = cdf(sorted[i]!);
    worst = Math.max(worst, Math.abs(p - i / x.length), Math.abs(p - (i + 1) / x.length));
  }
  return worst * Math.sqrt(x.length);
}

/** Normal distribution function by Abramowitz and Stegun 7.1.26, error below 1.5e-7. */
export function normalCdf(v: number): number {
  const z = Math.abs(v) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * z);
  const tail =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const erf = 1 - tail * Math.exp(-z * z);
  return v < 0 ? (1 - erf) / 2 : (1 + erf) / 2;
}

/** FNV-1a of the bytes, to pin an array's bits. */
export function checksum(array: Float32Array | Int32Array): number {
  let hash = 0x811c9dc5;
  for (const byte of new Uint8Array(array.buffer)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
