/** Inception-style score (Salimans et al., 2016): exp of the mean KL of p(y|x) from p(y), over any classifier. */
import { ArgumentError } from "../errors.ts";
import type { SampleTable } from "./sample-table.ts";

/** Score of class probabilities, one row per sample: mean and standard deviation over `splits` consecutive parts. */
export function inceptionScore(probabilities: SampleTable, splits = 10): { mean: number; std: number } {
  const { size, width } = probabilities;
  if (!(Number.isSafeInteger(splits) && splits >= 1 && size >= splits))
    throw new ArgumentError(`inceptionScore: ${splits} splits of ${size} samples`);
  const rows = probabilities.values();
  for (let i = 0; i < size; i++) {
    const row = rows.subarray(i * width, (i + 1) * width);
    const sum = row.reduce((a, b) => a + b, 0);
    if (!(row.every((p) => p >= 0) && Math.abs(sum - 1) < 1e-3))
      throw new ArgumentError(`inceptionScore: row ${i} is no distribution: its sum is ${sum}`);
  }
  const scores = Array.from({ length: splits }, (_, s) => {
    const [begin, end] = [Math.floor((s * size) / splits), Math.floor(((s + 1) * size) / splits)];
    return scoreOf(rows.subarray(begin * width, end * width), width);
  });
  const mean = scores.reduce((a, b) => a + b, 0) / splits;
  return { mean, std: Math.sqrt(scores.reduce((sum, x) => sum + (x - mean) ** 2, 0) / splits) };
}

function scoreOf(rows: Float64Array, width: number): number {
  const n = rows.length / width;
  const marginal = new Float64Array(width);
  rows.forEach((p, at) => {
    marginal[at % width]! += p / n;
  });
  const divergence = rows.reduce(
    (sum, p, at) => sum + (p > 0 ? p * Math.log(p / marginal[at % width]!) : 0),
    0,
  );
  return Math.exp(divergence / n);
}
