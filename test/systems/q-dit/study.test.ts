/** What Q-DiT's study asks for: what decides each number, and what the lab is told to do. */
import { describe, expect, test } from "vitest";
import { judged, type Study, summaryOf } from "../../../src/study/index.ts";
import { settingsOf } from "../../../src/systems/q-dit/asked.ts";
import { METHODS } from "../../../src/systems/q-dit/baselines.ts";
import { PACKED, packedName, SEARCHES, SHAPES, searchName } from "../../../src/systems/q-dit/cells.ts";
import type { Lab } from "../../../src/systems/q-dit/lab.ts";
import { tablesOf } from "../../../src/systems/q-dit/page.ts";
import { RULES } from "../../../src/systems/q-dit/rules.ts";
import { measured } from "../../../src/systems/q-dit/study.ts";
import { drained } from "../../../src/work.ts";
import { type AskedCell, recordingStudy } from "../../study/recording-study.ts";
import { expectOptionsToDecide } from "../deciding-options.ts";
import { optionsOf, SIZES, STUDY, studied, subjectOf } from "./made-up-study.ts";

const given = (cells: readonly AskedCell[], name: string): Readonly<Record<string, unknown>> => {
  const cell = cells.find((one) => one.name === name);
  if (!cell) throw new Error(`no cell "${name}" among: ${cells.map((one) => one.name).join("; ")}`);
  return cell.given;
};

/** Paths at which two plain values differ. */
function differences(a: unknown, b: unknown, path = ""): string[] {
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null)
    return Object.is(a, b) ? [] : [path];
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  const of = (value: object, key: string): unknown => (value as Record<string, unknown>)[key];
  return [...keys].flatMap((key) => differences(of(a, key), of(b, key), path ? `${path}.${key}` : key));
}

