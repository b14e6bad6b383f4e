/** Confidence intervals by resampling (Efron's percentile bootstrap). */
import { ArgumentError } from "../errors.ts";
import { fillIntegers, type Seed } from "../tensor/index.ts";

/** Options of `bootstrap` and `bootstrapMean`. */
export interface BootstrapOptions {
  /** Share of resamples inside the interval. Default 0.95. */
  readonly level?: number;
  /** Default 1000. */
  readonly resamples?: number;
  readonly seed?: Seed;
}

/** Quantile of ascending values with linear interpolation, q in [0, 1]. */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  if (sorted.length === 0) throw new ArgumentError("quantile: no values");
  if (!(q >= 0 && q <= 1)) throw new ArgumentError(`quantile: q must be in [0, 1], got ${q}`);
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const [low, high] = [sorted[below]!, sorted[Math.min(below + 1, sorted.length - 1)]!];
  return low === high ? low : low + (at - below) * (high - low);
}

/**
 * Interval of `statistic` over resamples of n samples with replacement; `statistic` gets the indices of a resample.
 * Resamples in which it is undefined (NaN), such as an AUC without positives, are left out. @throws ArgumentError
 * when n is 0, the level outside (0, 1), or every resample undefined.
 */
export function bootstrap(
  n: number,
  statistic: (indices: Int32Array) => number,
  options: BootstrapOptions = {},
): [low: number, high: number] {
  const { level = 0.95, resamples = 1000, seed = 0 } = options;
  if (!(level > 0 && level < 1)) throw new ArgumentError(`bootstrap: level must be in (0, 1), got ${level}`);
  if (!(Number.isSafeInteger(n) && n > 0)) throw new ArgumentError(`bootstrap: needs samples, got ${n}`);
  if (!(Number.isSafeInteger(resamples) && resamples > 0))
    throw new ArgumentError(`bootstrap: resamples must be a positive integer, got ${resamples}`);
  const indices = new Int32Array(n);
  const found: number[] = [];
  for (let sample = 0; sample < resamples; sample++) {
    fillIntegers(indices, 0, n, { seed, sample, purpose: 0, step: 0 });
    const value = statistic(indices);
    if (!Number.isNaN(value)) found.push(value);
  }
  if (found.length === 0) throw new ArgumentError("bootstrap: the statistic is undefined on every resample");
  found.sort((a, b) => a - b);
  return [quantile(found, (1 - level) / 2), quantile(found, (1 + level) / 2)];
}

/** Interval of the mean of `values`. */
export const bootstrapMean = (values: ArrayLike<number>, options?: BootstrapOptions): [number, number] =>
  bootstrap(
    values.length,
    (indices) => indices.reduce((sum, i) => sum + values[i]!, 0) / indices.length,
    options,
  );
