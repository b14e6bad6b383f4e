import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Dataset, fromArray, mapDataset } from "../../../src/data/index.ts";
import { shapePicture, shapes } from "../../../src/data/world/plain-shapes.ts";
import { ArgumentError } from "../../../src/errors.ts";
import { parameters } from "../../../src/nn/index.ts";
import { judged, openStudy } from "../../../src/study/index.ts";
import {
  CEILING,
  CONTROL,
  CURVE,
  DETERMINISTIC,
  ddimName,
  FLOORS,
  METHOD,
  ONE_STEP,
  PLAIN_UNET,
  type Reached,
  type SetFound,
  TRAILING,
  VARIANTS,
  wayName,
} from "../../../src/systems/sdseg/compared.ts";
import type { Sample } from "../../../src/systems/sdseg/data.ts";
import { evenly, openLab, trainedVariant } from "../../../src/systems/sdseg/lab.ts";
import { sdsegFile } from "../../../src/systems/sdseg/model.ts";
import { findingOf, reproducingWith } from "../../../src/systems/sdseg/page.ts";
import type { Sources } from "../../../src/systems/sdseg/sets.ts";
import { findings, RULES } from "../../../src/systems/sdseg/study.ts";
import type { Segmenter, SegmentOptions } from "../../../src/systems/sdseg/use.ts";
import { fromHost } from "../../../src/tensor/index.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";
import { type AskedCell, recordingStudy } from "../../study/recording-study.ts";
import { expectOptionsToDecide } from "../deciding-options.ts";
import { asked, MODEL, madeUp, optionsOf, STUDY } from "./asked.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdseg-reproduce-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const SAMPLE: Sample = {
  name: "",
  image: { width: 1, height: 1, channels: 1, data: new Float32Array(1) },
  labels: new Int32Array(1),
};

const named = (cells: readonly AskedCell[], name: string): AskedCell => {
  const cell = cells.find((one) => one.name === name);
  if (!cell) throw new Error(`no cell "${name}" among ${cells.map((one) => one.name).join("; ")}`);
  return cell;
};

/** Paths of fields in which two records differ. */
function differing(a: unknown, b: unknown, path = ""): string[] {
  const both = [a, b];
  if (both.some((one) => typeof one !== "object" || one === null)) return Object.is(a, b) ? [] : [path];
  const [x, y] = both as Record<string, unknown>[];
  const keys = [...new Set([...Object.keys(x!), ...Object.keys(y!)])];
  return keys.flatMap((key) => differing(x![key], y![key], path ? `${path}.${key}` : key));
}

describe("what the study asks for", () => {
  it("depends on every option of reproduce, but for how and where it is run", () =>
    expectOptionsToDecide(STUDY));

  it("refuses sets and variants that it does not know, and folders without any", async () => {
    await expect(asked({ sets: "lesions,lungs" })).rejects.toThrow(/"lungs".*known are lesions, em-membrane/);
    await expect(asked({ variants: "lambda-2" })).rejects.toThrow(ArgumentError);
    await expect(asked({ sets: "em-membrane", data: undefined })).rejects.toThrow(
      /none of em-membrane is in/,
    );
  });

  it("trains variants that differ in what they declare and in nothing else", async () => {
    const cells = await asked({ extras: true, variants: Object.keys(VARIANTS).join() });
    const declared = { head: "head", lambda: "settings.lambda", trainVision: "settings.trainVision" };
    for (const set of ["lesions", "em-membrane", "dsb2018-nuclei"]) {
      const method = named(cells, `${set}, lambda-1`);
      for (const [variant, own] of Object.entries(VARIANTS)) {
        const cell = named(cells, `${set}, ${variant}`);
        const expected = Object.entries(declared)
          .filter(
            ([field]) => own[field as keyof typeof own] !== VARIANTS["lambda-1"][field as keyof typeof own],
          )
          .map(([, path]) => path);
        expect(differing(method.given, cell.given), cell.name).toEqual(expected);
        expect(cell.from, cell.name).toEqual(["autoencoder"]);
        expect(cell.given.head).toBe(own.head);
      }
    }
    expect([VARIANTS["lambda-1"].lambda, VARIANTS["lambda-0"].lambda]).toEqual([1, 0]);
    expect([VARIANTS["image-only"].head, VARIANTS["raw-head"].head]).toEqual(["image-only", "raw"]);
    expect(VARIANTS["frozen-vision"].trainVision).toBe(false);
  });

  it("trains as long on every set of a kind, the baseline as well, and on the pictures of the set", async () => {
    const cells = await asked({ steps: 5, realSteps: 9 });
    for (const [set, steps] of Object.entries({ lesions: 5, "em-membrane": 9, "dsb2018-nuclei": 9 }))
      for (const name of [`${set}, lambda-1`, `${set}, U-Net over pixels, plain`])
        expect(named(cells, name).given.settings).toMatchObject({ steps });
    const prints = cells.filter(({ name }) => name.endsWith(", lambda-1")).map(({ given }) => given.data);
    expect(new Set(prints).size).toBe(3);
  });

  it("shares cells between runs of some sets and of all, of some variants and of all", async () => {
    const all = await asked();
    for (const part of [{ sets: "dsb2018-nuclei" }, { variants: "lambda-1,plain" }]) {
      const cells = await asked(part);
      expect(cells.length).toBeLessThan(all.length);
      expect(cells.filter(({ id }) => !all.some((one) => one.id === id))).toEqual([]);
    }
  });

  it("trains the shared autoencoder on all sets alike, however many pictures they have", async () => {
    const cells = await asked();
    expect(named(cells, "autoencoder").given.data).toHaveLength(3);
    const numbered = (name: string, count: number): Dataset<Sample> =>
      mapDataset(fromArray(Array.from({ length: count }, (_, i) => i)), (i) => ({
        ...SAMPLE,
        name: name + i,
      }));
    const view = evenly([numbered("x", 1), numbered("y", 3)]);
    const names: string[] = [];
    for (let i = 0; i < view.length; i++) names.push((await view.get(i)).name);
    expect(names.filter((name) => name.startsWith("x"))).toHaveLength(3);
    expect(names.filter((name) => name.startsWith("y")).sort()).toEqual(["y0", "y1", "y2"]);
  });
});

