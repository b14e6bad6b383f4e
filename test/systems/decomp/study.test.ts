import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { Verdict } from "../../../src/study/index.ts";
import { ARMS, CHANGES } from "../../../src/systems/decomp/arms.ts";
import type { Measured } from "../../../src/systems/decomp/cells.ts";
import { PRESETS } from "../../../src/systems/decomp/model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/decomp/options.ts";
import { STUDY } from "../../../src/systems/decomp/study.ts";
import { decomp } from "../../../src/systems/decomp/system.ts";
import { reproduceIn } from "../../../src/systems/reproduce.ts";
import { temporaryFolder } from "../../study/folder.ts";
import type { AskedCell } from "../../study/recording-study.ts";
import { askedCells, expectOptionsToDecide, type StudyUnderTest } from "../deciding-options.ts";

let out: string;
beforeAll(async () => {
  out = await temporaryFolder();
});

type Numbers = Partial<Record<"error" | "miou" | "perceptual" | "fid" | "mig", number>>;

/** Numbers with which every rule holds. */
const GOOD: Readonly<Record<string, Numbers>> = {
  x0: { error: 0.02, miou: 0.6, perceptual: 0.1, fid: 1, mig: 0.3 },
  eps: { error: 0.1, miou: 0.2, perceptual: 0.5, fid: 5 },
  single: { error: 0.03, perceptual: 0.2, fid: 2 },
  wide: { error: 0.01, miou: 0.4, perceptual: 0.1, fid: 1 },
  COMET: { error: 0.05, miou: 0.3, perceptual: 0.4, fid: 4 },
  "beta-VAE": { error: 0.04, perceptual: 0.3, fid: 3, mig: 0.2 },
};

const measured = ({ error = 1, perceptual = 1, fid = 1, miou, mig }: Numbers): Measured => ({
  ...{ error, perceptual, fid, errors: [error, error], shuffledError: 3 * error },
  ...(miou !== undefined && { miou, overlap: 0.1, coverage: 0.9, outside: 0.1, recombination: 0.7 }),
  ...(mig !== undefined && { mig, migWithoutHue: mig, mcc: mig, mccWithoutHue: mig }),
});

const madeUp =
  (values: Readonly<Record<string, Numbers>>) =>
  ({ kind, name, given }: Omit<AskedCell, "id">): unknown => {
    if (kind === "model") return { config: given.config };
    // The third way to predict the noise has the least loss on training pictures.
    if (name.startsWith("training loss")) return name.includes("eps, linear, seed") ? 0.1 : 0.2;
    if (name.endsWith("taken apart")) {
      const bytes = (n: number) => Array.from({ length: n * 192 }, () => 7);
      return { given: bytes(8), parts: bytes(16), together: bytes(8), mixtures: bytes(8) };
    }
    const arm = ARMS.find((one) => name.includes(` ${one}, seed`))!;
    return measured(values[arm] ?? {});
  };

const study = (values = GOOD, more: Record<string, unknown> = {}): StudyUnderTest => ({
  schema: reproduceOptions,
  base: { preset: "smoke", seeds: 2, steps: 10, batch: 8, test: 16, out, ...more },
  run: (recording, options: ReproduceActionOptions) => reproduceIn(recording, STUDY, options),
  valueFor: madeUp(values),
  deciding: {
    set: { set: "blocks3", preset: "set" },
    arms: { arms: "x0,eps" },
    tuned: { tuned: false },
    preset: { preset: "set" },
    seeds: { seeds: 3 },
    steps: { steps: 11 },
    batch: { batch: 9 },
    test: { test: 17 },
    drawSteps: { drawSteps: 26 },
    classifierSteps: { classifierSteps: 4 },
  },
  undeciding: {
    shard: { shard: "1/1" },
    threads: { threads: 2 },
    work: { work: "elsewhere" },
    out: { out: join(out, "elsewhere") },
  },
});

const results = async (values = GOOD, more: Record<string, unknown> = {}, below = "") => {
  await askedCells(study(values, more));
  return JSON.parse(await readFile(join(out, below, "results.json"), "utf8")) as {
    verdicts: readonly Verdict[];
    data: unknown;
  };
};

