import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { encodePicture } from "../../../src/io/index.ts";
import { betweenMarks, type Verdict } from "../../../src/study/index.ts";
import { reproduceIn } from "../../../src/systems/reproduce.ts";
import { ABLATION } from "../../../src/systems/umd/ablation.ts";
import type { Mixture } from "../../../src/systems/umd/method.ts";
import type { UMDConfig } from "../../../src/systems/umd/model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/umd/options.ts";
import { VARIANTS } from "../../../src/systems/umd/runs.ts";
import { STUDY } from "../../../src/systems/umd/study.ts";
import { umd } from "../../../src/systems/umd/system.ts";
import { temporaryFolder } from "../../study/folder.ts";
import type { AskedCell } from "../../study/recording-study.ts";
import { askedCells, expectOptionsToDecide, type StudyUnderTest } from "../deciding-options.ts";
import { BASE } from "./small-options.ts";

let out: string;
let pictures: string;
beforeAll(async () => {
  out = await temporaryFolder();
  pictures = await temporaryFolder();
  for (const label of ["a", "b"]) {
    await mkdir(join(pictures, label));
    for (let i = 0; i < 130; i++) {
      const data = new Uint8Array(3 * 64).map((_, k) => (k * (i + 1)) % (label === "a" ? 200 : 250));
      const png = await encodePicture({ width: 8, height: 8, channels: 3, data });
      await writeFile(join(pictures, label, `${i}.png`), png);
    }
  }
});

type Values = Readonly<Record<string, number>>;

/** Numbers by the name of the variant (or of the floor) with which every rule holds. */
const PROBES: Values = { UMD: 0.4, DiT: 0.3, MaskDiT: 0.35, MAE: 0.42, "MAE-adaLN": 0.44, pixels: 0.2 };
const DISTANCES: Values = {
  UMD: 80,
  DiT: 90,
  MaskDiT: 85,
  MAE: 120,
  "MAE-adaLN": 110,
  "one mean picture per class": 100,
};
const SEEN: Values = { UMD: 0.5, DiT: 0.52 };

interface MadeUp {
  readonly probes?: Values;
  readonly distances?: Values;
  readonly seen?: Values;
}

const variantOf = (name: string): string =>
  /^(?:probes|samples|pictures filled in) (?:of|by) ([^,]+)/.exec(name)?.[1] ?? name;

/** Made-up values for the cells of the study. */
function madeUp({ probes = PROBES, distances = DISTANCES, seen = SEEN }: MadeUp = {}) {
  return ({ kind, name, given }: Omit<AskedCell, "id">): unknown => {
    if (kind === "model") return { config: given.config };
    const who = variantOf(name);
    if (name.startsWith("probes")) {
      const accuracy = probes[who] ?? 0.11;
      const by = { "10-shot": accuracy / 2, "100-shot": accuracy - 0.02, all: accuracy };
      // The second reading is better on the query and worse on the support: it must not be chosen.
      const readings = [
        { at: "clean", pooling: "pooled", accuracies: by, folds: by },
        {
          at: "noisy",
          pooling: "pooled",
          accuracies: { "10-shot": 1, "100-shot": 1, all: 1 },
          folds: { "10-shot": 0, "100-shot": 0, all: 0 },
        },
      ];
      return who === "pixels" ? readings[0] : readings;
    }
    if (name.startsWith("pictures filled in")) return 0.1;
    if (name.startsWith("times")) {
      const times = { milliseconds: [1], median: 1, fastest: 1, text: "1 ms" };
      return Object.fromEntries(Object.keys(given.mixtures as object).map((one) => [one, times]));
    }
    const quality = { fid: distances[who] ?? 50, is: 2, agreement: seen[who] ?? 0.1 };
    return [quality, { ...quality, fid: quality.fid + 1 }];
  };
}

const study = (values: MadeUp = {}, more: Record<string, unknown> = {}): StudyUnderTest => ({
  schema: reproduceOptions,
  base: { ...BASE, out, ...more },
  run: (recording, options: ReproduceActionOptions) => reproduceIn(recording, STUDY, options),
  valueFor: madeUp(values),
  deciding: {
    data: { data: pictures, samples: 20, test: 100 },
    train: { train: 1501 },
    test: { test: 101 },
    size: { size: 12 },
    colour: { data: pictures, samples: 20, test: 100, colour: "gray" },
    preset: { preset: "micro" },
    variants: { variants: "UMD,DiT" },
    seeds: { seeds: 3 },
    steps: { steps: 21 },
    tuneSteps: { tuneSteps: 11 },
    tuneRate: { tuneRate: 1e-3 },
    batch: { batch: 9 },
    samples: { samples: 51 },
    sampleSteps: { sampleSteps: 6 },
    guidances: { guidances: "1,3" },
    classifierSteps: { classifierSteps: 4 },
    equal: { equal: "both" },
    ablation: { ablation: true },
    threads: { threads: 3 }, // decides the times of steps
  },
  undeciding: {
    shard: { shard: "1/1" },
    work: { work: "elsewhere" },
    out: { out: join(out, "elsewhere") },
  },
});

