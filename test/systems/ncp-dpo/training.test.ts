import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { AbortError, ArgumentError } from "../../../src/errors.ts";
import { encodePicture, readSafetensors } from "../../../src/io/index.ts";
import { unet2DCondition } from "../../../src/networks/index.ts";
import { blankRng, loraParameters } from "../../../src/nn/index.ts";
import { loadPipelineComponents, type PipelineComponents, withLoras } from "../../../src/pipelines/index.ts";
import { promptEncoder } from "../../../src/systems/ncp-dpo/batches.ts";
import { adapted, saveLora } from "../../../src/systems/ncp-dpo/model.ts";
import type { PreferencePair } from "../../../src/systems/ncp-dpo/pairs.ts";
import {
  type Adapters,
  checkSettings,
  freshPolicy,
  type TrainInputs,
  training,
  trainPreferences,
} from "../../../src/systems/ncp-dpo/train.ts";
import type { Tensor } from "../../../src/tensor/index.ts";
import { drained } from "../../../src/work.ts";
import { writeTinySdxl, writeTinyStableDiffusion } from "../../pipelines/tiny-pipelines.ts";

const folder = mkdtempSync(join(tmpdir(), "ncp-train-"));
let components: PipelineComponents;
let pairs: PreferencePair[];

/** Winners are light, losers dark. */
async function made(n: number): Promise<PreferencePair[]> {
  const one = (base: number, i: number) =>
    encodePicture({
      ...{ width: 64, height: 64, channels: 3 },
      data: Uint8Array.from({ length: 64 * 64 * 3 }, (_, k) => base + ((k * (i + 3)) % 60)),
    });
  return Promise.all(
    Array.from({ length: n }, async (_, i) => ({
      ...{ prompt: ["a red cat", "a blue dog"][i % 2]!, winner: await one(180, i), loser: await one(10, i) },
    })),
  );
}

beforeAll(async () => {
  await writeTinyStableDiffusion(join(folder, "sd"));
  components = await loadPipelineComponents(join(folder, "sd"));
  pairs = await made(6);
});

const SETTINGS = { steps: 3, seed: 1, batch: 2, rank: 2 };
const run = (given: Partial<TrainInputs> = {}, settings = {}) =>
  drained(
    trainPreferences({
      stage: "t",
      components,
      pairs,
      settings: training({ ...SETTINGS, ...settings }),
      ...given,
    }),
  );
const values = async (adapters: Adapters): Promise<number[]> =>
  (
    await Promise.all(
      Object.values(adapters).map(async (t: Tensor) => Array.from((await t.data()) as Float32Array)),
    )
  ).flat();

describe("a training", () => {
  it("that was stopped goes on bit for bit", async () => {
    const whole = await values((await run()).final);
    const stop = new AbortController();
    const look = async function* (): AsyncGenerator<never, void> {
      stop.abort();
      yield* [];
    };
    const there = join(folder, "run");
    await expect(
      run({ folder: there, look, lookEvery: 1, saveEvery: 1, signal: stop.signal }),
    ).rejects.toBeInstanceOf(AbortError);
    const events: string[] = [];
    const on = trainPreferences({
      stage: "t",
      components,
      pairs,
      settings: training(SETTINGS),
      folder: there,
      saveEvery: 1,
    });
    const { final } = await drained(on, (event) => event.type === "message" && events.push(event.text));
    expect(events).toEqual(["t: goes on after step 1"]);
    expect(await values(final)).toEqual(whole);
  });

  it("in slices is the same as in one", async () => {
    const [one, sliced] = await Promise.all([run({}, { steps: 1 }), run({}, { steps: 1, accumulate: 2 })]);
    const [a, b] = [await values(one.final), await values(sliced.final)];
    for (let i = 0; i < a.length; i++) expect(Math.abs(a[i]! - b[i]!)).toBeLessThan(2e-5);
  });

  it("works for SDXL, whose U-Net is told sizes and the text as a whole", async () => {
    await writeTinySdxl(join(folder, "xl"));
    const xl = await loadPipelineComponents(join(folder, "xl"));
    const { final } = await run({ components: xl }, { steps: 1 });
    expect((await values(final)).every(Number.isFinite)).toBe(true);
    const prompts = promptEncoder(xl, [64, 64]);
    const { timeIds } = await prompts.rows(
      ["a cat", "a cat"],
      [
        [128, 96],
        [64, 64],
      ],
    );
    expect(Array.from((await timeIds!.data()) as Float32Array)).toEqual([
      128, 96, 0, 0, 64, 64, 64, 64, 0, 0, 64, 64,
    ]);
    await prompts.close();
  });
});

describe("settings", () => {
  it.each([
    [{ beta: 0 }, /beta: expected a number above 0/],
    [{ beta: -1 }, /beta: expected 0 or more/],
    [{ batch: 3, accumulate: 2 }, /3 pairs does not split into 2 slices/],
    [{ lambda: Number.NaN }, /lambda: expected 0 or more, got NaN/],
  ])("that cannot be are refused: %j", (given, reason) => {
    const settings = training({ ...SETTINGS, ...given });
    expect(() => checkSettings(settings)).toThrow(reason);
    expect(() => checkSettings(settings)).toThrow(ArgumentError);
  });

  it("of an impossible rank or alpha are refused", () => {
    expect(() => freshPolicy(components, { rank: 0, alpha: 1, seed: 0 })).toThrow(
      /rank must be a positive integer, got 0/,
    );
    expect(() => freshPolicy(components, { rank: 1, alpha: 0, seed: 0 })).toThrow(/alpha above 0, got 0/);
  });
});

describe("the LoRA's file", () => {
  it("loads as one of diffusers, and changes the U-Net by what was trained", async () => {
    const { final } = await run({}, { steps: 2, alpha: 4 });
    const policy = freshPolicy(components, { rank: 2, alpha: 4, seed: 1 });
    for (const format of ["diffusers", "kohya"] as const) {
      const path = join(folder, `${format}.safetensors`);
      await saveLora(path, policy, final, { training: "t" }, format);
      const file = await readSafetensors(path);
      const names = [...file.tensors.keys()];
      const start =
        format === "diffusers"
          ? /^unet\..*\.to_(q|k|v|out\.0)\.lora_[AB]\.weight$/
          : /^lora_unet_.*(lora_down\.weight|lora_up\.weight|alpha)$/;
      for (const name of names) expect(name).toMatch(start);
      await withLoras(components, [{ path, weight: 1 }]);
    }
  });

  it("has the published numbers of tensors for Stable Diffusion 1.5 and XL", () => {
    const sd = unet2DCondition(
      { _class_name: "UNet2DConditionModel", cross_attention_dim: 768, attention_head_dim: 8 },
      blankRng,
    );
    const lora = loraParameters(adapted(sd, { rank: 64, alpha: 64, seed: 0 }));
    expect(Object.keys(lora)).toHaveLength(256);
    expect(Object.values(lora).reduce((n, t) => n + t.size, 0)).toBe(12_754_944);
  });
});
