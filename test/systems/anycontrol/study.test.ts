/** AnyControl's study: what decides each number, arms that differ in what they say, rules that judge the right rows. */
import { describe, expect, test } from "vitest";
import { ArgumentError } from "../../../src/errors.ts";
import { summaryOf } from "../../../src/study/index.ts";
import { ARM_NAMES, ARMS, batchSettings } from "../../../src/systems/anycontrol/arms.ts";
import type { Scores } from "../../../src/systems/anycontrol/measure.ts";
import { ControlNets, kept } from "../../../src/systems/anycontrol/model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/anycontrol/options.ts";
import { headlineOf, pageOf } from "../../../src/systems/anycontrol/page.ts";
import type { Found, Row } from "../../../src/systems/anycontrol/rules.ts";
import { askedOf, type Lab, planOf, verdictsOf } from "../../../src/systems/anycontrol/study.ts";
import { drained } from "../../../src/work.ts";
import { recordingStudy } from "../../study/recording-study.ts";
import { expectOptionsToDecide, type StudyUnderTest } from "../deciding-options.ts";

const scores = (foreground: number, frechet = 10, background = 0.8): Scores => {
  const spread = (mean: number): number[] =>
    Array.from({ length: 40 }, (_, i) => mean + 0.001 * ((i * 7) % 11));
  return {
    ...{
      foreground: spread(foreground),
      background: spread(background),
      depth: spread(0.1),
      edges: spread(0.5),
      captions: spread(0.9),
    },
    frechet,
  };
};
const MODEL = kept(new ControlNets([], []), {} as never);
const valueFor = ({ name }: { name: string }): unknown => {
  if (name === "conditions in another order") return 1e-6;
  if (name === "time of a step") return { base: 10, steered: 14 };
  return name.includes(", ") && !/ seed \d+$/.test(name.replace(/, seed \d+$/, "")) ? scores(0.5) : MODEL;
};
const labOf = ({ base }: ReproduceActionOptions): Lab =>
  ({ prints: { base, captions: "c" } }) as unknown as Lab;

const STUDY: StudyUnderTest = {
  schema: reproduceOptions,
  base: { seeds: 2 },
  run: (study, options: ReproduceActionOptions) => askedOf(study, labOf(options), options),
  valueFor,
  deciding: {
    base: { base: "another" },
    arms: { arms: "full,joint" },
    seeds: { seeds: 1 },
    steps: { steps: 7 },
    batch: { batch: 7 },
    test: { test: 9 },
    real: { real: 99 },
    reader: { reader: 9 },
    sampler: { sampler: 9 },
    guidance: { guidance: 3 },
  },
  undeciding: {
    measure: { measure: false },
    shard: { shard: undefined },
    threads: { threads: 1 },
    work: { work: "elsewhere" },
    out: { out: "elsewhere" },
  },
};

describe("what decides a number", () => {
  test("every option of reproduce changes a fingerprint, but for those that decide nothing", () =>
    expectOptionsToDecide(STUDY));

  test("arms differ in the arm alone, seeds in the seed; single ControlNets take half of the steps", async () => {
    const study = recordingStudy(valueFor as never);
    const options = reproduceOptions.parse({ arms: "all", seeds: 2, steps: 100 });
    await drained(askedOf(study, labOf(options), options));
    const given = (name: string) =>
      study.cells.find((cell) => cell.name === name)!.given as Record<string, unknown>;
    const { arm, ...rest } = given("full seed 0");
    const { arm: other, ...others } = given("joint seed 0");
    expect([arm, other]).toEqual([ARMS.full, ARMS.joint]);
    expect(others).toEqual(rest);
    expect({ ...given("full seed 1"), seed: 0 }).toEqual(given("full seed 0"));
    expect([given("full seed 0").steps, given("pose seed 0").steps]).toEqual([100, 50]);
    for (const name of ARM_NAMES) expect(study.cells.map((cell) => cell.name)).toContain(`${name} seed 1`);
    const names = study.cells.map((cell) => cell.name);
    expect(names).toEqual(
      expect.arrayContaining([
        "summed, background, seed 1",
        "averaged, unaligned, seed 0",
        "full, four, seed 0",
        "none, none",
        "real, real",
      ]),
    );
  });

  test("the rivals that could refute the architecture see the very same pairs", () => {
    const of = (name: keyof typeof ARMS) => batchSettings(ARMS[name], { batch: 1, seed: 0 });
    expect({ ...of("joint"), layout: "packed" }).toEqual(of("full"));
    expect({ ...of("uni, unaligned"), layout: "packed" }).toEqual(of("full"));
    expect(of("-unaligned").unaligned).toBe(0);
    expect(of("-alignment")).toEqual(of("full"));
  });

  test("unknown arms are refused", () => {
    expect(() => planOf(reproduceOptions.parse({ arms: "fool" }))).toThrow(ArgumentError);
  });
});

const HOLDS: Found = {
  scores: {
    real: { none: scores(0.97, 1) },
    none: { none: scores(0.2, 20, 0.3) },
    full: {
      unaligned: scores(0.7, 5),
      background: scores(0.2),
      two: scores(0.7),
      three: scores(0.7),
      four: scores(0.7),
    },
    summed: { unaligned: scores(0.5), background: scores(0.2) },
    averaged: { unaligned: scores(0.4) },
    joint: { unaligned: scores(0.6) },
    "-unaligned": { unaligned: scores(0.5, 8) },
  },
  permutation: 1e-6,
  cost: { base: 10, steered: 14 },
};
const verdicts = (found: Found) => verdictsOf(found, { arms: [], seeds: [0] }, { steps: 9 });
const holds = (found: Found, name: string): boolean | undefined =>
  verdicts(found).find((v) => v.name.startsWith(name))!.judged?.holds;
const changed = (row: Row, to: Scores): Found => ({
  ...HOLDS,
  scores: { ...HOLDS.scores, [row]: { ...HOLDS.scores[row], unaligned: to } },
});

describe("rules", () => {
  test("hold where the claim holds, and count what was not measured", () => {
    expect(summaryOf(verdicts(HOLDS))).toBe("7 of 12 rules hold, 5 not measured.");
    expect(headlineOf(HOLDS)).toMatch(/0\.705; .* jointly 0\.605, no condition 0\.205/);
  });

  test("fail where something else explains the gain", () => {
    expect(holds(changed("joint", scores(0.75)), "the architecture")).toBe(false);
    expect(holds(changed("averaged", scores(0.68)), "(i)")).toBe(false);
    expect(holds(changed("full", scores(0.7, 9.5)), "(i)")).toBe(false);
    expect(holds(changed("-unaligned", scores(0.72, 4)), "(ii)")).toBe(false);
    expect(holds({ ...HOLDS, permutation: 1e-3 }, "(iv)")).toBe(false);
    expect(holds({ ...HOLDS, cost: { base: 10, steered: 16 } }, "cost")).toBe(false);
    expect(holds(changed("full", scores(0.25)), "it follows")).toBe(false);
  });

  test("the page names what fails, and shows floor and ceiling", () => {
    const found = changed("joint", scores(0.75));
    const page = pageOf(found, verdicts(found), { seeds: [0] }, { steps: 9, batch: 16, test: 40 });
    expect(page.finding).toBe("Does not hold: the architecture, not the data.");
    const rows = page.tables["The near thing, in pairs"]!.rows.map(([name]) => name);
    expect(rows).toEqual(expect.arrayContaining(["AnyControl", "floor: no condition"]));
  });
});
