/** Timing that is fair on a machine whose speed changes: the cases take turns. */
import { ArgumentError } from "../errors.ts";
import { median, numberText, quantiles } from "./statistics.ts";

/** Milliseconds of the rounds of one case. */
export interface Times {
  readonly milliseconds: readonly number[];
  readonly median: number;
  /** Least disturbed by other processes. */
  readonly fastest: number;
  /** Such as "12.1 ms (11.8 to 13.0 over 9 rounds)": median and quartiles. */
  readonly text: string;
}

/** Options of `inTurns`. */
export interface TimingOptions {
  /** Rounds before the clock counts, which compile and warm up. Default 1. */
  readonly warmups?: number;
  /** Milliseconds; for tests. */
  readonly clock?: () => number;
}

function timesOf(milliseconds: readonly number[]): Times {
  const [low, high] = quantiles(milliseconds, [0.25, 0.75]);
  const middle = median(milliseconds);
  const range = `${numberText(low!)} to ${numberText(high!)} over ${milliseconds.length} rounds`;
  return {
    milliseconds,
    median: middle,
    fastest: Math.min(...milliseconds),
    text: `${numberText(middle)} ms (${range})`,
  };
}

/**
 * Times cases in turns: each round runs every case once, in an order that begins one case later each time, so that a
 * machine that slows down slows all alike. @throws ArgumentError unless there is a round and a case
 */
export async function inTurns<Name extends string>(
  cases: Readonly<Record<Name, () => Promise<unknown>>>,
  rounds: number,
  { warmups = 1, clock = () => performance.now() }: TimingOptions = {},
): Promise<Record<Name, Times>> {
  const names = Object.keys(cases) as Name[];
  if (!(Number.isInteger(rounds) && rounds > 0 && names.length > 0))
    throw new ArgumentError(`timing: expected rounds and cases, got ${rounds} and ${names.length}`);
  const found = new Map(names.map((name) => [name, [] as number[]]));
  for (let round = -warmups; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(turn + Math.max(0, round)) % names.length]!;
      const from = clock();
      await cases[name]();
      if (round >= 0) found.get(name)!.push(clock() - from);
    }
  }
  return Object.fromEntries([...found].map(([name, times]) => [name, timesOf(times)])) as Record<Name, Times>;
}
