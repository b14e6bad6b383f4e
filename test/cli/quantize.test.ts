/** `tweedie quantize` end to end: a diffusers folder becomes a smaller one that loads, samples and exports. */
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { quantize as command } from "../../src/cli/commands/quantize.ts";
import { ArgumentError, FormatError } from "../../src/errors.ts";
import { type DiTTransformer2DModel, ditTransformer2D, unet2DCondition } from "../../src/networks/index.ts";
import { createRng, parameters } from "../../src/nn/index.ts";
import { conditionalNetwork } from "../../src/pipelines/compiled-network.ts";
import { loadModel, type PipelineComponents, saveModel } from "../../src/pipelines/index.ts";
import { exportOnnx, importOnnx, jit, type Tensor, tensor } from "../../src/tensor/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";

const CONFIG = {
  _class_name: "DiTTransformer2DModel",
  sample_size: 8,
  patch_size: 2,
  in_channels: 2,
  num_layers: 2,
  num_attention_heads: 4,
  attention_head_dim: 32,
  num_embeds_ada_norm: 5,
  norm_type: "ada_norm_zero",
};
const folder = useTemporaryFolder();
const quantize = async (args: string[]): Promise<void> => command.run!({ rawArgs: args } as never);

async function source(name: string): Promise<string> {
  const path = join(folder(), name);
  await saveModel(path, {
    className: "DiTTransformer2DModel",
    config: CONFIG,
    model: ditTransformer2D(CONFIG, createRng(1)),
  });
  return path;
}

const bytes = async (path: string): Promise<number> =>
  (await stat(join(path, "diffusion_pytorch_model.safetensors"))).size;
const inputs = (): [Tensor, Tensor, Tensor] => [
  createRng(2).normal([3, 2, 8, 8]),
  tensor([500, 20, 900]),
  tensor([1, 2, 5], { dtype: "i32" }),
];
const predict = async (model: DiTTransformer2DModel): Promise<Float32Array> => {
  const f = jit((x: Tensor, t: Tensor, y: Tensor) => model.call(x, t, y));
  const values = (await (await f(...inputs())).data()) as Float32Array;
  await f.close();
  return values.slice();
};
const error = (a: Float32Array, b: Float32Array): number =>
  Math.sqrt(a.reduce((s, v, i) => s + (v - b[i]!) ** 2, 0) / a.reduce((s, v) => s + v * v, 0));

