/** What Q-DiT's study asks for, on a study and a lab that make nothing: what decides each number, and what rules cite. */
import { describe, expect, test } from "vitest";
import { judged, type MeasureCell, type ModelCell, type Study, summaryOf } from "../../../src/study/index.ts";
import { METHODS } from "../../../src/systems/q-dit/baselines.ts";
import { PACKED, SEARCHES, SHAPES, searchName } from "../../../src/systems/q-dit/cells.ts";
import type { Lab, PictureScores } from "../../../src/systems/q-dit/lab.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/q-dit/options.ts";
import { tablesOf } from "../../../src/systems/q-dit/page.ts";
import { type Found, RULES } from "../../../src/systems/q-dit/rules.ts";
import { measured, type Subject, settingsOf } from "../../../src/systems/q-dit/study.ts";
import { qDiT } from "../../../src/systems/q-dit/system.ts";
import { drained, type Work } from "../../../src/work.ts";
import { type AskedCell, recordingStudy } from "../../study/recording-study.ts";
import { undecidingOptions } from "../deciding-options.ts";

const optionsOf = (more: object = {}): ReproduceActionOptions =>
  reproduceOptions.parse({ data: "clothes", further: true, threads: 3, ...more });

const subjectOf = ({ model, data, threads = 3 }: ReproduceActionOptions): Subject => ({
  model: `content of ${model}`,
  judge: "network 0",
  real: `test half of ${data}`,
  training: `training half of ${data}`,
  file: `/anywhere/${model}`,
  threads,
  kernels: { exactSignedBytes: true, roundsBlocks: true },
});

const SCORES: PictureScores = {
  first: [1, 2, 3],
  second: [4, 5, 6],
  agreement: [0.8, 0.8, 0.8],
  ratio: [30, 30, 30],
};
const TIMES = { milliseconds: [2], median: 2, fastest: 2, text: "2 ms" };
const SIZES = { best: [16, 16], random: [128, 128] };

/** Made-up content of a cell. */
function contentOf(name: string): unknown {
  if (name.startsWith("predictions")) return [20, 30, 40];
  if (name.startsWith("pictures")) return SCORES;
  if (name.startsWith("search"))
    return { ...SIZES, fitness: { best: 1, uniform: 3, random: 2 }, history: [] };
  if (name === "mean picture of each class") return [900, 800];
  if (name.startsWith("weight") || name === "full precision")
    return { fileBytes: 1, share: 0.2, memoryBytes: 1, peakBytes: 1, onnxBytes: 1, agreement: 62, ratio: 40 };
  if (name === "time of a step") return { "full precision": TIMES };
  if (name.startsWith("linear"))
    return ["fp32", "W8A8 groups of 64"].map((layer) => ({ name: layer, times: TIMES, bytes: 1 }));
  return { path: `file of ${name}` };
}

interface LabCall {
  readonly cell: string;
  readonly does: string;
  readonly with: readonly unknown[];
}

/** Runs the whole study: the cells that were asked for, and what the lab was told to do for each of them. */
async function studied(options = optionsOf()) {
  const recording = recordingStudy(({ name }) => contentOf(name));
  const calls: LabCall[] = [];
  let cell = "";
  const note =
    (does: string) =>
    async (...args: readonly unknown[]): Promise<unknown> =>
      void calls.push({ cell, does, with: args });
  const names = ["trainJudge", "predictions", "pictures", "means", "pack", "weigh", "stepTimes", "layers"];
  const lab = {
    ...Object.fromEntries(names.map((name) => [name, note(name)])),
    // biome-ignore lint/correctness/useYield: it searches nothing
    async *search(...args: readonly unknown[]) {
      await note("search")(...args);
    },
  } as unknown as Lab;
  /** Makes every cell, and forgets what came of it. */
  const study: Study = {
    ...recording,
    async *model<M extends object>(name: string, asked: ModelCell<M>) {
      cell = name;
      yield* asked.make("folder");
      return yield* recording.model<M>(name, asked);
    },
    async *measure<T>(name: string, asked: MeasureCell<T>) {
      cell = name;
      const work = asked.measure();
      if (Symbol.asyncIterator in work) yield* work as Work<T>;
      else await work;
      return yield* recording.measure<T>(name, asked);
    },
  };
  const found = await drained(measured(study, subjectOf(options), settingsOf(options), lab, options));
  return { cells: recording.cells, calls, found };
}

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
  test("every option of reproduce changes a fingerprint, but for those that decide nothing", async () => {
    const same = await undecidingOptions(
      qDiT.actions.reproduce!,
      { data: "clothes", threads: 3, further: true },
      async (o) => {
        const options = o as ReproduceActionOptions;
        const study = recordingStudy(({ name }) => contentOf(name));
        const lab = {} as Lab; // a recording study makes nothing
        await drained(measured(study, subjectOf(options), settingsOf(options), lab, options));
        return study.cells;
      },
    );
    expect(same).toEqual(["measure", "work", "out"]);
  });

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

  test("the pictures that judge a search are of no seed that judges its result", async () => {
    const { cells } = await studied();
    const { seeds } = given(cells, "pictures: natural fp32").drawing as { seeds: number[] };
    for (const search of SEARCHES) {
      const { drawing } = given(cells, searchName(search)) as { drawing: { seeds: number[] } };
      expect(drawing.seeds).toHaveLength(1);
      expect(seeds).not.toContain(drawing.seeds[0]);
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
    expect(timed.from).toEqual(PACKED.map(({ weights }) => `packed W${weights}A8 groups 64`));
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
        const { weights, group } = given(cells, cell.from[0]!);
        expect(args).toEqual([`file of ${cell.from[0]}`, 50, { weights, group }]);
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
    ["integers", ["W4A8 groups 64", "W6A8 groups 64", "W8A8 groups 64"]],
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
    expect((await of([36, 38.1, 40], [42, 44.1, 46]))!.measured).toMatch(/first judge: .*second judge: /);
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

test("methods that need no calibration say so, and the others name it", async () => {
  const { cells } = await studied();
  for (const { name, given: all } of cells) {
    const method = all.method as keyof typeof METHODS | undefined;
    if (!method) continue;
    expect([name, "calibration" in all]).toEqual([name, METHODS[method].needs !== "nothing"]);
  }
});
