/**
 * A comparison that cannot leave out what would make it look worse: a trivial floor, a ceiling, the strongest rival and a
 * second judge are asked for. Where one of them does not exist, the reason is printed in its place.
 */
import { ArgumentError } from "../errors.ts";
import type { Table } from "../work.ts";
import { NOT_MEASURED } from "./rules.ts";
import { mean, numberText, pairedDifference, spread } from "./statistics.ts";

/** Why there is no such row. */
export interface None {
  readonly none: string;
}

/** Numbers by seed (or by test picture, by fold): the same key in two rows is a pair. */
export type Values = Readonly<Record<string, number>>;

/** One of what is compared. */
export interface Row {
  readonly name: string;
  /** By the judge. Absent: not measured. */
  readonly values?: Values | undefined;
  /** By the second judge. */
  readonly second?: Values | undefined;
}

/** What a number means. */
export interface Judge {
  /** Heading, with the unit: "Dice", "time, ms". */
  readonly name: string;
  readonly better: "higher" | "lower";
}

/** Rows that are compared, with their floor, ceiling and strongest rival. */
export interface Comparison {
  readonly judge: Judge;
  /** What the values are over, in the plural: "seeds", "test pictures". */
  readonly over: string;
  /** What is tested: the others are compared with it. */
  readonly method: Row;
  /** What no method at all reaches: the majority class, the mean picture, the input as it is. */
  readonly floor: Row | None;
  /** What nothing can pass: the oracle, the data itself, the autoencoder without a generator. */
  readonly ceiling: Row | None;
  /** The best of what else one would use, given as much. */
  readonly rival: Row | None;
  /**
   * A judge that nothing was optimised against. Needed where a judge guided a search, a training or a choice; the rows
   * then bring `second`.
   */
  readonly secondJudge: Judge | None;
  readonly others?: readonly Row[];
}

const heading = ({ name, better }: Judge): string => `${name} (${better} is better)`;

const valuesText = (values: Values | undefined, over: string): string =>
  values === undefined || Object.keys(values).length === 0
    ? NOT_MEASURED
    : spread(Object.values(values), over).text;

/** A row less the method: in pairs where two or more keys are common to both; else of the means, which says so. */
export function differenceText(row: Values | undefined, method: Values | undefined): string {
  if (!row || !method) return NOT_MEASURED;
  const common = Object.keys(row).filter((key) => key in method);
  const pick = (values: Values): number[] => common.map((key) => values[key]!);
  if (common.length >= 2) return pairedDifference(pick(row), pick(method)).text;
  const difference = mean(Object.values(row)) - mean(Object.values(method));
  return Number.isNaN(difference) ? NOT_MEASURED : `${numberText(difference)} (not in pairs)`;
}

/**
 * The comparison as a table: each row's mean and spread, its difference from the method in pairs, and the second judge.
 * @throws ArgumentError for a reason that says nothing
 */
export function comparisonTable(comparison: Comparison): Table {
  const { judge, over, method, floor, ceiling, rival, secondJudge, others = [] } = comparison;
  for (const [role, given] of Object.entries({ floor, ceiling, rival, secondJudge })) {
    if ("none" in given && given.none.trim() === "")
      throw new ArgumentError(`comparison: there is no ${role}: say why`);
  }
  const twice = !("none" in secondJudge);
  const cells = (label: string, { values, second }: Row): string[] => [
    label,
    valuesText(values, over),
    label === method.name ? "" : differenceText(values, method.values),
    ...(twice ? [valuesText(second, over)] : []),
  ];
  const roleOf = (role: string, row: Row | None): string[] =>
    "none" in row
      ? [role, `none: ${row.none}`, "", ...(twice ? [""] : [])]
      : cells(`${role}: ${row.name}`, row);
  return {
    columns: [
      "row",
      heading(judge),
      `difference from ${method.name}, 95 %`,
      ...(twice ? [`second judge: ${heading(secondJudge)}`] : []),
    ],
    rows: [
      cells(method.name, method),
      roleOf("rival", rival),
      roleOf("floor", floor),
      roleOf("ceiling", ceiling),
      ...others.map((row) => cells(row.name, row)),
      ...("none" in secondJudge ? [["second judge", `none: ${secondJudge.none}`, ""]] : []),
    ],
  };
}