/** Verdicts of a study with made-up values, as they are published. */
async function verdicts(values: MadeUp = {}, more: Record<string, unknown> = {}) {
  await askedCells(study(values, more));
  const path = join(out, more.ablation ? "ablation/results.json" : "results.json");
  const { verdicts: found } = JSON.parse(await readFile(path, "utf8")) as { verdicts: Verdict[] };
  return new Map(found.map((verdict) => [verdict.name, verdict.judged]));
}

it("has its probe beside those of its rival and of DiT as the headline, from results.json", async () => {
  await verdicts({ probes: { ...PROBES, UMD: 0.625 } });
  const { data } = JSON.parse(await readFile(join(out, "results.json"), "utf8"));
  expect(await umd.headline(data)).toBe("ridge probe 62.5 %; MAE with adaLN 44.0 %, DiT 30.0 %");
});

const named = (cells: readonly AskedCell[], name: string): AskedCell => {
  const cell = cells.find((one) => one.name === name);
  expect(cell, name).toBeDefined();
  return cell!;
};

interface Given {
  readonly settings: { readonly mixture: Mixture; readonly learningRate: number; readonly steps: number };
  readonly config: UMDConfig;
}

describe("the study of UMD", () => {
  it("has a fingerprint that every deciding option changes, and no other", () =>
    expectOptionsToDecide(study()));

  it("trains variants that differ in mixture and conditioning, and in nothing else", async () => {
    const cells = await askedCells(study());
    const declared = {
      UMD: [{ cleanShare: 0.5, noisedMask: 0.375, cleanMask: 0.75 }, "adaLN"],
      DiT: [{ cleanShare: 0, noisedMask: 0, cleanMask: 0.75 }, "adaLN"],
      MaskDiT: [{ cleanShare: 0, noisedMask: 0.5, cleanMask: 0.75 }, "adaLN"],
      MAE: [{ cleanShare: 1, noisedMask: 0.375, cleanMask: 0.75 }, "token"],
      "MAE-adaLN": [{ cleanShare: 1, noisedMask: 0.375, cleanMask: 0.75 }, "adaLN"],
    } as const;
    const rest = Object.entries(declared).map(([name, [mixture, conditioning]]) => {
      const { settings, config, ...others } = named(cells, `${name}, 20 steps, seed 1`)
        .given as unknown as Given;
      expect([settings.mixture, config.conditioning]).toEqual([mixture, conditioning]);
      expect(settings.learningRate).toBe(1e-3);
      return { ...others, settings: { ...settings, mixture }, config: { ...config, conditioning } };
    });
    const plain = (one: (typeof rest)[number]) => ({
      ...one,
      settings: { ...one.settings, mixture: 0 },
      config: { ...one.config, conditioning: 0 },
    });
    for (const one of rest) expect(plain(one)).toEqual(plain(rest[0]!));
  });

  it("fine-tunes each at half the rate, with the mixture for generation", async () => {
    const cells = await askedCells(study());
    for (const [name, { mixture }] of Object.entries(VARIANTS)) {
      const tuned = named(cells, `${name}, 20 steps, seed 0, tuned`);
      expect(tuned.from).toEqual([`${name}, 20 steps, seed 0`]);
      expect(tuned.given).toMatchObject({
        classes: 10,
        settings: {
          steps: 10,
          learningRate: 5e-4,
          dropLabels: 0.1,
          mixture: { cleanShare: mixture.cleanShare > 0 ? 0.05 : 0, noisedMask: 0, cleanMask: 0.75 },
        },
      });
    }
  });

  it("asks every reading, sample and judge with the options it was given", async () => {
    const cells = await askedCells(study());
    for (const guidance of [1, 2]) {
      const cell = named(cells, `samples of UMD, 20 steps, seed 1, guidance ${guidance}`);
      expect(cell.given).toMatchObject({ count: 50, steps: 5, eta: 1, guidance, seed: 1 });
      expect(cell.from).toEqual(["UMD, 20 steps, seed 1, tuned", "classifier, seed 0", "classifier, seed 1"]);
    }
    const probes = ["UMD, 20 steps, seed 1", "pixels, seed 1"].map(
      (name) => named(cells, `probes of ${name}`).given,
    );
    expect(probes[0]).toEqual(probes[1]);
    expect(probes[0]).toMatchObject({ shots: [10, 100, "all"], noisyIndex: 50, seed: 1 });
    expect(named(cells, "classifier, seed 1").given).toMatchObject({ steps: 3, seed: 1 });
  });

  it("measures anew what other pictures change, and trains nothing for other test pictures", async () => {
    const [before, after] = [await askedCells(study()), await askedCells(study({}, { test: 101 }))];
    const kept = before.filter(({ id }, i) => after[i]!.id === id).map(({ name }) => name);
    expect(after.map(({ name }) => name)).toEqual(before.map(({ name }) => name));
    expect(kept.filter((name) => /^(probes|pictures|test pictures$)/.test(name))).toEqual([]);
    expect(kept).toEqual(
      expect.arrayContaining(before.filter(({ kind }) => kind === "model").map(({ name }) => name)),
    );
  });

  it("trains with the seed that a cell is named after", async () => {
    const cells = await askedCells(study());
    for (const name of ["UMD, 20 steps, seed 1", "UMD, 20 steps, seed 1, tuned"])
      expect(named(cells, name).given).toMatchObject({ settings: { seed: 1 } });
  });

  it("at equal arithmetic gives as many steps as DiT's cost, and shares what is equal anyway", async () => {
    const cells = await askedCells(study({}, { equal: "both", preset: "micro" }));
    const steps = (name: string) =>
      [...new Set(cells.map((cell) => new RegExp(`^${name}, (\\d+) steps, seed 0$`).exec(cell.name)?.[1]))]
        .flatMap((one) => (one === undefined ? [] : [Number(one)]))
        .sort((a, b) => a - b);
    expect(steps("DiT")).toEqual([20]);
    expect(steps("UMD")[1]).toBeGreaterThan(25);
    expect(steps("MAE-adaLN")[1]).toBeGreaterThan(steps("UMD")[1]!);
  });

  const worse: readonly [what: string, values: MadeUp, rules: string[]][] = [
    ["DiT's probe", { probes: { ...PROBES, DiT: 0.39 } }, ["A1", "A2"]],
    ["MaskDiT's probe", { probes: { ...PROBES, MaskDiT: 0.395 } }, ["A3"]],
    ["the pixels' probe", { probes: { ...PROBES, pixels: 0.41 } }, ["A4"]],
    ["MAE's probe", { probes: { ...PROBES, MAE: 0.47 } }, ["D1"]],
    ["the probe of MAE with adaLN", { probes: { ...PROBES, "MAE-adaLN": 0.47 } }, ["D2"]],
    ["DiT's distance", { distances: { ...DISTANCES, DiT: 60 } }, ["B1"]],
    ["MAE's distance", { distances: { ...DISTANCES, MAE: 90 } }, ["B2"]],
    ["the distance of MAE with adaLN", { distances: { ...DISTANCES, "MAE-adaLN": 90 } }, ["B3"]],
    ["DiT's labels", { seen: { ...SEEN, DiT: 0.56 } }, ["B4"]],
    [
      "the distance of mean pictures",
      { distances: { ...DISTANCES, "one mean picture per class": 70 } },
      ["B5"],
    ],
  ];
  // Enough tokens for masks to pay.
  const large = { preset: "micro", size: 16, seeds: 1 };
  it("holds where every number is as expected", async () => {
    expect([...(await verdicts({}, large)).values()].map((found) => found?.holds)).toEqual(
      Array(12).fill(true),
    );
  });

  it.each(worse)("judges by the cells that a rule names: %s", async (_, values, rules) => {
    const found = await verdicts(values, large);
    expect([...found].flatMap(([name, one]) => (one?.holds ? [] : [name]))).toEqual(rules);
  });

  it("takes the arithmetic from the models that were measured", async () => {
    const [smoke, micro] = [await verdicts({}, { preset: "smoke" }), await verdicts({}, { preset: "micro" })];
    expect(smoke.get("C")!.measured).not.toBe(micro.get("C")!.measured);
  });

  it("prints what was not measured, and the floors, ceiling and rival beside every comparison", async () => {
    const found = await verdicts({}, { tuneSteps: 0, variants: "UMD" });
    expect([...found].flatMap(([name, one]) => (one ? [] : [name]))).toEqual([
      ...["A3", "B1", "B2", "B3", "B4", "B5", "D1", "D2"],
    ]);
    await verdicts();
    const text = await readFile(join(out, "results.md"), "utf8");
    for (const row of [
      /\| rival: MAE-adaLN \| 44/,
      /\| floor: raw pixels \| 20/,
      /\| ceiling: classifier, supervised/,
      /\| floor: one mean picture per class \| 100 /,
      /\| ceiling: test pictures, one half against the other \| 50 /,
      /\| rival: DiT \| 90 .*\| 91 /,
    ])
      expect(text).toMatch(row);
    expect(text).not.toMatch(/\| seconds/);
    expect(text).toContain("tweedie reproduce umd --train 1500 --test 100 --size 8 --preset smoke --seeds 2");
  });

  it("says beforehand what is too little, and which variants it does not know", async () => {
    const asked = (more: Record<string, unknown>) => askedCells(study({}, more));
    await expect(asked({ train: 1000 })).rejects.toThrow(/100 shots of each class are needed, "\w+" has \d+/);
    await expect(asked({ samples: 2000 })).rejects.toThrow(/2000 samples .* there are 100/);
    await expect(asked({ variants: "umd,vae" })).rejects.toThrow(/unknown variant "vae"; known are UMD, DiT/);
    await expect(asked({ guidances: "1;2" })).rejects.toThrow(/such as 1,2/);
  });
});

