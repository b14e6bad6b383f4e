/** `tweedie quantize` on diffusion transformers: small ones in their own file, and folders of diffusers in a pipeline. */
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { quantizeAction } from "../../src/cli/commands/quantize.ts";
import { convert } from "../../src/cli/models/convert.ts";
import { quantizeNetwork } from "../../src/cli/quantize/index.ts";
import { actionOptions } from "../../src/cli/systems/options.ts";
import { FormatError } from "../../src/errors.ts";
import { openSafetensors } from "../../src/io/index.ts";
import { type DiTTransformer2DModel, ditTransformer2D, unet2DCondition } from "../../src/networks/index.ts";
import { createRng, mapParameters, parameters } from "../../src/nn/index.ts";
import { saveModel } from "../../src/pipelines/index.ts";
import { loadDiT, saveDiT } from "../../src/systems/q-dit/model.ts";
import { shippedFile } from "../../src/systems/shipped.ts";
import type { ActionResult } from "../../src/systems/system.ts";
import { fromHost, importOnnx } from "../../src/tensor/index.ts";
import { drained, type WorkEvent } from "../../src/work.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";
import { randomDiT, SMALL } from "../systems/q-dit/random-dit.ts";

const folder = useTemporaryFolder();
const quantized = async (args: string[], events: WorkEvent[] = []): Promise<ActionResult> => {
  const options = actionOptions(quantizeAction, args) as Parameters<typeof quantizeNetwork>[0];
  return drained(quantizeNetwork(options, {}), (event) => events.push(event));
};
const small = async (change: (key: string, value: number) => number = (_, v) => v): Promise<string> => {
  const path = folder("small.safetensors");
  const values = new Map<string, Float32Array>();
  const model = randomDiT(SMALL);
  for (const [key, t] of parameters(model))
    values.set(
      key,
      ((await t.data()) as Float32Array).map((v) => change(key, v)),
    );
  await saveDiT(
    path,
    mapParameters(model, (t, key) => fromHost("f32", t.shape, values.get(key)!)),
    {},
    "f32",
  );
  return path;
};
const CHEAP = ["--method", "q-dit", "--group", "32", "--samples", "32", "--steps", "4"];

