/** Whether work grows as its input does, on a machine of any speed. */
import { expect } from "vitest";

const TIMES = 8;

/** Seconds of processor time that it takes, the least of three: what else the machine does is not in it. */
function secondsOf(work: () => void): number {
  const seconds = Array.from({ length: 3 }, () => {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e6;
  });
  return Math.min(...seconds);
}

/**
 * Expects that the time `work` takes grows as its length does, up to `length`. Eight times the input may take 32 times
 * as long, for caches and collected memory; in square it would be 64. What takes less than 20 ms shows nothing.
 */
export function expectLinearTime(work: (length: number) => void, length: number): void {
  const short = secondsOf(() => work(Math.floor(length / TIMES)));
  const long = secondsOf(() => work(length));
  expect(long, `seconds for ${length}; an eighth of it took ${short}`).toBeLessThan(
    Math.max(0.02, 4 * TIMES * short),
  );
}