it("the README has a place for what reproduce writes", async () => {
  const text = await readFile(new URL("../../../src/systems/umd/README.md", import.meta.url), "utf8");
  expect(betweenMarks(text, "the table", "README.md")).toContain("begin -->\nthe table");
});

describe("the strip of ablations", () => {
  it("has thirteen mixtures, without noised pictures only one, and UMD's with class tokens from zero", async () => {
    const cells = await askedCells(study({}, { ablation: true }));
    const trained = cells.filter(
      ({ name }) => / steps, seed 0$/.test(name) && !/^(probes|pictures)/.test(name),
    );
    expect(trained.map(({ name }) => name.split(",")[0])).toEqual(Object.keys(ABLATION));
    const points = trained.map(({ given }) => {
      const { mixture } = (given as unknown as Given).settings;
      return `${mixture.cleanShare} ${mixture.cleanShare === 1 ? "" : mixture.noisedMask}`;
    });
    expect(points).toHaveLength(14);
    expect(new Set(points).size).toBe(13);
    const zero = trained.filter(({ given }) => given.zeroClassTokens === true);
    expect(zero.map(({ name }) => name)).toEqual(["UMD-zero-class-tokens, 20 steps, seed 0"]);
    const umd = named(cells, "UMD, 20 steps, seed 0").given;
    expect({ ...zero[0]!.given, zeroClassTokens: false }).toEqual(umd);
  });

  it("uses the models of the claim where it meets them", async () => {
    const [claim, strip] = [await askedCells(study()), await askedCells(study({}, { ablation: true }))];
    for (const name of ["UMD", "DiT", "MaskDiT", "MAE-adaLN"]) {
      const cell = `${name}, 20 steps, seed 0, tuned`;
      expect(named(strip, cell).id).toBe(named(claim, cell).id);
    }
  });

  const shareOf = (name: string): number => ABLATION[name]!.mixture.cleanShare;
  const by = (f: (name: string) => number): Values =>
    Object.fromEntries(Object.keys(ABLATION).map((name) => [name, f(name)]));
  const judged = async (probe: (r: number) => number, distance: (r: number) => number) => {
    const values = {
      probes: by((name) => probe(shareOf(name))),
      distances: by((name) => distance(shareOf(name))),
    };
    return [...(await verdicts(values, { ablation: true, seeds: 1 })).values()].map((found) => found!.holds);
  };

  it("judges along r, for every share that is hidden: the probe forgives two pairs of ten, the distance none", async () => {
    expect(
      await judged(
        (r) => 0.3 + r / 10,
        (r) => 100 + r,
      ),
    ).toEqual(Array(6).fill(true));
    expect(
      await judged(
        (r) => 0.5 - r / 10,
        (r) => 100 - r,
      ),
    ).toEqual(Array(6).fill(false));
    const probes = [0.1, 0.3, 0.2, 0.5, 0.4];
    expect(
      await judged(
        (r) => probes[4 * r]!,
        (r) => [5, 4, 1, 3, 2][4 * r]!,
      ),
    ).toEqual([...[true, true, true], ...[false, false, false]]);
  });
});