/** Runs the measurements with a segmenter that only notes how it is asked. */
async function measuredWith(given: Record<string, unknown> = {}) {
  const seen = new Map<string, SegmentOptions[]>();
  let current = "";
  const open = (): Segmenter => ({
    model: MODEL,
    async segment(image, options = {}) {
      seen.set(current, [...(seen.get(current) ?? []), options]);
      const size = image.size / image.shape[1]!;
      const latent = fromHost("f32", [1], new Float32Array(1));
      return { mask: new Uint8Array(size), probability: new Float32Array(size), latent, calls: 1 };
    },
    segmentTiled() {
      throw new Error("not asked for");
    },
    close: async () => {},
  });
  const recording = recordingStudy(() => MODEL);
  const values = new Map<string, Reached>();
  const study = {
    ...recording,
    async *measure(name: string, cell: { given?: object; measure(): Promise<unknown> }) {
      current = name;
      yield { type: "progress", stage: name, done: 0, total: 1 };
      const real = !/times|plain U-Net|ceiling/.test(name);
      const value = real ? await cell.measure() : { dice: 0, iou: 0, perPicture: [] };
      values.set(name, value as Reached);
      return { value, name, id: name, date: "" };
    },
  } as unknown as typeof recording;
  const options = optionsOf({ sets: "lesions,em-membrane", ...given });
  await drained(findings(study, options, { sources: madeUp("DIR"), open }));
  return { seen, values };
}

describe("what is measured", () => {
  it("segments in the way that the row is named after", async () => {
    const { seen } = await measuredWith();
    const expected: Record<string, Partial<SegmentOptions>> = {
      [ONE_STEP]: { mode: "direct" },
      [DETERMINISTIC]: { mode: "ddim", steps: 50, eta: 0, spacing: "leading" },
      "PLMS, 10 steps": { mode: "plms", steps: 10 },
      "DPM-Solver, 10 steps": { mode: "dpm-solver", steps: 10 },
    };
    for (const steps of CURVE) {
      expected[ddimName(steps)] = { mode: "ddim", steps, eta: 1, spacing: "leading" };
      if (steps < 50)
        expected[ddimName(steps, TRAILING)] = { mode: "ddim", steps, eta: 1, spacing: "trailing" };
    }
    for (const [way, options] of Object.entries(expected)) {
      const calls = seen.get(`lesions, lambda-1, ${way}`)!;
      expect(calls.length, way).toBeGreaterThan(0);
      for (const call of calls) expect(call, way).toMatchObject(options);
    }
    const said = Object.values(expected).map((options) => JSON.stringify(options));
    expect(new Set(said).size).toBe(said.length); // no row is another row under another name
  });

  it("samples one step with all seeds and 50 steps with three, each seed once", async () => {
    const { seen } = await measuredWith({ seeds: 4 });
    const seedsOf = (way: string): unknown[] => [
      ...new Set(seen.get(`lesions, lambda-1, ${way}`)!.map(({ seed }) => seed)),
    ];
    expect(seedsOf(ONE_STEP)).toEqual([0, 1, 2, 3]);
    expect(seedsOf(ddimName(50))).toEqual([0, 1, 2]);
  });

  it("takes what is darker as the foreground of membranes, what is brighter elsewhere, on the files' own brightness", async () => {
    const { values } = await measuredWith();
    for (const set of ["lesions", "em-membrane"])
      for (const floor of [FLOORS.otsu, FLOORS.li]) expect(values.get(`${set}, ${floor}`)!.dice, set).toBe(1);
    const all = values.get(`lesions, ${FLOORS.foreground}`)!.dice;
    expect(all).toBeCloseTo((2 * 400) / (400 + 6400), 10);
  });
});

