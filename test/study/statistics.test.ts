import { describe, expect, it } from "vitest";
import {
  deviation,
  inTurns,
  mean,
  median,
  pairedDifference,
  quantiles,
  spread,
} from "../../src/study/index.ts";

describe("statistics", () => {
  it("are those of the textbook", () => {
    const values = [2, 4, 4, 4, 5, 5, 7, 9];
    expect(mean(values)).toBe(5);
    expect(deviation(values)).toBeCloseTo(Math.sqrt(32 / 7), 12);
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(quantiles([10, 30, 20], [0, 0.25, 1])).toEqual([10, 15, 30]);
  });

  it("a spread says over what it is, with digits that its deviation deserves", () => {
    expect(spread([0.861, 0.866, 0.871], "seeds").text).toBe("0.8660 ± 0.0050 over 3 seeds");
    expect(spread([100, 300, 500], "test pictures").text).toBe("300 ± 200 over 3 test pictures");
    expect(spread([0.5], "seeds").text).toBe("0.5 (1 seed)");
    expect(() => spread([], "seeds")).toThrow(/over seeds: no values/);
  });

  it("a difference of few pairs has the interval of Student's t", () => {
    // d = 1, 2, 3: mean 2, deviation 1, t(2) = 4.303
    const { mean: m, low, high, pairs } = pairedDifference([2, 4, 6], [1, 2, 3]);
    expect([m, pairs]).toEqual([2, 3]);
    expect(low).toBeCloseTo(2 - 4.303 / Math.sqrt(3), 3);
    expect(high).toBeCloseTo(2 + 4.303 / Math.sqrt(3), 3);
  });

  it("a difference in pairs sees a small shift under a large spread; its sign is that of a - b", () => {
    const b = Array.from({ length: 40 }, (_, i) => 10 * Math.sin(i));
    const a = b.map((v, i) => v + 0.5 + 0.1 * Math.cos(3 * i));
    const { low, high } = pairedDifference(a, b);
    expect(low).toBeGreaterThan(0.4);
    expect(high).toBeLessThan(0.6);
    expect(pairedDifference(b, a).high).toBeLessThan(-0.4);
    expect(() => pairedDifference([1, 2], [1])).toThrow(/got 2 and 1/);
  });
});

describe("timing in turns", () => {
  it("runs the cases by turns, each beginning a round once, and leaves warm-ups out", async () => {
    const order: string[] = [];
    let now = 0;
    const run = (name: string, cost: number) => async () => {
      order.push(name);
      now += cost;
    };
    const times = await inTurns({ a: run("a", 10), b: run("b", 20) }, 3, { clock: () => now });
    expect(order.join("")).toBe("ababbaab");
    expect(times.a.milliseconds).toEqual([10, 10, 10]);
    expect(times.b.median).toBe(20);
    expect(times.a.text).toBe("10 ms (10 to 10 over 3 rounds)");
  });
});
