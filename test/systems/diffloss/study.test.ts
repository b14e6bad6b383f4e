/** DiffLoss's study: what decides each number, arms that differ in what they say, rules that judge the right rows. */
import { describe, expect, test } from "vitest";
import { ArgumentError } from "../../../src/errors.ts";
import type { Restorer } from "../../../src/networks/index.ts";
import { summaryOf } from "../../../src/study/index.ts";
import { ARM_NAMES, ARMS, CORE } from "../../../src/systems/diffloss/arms.ts";
import type { Lab } from "../../../src/systems/diffloss/lab.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/diffloss/options.ts";
import { headlineOf, tablesOf } from "../../../src/systems/diffloss/page.ts";
import type { Found, SetScores, TaskFound } from "../../../src/systems/diffloss/rules.ts";
import {
  findingOf,
  measured,
  planOf,
  type Subject,
  verdictsOf,
} from "../../../src/systems/diffloss/study.ts";
import { drained } from "../../../src/work.ts";
import { recordingStudy } from "../../study/recording-study.ts";
import { expectOptionsToDecide, type StudyUnderTest } from "../deciding-options.ts";

const optionsOf = (more: object = {}): ReproduceActionOptions =>
  reproduceOptions.parse({ data: "photographs", seeds: 2, ...more });

const subjectOf = ({ data }: ReproduceActionOptions): Subject => ({
  prior: "prior 1",
  classifier: "classifier 1",
  lpips: data && "heads 1",
  start: { noise: "network 1", rain: "network 2" },
  photographs: data && `content of ${data}`,
});
const LAB = { gap: async () => 0, start: () => ({}) as Restorer } as unknown as Lab;
const SCORES: SetScores = { psnr: [20, 21], ssim: [0.8, 0.9], detail: [1, 1], lpips: [0.2, 0.3] };

const valueFor = ({ name }: { name: string }): unknown =>
  name.startsWith("gate")
    ? { "t 0 to 49": 0.2, "t 50 to 199": 0.06, "t 200 to 499": 0.02, "t 500 to 999": 0.003 }
    : name.endsWith("recognition")
      ? { divergence: [0.1, 0.2], agreement: [0.9, 0.8] }
      : SCORES;

const STUDY: StudyUnderTest = {
  schema: reproduceOptions,
  base: { data: "photographs", seeds: 2 },
  run: (study, options: ReproduceActionOptions) => measured(study, LAB, subjectOf(options), planOf(options)),
  valueFor,
  deciding: {
    data: { data: "others" },
    tasks: { tasks: "noise" },
    arms: { arms: "pixels,full" },
    seeds: { seeds: 1 },
    steps: { steps: 7 },
    batch: { batch: 7 },
    crop: { crop: 32 },
    strength: { strength: 3 },
    test: { test: 9 },
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

  test("arms differ in the arm alone, and seeds in the seed", async () => {
    const study = recordingStudy(valueFor as never);
    await drained(measured(study, LAB, subjectOf(optionsOf()), planOf(optionsOf({ arms: "all" }))));
    const given = (name: string) =>
      study.cells.find((cell) => cell.name === name)!.given as Record<string, unknown>;
    const { arm, ...rest } = given("rain full seed 0");
    const { arm: other, ...others } = given("rain pixels seed 0");
    expect([arm, other]).toEqual([ARMS.full, ARMS.pixels]);
    expect(others).toEqual(rest);
    expect({ ...given("rain full seed 1"), seed: 0 }).toEqual(given("rain full seed 0"));
    const names = study.cells.map(({ name }) => name.replaceAll(/[^\w.]+/g, "-"));
    expect(new Set(names).size).toBe(names.length);
    for (const name of ARM_NAMES) expect(names).toContain(`noise-${name.replace(" ", "-")}-seed-1`);
  });

  test("the core has what could explain the effect: no network, no training, no gradient, and a rival", () => {
    expect(CORE).toEqual(["pixels", "full", "gradient", "random prior", "perceptual", "detached"]);
  });

  test("tasks without a network to begin with, and unknown arms, are refused", () => {
    expect(() => planOf(optionsOf({ tasks: "jpeg" }))).toThrow(ArgumentError);
    expect(() => planOf(optionsOf({ arms: "fool" }))).toThrow(/unknown arm "fool"/);
  });
});

