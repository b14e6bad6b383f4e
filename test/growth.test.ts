import { expect, it } from "vitest";
import { expectLinearTime } from "./growth.ts";

/** Adds so many numbers. */
function add(count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += i % 7;
  return sum;
}

it("work that grows as its input does is let through, work that grows as its square is not", () => {
  expectLinearTime(add, 1 << 26);
  expect(() => expectLinearTime((length) => add(length * length), 1 << 14)).toThrow(/seconds for 16384/);
});
