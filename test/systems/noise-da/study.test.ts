/** Noise-DA's study: what decides each number, arms that differ in what they say, rules that judge the right rows. */
import { describe, expect, test } from "vitest";
import { ArgumentError } from "../../../src/errors.ts";
import { createRestorer, type Restorer } from "../../../src/networks/index.ts";
import { createRng } from "../../../src/nn/index.ts";
import {
  ARM_NAMES,
  ARMS,
  type Arm,
  armSettings,
  CORE,
  TUNED,
  wayOfArm,
} from "../../../src/systems/noise-da/arms.ts";
import type { Lab, SetScores } from "../../../src/systems/noise-da/lab.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/noise-da/options.ts";
import { headlineOf, tablesOf } from "../../../src/systems/noise-da/page.ts";
import {
  type DomainFound,
  findingOf,
  recovered,
  tuned,
  verdictsOf,
} from "../../../src/systems/noise-da/rules.ts";
import { measured, planOf, type Subject } from "../../../src/systems/noise-da/study.ts";
import type { JointSettings } from "../../../src/systems/noise-da/train.ts";
import { drained } from "../../../src/work.ts";
import { recordingStudy } from "../../study/recording-study.ts";
import { expectOptionsToDecide, type StudyUnderTest } from "../deciding-options.ts";

const optionsOf = (more: object = {}): ReproduceActionOptions =>
  reproduceOptions.parse({ data: "photographs", seeds: 2, ...more });
const subjectOf = ({ data }: ReproduceActionOptions): Subject => ({
  lpips: data && "heads 1",
  photographs: data && `content of ${data}`,
  damaged: data && `damage of ${data}`,
});
const SCORES: SetScores = { psnr: [20, 21], ssim: [0.8, 0.9], detail: [1, 1], lpips: [0.2, 0.3] };
const valueFor = (): unknown => SCORES;

const STUDY: StudyUnderTest = {
  schema: reproduceOptions,
  base: { data: "photographs", seeds: 2 },
  run: (study, options: ReproduceActionOptions) =>
    measured(study, {} as Lab, subjectOf(options), planOf(options)),
  valueFor,
  deciding: {
    data: { data: "others" },
    worlds: { worlds: "own,photographs" },
    domains: { domains: "noise,rain" },
    arms: { arms: "vanilla,oracle" },
    seeds: { seeds: 1 },
    startSteps: { startSteps: 7 },
    steps: { steps: 7 },
    batch: { batch: 7 },
    crop: { crop: 32 },
    pictures: { pictures: 9 },
    test: { test: 9 },
    diffusion: { diffusion: "smoke" },
  },
  undeciding: {
    measure: { measure: false },
    shard: { shard: undefined },
    threads: { threads: 1 },
    work: { work: "elsewhere" },
    out: { out: "elsewhere" },
  },
};

const BASE: JointSettings = {
  ...{ steps: 100, batch: 2, crop: 16, learningRate: 1e-3, seed: 0, warmup: 0, clip: 0, mode: 0 },
  ...({ schedule: "cosine", timesteps: [1, 999], helperRate: 2, range: "unit" } as const),
  alpha: { cap: 0, ramp: 1 },
};

