/** How much better pictures of one model are than those of another, of the same prompts and seeds. */
import { ArgumentError } from "../../errors.ts";

/** One model against another. */
export interface Compared {
  /** Share of prompts whose picture scores higher; ties count half. */
  readonly winRate: number;
  /** Mean difference of scores. */
  readonly meanGain: number;
  /** P(difference > δ) - P(difference < -δ), δ being a quarter of the deviation of the other's scores. */
  readonly netMarginWin: number;
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** A quarter of the deviation of scores: what counts as a difference. */
export function marginOf(scores: readonly number[]): number {
  const centre = mean(scores);
  return Math.sqrt(mean(scores.map((v) => (v - centre) ** 2))) / 4;
}

/** Per prompt: 1 where it is better by more than the margin, -1 where worse, else 0. */
export const marginWins = (scores: readonly number[], other: readonly number[], margin: number): number[] =>
  scores.map((v, i) => (v - other[i]! > margin ? 1 : v - other[i]! < -margin ? -1 : 0));

/** Per prompt: 1 where it is better, 0.5 where it is the same, else 0. */
export const wins = (scores: readonly number[], other: readonly number[]): number[] =>
  scores.map((v, i) => (v > other[i]! ? 1 : v === other[i]! ? 0.5 : 0));

/** @throws ArgumentError for lists of different lengths */
export function compared(
  scores: readonly number[],
  other: readonly number[],
  margin = marginOf(other),
): Compared {
  if (scores.length !== other.length || scores.length === 0)
    throw new ArgumentError(
      `scores: expected as many of both models, got ${scores.length} and ${other.length}`,
    );
  return {
    winRate: mean(wins(scores, other)),
    meanGain: mean(scores.map((v, i) => v - other[i]!)),
    netMarginWin: mean(marginWins(scores, other, margin)),
  };
}
