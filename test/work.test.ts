import { describe, expect, test } from "vitest";
import { drained, during, told, type Work, watched } from "../src/work.ts";

/** Work of three steps that says whether it was closed. */
function counted() {
  const state = { closed: false };
  async function* run(): AsyncGenerator<number, string> {
    try {
      yield* [1, 2, 3];
      return "done";
    } finally {
      state.closed = true;
    }
  }
  return { run: run(), state };
}

async function all<E, R>(run: AsyncGenerator<E, R>): Promise<[E[], R]> {
  const events: E[] = [];
  const result = await drained(run, (event) => events.push(event));
  return [events, result];
}

describe("drained", () => {
  test("gives what comes of the work, after each event was seen and waited for", async () => {
    const seen: string[] = [];
    const result = await drained(counted().run, async (n) => {
      seen.push(`begin ${n}`);
      await Promise.resolve();
      seen.push(`end ${n}`);
    });
    expect(result).toBe("done");
    expect(seen).toEqual(["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]);
  });

  test("closes the work when the one who looks throws", async () => {
    const { run, state } = counted();
    const looking = drained(run, (n) => {
      if (n === 2) throw new RangeError("seen enough");
    });
    await expect(looking).rejects.toThrow("seen enough");
    expect(state.closed).toBe(true);
  });

  test("throws what the work throws", async () => {
    const failing = async function* (): Work<void> {
      yield { type: "message", text: "so far" };
      throw new RangeError("of the work");
    };
    await expect(drained(failing())).rejects.toThrow("of the work");
  });
});

describe("told", () => {
  test("says an event in other words: one, several or none", async () => {
    const work = told(counted().run, (n) => (n === 1 ? "one" : n === 2 ? ["two", "and a half"] : undefined));
    expect(await all<string, string>(work)).toEqual([["one", "two", "and a half"], "done"]);
  });

  test("closes the work when it is left in the middle", async () => {
    const { run, state } = counted();
    for await (const _ of told(run, (n) => n)) break;
    expect(state.closed).toBe(true);
  });
});

describe("during", () => {
  test("speaks while a promise is pending and gives its value", async () => {
    let finish = (_: string): void => {};
    const pending = new Promise<string>((resolve) => {
      finish = resolve;
    });
    const run = during(pending, () => "still at it", 1);
    expect(await run.next()).toEqual({ done: false, value: "still at it" });
    finish("there");
    expect((await all(run))[1]).toBe("there");
  });

  test("throws what the promise throws", async () => {
    await expect(drained(during(Promise.reject(new RangeError("no")), () => 0, 1))).rejects.toThrow("no");
  });
});

describe("watched", () => {
  test("tells in order what a function reports, at once or later, and then its result", async () => {
    const work = watched<number, string>(async (tell) => {
      tell(1);
      await new Promise(setImmediate);
      tell(2);
      tell(3);
      await new Promise(setImmediate);
      tell(4);
      return "done";
    });
    expect(await all(work)).toEqual([[1, 2, 3, 4], "done"]);
    expect(await all(watched<number, number>(async () => 7))).toEqual([[], 7]);
  });

  test("throws an error of the function after what it has told", async () => {
    const run = watched<string, void>(async (tell) => {
      tell("half");
      throw new RangeError("of the work");
    });
    expect((await run.next()).value).toBe("half");
    await expect(run.next()).rejects.toThrow("of the work");
  });
});