describe("a small DiT", () => {
  test("keeps 37 dB of its predictions with the defaults, W4A8 in groups of 64, without calibration", async () => {
    const from = await shippedFile("checkpoints/q-dit-fashion.safetensors");
    const out = folder("packed.safetensors");
    const { metrics } = await quantized([from, "--out", out]);
    expect(metrics!.predictionDecibels).toBeGreaterThan(37);
    expect(metrics!.bytesAfter).toBe((await stat(out)).size);
    expect(metrics!.bytesAfter).toBeLessThan(0.4 * metrics!.bytesBefore!);
    const file = await openSafetensors(out);
    expect(file.entries.get("proj_out_2.weight")!.dtype).toBe("F16");
    expect(file.entries.has("proj_out_2.scales")).toBe(false);
    await file.close();
    const shrunk = await quantized([from, "--shrink", "--out", folder("shrunk.safetensors")]);
    expect(shrunk.metrics!.predictionDecibels).toBeLessThan(metrics!.predictionDecibels!);
  });

  test("by q-dit has more of its predictions than to nearest, and its file says how it was made", async () => {
    const from = await small();
    const [near, ours] = [folder("near.safetensors"), folder("ours.safetensors")];
    const a = await quantized([from, "--group", "32", "--weights", "3", "--out", near]);
    const b = await quantized([from, ...CHEAP, "--weights", "3", "--seed", "4", "--out", ours]);
    expect(b.metrics!.predictionDecibels).toBeGreaterThan(a.metrics!.predictionDecibels! + 1);
    const origin = JSON.parse((await loadDiT(ours)).notes.quantized!);
    expect(origin).toMatchObject({
      ...{ method: "q-dit", weights: 3, activations: 8, groups: 32, seed: 4 },
      calibration: { samples: 32, steps: 4, guidance: 1.5, seed: 4 },
      source: expect.stringMatching(/^[0-9a-f]{8,}$/),
    });
    const nearest = JSON.parse((await loadDiT(near)).notes.quantized!);
    expect(nearest).toMatchObject({
      method: "nearest",
      weights: 3,
      group: 32,
      shrink: false,
      symmetric: false,
    });
  });

  test("a search keeps the bit operations of the budget, and what it finds is what is packed", async () => {
    const from = await small();
    const search = [
      "--method",
      "q-dit",
      "--search",
      "--budget",
      "32",
      "--population",
      "3",
      "--generations",
      "1",
    ];
    const out = folder("searched.safetensors");
    const events: WorkEvent[] = [];
    const { metrics } = await quantized(
      [from, ...search, "--samples", "32", "--steps", "4", "--out", out],
      events,
    );
    expect(metrics!.bitOperations).toBeLessThanOrEqual(metrics!.bitOperationsOfBudget! * (1 + 1e-9));
    const { groups, search: told } = JSON.parse((await loadDiT(out)).notes.quantized!);
    expect(groups).toHaveLength(8);
    expect(told).toMatchObject({ budget: 32, population: 3, generations: 1, judge: "error of predictions" });
    expect(told.fitness.best).toBeLessThanOrEqual(told.fitness.uniform);
    const said = events.find((event) => event.type === "message");
    expect(said).toMatchObject({ text: expect.stringContaining(`group sizes ${groups.join(",")};`) });
    const again = folder("again.safetensors");
    const list = ["--method", "q-dit", "--group", groups.join(","), "--samples", "32", "--steps", "4"];
    await quantized([from, ...list, "--out", again]);
    const codes = async (path: string) => {
      const file = await openSafetensors(path);
      const t = await file.read("transformer_blocks.1.ff.net.2.weight");
      await file.close();
      return t;
    };
    expect(await codes(again)).toEqual(await codes(out));
  });

  test("has the width that is asked for, scales and weights that f16 cannot hold in f32, and errors as written", async () => {
    const tiny = "transformer_blocks.0.attn1.to_q.weight";
    const zero = "transformer_blocks.1.ff.net.2.weight";
    const huge = "proj_out_2.weight";
    const from = await small((key, v) =>
      key === tiny ? v * 1e-4 : key === zero ? 0 : key === huge && v > 0.1 ? 1e6 : v,
    );
    const out = folder("packed.safetensors");
    const types = async (): Promise<ReadonlyMap<string, string>> => {
      const file = await openSafetensors(out);
      await file.close();
      return new Map([...file.entries].map(([key, { dtype }]) => [key, dtype]));
    };
    const events: WorkEvent[] = [];
    const { metrics } = await quantized([from, "--group", "32", "--out", out], events);
    const half = await types();
    expect(half.get("transformer_blocks.0.attn1.to_q.scales")).toBe("F32");
    expect(half.get("transformer_blocks.0.attn1.to_k.scales")).toBe("F16");
    expect(half.get(huge)).toBe("F32");
    expect(metrics!["decibels of transformer_blocks.0.attn1.to_q"]).toBeGreaterThan(15);
    expect(Object.values(metrics!).every(Number.isFinite)).toBe(true);
    expect(JSON.stringify(events)).not.toMatch(/NaN|null/);
    await quantized([from, "--group", "32", "--dtype", "f32", "--overwrite", "--out", out]);
    expect(new Set((await types()).values())).toEqual(new Set(["F32", "U8"]));
  });

  test("sizes are those before and after, also where the source is replaced", async () => {
    const from = await small();
    const { size } = await stat(from);
    const { metrics } = await quantized([from, "--group", "32", "--overwrite", "--out", from]);
    expect(metrics!.bytesBefore).toBe(size);
    expect(metrics!.bytesAfter).toBe((await stat(from)).size);
    expect(metrics!.bytesAfter).toBeLessThan(size / 2);
    expect(metrics!.floatTensors).toBeGreaterThan(5);
    expect(metrics!.floatBytes).toBeGreaterThan(100);
  });

  test("a bias that is not finite is refused by its name, and nothing is written", async () => {
    const key = "transformer_blocks.0.attn1.to_q.bias";
    for (const bad of [Number.POSITIVE_INFINITY, Number.NaN]) {
      const from = await small((k, v) => (k === key ? bad : v));
      const out = folder("packed.safetensors");
      const run = quantized([from, "--group", "32", "--out", out]);
      await expect(run).rejects.toThrow(FormatError);
      await expect(run).rejects.toThrow(`"${key}"`);
      await expect(stat(out)).rejects.toThrow(/ENOENT/);
    }
  });

  test("options without effect are refused", async () => {
    const from = await small();
    const run = (...args: string[]) => quantized([from, "--out", folder("x.safetensors"), ...args]);
    await expect(run("--samples", "32")).rejects.toThrow(/--samples is for --method q-dit/);
    await expect(run("--search")).rejects.toThrow(/--search is for --method q-dit/);
    await expect(run("--method", "q-dit", "--symmetric")).rejects.toThrow(
      /--symmetric is for --method nearest/,
    );
    await expect(run("--method", "q-dit", "--budget", "32")).rejects.toThrow(/--budget is for --search/);
    await expect(run("--method", "q-dit", "--search", "--group", "32")).rejects.toThrow(
      /cannot go with --search/,
    );
    await expect(run("--group", "32,64")).rejects.toThrow(/one size with --method nearest/);
    await expect(run(...CHEAP.slice(0, 2), "--group", "32,16")).rejects.toThrow(
      /expected 8, 4 for each block, got 2/,
    );
  });
});