/** Forty pictures whose scores are these, with a little of their own. */
const spread = (mean: number, width = 0.001): number[] =>
  Array.from({ length: 40 }, (_, i) => mean + width * (((i * 7) % 11) / 5 - 1));
const row = (psnr: number, lpips: number): SetScores => ({
  psnr: spread(psnr),
  ssim: spread(0.9),
  detail: spread(1),
  lpips: spread(lpips),
});

/** What would be found if the claim held. */
const HOLDS: TaskFound = {
  scores: {
    photographs: {
      input: row(15, 0.5),
      pixels: row(25, 0.3),
      full: row(25, 0.28),
      gradient: row(25, 0.29),
      "random prior": row(25, 0.3),
      perceptual: row(25, 0.29),
      longer: row(25, 0.29),
    },
    "our own pictures": { input: row(15, 0.5), pixels: row(25, 0.3) },
  },
  recognition: {
    pixels: { agreement: spread(0.8), divergence: spread(0.3) },
    full: { agreement: spread(0.83), divergence: spread(0.2) },
  },
  detachedGap: 0,
  stepTimes: {},
};
const GATE = { "t 0 to 49": 0.2, "t 50 to 199": 0.06, "t 200 to 499": 0.02, "t 500 to 999": 0.003 };
const found = (own: TaskFound): Found => ({ gate: GATE, tasks: { rain: own } });
const resultOf = (own: TaskFound, name: string, on = "rain, photographs"): boolean | undefined =>
  verdictsOf(found(own)).find((v) => v.name === name && v.on === on)?.judged?.holds;
const changed = (
  arm: "full" | "gradient" | "random prior" | "perceptual" | "longer",
  to: SetScores,
): TaskFound => ({
  ...HOLDS,
  scores: { ...HOLDS.scores, photographs: { ...HOLDS.scores.photographs, [arm]: to } },
});

describe("rules", () => {
  test("hold where the claim holds, and say what was not measured", () => {
    const verdicts = verdictsOf(found(HOLDS));
    expect(verdicts.filter((v) => v.on === "rain, photographs").map((v) => v.judged?.holds)).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect(summaryOf(verdicts)).toBe("8 of 12 rules hold, 4 not measured.");
    expect(findingOf(verdicts)).toBe("");
  });

  test.each([
    ["naturalness", changed("full", row(25, 0.299)), "less than 1 % is no gain"],
    ["naturalness", changed("full", row(24.8, 0.28)), "it costs 0.2 dB"],
    ["the learned prior matters", changed("gradient", row(25, 0.27)), "a loss without a network does better"],
    ["the learned prior matters", changed("random prior", row(25, 0.28)), "an untrained prior does as well"],
    ["equal arithmetic", changed("longer", row(25, 0.27)), "longer training does better"],
    ["perceptual rival", changed("perceptual", row(25, 0.2)), "a classifier's features do better"],
  ] as const)("%s fails where it should", (name, own, _why) => {
    expect(resultOf(HOLDS, name)).toBe(true);
    expect(resultOf(own, name)).toBe(false);
  });

  test("semantics need a point of agreement; the control must be exact; the prior must be good", () => {
    const worse = { ...HOLDS.recognition, full: { agreement: spread(0.805), divergence: spread(0.2) } };
    expect(resultOf({ ...HOLDS, recognition: worse }, "semantics", "rain")).toBe(false);
    expect(resultOf({ ...HOLDS, detachedGap: 1e-9 }, "no gradient, no effect", "rain")).toBe(false);
    const verdicts = verdictsOf({ ...found(HOLDS), gate: { ...GATE, "t 0 to 49": 0.31 } });
    expect(verdicts[0]!.judged!.holds).toBe(false);
    expect(findingOf(verdicts)).toBe("Does not hold: gate of the prior (rooms).");
  });

  test("tables have every row that was measured, DiffLoss in pairs with its rivals", () => {
    const tables = tablesOf(found(HOLDS), planOf(optionsOf({ seeds: 1 })));
    const pairs = tables["rain, photographs: LPIPS in pairs"]!;
    expect(pairs.rows[1]![0]).toMatch(/^rival: gradient/);
    expect(pairs.rows[1]![2]).toMatch(/^0.01/);
    expect(pairs.rows.find(([name]) => String(name).startsWith("semantics"))![1]).toBe("not measured");
    expect(headlineOf(found(HOLDS))).toContain("LPIPS after rain 0.2800; with L1 alone 0.3000");
  });
});
