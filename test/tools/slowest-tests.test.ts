import { expect, it } from "vitest";
import { slowestFiles } from "../../tools/slowest-tests.ts";

it("the slowest files come first, with their share of all files' time", () => {
  const file = (name: string, seconds: number) => ({
    name: `/clone/test/${name}`,
    startTime: 5000,
    endTime: 5000 + 1000 * seconds,
  });
  const report = { testResults: [file("a.test.ts", 1), file("b.test.ts", 12), file("c.test.ts", 7)] };
  expect(slowestFiles(report, 2, "/clone")).toEqual([
    "   12.0 s  60.0 %  test/b.test.ts",
    "    7.0 s  35.0 %  test/c.test.ts",
  ]);
  expect(slowestFiles({ testResults: [] }, 2, "/clone")).toEqual([]);
});