describe("what decides a number", () => {
  test("every option of reproduce changes a fingerprint, but for those that decide nothing", () =>
    expectOptionsToDecide(STUDY));

  test("names of cells are their own, also as names of files", async () => {
    const { cells } = await studied();
    const names = cells.map(({ name }) => name.replaceAll(/[^\w.]+/g, "-"));
    expect(new Set(names).size).toBe(names.length);
    expect(new Set(cells.map(({ id }) => id)).size).toBe(cells.length);
  });

  test.each([
    [
      "predictions: natural tensor-static W4A8",
      "channel-static W4A8",
      ["method", "scheme.weight.granularity"],
    ],
    [
      "predictions: natural channel-static W4A8",
      "channel-token W4A8",
      ["method", "scheme.activation.granularity", "scheme.activation.range", "calibration"],
    ],
    ["predictions: natural channel-static W4A8", "gptq-static W4A8", ["method", "scheme.rounding"]],
    ["predictions: natural channel-static W4A8", "smooth W4A8", ["method", "scheme.change"]],
    ["predictions: natural channel-static W4A8", "repq W4A8", ["method", "scheme.change"]],
    [
      "predictions: natural group-static W4A8 groups 64",
      "group-dynamic W4A8 groups 64",
      ["method", "scheme.activation.range", "calibration"],
    ],
    [
      "predictions: natural group-dynamic W4A8 groups 64",
      "q-dit W4A8 groups 64",
      ["method", "scheme.rounding", "calibration"],
    ],
    ["predictions: natural q-dit W4A8 groups 64", "q-dit-in-order W4A8 groups 64", ["method", "scheme.gptq"]],
    ["predictions: natural gptq-static W4A8", "gptq-static-in-order W4A8", ["method", "scheme.gptq"]],
    [
      "predictions: natural q-dit W4A8 groups 64",
      "q-dit W4A8 groups 32",
      ["groups", "scheme.weight.granularity", "scheme.activation.granularity"],
    ],
    [
      "predictions: natural q-dit W4A8 groups 64",
      "q-dit W3A8 groups 64",
      ["bits.weights", "scheme.weight.bits"],
    ],
    [
      "predictions: natural q-dit W4A8 groups 64",
      "q-dit W4A4 groups 64",
      ["bits.activations", "scheme.activation.bits"],
    ],
    [
      "pictures: natural q-dit W4A8 groups 64",
      "q-dit W4A8 groups 64, guidance 1.5",
      ["drawing.guidance", "drawing.pictures"],
    ],
    [
      "pictures: natural q-dit W4A8 groups 64",
      "q-dit W4A8 groups 64, 50 steps",
      ["drawing.steps", "drawing.pictures"],
    ],
    ["pictures: natural q-dit W4A8 searched by GPTQ", "q-dit W4A8 random by GPTQ", ["groups.take"]],
  ])("%s differs from %s in nothing but what it claims", async (name, other, fields) => {
    const { cells } = await studied();
    const [kind] = name.split(": ");
    const [a, b] = [given(cells, name), given(cells, `${kind}: natural ${other}`)];
    const found = differences(a, b);
    const below = (path: string, field: string): boolean => path === field || path.startsWith(`${field}.`);
    expect(found.filter((path) => !fields.some((field) => below(path, field)))).toEqual([]);
    expect(fields.filter((field) => !found.some((path) => below(path, field)))).toEqual([]);
  });

  test("the stressed model differs from the natural one by what was planted", async () => {
    const { cells } = await studied();
    for (const kind of ["predictions", "pictures"]) {
      const of = (condition: string) => given(cells, `${kind}: ${condition} q-dit W4A8 groups 64`);
      const planted = ["condition", "factors", "seed", "share"];
      expect(
        [...new Set(differences(of("natural"), of("stress")).map((path) => path.split(".")[0]!))].sort(),
      ).toEqual(planted);
    }
  });

  test("pictures depend on both judges, the real pictures, and the search that gave the sizes", async () => {
    const { cells } = await studied();
    const pictures = cells.filter(({ name }) => name.startsWith("pictures"));
    for (const { given: all, from, name } of pictures) {
      expect(all).toMatchObject({ judge: "network 0", real: "test half of clothes" });
      expect(from[0]).toBe("second judge");
      expect(from).toHaveLength(/searched|random/.test(name) ? 2 : 1);
    }
    const from = (name: string) => pictures.find((cell) => cell.name === `pictures: ${name}`)!.from[1];
    expect(from("natural q-dit W4A8 searched by GPTQ")).toBe("search natural q-dit");
    expect(from("natural q-dit W4A8 searched to nearest")).toBe("search natural group-dynamic");
    expect(from("stress q-dit W4A8 random by GPTQ")).toBe("search stress q-dit");
    expect(given(cells, "second judge")).toEqual({
      steps: 1000,
      seed: 1,
      training: "training half of clothes",
    });
  });

  test("a search is judged by seeds of noise and of calibration that do not judge its result", async () => {
    const { cells } = await studied();
    const { seeds } = given(cells, "pictures: natural fp32").drawing as { seeds: number[] };
    for (const one of SEARCHES) {
      const { drawing, search } = given(cells, searchName(one)) as {
        drawing: { seeds: number[] };
        search: { calibrations: number[] };
      };
      expect(drawing.seeds).toHaveLength(1);
      expect(seeds).not.toContain(drawing.seeds[0]);
      expect(search.calibrations.length).toBeGreaterThan(1);
      const { seed } = settingsOf(optionsOf()).calibration;
      for (const other of [seed, ...seeds.map((k) => seed + k)])
        expect(search.calibrations).not.toContain(other);
    }
  });

  test("times say their shape, threads and kernels", async () => {
    const { cells } = await studied();
    const kernels = { exactSignedBytes: true, roundsBlocks: true };
    for (const shape of SHAPES) {
      const { inFeatures, outFeatures, tokens } = shape;
      expect(given(cells, `linear layer, ${inFeatures} to ${outFeatures}, ${tokens} tokens`)).toEqual({
        ...shape,
        ...{ rounds: 100, threads: 3, kernels },
      });
    }
    expect(given(cells, "time of a step")).toMatchObject({ rounds: 100, threads: 3, batch: 50, kernels });
    const timed = cells.find(({ name }) => name === "time of a step")!;
    expect(timed.from).toEqual(PACKED.map((one) => `packed ${packedName(one)}`));
  });
});

