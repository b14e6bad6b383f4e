/** `reproduce umd` for real, as small as it can be. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { Labelled } from "../../../src/data/picture-set.ts";
import { shapes10 } from "../../../src/data/world/shapes10.ts";
import { openStudy } from "../../../src/study/index.ts";
import { ABLATION } from "../../../src/systems/umd/ablation.ts";
import { umdFile } from "../../../src/systems/umd/model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/umd/options.ts";
import { contextOf, runOf, type Variant } from "../../../src/systems/umd/runs.ts";
import { reproduceAction } from "../../../src/systems/umd/study.ts";
import { drained } from "../../../src/work.ts";
import { temporaryFolder } from "../../study/folder.ts";
import { BASE } from "./small-options.ts";

let out: string;
beforeAll(async () => {
  out = await temporaryFolder();
});

describe("reproduce umd, made for real and small", () => {
  const options = (work: string, more: Record<string, unknown> = {}) =>
    reproduceOptions.parse({
      ...{ ...BASE, seeds: 1, steps: 2, tuneSteps: 2, samples: 20, sampleSteps: 2, guidances: "1,4" },
      ...{ variants: "UMD", threads: 1, work, out },
      ...more,
    });
  const trainedBy = async (o: ReproduceActionOptions) => {
    const stages = new Set<string>();
    await drained(reproduceAction(o, {}), (event) => {
      if (event.type === "progress" && event.note?.startsWith("loss")) stages.add(event.stage);
    });
    return [...stages];
  };

  it("trains, measures and publishes; does nothing twice, and other settings anew", async () => {
    const work = await temporaryFolder();
    const models = ["UMD, 2 steps, seed 0", "DiT, 2 steps, seed 0"].flatMap((name) => [
      name,
      `${name}, tuned`,
    ]);
    expect(await trainedBy(options(work))).toEqual(models);
    const first = await readFile(join(out, "results.md"), "utf8");
    const { data } = JSON.parse(await readFile(join(out, "results.json"), "utf8"));
    const { quality, readings } = data.kinds[0].runs.UMD[0];
    const file = (await readdir(work)).find((name) =>
      /^UMD-2-steps-seed-0-tuned-.*\.safetensors$/.test(name),
    )!;
    expect((await umdFile.load(join(work, file))).model.config).toMatchObject({ size: 8, classes: 10 });
    expect(quality[4]).not.toEqual(quality[1]);
    expect(readings).toHaveLength(4);
    expect(await trainedBy(options(work))).toEqual([]);
    expect(await readFile(join(out, "results.md"), "utf8")).toBe(first);
    expect(await trainedBy(options(work, { batch: 9 }))).toEqual(models);
    expect(await readFile(join(out, "results.md"), "utf8")).not.toBe(first);
  });

  it("begins with equal class tokens where a variant says so, and they stay equal", async () => {
    const work = await temporaryFolder();
    const o = options(work, { tuneSteps: 0 });
    const [train, test] = [0, 5000].map(
      (first) => shapes10({ seed: 1, count: 1500, size: 8, first }) as Labelled,
    );
    const opened = await openStudy(work, { version: 1 });
    const context = contextOf({ study: opened, options: o, title: "shapes10", train: train!, test: test! });
    const tokensOf = async (variant: Variant, name: string) => {
      await drained(runOf(context, [] as never, { name, variant, seed: 0, equal: "images" }));
      const file = (await readdir(work)).find(
        (one) => one.startsWith(`${name}-2`) && one.endsWith(".safetensors"),
      )!;
      const { cls } = (await umdFile.load(join(work, file))).model; // [1, 4, D]
      const rows = await Promise.all(cls.split(4, 1).map((row) => row.toArray()));
      return rows.map((row) => row.flat(2).join());
    };
    expect(new Set(await tokensOf(ABLATION["UMD-zero-class-tokens"]!, "zero")).size).toBe(1);
    expect(new Set(await tokensOf(ABLATION.UMD!, "random")).size).toBe(4);
  });
});
