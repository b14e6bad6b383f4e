import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { shapePicture, shapes } from "../../../src/data/world/plain-shapes.ts";
import { ArgumentError } from "../../../src/errors.ts";
import { reproduceAction } from "../../../src/systems/sdseg/actions/reproduce.ts";
import { loadSDSeg } from "../../../src/systems/sdseg/checkpoint.ts";
import { reproduceOptions } from "../../../src/systems/sdseg/options.ts";
import type { ActionEvent } from "../../../src/systems/system.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdseg-reproduce-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function reproduce(options: Record<string, unknown>) {
  const parsed = reproduceOptions.parse({ work: join(folder, "work"), out: join(folder, "out"), ...options });
  const events: ActionEvent[] = [];
  const run = reproduceAction(parsed, {});
  for (;;) {
    const { done, value } = await run.next();
    if (done) return { events, result: value };
    events.push(value);
  }
}

describe("the reproduction", () => {
  it("refuses sets and variants that it does not know, and folders without any", async () => {
    await expect(reproduce({ sets: "lesions,lungs" })).rejects.toThrow(
      /"lungs".*known are lesions, em-membrane/,
    );
    await expect(reproduce({ variants: "lambda-2" })).rejects.toThrow(ArgumentError);
    await expect(reproduce({ sets: "em-membrane", data: folder })).rejects.toThrow(
      /none of em-membrane is in/,
    );
  });

  it("trains and measures what is asked for, says how, and does nothing twice", async () => {
    const options = {
      sets: "lesions,cvc-clinicdb",
      data: folder,
      variants: "lambda-1",
      steps: 2,
      autoencoderSteps: 2,
      decoderSteps: 2,
      test: 2,
      seeds: 2,
      threads: 1,
    };
    const { events } = await reproduce(options);
    const warnings = events.flatMap((event) => (event.type === "warning" ? [event.text] : []));
    expect(warnings.join()).toContain("cvc-clinicdb");
    const { results, how } = JSON.parse(await readFile(join(folder, "out", "results.json"), "utf8"));
    expect(how).toContain("--variants lambda-1 --steps 2");
    for (const way of [
      "lambda-1 direct",
      "lambda-1 ddim-50 leading, mean of 3",

      "otsu threshold",
    ])
      expect(results.lesions.scores[way].dice, way).toBeGreaterThanOrEqual(0);
    const { model, origin } = await loadSDSeg(join(folder, "work", "sdseg-lesions.safetensors"));
    expect(model.config.classes).toBe(2);
    expect(origin.command).toMatch(/^tweedie reproduce sdseg .*--seed 0$/);
    expect(origin.metrics!.testDice).toBe(results.lesions.scores["lambda-1 direct"].dice);
    const before = await stat(join(folder, "work", "lesions-lambda-1.safetensors"));
    const again = await reproduce(options);
    expect(again.events.filter(({ type }) => type === "progress")).toEqual([]);
    expect((await stat(join(folder, "work", "lesions-lambda-1.safetensors"))).mtimeMs).toBe(before.mtimeMs);
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
