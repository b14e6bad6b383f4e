import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { judged } from "../../../src/study/index.ts";
import { ARM_NAMES, ARMS, passesOf, sweepOf } from "../../../src/systems/ncp-dpo/arms.ts";
import type { Scores } from "../../../src/systems/ncp-dpo/cells.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/ncp-dpo/options.ts";
import { type Found, RULES } from "../../../src/systems/ncp-dpo/rules.ts";
import { compared, marginOf, marginWins } from "../../../src/systems/ncp-dpo/scores.ts";
import { STUDY } from "../../../src/systems/ncp-dpo/study.ts";
import { reproduceIn } from "../../../src/systems/reproduce.ts";
import { temporaryFolder } from "../../study/folder.ts";
import type { AskedCell } from "../../study/recording-study.ts";
import { askedCells, expectOptionsToDecide, type StudyUnderTest } from "../deciding-options.ts";

let out: string;
beforeAll(async () => {
  out = await temporaryFolder();
});

const N = 64;
const REFERENCE = Array.from({ length: N }, (_, i) => Math.sin(5 * i));
/** Scores that are better than the reference by `gain` for a share of the prompts, and worse for the others. */
const scores = (gain: number, share = 1, { captions = 0.9, frechet = 10 } = {}): Scores => ({
  colours: REFERENCE.map((v, i) => v + (i < share * N ? gain : -gain)),
  captions: REFERENCE.map((_, i) => (i < captions * N ? 1 : 0)),
  frechet,
});
const reference = scores(0);
const curve = (...values: readonly [step: number, gain: number, share?: number][]) =>
  Object.fromEntries(values.map(([step, gain, share]) => [String(step), [scores(gain, share)]]));

/** Numbers with which every rule holds. */
const GOOD: Found = {
  reference,
  arms: {
    "latent-dpo": curve([100, 0.1, 0.6], [400, 0.5, 0.7]),
    "ncp-dpo": curve([100, 0.4, 0.8], [400, 0.6, 0.95]),
    weights: curve([400, 0.3, 0.7]),
    random: curve([400, 0.3, 0.7]),
    cpo0: curve([100, 0.5], [400, 0.2]),
    "ncp-cpo": curve([100, 0.5], [400, 0.49]),
  },
  noisy: { "latent-dpo": curve([400, 0.5, 0.4]), "ncp-dpo": curve([400, 0.5, 0.4]) },
};

const valueFor = ({ kind, name }: Omit<AskedCell, "id">): unknown => {
  if (kind === "model") return name === "candidates" ? { candidates: [] } : {};
  // In the sweep the last of all settings is the best.
  if (name.startsWith("sweep"))
    return scores(name.includes("latent-dpo rate 0.0003 ") || name.includes("rate 0.0009") ? 0.9 : 0.1);
  if (name.startsWith("reference")) return reference;
  return scores(0.5);
};

const study = (more: Record<string, unknown> = {}): StudyUnderTest => ({
  schema: reproduceOptions,
  base: {
    seeds: 2,
    steps: 32,
    sweepSteps: 8,
    arms: "latent-dpo,ncp-dpo",
    test: 16,
    validation: 16,
    prompts: 8,
    out,
    ...more,
  },
  run: (recording, options: ReproduceActionOptions) => reproduceIn(recording, STUDY, options),
  valueFor,
  deciding: {
    ...{ arms: { arms: "ncp-dpo" }, sweep: { sweep: false }, seeds: { seeds: 3 }, steps: { steps: 64 } },
    ...{
      sweepSteps: { sweepSteps: 9 },
      batch: { batch: 6 },
      prompts: { prompts: 9 },
      noisy: { noisy: false },
    },
    ...{ test: { test: 17 }, validation: { validation: 17 }, drawSteps: { drawSteps: 5 } },
  },
  undeciding: { threads: { threads: 1 }, shard: { shard: "1/1" }, work: { work: "elsewhere" }, out: {} },
});

