import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Quality } from "../../../src/metrics/sample-quality.ts";
import type { Action, ActionEvent } from "../../../src/systems/system.ts";
import { ABLATION, ablationTable, ablationVerdicts, variantAt } from "../../../src/systems/umd/ablation.ts";
import { loadUMD } from "../../../src/systems/umd/checkpoint.ts";
import { PRESETS } from "../../../src/systems/umd/config.ts";
import { type ExperimentResult, stepsFor, VARIANTS } from "../../../src/systems/umd/experiment.ts";
import { reproduceOptions } from "../../../src/systems/umd/options.ts";
import { umd } from "../../../src/systems/umd/system.ts";
import { finetuning, pretraining } from "../../../src/systems/umd/train.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "umd-ablation-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A result with a probe and a distance for every variant. */
function resultOf(
  probe: (name: string) => number,
  distance: (name: string) => number | undefined,
): ExperimentResult {
  const runs = ABLATION.map(({ name }) => {
    const fid = distance(name);
    const quality: Record<string, Quality> = fid === undefined ? {} : { "1": { fid, is: 2, agreement: 0.1 } };
    return {
      variant: name,
      seed: 0,
      steps: 10,
      seconds: 1,
      gigaflops: 1,
      probes: [],
      best: { "10-shot": 0.1, "100-shot": 0.2, all: probe(name) },
      hiddenError: 0.5,
      quality,
    };
  });
  return { runs, classifierAccuracy: 0.9, realFid: 1, untrained: {} };
}
const shareOf = (name: string): number => ABLATION.find((v) => v.name === name)!.mixture.cleanShare;