describe("the rules", () => {
  const steady = { diceMean: 0.81, diceDeviation: 0.001, pairDice: 0.95, pixelDeviation: 0.01 };
  const rest = { psnr: 30, ssim: 1, msSsim: 1, featureDistance: 0 };
  const one = (dice: number, more: Partial<Reached> = {}): Reached => ({
    dice,
    iou: 0,
    perPicture: [dice],
    ...more,
  });
  const stability = (pairDice: number, pixelDeviation: number) => ({
    stability: { ...steady, ...rest, pairDice, pixelDeviation },
  });
  const ms = (median: number) => ({ median, fastest: median, milliseconds: [median], text: "" });
  const reached: Record<string, Reached> = {
    [CEILING]: one(0.98),
    [METHOD]: one(0.81, { stability: { ...steady, ...rest } }),
    [wayName("lambda-0", ONE_STEP)]: one(0.79, stability(0.9, 0.03)),
    [wayName("lambda-1", ddimName(50))]: one(0.8, { ensemble: one(0.812), ...stability(0.91, 0.04) }),
    [wayName("lambda-0", ddimName(50))]: one(0.77),
    ...Object.fromEntries([2, 4, 10].map((steps) => [wayName("lambda-1", ddimName(steps)), one(0.78)])),
    ...Object.fromEntries([2, 4, 10].map((steps) => [wayName("lambda-0", ddimName(steps)), one(0.77)])),
  };
  const times = {
    ...{ width: 64, height: 64 },
    times: { one: ms(10), fifty: ms(100), denoiserOne: ms(1), denoiserFifty: ms(50) },
  };
  const holding = (found: SetFound): string =>
    judged(RULES, "x", found)
      .flatMap(({ name, judged: result }) => (result?.holds ? [name] : []))
      .join(" ");
  const with_ = (name: string, changed: Reached): SetFound => ({
    reached: { ...reached, [name]: changed },
    times,
  });

  it("hold when the numbers say so, and each falls by the numbers that it cites", () => {
    expect(holding({ reached, times })).toBe("ceiling a b c d e f");
    expect(holding(with_(CEILING, one(0.96)))).toBe("a b c d e f");
    expect(
      holding(
        with_(wayName("lambda-1", ddimName(50)), {
          ...reached[wayName("lambda-1", ddimName(50))]!,
          dice: 0.816,
        }),
      ),
    ).toBe("ceiling b c d e f");
    expect(holding(with_(wayName("lambda-0", ONE_STEP), one(0.811, stability(0.9, 0.03))))).toBe(
      "ceiling a c d e f",
    );
    expect(holding(with_(wayName("lambda-0", ddimName(10)), one(0.816)))).toBe("ceiling a c d e f");
    expect(holding(with_(wayName("lambda-0", ddimName(4)), one(0.79)))).toBe("ceiling a b d e f");
    expect(holding({ reached, times: { ...times, times: { ...times.times, fifty: ms(40) } } })).toBe(
      "ceiling a b c e f",
    );
    expect(holding(with_(wayName("lambda-0", ONE_STEP), one(0.79, stability(0.96, 0.03))))).toBe(
      "ceiling a b c d f",
    );
    expect(
      holding(with_(METHOD, one(0.81, { stability: { ...steady, ...rest, diceDeviation: 0.006 } }))),
    ).toBe("ceiling a b c d f");
    expect(
      holding(
        with_(
          wayName("lambda-1", ddimName(50)),
          one(0.8, { ensemble: one(0.816), ...stability(0.91, 0.04) }),
        ),
      ),
    ).toBe("ceiling a b c d e");
  });

  it("of what was not measured are not measured, and named", () => {
    const verdicts = judged(RULES, "x", { reached: {} });
    expect(verdicts).toHaveLength(RULES.length);
    expect(verdicts.every((verdict) => verdict.judged === undefined)).toBe(true);
  });

  it("come with the sentence that the controls call for, whichever way it goes", () => {
    const said = (image: number, plain: number): string =>
      findingOf(
        new Map([["x", { reached: { ...reached, [CONTROL]: one(image), [PLAIN_UNET]: one(plain) } }]]),
      );
    expect(findingOf(new Map([["x", { reached }]]))).toMatch(/not both measured/);
    expect(said(0.7, 0.7)).toMatch(/^Diffusion is at least as good/);
    expect(said(0.9, 0.7)).toMatch(/^Diffusion is not needed.*0\.8100 against 0\.9000/);
  });
});

