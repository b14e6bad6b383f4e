import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { watched } from "../../src/systems/watched.ts";

async function all<T, R>(run: AsyncGenerator<T, R>): Promise<[T[], R]> {
  const told: T[] = [];
  for (;;) {
    const { done, value } = await run.next();
    if (done) return [told, value];
    told.push(value);
  }
}

test("what work tells comes in order, at once or later, and then its result", async () => {
  const work = watched<number, string>(async (tell) => {
    tell(1);
    await delay(5);
    tell(2);
    tell(3);
    await delay(5);
    tell(4);
    return "done";
  });
  expect(await all(work)).toEqual([[1, 2, 3, 4], "done"]);
  expect(await all(watched<number, number>(async () => 7))).toEqual([[], 7]);
});

test("an error of the work comes after what it has told", async () => {
  const run = watched<string, void>(async (tell) => {
    tell("half");
    throw new RangeError("of the work");
  });
  expect((await run.next()).value).toBe("half");
  await expect(run.next()).rejects.toThrow("of the work");
});