describe("the strip of ablations of UMD", () => {
  it("has thirteen mixtures, without noised pictures only one, and UMD's with class tokens from zero", () => {
    expect(ABLATION).toHaveLength(14);
    const points = ABLATION.map(({ mixture: { cleanShare, noisedMask } }) => `${cleanShare} ${noisedMask}`);
    expect(new Set(points).size).toBe(13);
    expect(points.filter((point) => point.startsWith("1 "))).toHaveLength(1);
    const zero = ABLATION.filter(({ zeroClassTokens }) => zeroClassTokens);
    expect(zero.map(({ mixture }) => mixture)).toEqual([VARIANTS[0].mixture]);
  });

  it("is named as the methods where it meets them, and otherwise as files can be", () => {
    expect(variantAt(0.5, 0.375)).toBe(VARIANTS[0]);
    expect(variantAt(0, 0).name).toBe("DiT");
    expect(variantAt(0, 0.5).name).toBe("MaskDiT");
    for (const mask of [0, 0.375, 0.5]) expect(variantAt(1, mask).name).toBe("MAE-adaLN");
    expect(new Set(ABLATION.map(({ name }) => name.toLowerCase())).size).toBe(14);
    for (const { name } of ABLATION) expect(name).toMatch(/^[\w.-]+$/);
  });

  it("is asked for by an option that is off by default", () => {
    expect(reproduceOptions.parse({}).ablation).toBe(false);
    expect(reproduceOptions.parse({ ablation: true }).ablation).toBe(true);
    expect(() => reproduceOptions.parse({ ablation: "r" })).toThrow();
  });

  it("judges what was measured: along r, for every share that is hidden", () => {
    const rising = ablationVerdicts(
      resultOf(
        (name) => 0.5 + 0.1 * shareOf(name),
        (name) => 100 + shareOf(name),
      ),
    );
    expect(rising.map(({ passed }) => passed)).toEqual([...Array(6).fill(true), undefined, undefined]);
    expect(rising[0]!.measured).toBe("50.0, 52.5, 55.0, 57.5, 60.0: 10 of 10");
    expect(rising[3]!.measured).toBe("100.5, 100.8, 101.0: 3 of 3");
    const falling = ablationVerdicts(
      resultOf(
        (name) => 0.5 - 0.1 * shareOf(name),
        (name) => 100 - shareOf(name),
      ),
    );
    expect(falling.map(({ passed }) => passed)).toEqual([...Array(6).fill(false), undefined, undefined]);
    expect(falling[0]!.measured).toMatch(/: 0 of 10$/);
  });

  it("forgives a probe two pairs of ten, and a distance none", () => {
    const at = (values: readonly number[]) => (name: string) => values[4 * shareOf(name)]!;
    const judged = (probes: readonly number[], distances: readonly number[]) => {
      const all = ablationVerdicts(resultOf(at(probes), at(distances)));
      return [all[0]!.passed, all[3]!.passed];
    };
    const rising = [0.1, 0.2, 0.3, 0.4, 0.5];
    expect(judged([0.1, 0.3, 0.2, 0.5, 0.4], [5, 4, 1, 2, 3])).toEqual([true, true]);
    expect(judged([0.3, 0.2, 0.1, 0.4, 0.5], [5, 4, 1, 3, 2])).toEqual([false, false]);
    expect(judged(rising, [1, 2, 3, 3, 4])).toEqual([true, false]);
  });

  it("compares class tokens from random with those from zero, and claims nothing that was not measured", () => {
    const verdicts = ablationVerdicts(
      resultOf(
        (name) => (name === "UMD" ? 0.55 : 0.5),
        (name) => (name === "UMD" ? 90 : 100),
      ),
    );
    expect(verdicts.slice(6).map(({ measured }) => measured)).toEqual(["5.0", "0.90"]);
    const untuned = ablationVerdicts(resultOf(shareOf, () => undefined));
    expect(untuned.map(({ measured }) => measured === "not measured")).toEqual([
      ...[false, false, false],
      ...[true, true, true],
      ...[false, true],
    ]);
    expect(untuned.slice(3).every(({ passed }) => passed === undefined)).toBe(true);
  });

  it("its table has a row for every variant with its ratios, and the floors below", () => {
    const { columns, rows } = ablationTable(
      resultOf(shareOf, () => 100),
      { "10-shot": 0.3 },
    );
    expect(columns.slice(0, 3)).toEqual(["model", "clean, r", "hidden of noised, m_n"]);
    for (const row of rows) expect(row).toHaveLength(columns.length);
    const row = (name: string) => rows.find(([first]) => first === name)!.slice(1, 3);
    expect(row("UMD")).toEqual(["0.5", "0.375"]);
    expect(row("r0.25-m0")).toEqual(["0.25", "0"]);
    expect(row("MAE-adaLN")).toEqual(["1", ""]);
    expect(row("raw pixels")).toEqual(["", ""]);
    expect(rows).toHaveLength(14 + 4);
  });

  it("at equal arithmetic every mixture has the steps that DiT's cost", () => {
    const options = {
      steps: 1000,
      equal: "flops",
      train: { size: 24, channels: 3 },
      base: PRESETS.micro,
    } as never;
    const steps = (r: number, m: number) => stepsFor(options, variantAt(r, m));
    expect(steps(0, 0)).toBe(1000);
    expect(steps(0.75, 0)).toBeGreaterThan(steps(0.25, 0));
    expect(steps(0.25, 0.5)).toBeGreaterThan(steps(0.25, 0));
  });
});

describe("the methods are trained as before they had neighbours", () => {
  const length = { steps: 10, batch: 8, seed: 0 };
  const mixtures = (settings: typeof pretraining): string[] =>
    VARIANTS.map(({ mixture }) => JSON.stringify(settings(mixture, length).mixture));
  const text = (r: number, m: number) => `{"cleanShare":${r},"noisedMask":${m},"cleanMask":0.75}`;

  it("to the letter, as stopped runs are compared with what goes on", () => {
    const mae = text(1, 0.375);
    expect(mixtures(pretraining)).toEqual([text(0.5, 0.375), text(0, 0), text(0, 0.5), mae, mae]);
    const some = text(0.05, 0);
    expect(mixtures(finetuning)).toEqual([some, text(0, 0), text(0, 0), some, some]);
    expect(VARIANTS.map(({ conditioning }) => conditioning)).toEqual([
      ...["adaLN", "adaLN", "adaLN"],
      ...["token", "adaLN"],
    ]);
  });
});

