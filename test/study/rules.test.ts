import { describe, expect, it } from "vitest";
import {
  all,
  atLeast,
  atMost,
  differs,
  exceeds,
  falling,
  judged,
  notBelow,
  type Rule,
  summaryOf,
  tableOf,
  verdictTable,
} from "../../src/study/index.ts";

const holds = (found: { holds: boolean } | undefined): boolean | undefined => found?.holds;

describe("rules", () => {
  it("notBelow: the value against the greatest of the others, less the slack", () => {
    expect(holds(notBelow(0.8, [0.7, 0.8]))).toBe(true);
    expect(holds(notBelow(0.8, [0.7, 0.81]))).toBe(false);
    expect(holds(notBelow(0.8, [0.81], 0.02))).toBe(true);
    expect(holds(notBelow(0.8, [0.83], 0.02))).toBe(false);
    expect(notBelow(0.8, [0.7, 0.75])?.measured).toBe("0.8 against 0.7, 0.75");
  });

  it("atLeast and atMost include their bound and look in opposite directions", () => {
    expect([0.4, 0.5, 0.6].map((v) => holds(atLeast(v, 0.5)))).toEqual([false, true, true]);
    expect([0.4, 0.5, 0.6].map((v) => holds(atMost(v, 0.5)))).toEqual([true, true, false]);
  });

  it("falling: each value less than the one before, equal ones are not", () => {
    expect(holds(falling(3, 2, 1))).toBe(true);
    expect(holds(falling(1, 2, 3))).toBe(false);
    expect(holds(falling(3, 2, 2))).toBe(false);
    expect(() => falling(1)).toThrow(/two or more/);
  });

  it("exceeds: the first above the second in pairs, not the second above the first", () => {
    const low = Array.from({ length: 20 }, (_, i) => Math.sin(i));
    const high = low.map((v, i) => v + 0.1 + 0.01 * Math.cos(i)); // a small shift under a large spread
    expect(holds(exceeds(high, low))).toBe(true);
    expect(holds(exceeds(low, high))).toBe(false);
    expect(holds(exceeds(high, low, { atLeast: 0.05 }))).toBe(true);
    expect(holds(exceeds(high, low, { atLeast: 0.2 }))).toBe(false);
  });

  it("differs: either direction, and not for noise of both signs", () => {
    const a = Array.from({ length: 20 }, (_, i) => Math.sin(i));
    const shifted = a.map((v, i) => v + 0.1 + 0.01 * Math.cos(i));
    const noisy = a.map((v, i) => v + (i % 2 === 0 ? 0.1 : -0.1));
    expect([holds(differs(a, shifted)), holds(differs(shifted, a))]).toEqual([true, true]);
    expect(holds(differs(a, noisy))).toBe(false);
    expect(holds(differs(shifted, a, { atLeast: 0.2 }))).toBe(false);
  });

  it("three seeds of one sign are not taken for certain", () => {
    expect(holds(exceeds([1.0, 1.1, 1.9], [0.9, 0.9, 0.9]))).toBe(false);
    expect(holds(exceeds([1.5, 1.51, 1.52], [0.9, 0.9, 0.9]))).toBe(true);
  });

  it("what was not measured makes no verdict", () => {
    expect(notBelow(undefined, [1])).toBeUndefined();
    expect(notBelow(1, [1, undefined])).toBeUndefined();
    expect(notBelow(1, [])).toBeUndefined();
    expect(atLeast(undefined, 1)).toBeUndefined();
    expect(atMost(undefined, 1)).toBeUndefined();
    expect(falling(2, undefined)).toBeUndefined();
    expect(exceeds(undefined, [1, 2])).toBeUndefined();
    expect(differs([1], [2])).toBeUndefined();
  });

  it("all: one that fails decides; else one that is missing leaves it unmeasured", () => {
    const [yes, no] = [atLeast(1, 0), atLeast(0, 1)];
    expect(holds(all(yes, yes))).toBe(true);
    expect(holds(all(yes, no))).toBe(false);
    expect(all(yes, undefined)).toBeUndefined();
    expect(all(no, undefined)).toEqual({ measured: "0, expected 1 or more; not measured", holds: false });
    expect(all()).toBeUndefined();
  });

  it("are printed all, with 'not measured' for those that were not", () => {
    const rules: readonly Rule<{ dice?: number; fid?: number }>[] = [
      { name: "a", says: "Dice is high", judge: ({ dice }) => atLeast(dice, 0.8) },
      { name: "b", says: "FID is low", judge: ({ fid }) => atMost(fid, 10) },
      { name: "c", says: "Dice is perfect", judge: ({ dice }) => atLeast(dice, 1) },
    ];
    const verdicts = judged(rules, "lesions", { dice: 0.9 });
    expect(verdictTable(verdicts).rows).toEqual([
      ["a: Dice is high", "lesions", "holds", "0.9, expected 0.8 or more"],
      ["b: FID is low", "lesions", "not measured", "not measured"],
      ["c: Dice is perfect", "lesions", "does not hold", "0.9, expected 1 or more"],
    ]);
    expect(summaryOf(verdicts)).toBe("1 of 3 rules hold, 1 not measured.");
    expect(summaryOf(verdicts.slice(0, 1))).toBe("1 of 1 rules hold.");
  });
});

describe("tableOf", () => {
  it("computes columns from rows and says what was not measured", () => {
    const rows = new Map<string, { dice: number; iou?: number }>([
      ["ours", { dice: 0.9, iou: 0.8 }],
      ["theirs", { dice: 0.7 }],
    ]);
    expect(tableOf("way", rows, { Dice: (r) => r.dice, IoU: (r) => r.iou })).toEqual({
      columns: ["way", "Dice", "IoU"],
      rows: [
        ["ours", 0.9, 0.8],
        ["theirs", 0.7, "not measured"],
      ],
    });
  });
});
