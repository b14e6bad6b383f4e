/**
 * Rules: what a study expects, written down before anything is measured. A rule whose numbers are missing is not left out:
 * it is printed as "not measured", so that nobody can make a finding better by measuring less.
 */
import { ArgumentError } from "../errors.ts";
import type { Table } from "../work.ts";
import { numberText, pairedDifference } from "./statistics.ts";

/** What a rule found: the numbers as text, and whether it holds. */
export interface Judged {
  readonly measured: string;
  readonly holds: boolean;
}

/** What is expected of results; `judge` gives undefined where a number that it needs was not measured. */
export interface Rule<R> {
  readonly name: string;
  /** The expectation as a sentence. */
  readonly says: string;
  readonly judge: (results: R) => Judged | undefined;
}

/** A rule and what came of it. */
export interface Verdict {
  readonly name: string;
  readonly says: string;
  /** Data that it was judged on. */
  readonly on: string;
  /** Absent: not measured. */
  readonly judged?: Judged;
}

/** What stands in a table where a number is missing. */
export const NOT_MEASURED = "not measured";

type Maybe = number | undefined;

const known = (values: readonly Maybe[]): values is readonly number[] =>
  values.length > 0 && values.every((value) => value !== undefined);

const listed = (values: readonly number[]): string => values.map((value) => numberText(value)).join(", ");

/** `value` is at least the greatest of `others`, less `slack`. */
export function notBelow(value: Maybe, others: readonly Maybe[], slack = 0): Judged | undefined {
  if (value === undefined || !known(others)) return undefined;
  const allowed = slack === 0 ? "" : ` (slack ${slack})`;
  return {
    measured: `${numberText(value)} against ${listed(others)}${allowed}`,
    holds: value >= Math.max(...others) - slack,
  };
}

/** `value` is `bound` or more. */
export function atLeast(value: Maybe, bound: number): Judged | undefined {
  if (value === undefined) return undefined;
  return { measured: `${numberText(value)}, expected ${bound} or more`, holds: value >= bound };
}

/** `value` is `bound` or less. */
export function atMost(value: Maybe, bound: number): Judged | undefined {
  if (value === undefined) return undefined;
  return { measured: `${numberText(value)}, expected ${bound} or less`, holds: value <= bound };
}

/** Every value is less than the one before. @throws ArgumentError for fewer than two */
export function falling(...values: readonly Maybe[]): Judged | undefined {
  if (values.length < 2)
    throw new ArgumentError(`falling: expected two or more values, got ${values.length}`);
  if (!known(values)) return undefined;
  return {
    measured: values.map((value) => numberText(value)).join(" > "),
    holds: values.every((value, i) => i === 0 || value < values[i - 1]!),
  };
}

type Values = readonly number[] | undefined;

/** The difference in pairs, judged; fewer than two pairs are no measurement. */
function byPairs(a: Values, b: Values, holds: (low: number, high: number) => boolean): Judged | undefined {
  if (!a || !b || a.length < 2) return undefined;
  const { low, high, text } = pairedDifference(a, b);
  return { measured: `difference ${text}`, holds: holds(low, high) };
}

/** Options of `differs` and `exceeds`. */
export interface PairedOptions {
  /** The difference must be larger than this. Default 0. */
  readonly atLeast?: number;
}

/**
 * a and b differ, in either direction: the 95 % interval of the mean difference in pairs lies outside of ±`atLeast`.
 * @throws ArgumentError unless both have as many values
 */
export const differs = (
  a: Values,
  b: Values,
  { atLeast: bound = 0 }: PairedOptions = {},
): Judged | undefined => byPairs(a, b, (low, high) => low > bound || high < -bound);

/** a is above b: the 95 % interval of the mean of a - b in pairs lies above `atLeast`. @throws as `differs` */
export const exceeds = (
  a: Values,
  b: Values,
  { atLeast: bound = 0 }: PairedOptions = {},
): Judged | undefined => byPairs(a, b, (low) => low > bound);

/** All parts hold. One that fails decides; otherwise a part that was not measured leaves the whole unmeasured. */
export function all(...parts: readonly (Judged | undefined)[]): Judged | undefined {
  const fails = parts.some((part) => part?.holds === false);
  if (parts.length === 0 || (!fails && parts.includes(undefined))) return undefined;
  return { measured: parts.map((part) => part?.measured ?? NOT_MEASURED).join("; "), holds: !fails };
}

/** Every rule judged on some results; `on` names the data. */
export const judged = <R>(rules: readonly Rule<R>[], on: string, results: R): Verdict[] =>
  rules.map(({ name, says, judge }) => {
    const found = judge(results);
    return { name, says, on, ...(found && { judged: found }) };
  });

const resultOf = ({ judged: found }: Verdict): string =>
  found === undefined ? NOT_MEASURED : found.holds ? "holds" : "does not hold";

/** Verdicts as a table. */
export const verdictTable = (verdicts: readonly Verdict[]): Table => ({
  columns: ["rule", "on", "result", "measured"],
  rows: verdicts.map((verdict) => [
    `${verdict.name}: ${verdict.says}`,
    verdict.on,
    resultOf(verdict),
    verdict.judged?.measured ?? NOT_MEASURED,
  ]),
});

/** "4 of 6 rules hold, 1 not measured." Rules that were not measured count among the six. */
export function summaryOf(verdicts: readonly Verdict[]): string {
  const count = (result: string): number => verdicts.filter((v) => resultOf(v) === result).length;
  const missing = count(NOT_MEASURED);
  return `${count("holds")} of ${verdicts.length} rules hold${missing > 0 ? `, ${missing} ${NOT_MEASURED}` : ""}.`;
}