describe("reproduce umd --ablation", () => {
  const reproduce = umd.actions.reproduce as Action;
  const settings = {
    train: 1500,
    test: 100,
    size: 8,
    preset: "smoke",
    seeds: 1,
    steps: 2,
    tuneSteps: 0,
    batch: 8,
    samples: 20,
    classifierSteps: 1,
    threads: 1,
  };
  async function perform(options: Record<string, unknown>): Promise<ActionEvent[]> {
    const run = reproduce.run(
      reproduce.options.parse({ ...settings, work: join(folder, "work"), out: folder, ...options }),
      {},
    );
    const events: ActionEvent[] = [];
    for (;;) {
      const { done, value } = await run.next();
      if (done) return events;
      events.push(value);
    }
  }
  const trained = (events: readonly ActionEvent[]): string[] => [
    ...new Set(events.flatMap((e) => (e.type === "progress" && e.note?.startsWith("loss") ? [e.stage] : []))),
  ];

  it("trains what the claim has not, writes its tables, and does nothing twice", async () => {
    const work = join(folder, "work");
    const claim = { variants: "UMD,DiT", equal: "images", out: join(folder, "claim") };
    expect(trained(await perform(claim))).toEqual(["umd-images-0", "dit-images-0"]);
    const umdFile = join(work, "umd-images-0.safetensors");
    const { mtimeMs } = await stat(umdFile);

    const made = trained(await perform({ ablation: true }));
    expect(made).toHaveLength(12);
    expect(made).toEqual(
      ABLATION.map(({ name }) => `${name.toLowerCase()}-images-0`).filter(
        (name) => !/^(umd|dit)-images-0$/.test(name),
      ),
    );
    expect((await stat(umdFile)).mtimeMs).toBe(mtimeMs);
    const known = JSON.parse(await readFile(join(work, "measured", "umd-images-0.json"), "utf8"));
    expect(Object.keys(known)).toEqual(["probes", "hidden error"]);

    const written = (await readdir(folder)).filter((name) => name.startsWith("ablation"));
    expect(written.sort()).toEqual(
      ["ablation-readings.md", "ablation-rule.md", "ablation.json", "ablation.md"].sort(),
    );
    const text = await readFile(join(folder, "ablation.md"), "utf8");
    expect(text).toContain("| UMD | 0.5 | 0.375 |");
    expect(text).toMatch(
      /Command: `tweedie reproduce umd .* --preset smoke --ablation --seeds 1 .* --equal images`/,
    );
    expect(await readFile(join(folder, "ablation-rule.md"), "utf8")).toContain("| probe rises with r");
    const { runs } = JSON.parse(await readFile(join(folder, "ablation.json"), "utf8"));
    expect(runs).toHaveLength(14);

    const rows = async (name: string): Promise<number[][]> => {
      const { model } = await loadUMD(join(work, `${name}-images-0.safetensors`));
      const values = await model.cls.toArray();
      const width = model.config.dim;
      return [0, 1, 2, 3].map((k) => values.slice(k * width, (k + 1) * width));
    };
    const zero = await rows("umd-zero-class-tokens");
    for (const token of zero) expect(token).toEqual(zero[0]);
    const random = await rows("umd");
    expect(random[1]).not.toEqual(random[0]);

    expect(trained(await perform({ ablation: true }))).toEqual([]);
    await expect(perform({ ablation: true, steps: 3 })).rejects.toThrow(
      /dit-images-0.safetensors was trained for 2 steps, expected 3: name another work folder/,
    );
  });
});