describe("what decides a number", () => {
  test("every option of reproduce changes a fingerprint, but for those that decide nothing", () =>
    expectOptionsToDecide(STUDY));

  test("arms differ in the arm alone, seeds in the seed; all begin with the network of their seed", async () => {
    const study = recordingStudy(valueFor as never);
    const options = optionsOf({ arms: "all" });
    await drained(measured(study, {} as Lab, subjectOf(options), planOf(options)));
    const cell = (name: string) => study.cells.find((one) => one.name === name)!;
    const given = (name: string) => cell(name).given as Record<string, unknown>;
    const { arm, diffusion, ...rest } = given("own noise noise-da seed 0");
    const { arm: other, diffusion: none, ...others } = given("own noise vanilla seed 0");
    expect([arm, other]).toEqual([ARMS["noise-da"], ARMS.vanilla]);
    expect([diffusion, none]).toEqual(["mini", ""]);
    expect(others).toEqual(rest);
    for (const name of ARM_NAMES)
      expect(cell(`own noise ${name} seed 1`).from, name).toEqual(["own noise start seed 1"]);
    const names = study.cells.map(({ name }) => name.replaceAll(/[^\w.]+/g, "-"));
    expect(new Set(names).size).toBe(names.length);
  });

  test("the core has floor, ceiling, the control without a network, and both controls of the diffusion model", () => {
    expect(CORE).toEqual(expect.arrayContaining(["vanilla", "oracle", "noise-da", "frozen D", "strong D"]));
    expect(CORE).toEqual(expect.arrayContaining([...TUNED.tv]));
  });

  test("unknown names, and photographs without a folder, are refused", () => {
    expect(() => planOf(optionsOf({ arms: "fool" }))).toThrow(/unknown arm "fool"/);
    expect(() => planOf(optionsOf({ domains: "fog" }))).toThrow(/unknown domain "fog"/);
    expect(() => planOf(optionsOf({ worlds: "photographs", data: undefined }))).toThrow(ArgumentError);
  });

  test.each([
    ["vanilla", { mode: 0, steps: 100 }],
    ["oracle", { mode: 0 }],
    ["noise-da", { mode: 1, alpha: { cap: 0.2, ramp: 50 }, timesteps: [1, 999] }],
    ["frozen D", { mode: 1 }],
    ["no swap, no shuffle", { mode: 1, swap: false, shuffle: false }],
    ["only synthetic", { mode: 1, conditions: "synthetic" }],
    ["mode 2", { mode: 2 }],
    ["low noise", { mode: 1, timesteps: [1, 100] }],
    ["dann 0.1", { mode: 0, alpha: { cap: 0.1, ramp: 100, slope: 10 } }],
    ["vanilla, longer", { mode: 0, steps: 500 }],
  ] as const)("%s trains as it says", (name, expected) => {
    expect(armSettings(ARMS[name], BASE)).toMatchObject(expected);
  });

  test("helpers: the method's learns with the network, the frozen one does not, the rivals' are others", () => {
    const net = createRestorer({ network: "unet", base: 2, depth: 2 }, createRng(0)) as Restorer;
    const way = (arm: Arm) => wayOfArm(arm, net, armSettings(arm, BASE), "smoke");
    const kind = (arm: Arm) => way(arm).helper?.constructor.name;
    expect(["noise-da", "frozen D"].map((name) => way(ARMS[name as "noise-da"]).held)).toEqual([
      undefined,
      "helper",
    ]);
    expect([ARMS["noise-da"], ARMS["gan 0.01"], ARMS["dann 0.1"]].map(kind)).toEqual([
      "NoiseGuesser",
      "PatchDiscriminator",
      "DomainClassifier",
    ]);
    for (const name of ["vanilla", "oracle", "tv 0.2", "neighbours"] as const)
      expect(way(ARMS[name]).helper, name).toBeUndefined();
  });
});

/** Forty pictures whose scores are these, with a little of their own. */
const spread = (mean: number): number[] =>
  Array.from({ length: 40 }, (_, i) => mean + 0.05 * (((i * 7) % 11) / 5 - 1));
const row = (psnr: number): SetScores => ({ psnr: spread(psnr), ssim: spread(0.8), detail: spread(1) });
const rowsOf = (values: Readonly<Partial<Record<string, number>>>) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, row(value!)]));

