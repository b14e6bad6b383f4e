import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lesion } from "../../../src/data/world/lesions.ts";
import { ArgumentError } from "../../../src/errors.ts";
import { encodePicture } from "../../../src/io/index.ts";
import { mapParameters } from "../../../src/nn/index.ts";
import { evaluateAction, trainAction } from "../../../src/systems/sdseg/actions.ts";
import { createSDSeg, PRESETS, sdsegFile } from "../../../src/systems/sdseg/model.ts";
import { evaluateOptions, trainOptions } from "../../../src/systems/sdseg/options.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";

let folder: string;
let data: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdseg-actions-"));
  data = join(folder, "data");
  for (const part of ["images", "masks"]) await mkdir(join(data, part), { recursive: true });
  for (let i = 0; i < 12; i++) {
    const { image, labels } = lesion(i, 0, 64);
    const gray = (values: Uint8Array) => encodePicture({ width: 64, height: 64, channels: 1, data: values });
    const bytes = Uint8Array.from(image.data, (v) => Math.round(255 * Math.max(0, Math.min(1, v))));
    await writeFile(join(data, "images", `${i}.png`), await gray(bytes));
    await writeFile(join(data, "masks", `${i}.png`), await gray(Uint8Array.from(labels, (l) => 255 * l)));
  }
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function train(given: Record<string, unknown>) {
  const events: WorkEvent[] = [];
  const options = trainOptions.parse({ data, preset: "smoke", steps: 2, threads: 1, ...given });
  const result = await drained(trainAction(options, {}), (event) => events.push(event));
  return { events, result };
}

describe("training", () => {
  it("shows curves, validation and pictures as they come; a checkpoint gone on from keeps its resize factor", async () => {
    const first = join(folder, "first");
    const { events, result } = await train({ scale: 0.5, autoencoderSteps: 2, out: first });
    const of = <T extends WorkEvent["type"]>(type: T) =>
      events.filter((event): event is Extract<WorkEvent, { type: T }> => event.type === type);
    expect(of("metrics").some(({ stage, values }) => stage === "denoiser" && "dice" in values)).toBe(true);
    expect(
      of("message")
        .map(({ text }) => text)
        .join(),
    ).toMatch(/step 2: validation Dice/);
    expect(of("picture").map(({ name }) => name)).toEqual(["validation"]);
    expect(result.summary).toMatch(/on 1 pictures?/);
    const model = join(first, "model.safetensors");
    expect((await sdsegFile.load(model)).notes.scale).toBe(0.5);

    const second = join(folder, "second");
    await train({ from: model, out: second });
    const { notes, model: after } = await sdsegFile.load(join(second, "model.safetensors"));
    expect(notes.scale).toBe(0.5);
    expect(after.scaleFactor).toBe((await sdsegFile.load(model)).model.scaleFactor);
    await train({ from: model, scale: 1, out: join(folder, "third") });
    expect((await sdsegFile.load(join(folder, "third", "model.safetensors"))).notes.scale).toBe(1);
  });

  it("of a checkpoint of several classes wants their number said", async () => {
    const path = join(folder, "three.safetensors");
    const origin = { name: "test", training: "none", seed: "0", date: "2026-01-01", scale: 1 };
    await sdsegFile.save(path, createSDSeg({ ...PRESETS.smoke, classes: 3 }, 1), origin);
    const from = { from: path, classes: 2, out: join(folder, "refused") };
    await expect(train(from)).rejects.toThrow(ArgumentError);
    await expect(train(from)).rejects.toThrow("--classes 3");
  });
});

describe("evaluating", () => {
  it("says what gives noise or nothing, and that a model was not made for the data", async () => {
    const path = join(folder, "fresh.safetensors");
    const origin = { name: "nuclei", training: "none", seed: "0", date: "2026-01-01", scale: 1 };
    await sdsegFile.save(path, createSDSeg(PRESETS.smoke, 1), origin);
    const warnings = async (given: Record<string, unknown>): Promise<string> => {
      const found: string[] = [];
      const options = evaluateOptions.parse({ data, limit: 1, model: path, ...given });
      await drained(evaluateAction(options, {}), (event) => {
        if (event.type === "warning") found.push(event.text);
      });
      return found.join("; ");
    };
    expect(await warnings({})).toBe("");
    expect(await warnings({ mode: "ddim", steps: 2, eta: 0, spacing: "trailing" })).toBe("");
    expect(await warnings({ mode: "ddim", steps: 1 })).toMatch(/begins at t = 1/);
    expect(await warnings({ stability: 1 })).toMatch(/--stability has no effect/);
    expect(await warnings({ data: undefined })).toMatch(/not trained on lesions/);
  });
});

describe("checkpoints", () => {
  const origin = { name: "test", training: "none", seed: "0", date: "2026-01-01", scale: 1 };

  it("with weights that are no numbers are refused by name", async () => {
    const path = join(folder, "nan.safetensors");
    let first = true;
    const model = mapParameters(createSDSeg(PRESETS.smoke, 1), (t) => {
      const bad = first;
      first = false;
      return bad ? t.mul(Number.NaN) : t;
    });
    await sdsegFile.save(path, model, origin);
    await expect(sdsegFile.load(path)).rejects.toThrow(
      /nan\.safetensors: tensor "[\w.]+" has NaN at element 0/,
    );
  });

  it("keep the range of intensities that they were trained with, unless another is given", async () => {
    const out = join(folder, "ranged");
    await train({ range: "1%:99%", autoencoderSteps: 2, out });
    const first = join(out, "model.safetensors");
    expect((await sdsegFile.load(first)).notes.range).toBe("1%:99%");
    await train({ from: first, out: join(folder, "kept") });
    expect((await sdsegFile.load(join(folder, "kept", "model.safetensors"))).notes.range).toBe("1%:99%");
    const diceOf = async (given: object) => {
      const options = evaluateOptions.parse({
        data,
        limit: 2,
        model: first,
        out: join(folder, "r.json"),
        ...given,
      });
      return (await drained(evaluateAction(options, {}))).metrics!.dice;
    };
    expect(await diceOf({})).toBe(await diceOf({ range: "1%:99%" }));
    expect(await diceOf({})).not.toBe(await diceOf({ range: "0:1" }));
  });
});