describe("what is measured", () => {
  test("is what the cell says: rounding, sizes, pictures, search", async () => {
    const { cells, calls } = await studied();
    for (const cell of cells) {
      const [call, ...more] = calls.filter((one) => one.cell === cell.name);
      expect(more).toEqual([]);
      const [kind] = cell.name.split(/:| /);
      const args = call!.with as Record<string, unknown>[];
      if (kind === "predictions" || kind === "pictures") {
        expect(call!.does).toBe(kind);
        const { condition, method = "fp32", bits, drawing, groups } = cell.given;
        expect(args[0]).toMatchObject({ condition, method, ...(bits !== undefined && { bits }) });
        if (kind === "pictures") expect(args[1]).toEqual(drawing);
        const take = (groups as { take?: "best" | "random" })?.take;
        if (take) expect(args[0]!.groups).toEqual(SIZES[take]);
        else expect(args[0]!.groups).toBe(typeof groups === "number" ? groups : 0);
      } else if (call!.does === "search") {
        const { condition, method, bits, search, drawing } = cell.given;
        expect(args.slice(1)).toEqual([
          expect.objectContaining({ condition, method, bits }),
          search,
          drawing,
        ]);
      } else if (call!.does === "layers") {
        const { rounds, threads, kernels, ...shape } = cell.given;
        expect(args).toEqual([shape, { rounds, threads }]);
      } else if (call!.does === "weigh" && cell.name !== "full precision") {
        expect(args).toEqual([`file of ${cell.from[0]}`, 50]);
      } else if (call!.does === "pack") {
        const groups = cell.from[0] === "search natural q-dit" ? SIZES.best : 64;
        expect(args).toEqual([{ weights: cell.given.weights, groups }]);
      } else if (call!.does === "stepTimes") {
        expect(args[0]).toMatchObject({ "full precision": "/anywhere/fashion" });
        expect(Object.keys(args[0]!)).toHaveLength(1 + PACKED.length);
      }
    }
    expect(calls).toHaveLength(cells.length);
  });

  test("without further there is less of it, and as many rules", async () => {
    const [less, all] = [await studied(optionsOf({ further: false })), await studied()];
    expect(less.cells.length).toBeLessThan(all.cells.length - 40);
    const verdicts = judged(RULES, "clothes", less.found);
    expect(verdicts).toHaveLength(RULES.length);
    const missing = verdicts.filter((verdict) => !verdict.judged).map(({ name }) => name);
    expect(missing).toEqual(["GPTQ at W3A8, natural", "GPTQ at W3A8, stress"]);
    expect(summaryOf(verdicts)).toContain(`of ${RULES.length} rules hold, 2 not measured`);
  });

  test("nothing is made where nothing is to be made, and all rules say so", async () => {
    const empty: Study = {
      ...recordingStudy(() => undefined),
      // biome-ignore lint/correctness/useYield: it has nothing
      async *model(_, cell) {
        await cell.make("folder").next();
        throw new Error("it was made");
      },
      // biome-ignore lint/correctness/useYield: it has nothing
      async *measure(_, cell) {
        await cell.measure();
        throw new Error("it was measured");
      },
    };
    const options = optionsOf({ measure: false });
    const found = await drained(measured(empty, subjectOf(options), settingsOf(options), {} as Lab, options));
    expect(judged(RULES, "clothes", found).filter((verdict) => verdict.judged)).toEqual([]);
    const { drawing } = settingsOf(options);
    expect(JSON.stringify(tablesOf(found, drawing, subjectOf(options)))).toContain("not measured");
  });
});

test("methods that need no calibration say so, and the others name it", async () => {
  const { cells } = await studied();
  for (const { name, given: all } of cells) {
    const method = all.method as keyof typeof METHODS | undefined;
    if (!method) continue;
    expect([name, "calibration" in all]).toEqual([name, METHODS[method].needs !== "nothing"]);
  }
});