/** What would be found if the claim held. */
const PSNR = {
  ...{ input: 15, start: 16, vanilla: 16, oracle: 21, "noise-da": 19, "noise-da 1": 18, "tv 0.2": 18.5 },
  ...{ "tv 0.8": 17, "frozen D": 16.5, "only synthetic": 16.1, "low noise": 14, "no swap": 18.8 },
  ...{ "no swap, no shuffle": 18.5, "gan 0.01": 17, "dann 0.1": 17 },
};
const domain = (change: Readonly<Partial<Record<string, number>>> = {}, synthetic = 30): DomainFound => ({
  sets: {
    test: rowsOf({ ...PSNR, ...change }),
    validation: rowsOf({ ...PSNR, ...change }),
    synthetic: rowsOf({ vanilla: 30, "noise-da": synthetic }),
  },
  transfer: {},
});
const ON = "noise, our own pictures";
const resultOf = (own: DomainFound, name: string) =>
  verdictsOf({ [ON]: own }).find((v) => v.name.startsWith(name))?.judged?.holds;

describe("rules", () => {
  test("hold where the claim holds; the sentence that follows says so", () => {
    const found = { [ON]: domain() };
    const verdicts = verdictsOf(found);
    expect(verdicts.map(({ judged }) => judged?.holds)).toEqual(verdicts.map(() => true));
    expect(findingOf(found, verdicts)).toMatch(/adapts, and more than a tuned total variation/);
    expect(recovered(domain(), "noise-da")).toBeCloseTo(0.6, 2);
    expect(tuned(domain(), "tv")).toBe("tv 0.2");
    expect(tuned(domain({ "noise-da 1": 20 }), "noise-da")).toBe("noise-da 1");
  });

  test.each([
    ["there is a gap", domain({ oracle: 18 }), "a gap of 2 dB"],
    ["P1", domain({ "noise-da": 17 }), "a fifth of the gap"],
    ["P1", domain({}, 29), "a decibel lost on synthetic pictures"],
    ["P2", domain({ "tv 0.2": 19.5 }), "a penalty does better"],
    ["P3 both conditions", domain({ "only synthetic": 17 }), "the synthetic picture alone helps"],
    ["P3 both conditions", domain({ "only synthetic": 15 }), "or harms"],
    ["P3 high noise", domain({ "low noise": 20 }), "low noise is better"],
    ["P3 parts", domain({ "no swap": 20 }), "swapping harms"],
    ["P3 a learned model", domain({ "frozen D": 18 }), "a random model does nearly as well"],
    ["P4", domain({ "dann 0.1": 20 }), "DANN does better"],
  ])("%s fails where it should", (name, own, _why) => {
    expect(resultOf(domain(), name)).toBe(true);
    expect(resultOf(own, name)).toBe(false);
  });

  test("the sentence says what failed, and nothing is judged that was not measured", () => {
    const sentence = (own: DomainFound) => findingOf({ [ON]: own }, verdictsOf({ [ON]: own }));
    expect(sentence(domain({ "tv 0.2": 20 }))).toMatch(/adapts, but no more than a tuned total variation/);
    expect(sentence(domain({ "noise-da": 16.2 }))).toMatch(/does not adapt as claimed/);
    expect(sentence(domain({ oracle: 17 }))).toMatch(/gap is under 3 dB/);
    const gapOnly: DomainFound = {
      sets: { test: rowsOf({ vanilla: 16, oracle: 21 }), validation: rowsOf({ vanilla: 16, oracle: 21 }) },
      transfer: {},
    };
    expect(verdictsOf({ [ON]: gapOnly }).filter(({ judged }) => judged)).toHaveLength(1);
    expect(sentence(gapOnly)).toMatch(/adaptation was not measured/);
  });

  test("tables have every row that was measured, with its share of the gap", () => {
    const tables = tablesOf({ [ON]: domain() }, planOf(optionsOf({ seeds: 1 })));
    const [scores] = Object.values(tables);
    const at = scores!.columns.indexOf("share of the gap");
    expect(scores!.rows.find(([name]) => String(name).startsWith("noise-da:"))![at]).toBe("0.600");
    expect(Object.keys(tables).join()).toContain("PSNR in pairs");
    expect(headlineOf({ found: { [ON]: domain() } })).toMatch(/19.* dB; without adaptation 16/);
  });
});
