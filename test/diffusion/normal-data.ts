/** Data x0 ~ N(m, s^2) in f64, whose denoiser and probability-flow ODE have closed forms. */
import { type Denoise, weightedSum } from "../../src/diffusion/index.ts";
import { type Tensor, tensor } from "../../src/tensor/index.ts";

export const MEAN = 0.7;
export const DEVIATION = 0.8;

export const filled = (shape: readonly number[], value: number): Tensor =>
  tensor(new Float64Array(shape.reduce((n, d) => n * d, 1)).fill(value), { shape });

/** E[x0 | x = x0 + sigma noise]. */
export const denoiseNormal: Denoise = (x, sigma) => {
  const total = sigma ** 2 + DEVIATION ** 2;
  return weightedSum([DEVIATION ** 2 / total, x], [(MEAN * sigma ** 2) / total, filled(x.shape, 1)]);
};

/** E[x0 | x = (1 - sigma) x0 + sigma noise]. */
export const denoiseNormalFlow: Denoise = (x, sigma) => {
  const keep = 1 - sigma;
  const total = (keep * DEVIATION) ** 2 + sigma ** 2;
  const gain = (keep * DEVIATION ** 2) / total;
  return weightedSum([gain, x], [MEAN * (1 - gain * keep), filled(x.shape, 1)]);
};

/** The end at `to` of the ODE's path through x at `from`. */
export function exactNormal(x: Tensor, from: number, to: number): Tensor {
  const ratio = Math.sqrt((to ** 2 + DEVIATION ** 2) / (from ** 2 + DEVIATION ** 2));
  return weightedSum([ratio, x], [MEAN * (1 - ratio), filled(x.shape, 1)]);
}

/** The clean sample that the ODE's path ends at: a perfect consistency function. */
export const consistentNormal: Denoise = (x, sigma) => exactNormal(x, sigma, 0);

export async function meanAndVariance(x: Tensor): Promise<{ mean: number; variance: number }> {
  const values = await x.toArray();
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { mean, variance: values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length };
}