describe("a small study", () => {
  it("trains with the latent loss, without it, with a frozen encoder and another head as it says", async () => {
    const study = await openStudy(join(folder, "variants"), { version: 1 });
    const options = optionsOf({ steps: 3, autoencoderSteps: 1, decoderSteps: 0, threads: 1 });
    const met = new Map<string, number>();
    const counted: Sources = {
      ...madeUp("DIR"),
      open: async (set, split, config) =>
        mapDataset(await madeUp("DIR").open(set, split, config), (sample) => {
          met.set(set, (met.get(set) ?? 0) + 1);
          return sample;
        }),
    };
    const lab = await openLab({ study, options, sources: counted });
    const weights = async (variant: keyof typeof VARIANTS): Promise<Map<string, string>> => {
      const { value } = await drained(trainedVariant(lab, "lesions", variant));
      const all = [...parameters(value.network)].map(
        async ([name, t]) => [name, String(await t.data())] as const,
      );
      return new Map(await Promise.all(all));
    };
    const [one, zero, frozen] = [
      await weights("lambda-1"),
      await weights("lambda-0"),
      await weights("frozen-vision"),
    ];
    const control = await drained(trainedVariant(lab, "lesions", "image-only"));
    expect(control.value.config.head).toBe("image-only");
    // Each was read once for its fingerprint; the crops of the shared autoencoder are of all three.
    expect([...met].filter(([, count]) => count > 3).map(([set]) => set)).toEqual([
      "lesions",
      "em-membrane",
      "dsb2018-nuclei",
    ]);
    const moved = (a: Map<string, string>, b: Map<string, string>, part: string): boolean =>
      [...a].some(([name, values]) => name.startsWith(part) && b.get(name) !== values);
    expect(moved(one, zero, "unet")).toBe(true);
    expect(moved(one, frozen, "vision")).toBe(true);
    expect(moved(zero, frozen, "vision")).toBe(true);
  });

  it("writes the page with its command, the model as it ships, and does nothing twice", async () => {
    const options = {
      ...{ sets: "lesions,cvc-clinicdb", data: folder, variants: "lambda-1", steps: 2, autoencoderSteps: 2 },
      ...{
        decoderSteps: 2,
        test: 2,
        seeds: 2,
        threads: 1,
        work: join(folder, "work"),
        out: join(folder, "out"),
      },
    };
    const run = async (): Promise<WorkEvent[]> => {
      const events: WorkEvent[] = [];
      await drained(reproducingWith({ sources: madeUp(undefined) })(optionsOf(options), {}), (event) =>
        events.push(event),
      );
      return events;
    };
    const events = await run();
    const warnings = events.flatMap((event) => (event.type === "warning" ? [event.text] : []));
    expect(warnings.join()).toContain("cvc-clinicdb");
    const { data, command, verdicts } = JSON.parse(
      await readFile(join(folder, "out", "results.json"), "utf8"),
    );
    expect(command).toContain("--variants lambda-1 --steps 2");
    expect(verdicts.filter((verdict: { on: string }) => verdict.on === "polyps")).toHaveLength(RULES.length);
    const shipped = join(folder, "work", "sdseg-lesions.safetensors");
    const { model, notes } = await sdsegFile.load(shipped);
    expect(model.config.classes).toBe(2);
    expect(notes.command).toBe(command);
    expect(notes.metrics!.testDice).toBe(data.lesions.reached[METHOD].dice);
    const again = await run();
    expect(again.filter(({ type }) => type === "progress")).toEqual([]);
  });
});

describe("shapes", () => {
  it("are the same every time, with all classes among them, each as bright as the others", async () => {
    expect(shapePicture(3)).toEqual(shapePicture(3));
    const sums = new Float64Array(4);
    const counts = new Float64Array(4);
    const split = shapes("test", 60);
    for (let i = 0; i < split.length; i++) {
      const { image, labels } = await split.get(i);
      labels.forEach((label, at) => {
        sums[label]! += image.data[at]!;
        counts[label]!++;
      });
    }
    const means = [...sums].map((sum, k) => sum / counts[k]!);
    for (const mean of means.slice(1)) {
      expect(mean - means[0]!).toBeGreaterThan(0.2);
      expect(Math.abs(mean - means[1]!)).toBeLessThan(0.05);
    }
  });
});
