/** Scores of binary decisions and their confidence: ROC, equal error, average precision, calibration. */
import { ArgumentError, NonFiniteError, ShapeError } from "../errors.ts";

/** Scores and their labels, 1 for positives and 0 for negatives, both kinds present. */
function checkScores(name: string, scores: ArrayLike<number>, labels: ArrayLike<number>): void {
  if (scores.length !== labels.length)
    throw new ShapeError(`${name}: ${scores.length} scores and ${labels.length} labels`);
  let positives = 0;
  for (let i = 0; i < scores.length; i++) {
    if (Number.isNaN(scores[i]!)) throw new NonFiniteError(`${name}: score ${i} is NaN`);
    if (labels[i] !== 0 && labels[i] !== 1)
      throw new ArgumentError(`${name}: label ${i} must be 0 or 1, got ${labels[i]}`);
    positives += labels[i]!;
  }
  if (positives === 0 || positives === scores.length)
    throw new ArgumentError(
      `${name}: needs both positives and negatives, got ${positives} of ${scores.length}`,
    );
}

/** A point of a ROC curve. */
export interface RocPoint {
  /** Samples of at least this score are called positive. */
  readonly threshold: number;
  readonly falsePositiveRate: number;
  readonly truePositiveRate: number;
  readonly precision: number;
}

/** The ROC curve from (0, 0), one point per distinct score, descending. */
export function rocCurve(scores: ArrayLike<number>, labels: ArrayLike<number>): RocPoint[] {
  checkScores("rocCurve", scores, labels);
  const order = Array.from(scores, (_, i) => i).sort((a, b) => scores[b]! - scores[a]!);
  const positives = order.reduce((sum, i) => sum + labels[i]!, 0);
  const negatives = order.length - positives;
  const points: RocPoint[] = [
    { threshold: Number.POSITIVE_INFINITY, falsePositiveRate: 0, truePositiveRate: 0, precision: 1 },
  ];
  let hits = 0;
  order.forEach((i, at) => {
    hits += labels[i]!;
    if (at + 1 < order.length && scores[order[at + 1]!] === scores[i]) return;
    points.push({
      threshold: scores[i]!,
      falsePositiveRate: (at + 1 - hits) / negatives,
      truePositiveRate: hits / positives,
      precision: hits / (at + 1),
    });
  });
  return points;
}

/** Area under the ROC curve: the chance that a positive outscores a negative, ties counting half. */
export function rocAuc(scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  const curve = rocCurve(scores, labels);
  return curve.slice(1).reduce((area, p, i) => {
    const before = curve[i]!;
    const width = p.falsePositiveRate - before.falsePositiveRate;
    return area + (width * (p.truePositiveRate + before.truePositiveRate)) / 2;
  }, 0);
}

/** Rate at which misses and false alarms are equal, interpolated between the points of the curve. */
export function equalErrorRate(scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  const curve = rocCurve(scores, labels);
  for (let i = 1; i < curve.length; i++) {
    const [a, b] = [curve[i - 1]!, curve[i]!];
    const [gapA, gapB] = [a, b].map((p) => 1 - p.truePositiveRate - p.falsePositiveRate) as [number, number];
    if (gapB > 0) continue;
    const share = gapA === gapB ? 0 : gapA / (gapA - gapB);
    return a.falsePositiveRate + share * (b.falsePositiveRate - a.falsePositiveRate);
  }
  return 1; // not reached: the curve ends at (1, 1)
}

/** Highest true-positive rate whose false-positive rate is at most `rate`. */
export const truePositiveRateAt = (
  scores: ArrayLike<number>,
  labels: ArrayLike<number>,
  rate: number,
): number =>
  rocCurve(scores, labels).reduce((best, p) => (p.falsePositiveRate <= rate ? p.truePositiveRate : best), 0);

/** Average precision: precision summed over the steps of recall, without interpolation. */
export function averagePrecision(scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  const curve = rocCurve(scores, labels);
  return curve
    .slice(1)
    .reduce((sum, p, i) => sum + (p.truePositiveRate - curve[i]!.truePositiveRate) * p.precision, 0);
}