const named = (cells: readonly AskedCell[], name: string): AskedCell => {
  const cell = cells.find((one) => one.name === name);
  expect(cell, name).toBeDefined();
  return cell!;
};

describe("the study of Decomp", () => {
  it("has a fingerprint that every deciding option changes, and no other", () =>
    expectOptionsToDecide({ ...study(), base: { ...study().base, seeds: 2 } }));

  it("trains arms that differ in what they declare, and in nothing else", async () => {
    const cells = await askedCells(study());
    const given = (name: string) => named(cells, `blocks2 ${name}, seed 1`).given;
    const base = given("x0") as { config: object; settings: object };
    expect(base).toMatchObject({
      config: PRESETS.smoke,
      settings: { steps: 10, batch: 8, seed: 1, learningRate: 1e-3 },
    });
    const linear = { encoder: { ...PRESETS.smoke.encoder, relu: false } };
    const declared: Record<string, [config: object, settings: object]> = {
      eps: [{ prediction: "eps" }, {}],
      "eps, slow": [{ prediction: "eps" }, { learningRate: 2e-4 }],
      "eps, linear": [{ prediction: "eps", ...linear }, {}],
      "eps, linear, slow": [{ prediction: "eps", ...linear }, { learningRate: 2e-4 }],
      single: [{ components: 1, latent: 16 }, {}],
      wide: [{ latent: 32 }, {}],
    };
    expect(Object.keys(declared).sort()).toEqual(
      Object.keys(CHANGES)
        .filter((name) => name !== "x0")
        .sort(),
    );
    for (const [name, [config, settings]] of Object.entries(declared))
      expect(given(name), name).toEqual({
        ...base,
        config: { ...base.config, ...config },
        settings: { ...base.settings, ...settings },
      });
    expect(given("COMET")).toMatchObject({
      config: { components: 2, latent: 8, steps: 5, rate: 500 },
      settings: { steps: 40 },
    });
    expect(given("beta-VAE")).toMatchObject({ config: { latent: 16, beta: 4 }, settings: { steps: 10 } });
  });

  it("measures the way to predict the noise that has the least loss on training pictures", async () => {
    const cells = await askedCells(study());
    const from = named(cells, "blocks2 eps, seed 0, measured").from;
    expect(from).toEqual(["blocks2 eps, linear, seed 0", "blocks2 classifier"]);
    const plain = await askedCells(study(GOOD, { tuned: false }));
    expect(named(plain, "blocks2 eps, seed 0, measured").from[0]).toBe("blocks2 eps, seed 0");
  });

  it("holds where every number is as expected, and judges by the arms that a rule names", async () => {
    const verdicts = async (values: typeof GOOD) =>
      (await results(values)).verdicts.flatMap(({ name, judged }) => (judged?.holds ? [] : [name]));
    expect(await verdicts(GOOD)).toEqual([]);
    const worse = (arm: string, change: Numbers) => verdicts({ ...GOOD, [arm]: { ...GOOD[arm], ...change } });
    expect(await worse("COMET", { error: 0.03 })).toEqual(["R1"]);
    expect(await worse("beta-VAE", { perceptual: 0.12 })).toEqual(["R2"]);
    expect(await worse("COMET", { fid: 1.5 })).toEqual(["R3"]);
    expect(await worse("eps", { miou: 0.5 })).toEqual(["L1"]);
    expect(await worse("COMET", { miou: 0.5 })).toEqual(["L1"]);
    expect(await worse("eps", { error: 0.02 })).toEqual(["A1"]);
    expect(await worse("single", { error: 0.01 })).toEqual(["A2"]);
    expect(await worse("wide", { miou: 0.7 })).toEqual(["C2"]);
    expect(await worse("x0", { miou: 0.45 })).toEqual(["L2"].concat([]));
  });

  it("says what was not measured, and has the objects found as its headline", async () => {
    const { verdicts, data } = await results(GOOD, { arms: "x0,eps" });
    const missing = verdicts.flatMap(({ name, judged }) => (judged ? [] : [name]));
    expect(missing).toEqual(["R1", "R2", "R3", "L1", "A2", "C2"]);
    expect(await decomp.headline(data)).toMatch(
      /^component mIoU 0\.60; predicting the noise 0\.20, all objects .* 0\.50$/,
    );
  });
});
