/** Summaries of repeated measurements, and comparisons in pairs. */
import { ArgumentError } from "../errors.ts";
import { bootstrapMean, quantile } from "../metrics/index.ts";

/** Arithmetic mean; NaN without values. */
export const mean = (values: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
};

/** Standard deviation of a sample (divides by n - 1); 0 for one value. */
export function deviation(values: ArrayLike<number>): number {
  if (values.length < 2) return 0;
  const centre = mean(values);
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += (values[i]! - centre) ** 2;
  return Math.sqrt(squares / (values.length - 1));
}

/** Quantiles by linear interpolation, of values in any order. @throws ArgumentError without values, or outside [0, 1] */
export function quantiles(values: ArrayLike<number>, shares: readonly number[]): number[] {
  const sorted = Float64Array.from(values).sort();
  return shares.map((q) => quantile(sorted, q));
}

/** The value in the middle. @throws ArgumentError without values */
export const median = (values: ArrayLike<number>): number => quantiles(values, [0.5])[0]!;

/** A number for people: four significant digits, or so many decimals; an infinite one in words. */
export function numberText(value: number, decimals?: number): string {
  if (!Number.isFinite(value)) return String(value);
  return decimals === undefined ? String(Number(value.toPrecision(4))) : value.toFixed(decimals);
}

/** Decimals that show a deviation to two digits. */
const decimalsOf = (size: number): number | undefined =>
  size > 0 && Number.isFinite(size) ? Math.min(8, Math.max(0, 1 - Math.floor(Math.log10(size)))) : undefined;

/** Mean and deviation, and what they are over. */
export interface Spread {
  readonly mean: number;
  readonly deviation: number;
  readonly count: number;
  /** Such as "0.8660 ± 0.0031 over 3 seeds"; one value has no spread. */
  readonly text: string;
}

/** `3 seeds`, `1 seed`. */
export const counted = (count: number, what: string): string =>
  `${count} ${count === 1 ? what.replace(/s$/, "") : what}`;

/**
 * Mean and standard deviation, with what they are over in the plural, such as "seeds" or "test pictures": a spread that
 * does not say so means nothing. @throws ArgumentError without values
 */
export function spread(values: ArrayLike<number>, over: string): Spread {
  if (values.length === 0) throw new ArgumentError(`spread over ${over}: no values`);
  const [centre, width] = [mean(values), deviation(values)];
  const decimals = decimalsOf(width);
  const number = numberText(centre, decimals);
  const text =
    values.length === 1
      ? `${number} (${counted(1, over)})`
      : `${number} ± ${numberText(width, decimals)} over ${counted(values.length, over)}`;
  return { mean: centre, deviation: width, count: values.length, text };
}

/** Mean of paired differences with its interval. */
export interface Difference {
  /** Mean of a - b. */
  readonly mean: number;
  /** 95 % interval of that mean. */
  readonly low: number;
  readonly high: number;
  readonly pairs: number;
  /** Such as "0.0120 [0.0080, 0.0160], 12 pairs". */
  readonly text: string;
}

/** 97.5 % quantiles of Student's t with 1, 2, … degrees of freedom. */
const STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306];

/** From so many pairs on the bootstrap is used: of fewer it makes intervals that are far too narrow. */
const BOOTSTRAP_FROM = STUDENT.length + 2;

/**
 * The mean of a - b in pairs, such as the same seed or the same test picture, with its 95 % interval: by resampling the
 * pairs, or, of fewer than ten, by Student's t. @throws ArgumentError unless there are two or more pairs
 */
export function pairedDifference(a: readonly number[], b: readonly number[]): Difference {
  if (a.length !== b.length || a.length < 2)
    throw new ArgumentError(`pairs: expected two or more, got ${a.length} and ${b.length} values`);
  const differences = a.map((value, i) => value - b[i]!);
  const [centre, pairs] = [mean(differences), a.length];
  const half = ((STUDENT[pairs - 2] ?? 0) * deviation(differences)) / Math.sqrt(pairs);
  const [low, high] = pairs < BOOTSTRAP_FROM ? [centre - half, centre + half] : bootstrapMean(differences);
  const decimals = decimalsOf((high - low) / 2);
  const [m, l, h] = [centre, low, high].map((value) => numberText(value, decimals));
  return { mean: centre, low, high, pairs, text: `${m} [${l}, ${h}], ${counted(pairs, "pairs")}` };
}