describe("tweedie quantize", () => {
  test.each([
    ["4", "8", 0.2, 0.12],
    ["8", "8", 0.3, 0.02],
    ["6", "16", 0.3, 0.03],
  ])(
    "W%sA%s: at most %f of the f32 bytes, and close to the original",
    async (weights, activations, share, bound) => {
      const from = await source("model");
      const out = join(folder(), "packed");
      await quantize([
        from,
        "--weights",
        weights,
        "--activations",
        activations,
        "--group",
        "64",
        "--out",
        out,
      ]);
      expect((await bytes(out)) / (await bytes(from))).toBeLessThan(share);
      const original = (await loadModel(from)).model as DiTTransformer2DModel;
      const packed = (await loadModel(out)).model as DiTTransformer2DModel;
      expect([...parameters(packed).values()].filter((t) => t.dtype === "u8").length).toBeGreaterThan(12);
      const [a, b] = [await predict(original), await predict(packed)];
      expect(error(a, b)).toBeLessThan(bound);
      expect(error(a, b)).toBeGreaterThan(1e-4);
    },
  );

  test("the packed model exports to plain ONNX, which computes the same", async () => {
    const from = await source("model");
    const out = join(folder(), "packed");
    await quantize([from, "--weights", "4", "--activations", "16", "--out", out]);
    const packed = (await loadModel(out)).model as DiTTransformer2DModel;
    const example = inputs();
    const file = await exportOnnx((x: Tensor, t: Tensor, y: Tensor) => packed.call(x, t, y), example);
    expect(file.length).toBeLessThan(0.5 * (await bytes(from)));
    const model = await importOnnx(file);
    const given = Object.fromEntries(model.inputs.map(({ name }, i) => [name, example[i]!]));
    const y = (await Object.values(await model.run(given))[0]!.data()) as Float32Array;
    expect(error(await predict(packed), y)).toBeLessThan(1e-4);
    await model.close();
  });

  test("a pipeline's network runs it with its weights as constants", async () => {
    const from = await source("model");
    const out = folder("packed");
    await quantize([from, "--weights", "4", "--activations", "8", "--group", "32", "--out", out]);
    const transformer = await loadModel(out);
    const [x, , labels] = inputs();
    const network = conditionalNetwork({ transformer } as unknown as PipelineComponents);
    const y = (await (await network.call(x, 500, { labels })).data()) as Float32Array;
    const packed = transformer.model as DiTTransformer2DModel;
    const f = jit((a: Tensor, t: Tensor, c: Tensor) => packed.call(a, t, c));
    const expected = (await (await f(x, tensor([500]), labels)).data()) as Float32Array;
    expect(error(expected, y)).toBeLessThan(1e-6);
    await network.close();
    await f.close();
  });

  test("the linear layers of a U-Net too", async () => {
    const config = {
      _class_name: "UNet2DConditionModel",
      sample_size: 8,
      block_out_channels: [32, 64],
      down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
      up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
      layers_per_block: 1,
      cross_attention_dim: 48,
      attention_head_dim: 8,
      norm_num_groups: 8,
    };
    const unet = unet2DCondition(config, createRng(3));
    const from = folder("unet");
    await saveModel(from, { className: "UNet2DConditionModel", config, model: unet });
    const out = folder("packed");
    await quantize([from, "--weights", "8", "--activations", "8", "--group", "16", "--out", out]);
    const packed = (await loadModel(out)).model as typeof unet;
    expect([...parameters(packed).values()].filter((t) => t.dtype === "u8").length).toBeGreaterThan(20);
    const [x, context] = [createRng(4).normal([1, 4, 8, 8]), createRng(5).normal([1, 6, 48])];
    const run = async (m: typeof unet): Promise<Float32Array> => {
      const f = jit((a: Tensor, c: Tensor) => m.call(a, tensor([300]), c));
      const values = ((await (await f(x, context)).data()) as Float32Array).slice();
      await f.close();
      return values;
    };
    expect(error(await run(unet), await run(packed))).toBeLessThan(0.02);
  });

  test("mistakes have names: groups, bits, a model that is packed already, a damaged description", async () => {
    const from = await source("model");
    const out = join(folder(), "packed");
    const run = (...args: string[]): Promise<void> => quantize([from, "--out", out, ...args]);
    await expect(run("--group", "48")).rejects.toThrow(/groups of 48 do not divide 128 input channels/);
    await expect(run("--group", "24")).rejects.toThrow(/expected a multiple of 16, got 24/);
    await expect(run("--weights", "9")).rejects.toThrow(/2 to 8 bits, got 9/);
    await expect(run("--activations", "4")).rejects.toThrow(/8 bits \(rounded\) or 16 \(floats\), got 4/);
    await expect(quantize([from])).rejects.toThrow(/--out is needed/);
    await run();
    await expect(quantize([out, "--out", join(folder(), "again")])).rejects.toThrow(ArgumentError);
    await expect(quantize([out, "--out", join(folder(), "again")])).rejects.toThrow(/is quantised already/);
    await expect(run()).rejects.toThrow(ArgumentError); // the folder is there
    const config = JSON.parse(await readFile(join(out, "config.json"), "utf8"));
    config.quantization_config.quant_method = "gptq";
    await writeFile(join(out, "config.json"), JSON.stringify(config));
    await expect(loadModel(out)).rejects.toThrow(FormatError);
  });
});
