/** What rules of Q-DiT's study cite, and when they hold. */
import { describe, expect, test } from "vitest";
import { judged } from "../../../src/study/index.ts";
import type { PictureScores } from "../../../src/systems/q-dit/lab.ts";
import { type Found, RULES } from "../../../src/systems/q-dit/rules.ts";
import { SCORES, studied } from "./made-up-study.ts";

/** What a rule reads of the results. */
function cited(name: string, found: Found): string[] {
  const read = new Set<string>();
  const spied = <T extends object>(values: T): T =>
    new Proxy(values, {
      get(target, key) {
        if (typeof key === "string") read.add(key);
        return Reflect.get(target, key);
      },
    });
  const { predictions, pictures, packed } = found;
  const rule = RULES.find((one) => one.name === name)!;
  rule.judge({
    ...found,
    predictions: spied(predictions),
    pictures: spied(pictures),
    packed: spied(packed),
  });
  return [...read].sort();
}

describe("rules", () => {
  test("have names of their own, and everything that they need is measured", async () => {
    expect(new Set(RULES.map(({ name }) => name)).size).toBe(RULES.length);
    const { found } = await studied();
    const verdicts = judged(RULES, "clothes", found);
    expect(verdicts.filter((verdict) => !verdict.judged).map(({ name }) => name)).toEqual([]);
  });

  test.each([
    ["W6A8 keeps the quality", ["natural fp32", "natural q-dit W6A8 groups 64"]],
    ["naive fails, stress", ["stress fp32", "stress tensor-static W4A8"]],
    ["better than the rival, natural", ["natural gptq-static W4A8", "natural q-dit W4A8 groups 64"]],
    [
      "GPTQ shows in pictures, stress",
      ["stress group-dynamic W4A8 groups 64", "stress q-dit W4A8 groups 64"],
    ],
    [
      "groups of 32, stress, columns in their order",
      ["stress gptq-static-in-order W4A8", "stress q-dit-in-order W4A8 groups 32"],
    ],
    [
      "order, natural",
      [
        "natural channel-static W4A8",
        "natural group-dynamic W4A8 groups 64",
        "natural group-static W4A8 groups 64",
        "natural tensor-static W4A8",
      ],
    ],
    ["GPTQ at W3A8, stress", ["stress group-dynamic W3A8 groups 64", "stress q-dit W3A8 groups 64"]],
    [
      "search natural group-dynamic",
      ["natural group-dynamic W4A8 groups 64", "natural group-dynamic W4A8 searched to nearest"],
    ],
    [
      "search stress q-dit, control",
      ["stress q-dit W4A8 random by GPTQ", "stress q-dit W4A8 searched by GPTQ"],
    ],
    ["file of W4A8 groups 64", ["W4A8 groups 64"]],
    ["integers", ["W4A8 groups 64", "W4A8 searched by GPTQ", "W6A8 groups 64", "W8A8 groups 64"]],
  ])("%s cites its cells, and no other", async (name, cells) => {
    const { found } = await studied();
    expect(cited(name, found)).toEqual(cells);
  });

  const verdictOf = (name: string, found: Found) => RULES.find((one) => one.name === name)!.judge(found);
  const withPictures = async (pictures: Found["pictures"]): Promise<Found> => ({
    ...(await studied()).found,
    pictures,
  });
  const scores = (first: number[], second = first): PictureScores => ({ ...SCORES, first, second });

  test("a gain by the judge of the search alone is no gain", async () => {
    const name = "search natural q-dit";
    const [uniform, searched] = ["natural q-dit W4A8 groups 64", "natural q-dit W4A8 searched by GPTQ"];
    const of = async (first: number[], second: number[]) =>
      verdictOf(
        name,
        await withPictures({ [uniform!]: scores([40, 42, 44]), [searched!]: scores(first, second) }),
      );
    expect((await of([36, 38.1, 40], [36, 38.1, 40]))!.holds).toBe(true);
    expect((await of([36, 38.1, 40], [42, 44.1, 46]))!.holds).toBe(false);
    expect((await of([42, 44.1, 46], [36, 38.1, 40]))!.holds).toBe(false);
    const { measured } = (await of([36, 38.1, 40], [42, 44.1, 46]))!;
    expect(measured).toMatch(/first judge: .*second judge: .*: it fits the first judge alone$/);
    expect((await of([42, 44.1, 46], [36, 38.1, 40]))!.measured).not.toMatch(/alone/);
  });

  test("searched sizes that draw less like full precision are told by their likeness", async () => {
    const name = "search natural q-dit, likeness";
    const of = async (searched: number[]) =>
      verdictOf(
        name,
        await withPictures({
          "natural q-dit W4A8 groups 64": { ...SCORES, ratio: [30, 31, 32] },
          "natural q-dit W4A8 searched by GPTQ": { ...SCORES, ratio: searched },
        }),
      );
    expect((await of([30.1, 31, 32.1]))!.holds).toBe(true);
    expect((await of([28.1, 29, 30.1]))!.holds).toBe(false);
  });

  test("pictures are judged in pairs of seeds: seeds that scatter alike hide nothing", async () => {
    const name = "better than naive, natural";
    const pair = { "natural tensor-static W4A8": scores([31, 61, 91]) };
    const of = async (ours: number[]) =>
      verdictOf(name, await withPictures({ ...pair, "natural q-dit W4A8 groups 64": scores(ours) }));
    expect((await of([30, 60.1, 90]))!.holds).toBe(true);
    expect((await of([90, 60.1, 30]))!.holds).toBe(false); // the same mean
  });

  test("keeping the quality means that all of the interval lies below 5 %", async () => {
    const of = async (ours: number[]) =>
      verdictOf(
        "W4A8 keeps the quality",
        await withPictures({
          "natural fp32": scores([100, 100, 100]),
          "natural q-dit W4A8 groups 64": scores(ours),
        }),
      );
    expect((await of([104, 104.1, 103.9]))!.holds).toBe(true);
    expect((await of([106, 106.1, 105.9]))!.holds).toBe(false);
    expect((await of([100, 108, 104]))!.holds).toBe(false); // 4 % on the average, but not surely below 5
  });
});