describe("reproduce ncp-dpo", () => {
  it("has no option that decides numbers and no cell", async () => {
    await expectOptionsToDecide(study());
  });

  it("takes the settings that were best on validation prompts", async () => {
    const cells = await askedCells(study());
    const rates = (arm: string) =>
      cells
        .filter(({ name, kind }) => kind === "model" && name.startsWith(`${arm} seed`))
        .map(({ given }) => (given.settings as { learningRate: number }).learningRate);
    expect(rates("latent-dpo")).toEqual([3e-4, 3e-4]);
    expect(rates("ncp-dpo")).toEqual([9e-4, 9e-4]);
  });

  it("writes a page with all rules and both judges", async () => {
    await askedCells(study());
    const page = await readFile(join(out, "results.md"), "utf8");
    for (const { name } of RULES) expect(page).toContain(name);
    expect(page).toContain("captions, second judge");
    expect(page).toContain("not measured");
  });
});

describe("the rules", () => {
  const holding = (found: Found): Record<string, boolean | undefined> =>
    Object.fromEntries(judged(RULES, "x", found).map(({ name, judged: one }) => [name, one?.holds]));

  it("hold for good numbers, and are not measured without any", () => {
    for (const [name, holds] of Object.entries(holding(GOOD))) expect(holds, name).toBe(true);
    expect(new Set(Object.values(holding({ reference: undefined, arms: {}, noisy: {} })))).toEqual(
      new Set([undefined]),
    );
  });

  it("fail where a control does as well, or the gain costs what it must not", () => {
    const with_ = (arms: Partial<Found["arms"]>, more: Partial<Found> = {}) =>
      holding({ ...GOOD, ...more, arms: { ...GOOD.arms, ...arms } });
    expect(with_({ weights: GOOD.arms["ncp-dpo"]! })["not the weights of time"]).toBe(false);
    expect(with_({ random: GOOD.arms["ncp-dpo"]! })["not any features"]).toBe(false);
    expect(with_({ "ncp-dpo": curve([400, 0.1, 0.55]) }).faster).toBe(false);
    expect(with_({ "ncp-dpo": curve([400, 0.6, 0.4]) })["it learns"]).toBe(false);
    expect(with_({ "ncp-cpo": curve([100, 0.5], [400, 0.2]) }).steadier).toBe(false);
    expect(with_({}, { noisy: GOOD.arms })["filtered pairs"]).toBe(false);
    expect(with_({ "ncp-dpo": { "400": [scores(0.6, 0.95, { captions: 0.7 })] } })["the second judge"]).toBe(
      false,
    );
    expect(
      with_({ "ncp-dpo": { "400": [scores(0.6, 0.95, { frechet: 13 })] } })["pictures stay pictures"],
    ).toBe(false);
  });
});

describe("scores", () => {
  it("count what is better by a margin, less what is worse", () => {
    expect(marginOf([0, 4])).toBe(0.5);
    expect(marginWins([1, 0.3, -1], [0, 0, 0], 0.5)).toEqual([1, 0, -1]);
    const found = compared([2, 0, 0, 0], [0, 0, 0, 1], 0.5);
    expect(found).toEqual({ winRate: 0.5, meanGain: 0.25, netMarginWin: 0 });
    expect(() => compared([1], [1, 2])).toThrow(/as many of both models, got 1 and 2/);
  });
});

it("the arithmetic of an arm counts backward passes, references and features", () => {
  expect(passesOf(ARMS["latent-dpo"])).toBe(8);
  expect(passesOf(ARMS["ncp-dpo"])).toBeCloseTo(8 * 1.26, 6);
  expect(passesOf(ARMS.weights)).toBe(8);
  expect(passesOf(ARMS.sft)).toBe(6);
  expect(passesOf(ARMS["ncp-cpo"])).toBeCloseTo(6 * 1.26, 6);
});

it("a sweep begins with an arm's own settings, and tries nine, or three without beta", () => {
  for (const name of ARM_NAMES) {
    const cells = sweepOf(ARMS[name]);
    expect(cells).toHaveLength("beta" in ARMS[name] ? 9 : 3);
    expect(cells[0]!.learningRate).toBe(ARMS[name].learningRate);
    expect(new Set(cells.map((cell) => JSON.stringify(cell))).size).toBe(cells.length);
  }
});