describe("a transformer of a pipeline of diffusers", () => {
  const CONFIG = {
    ...{ sample_size: 8, patch_size: 2, in_channels: 2, out_channels: 4, num_layers: 1 },
    ...{ num_attention_heads: 2, attention_head_dim: 32, num_embeds_ada_norm: 5, norm_type: "ada_norm_zero" },
  };
  const className = "DiTTransformer2DModel";

  async function pipeline(): Promise<string> {
    const path = join(folder(), "pipeline", "transformer");
    const model = ditTransformer2D(CONFIG, createRng(1)) as DiTTransformer2DModel;
    await saveModel(path, { className, config: CONFIG, model });
    const scheduler = join(folder(), "pipeline", "scheduler");
    await mkdir(scheduler, { recursive: true });
    const config = { _class_name: "DDIMScheduler", num_train_timesteps: 1000, beta_schedule: "linear" };
    await writeFile(join(scheduler, "scheduler_config.json"), JSON.stringify(config));
    return path;
  }

  test("is calibrated by its own schedule, says so, and is no longer of the original layout", async () => {
    const from = await pipeline();
    const out = folder("packed");
    const { metrics } = await quantized([from, ...CHEAP, "--out", out]);
    expect(metrics!.predictionDecibels).toBeGreaterThan(20);
    const { quantization_config: described } = JSON.parse(await readFile(join(out, "config.json"), "utf8"));
    expect(described.origin).toMatchObject({ method: "q-dit", weights: 4, groups: 32 });

    await expect(convert([out, folder("single.safetensors"), "--to", "single"])).rejects.toThrow(
      /the linear layers of DiTTransformer2DModel are packed integers/,
    );
    const file = folder("model.onnx");
    await convert([out, file, "--to", "onnx"]);
    const bytes = await readFile(file);
    const times = (word: string): number => bytes.toString("latin1").split(word).length - 1;
    expect(times("MatMulNBits")).toBeGreaterThanOrEqual(6);
    expect(times("accuracy_level")).toBeGreaterThanOrEqual(6);
    await (await importOnnx(new Uint8Array(bytes))).close();
  });

  test("other networks have no samples to draw with labels", async () => {
    const config = {
      ...{ sample_size: 8, block_out_channels: [32], down_block_types: ["DownBlock2D"] },
      ...{ up_block_types: ["UpBlock2D"], layers_per_block: 1, cross_attention_dim: 32, norm_num_groups: 8 },
    };
    const from = folder("unet");
    const model = unet2DCondition(config, createRng(3));
    await saveModel(from, { className: "UNet2DConditionModel", config, model });
    await expect(quantized([from, "--method", "q-dit", "--out", folder("x")])).rejects.toThrow(
      /is for diffusion transformers with classes/,
    );
  });
});
