import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodePicture } from "../../src/io/index.ts";
import type { ControlNetModel, UNet2DConditionModel } from "../../src/networks/index.ts";
import { parameters } from "../../src/nn/index.ts";
import { loadModel, loadPipelineComponents, savePipeline, withLoras } from "../../src/pipelines/index.ts";
import { finish } from "../../src/systems/system.ts";
import { type Tensor, tensor, zeros } from "../../src/tensor/index.ts";
import { newControlNet, newPipeline, SHAPES_TEXT } from "../../src/training/index.ts";
import { TRAININGS } from "../../src/trainings/index.ts";
import { writeTinyStableDiffusion } from "../pipelines/tiny-pipelines.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "adapt-"));
  await writeTinyStableDiffusion(join(folder, "sd"));
  const own = newPipeline({ ...SHAPES_TEXT, size: 16, channels: [8, 16] }, ["a red cat", "a blue house"]);
  await savePipeline(join(folder, "own"), own);
  for (const [i, name] of ["a-red-cat", "a-blue-house", "a-dog"].entries())
    for (const part of ["pictures", "maps"]) {
      await mkdir(join(folder, part), { recursive: true });
      const data = Uint8Array.from({ length: 32 * 32 * 3 }, (_, k) => (k * (i + 1)) % 256);
      await writeFile(
        join(folder, part, `${name}.png`),
        await encodePicture({ width: 32, height: 32, channels: 3, data }),
      );
    }
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function run(name: string, options: Readonly<Record<string, unknown>>) {
  const { action } = TRAININGS.find((one) => one.name === name)!;
  const given = action.options.parse({
    ...{
      data: join(folder, "pictures"),
      out: join(folder, "out", name),
      steps: 3,
      batch: 2,
      threads: 1,
      seed: 1,
    },
    ...options,
  });
  return finish(action.run(given, {}));
}

const largestChange = async (a: ReadonlyMap<string, Tensor>, b: ReadonlyMap<string, Tensor>) => {
  let most = 0;
  for (const [key, t] of a) most = Math.max(most, await t.sub(b.get(key)!).abs().max().item());
  return most;
};

describe("tweedie train lora", () => {
  it.each(["sd", "own"])(
    "writes adapters of diffusers' names that change the model they load into: %s",
    async (model) => {
      const out = join(folder, "lora", model);
      const { metrics } = await run("lora", { model: join(folder, model), out, rank: 2 });
      expect(metrics!.loss).toBeGreaterThan(0);
      const plain = await loadPipelineComponents(join(folder, model), { precision: "f32" });
      const adapted = await withLoras(plain, [{ path: join(out, "lora.safetensors"), weight: 1 }]);
      const [a, b] = [parameters(adapted.unet!.model), parameters(plain.unet!.model)];
      const changed: string[] = [];
      for (const [key, t] of a) if ((await t.sub(b.get(key)!).abs().max().item()) > 0) changed.push(key);
      expect(changed.length).toBeGreaterThan(0);
      for (const key of changed) expect(key).toMatch(/attn\d\.to_(q|k|v|out\.0)\.weight$/);
    },
  );
});

describe("tweedie train controlnet", () => {
  it("adds nothing before the first step", async () => {
    const pipeline = await loadPipelineComponents(join(folder, "sd"), { precision: "f32" });
    const { model, config } = newControlNet(pipeline);
    expect(config.conditioning_embedding_out_channels).toEqual([16, 32, 96, 256]); // latents are 8 times as small
    const x = zeros([1, 4, 8, 8]).add(0.5);
    const { down, mid } = model.call(x, tensor([7]), zeros([1, 3, 12]), zeros([1, 3, 64, 64]).add(1));
    for (const t of [...down, mid]) expect(await t.abs().max().item()).toBe(0);
    const copied = parameters(model);
    const own = parameters(pipeline.unet!.model as UNet2DConditionModel);
    expect(await largestChange(new Map([["conv_in.weight", copied.get("conv_in.weight")!]]), own)).toBe(0);
  });

  it.each(["sd", "own"])("writes a folder in diffusers' layout that steers the model: %s", async (model) => {
    const out = join(folder, "controlnet", model);
    await run("controlnet", { model: join(folder, model), controls: join(folder, "maps"), out });
    const loaded = await loadModel(join(out, "controlnet"));
    expect(loaded.className).toBe("ControlNetModel");
    const zero = parameters(loaded.model as ControlNetModel).get("controlnet_mid_block.weight")!;
    expect(await zero.abs().max().item()).toBeGreaterThan(0);
  });

  it("names pictures without a map, and captions with words that the model does not know", async () => {
    await mkdir(join(folder, "few"), { recursive: true });
    const data = new Uint8Array(12);
    await writeFile(
      join(folder, "few", "a-dog.png"),
      await encodePicture({ width: 2, height: 2, channels: 3, data }),
    );
    await expect(
      run("controlnet", { model: join(folder, "own"), controls: join(folder, "few") }),
    ).rejects.toThrow(/2 of 3 pictures have no map of their name: a-blue-house\.png, a-red-cat\.png/);
    const { action } = TRAININGS.find(({ name }) => name === "lora")!;
    const warnings: string[] = [];
    const options = action.options.parse({
      model: join(folder, "own"),
      data: join(folder, "pictures"),
      out: join(folder, "w"),
      steps: 1,
      batch: 1,
      threads: 1,
    });
    for await (const event of action.run(options, {}))
      if (event.type === "warning") warnings.push(event.text);
    expect(warnings).toEqual(["words that the model has never seen in training: dog"]);
  });

  it("refuses a size that the model cannot take", async () => {
    await expect(run("lora", { model: join(folder, "sd"), size: 60 })).rejects.toThrow(/multiple of 8/);
  });
});