/** How far confidence and accuracy differ. */
export interface Calibration {
  /** Expected calibration error: |accuracy - confidence| weighted by the bins' sizes. */
  readonly expectedError: number;
  readonly maximumError: number;
  /** Mean squared error of the probability. */
  readonly brier: number;
  readonly bins: readonly {
    readonly count: number;
    readonly confidence: number;
    readonly accuracy: number;
  }[];
}

/** Calibration of the probabilities of class 1, over bins of equal width. */
export function calibration(
  probabilities: ArrayLike<number>,
  labels: ArrayLike<number>,
  binCount = 15,
): Calibration {
  const n = probabilities.length;
  if (n === 0 || labels.length !== n)
    throw new ShapeError(`calibration: ${n} probabilities and ${labels.length} labels`);
  const bins = Array.from({ length: binCount }, () => ({ count: 0, confidence: 0, accuracy: 0 }));
  let brier = 0;
  for (let i = 0; i < n; i++) {
    const [p, label] = [probabilities[i]!, labels[i]!];
    if (!(p >= 0 && p <= 1)) throw new ArgumentError(`calibration: probability ${i} is ${p}`);
    const bin = bins[Math.min(binCount - 1, Math.floor(p * binCount))]!;
    bin.count++;
    bin.confidence += p;
    bin.accuracy += label;
    brier += (p - label) ** 2 / n;
  }
  for (const bin of bins) {
    bin.confidence /= bin.count || 1;
    bin.accuracy /= bin.count || 1;
  }
  const gaps = bins.map((bin) => Math.abs(bin.accuracy - bin.confidence));
  return {
    expectedError: gaps.reduce((sum, gap, i) => sum + (gap * bins[i]!.count) / n, 0),
    maximumError: Math.max(...gaps),
    brier,
    bins,
  };
}

/** counts[truth][prediction] over `classes` classes. @throws ArgumentError for a label out of range. */
export function confusionMatrix(
  truth: ArrayLike<number>,
  predicted: ArrayLike<number>,
  classes: number,
): number[][] {
  if (truth.length !== predicted.length)
    throw new ShapeError(`confusionMatrix: ${truth.length} labels and ${predicted.length} predictions`);
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (let i = 0; i < truth.length; i++) {
    const [t, p] = [truth[i]!, predicted[i]!];
    if (!(counts[t] && counts[p]))
      throw new ArgumentError(
        `confusionMatrix: entry ${i} has labels ${t} and ${p}, expected 0 to ${classes - 1}`,
      );
    counts[t]![p]!++;
  }
  return counts;
}

/** Share of right predictions, and its mean over the classes that occur. */
export function accuracy(confusion: readonly (readonly number[])[]): { overall: number; balanced: number } {
  const rows = confusion.map((row, i) => ({ right: row[i]!, all: row.reduce((a, b) => a + b, 0) }));
  const seen = rows.filter(({ all }) => all > 0);
  if (seen.length === 0) throw new ArgumentError("accuracy: no samples");
  return {
    overall: seen.reduce((sum, r) => sum + r.right, 0) / seen.reduce((sum, r) => sum + r.all, 0),
    balanced: seen.reduce((sum, r) => sum + r.right / r.all, 0) / seen.length,
  };
}

/** Matthews correlation of a confusion matrix (Gorodkin's form for many classes); 0 when a side is constant. */
export function matthewsCorrelation(confusion: readonly (readonly number[])[]): number {
  const rows = confusion.map((row) => row.reduce((a, b) => a + b, 0));
  const columns = confusion.map((_, j) => confusion.reduce((sum, row) => sum + row[j]!, 0));
  const all = rows.reduce((a, b) => a + b, 0);
  const dot = (a: number[], b: number[]): number => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
  const right = confusion.reduce((sum, row, i) => sum + row[i]!, 0);
  const scale = Math.sqrt((all * all - dot(columns, columns)) * (all * all - dot(rows, rows)));
  return scale === 0 ? 0 : (right * all - dot(rows, columns)) / scale;
}
