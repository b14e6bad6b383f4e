import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterEach, describe, expect, it, vi } from "vitest";
import { tweedie } from "../../src/cli/commands/index.ts";
import { runCli } from "../../src/cli/run.ts";
import { readSafetensors, writeSafetensors } from "../../src/io/index.ts";
import type { CLIPTextModel } from "../../src/networks/index.ts";
import type { CheckReport, ModelReport } from "../../src/pipelines/index.ts";
import { loadModel, loadPipelineComponents, savePipeline } from "../../src/pipelines/index.ts";
import { saveModel } from "../../src/pipelines/save.ts";
import { importOnnx, tensor } from "../../src/tensor/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";
import { TINY_TEXT, tinyModel, tinySd, valuesOf } from "../pipelines/tiny-models.ts";

const at = useTemporaryFolder();
afterEach(() => vi.restoreAllMocks());

/** Exit code, standard output and error line of `tweedie models …`. */
async function run(...args: string[]): Promise<{ code: number; out: string; error: string }> {
  const lines: string[] = [];
  let error = "";
  vi.spyOn(console, "log").mockImplementation((text: string) => void lines.push(text));
  const out = (text: string) => void lines.push(text);
  const code = await runCli(tweedie, ["models", ...args], { out, error: (text) => (error += text) });
  return { code, out: lines.join("\n"), error };
}

async function json<T>(...args: string[]): Promise<T> {
  const { code, out, error } = await run(...args, "--json");
  expect([code, error]).toEqual([0, ""]);
  return JSON.parse(out) as T;
}

describe("tweedie models list", () => {
  it("shows what is in the cache", async () => {
    mkdirSync(at("models--a--b", "snapshots", "c".repeat(40)), { recursive: true });
    mkdirSync(at("datasets--a--b", "snapshots", "c".repeat(40)), { recursive: true });
    const { cached } = await json<{ cached: { repo: string }[] }>("list", "--cache", at());
    expect(cached.map(({ repo }) => repo)).toEqual(["a/b"]);
    expect((await run("list", "--cache", at())).out).toContain("hub:a/b");
  });
});

describe("tweedie models inspect", () => {
  it("counts the components of a folder and of a single file", async () => {
    await savePipeline(at("sd"), tinySd(), { dtype: "f16" });
    const folder = await json<ModelReport>("inspect", at("sd"));
    expect(folder).toMatchObject({
      what: "pipeline",
      layout: "diffusers",
      className: "StableDiffusionPipeline",
    });
    expect(folder.components.map((c) => [c.name, c.tensors, c.problem])).toEqual([
      ["unet", 686, undefined],
      ["vae", 248, undefined],
      ["text_encoder", 36, undefined],
    ]);
    expect(folder.total.bytes).toBe(2 * folder.total.values);
    expect(folder.total.dtypes).toEqual({ F16: folder.total.values });
    expect((await run("convert", at("sd"), at("sd.safetensors"))).code).toBe(0);
    const single = await json<ModelReport>("inspect", at("sd.safetensors"), "--base", at("sd"));
    expect(single).toMatchObject({ layout: "single file", total: folder.total, prediction: "epsilon" });
    const { out } = await run("inspect", at("sd"));
    expect(out).toMatch(/unet +UNet2DConditionModel +[\d,]+ values +686 tensors/);
  });

  it("says what does not fit, and what an unknown file holds", async () => {
    await saveModel(at("text"), tinyModel(TINY_TEXT, 1));
    const path = at("text", "model.safetensors");
    const { tensors } = await readSafetensors(path);
    tensors.delete("text_model.final_layer_norm.bias");
    await writeSafetensors(path, tensors, { author: "me" });
    const { components, metadata } = await json<ModelReport>("inspect", at("text"));
    expect(components[0]!.problem).toContain('missing "text_model.final_layer_norm.bias"');
    expect(metadata).toEqual({ author: "me" });
    await writeSafetensors(at("x.safetensors"), {
      x: { dtype: "f32", shape: [3], data: new Float32Array(3) },
    });
    const unknown = await json<ModelReport>("inspect", at("x.safetensors"));
    expect(unknown).toMatchObject({ what: "weights", total: { tensors: 1, values: 3, bytes: 12 } });
    expect(unknown.note).toContain("no kind that is known");
  });
});

describe("tweedie models convert", () => {
  it("goes to a single file and back, and changes the width", async () => {
    const before = tinySd();
    await savePipeline(at("sd"), before);
    expect((await run("convert", at("sd"), at("one.safetensors"))).code).toBe(0);
    const back = ["convert", at("one.safetensors"), at("back"), "--base", at("sd")];
    expect((await run(...back)).code).toBe(0);
    const after = await loadPipelineComponents(at("back"));
    expect(await valuesOf(after.unet!.model)).toEqual(await valuesOf(before.unet!.model));
    expect((await run(...back)).error).toContain("there already");
    expect((await run(...back, "--overwrite", "--dtype", "f16")).code).toBe(0);
    const { tensors } = await readSafetensors(at("back", "text_encoder", "model.safetensors"));
    expect([...tensors.values()].every(({ dtype }) => dtype === "f16")).toBe(true);
  });

  it("writes a lone autoencoder with CompVis' names, and reads it with its configuration", async () => {
    const vae = tinySd().vae!;
    await saveModel(at("vae"), vae);
    expect((await run("convert", at("vae"), at("vae.safetensors"))).code).toBe(0);
    const { tensors } = await readSafetensors(at("vae.safetensors"));
    expect([tensors.size, tensors.has("decoder.mid.attn_1.q.weight")]).toEqual([248, true]);
    const config = ["--config", at("vae", "config.json")];
    const report = await json<ModelReport>("inspect", at("vae.safetensors"), ...config);
    expect(report).toMatchObject({ what: "network", layout: "single file", total: { tensors: 248 } });
    expect((await run("convert", at("vae.safetensors"), at("back"), ...config)).code).toBe(0);
    expect(await valuesOf((await loadModel(at("back"))).model)).toEqual(await valuesOf(vae.model));
  });

  it("writes ONNX files that compute the same", async () => {
    await saveModel(at("text"), tinyModel(TINY_TEXT, 1), { dtype: "f16" });
    expect((await run("convert", at("text"), at("text.onnx"))).code).toBe(0);
    const onnx = await importOnnx(new Uint8Array(readFileSync(at("text.onnx"))));
    expect(onnx.inputs).toEqual([{ name: "input_ids", dtype: "i64", shape: [1, 77] }]);
    const numbers = Array.from({ length: 77 }, (_, i) => (i * 37) % 600);
    const ids = tensor([numbers], { dtype: "i64" });
    const { last_hidden_state: got } = await onnx.run({ input_ids: ids });
    const { model } = await loadModel(at("text"));
    const expected = await (model as CLIPTextModel).call(ids).lastHiddenState.toArray();
    expect(got!.shape).toEqual([1, 77, 12]);
    const differences = (await got!.toArray()).map((v, i) => Math.abs(v - expected[i]!));
    expect(Math.max(...differences)).toBeLessThan(1e-4);
    await onnx.close();
  });

  it("writes one ONNX file per graph of a pipeline", async () => {
    await savePipeline(at("sd"), tinySd());
    expect(
      (await run("convert", at("sd"), at("onnx"), "--to", "onnx", "--size", "64x32", "--batch", "2")).code,
    ).toBe(0);
    expect(readdirSync(at("onnx")).sort()).toEqual([
      "text_encoder.onnx",
      "unet.onnx",
      "vae_decoder.onnx",
      "vae_encoder.onnx",
    ]);
    const unet = await importOnnx(at("onnx", "unet.onnx"));
    expect(unet.inputs.map(({ name, shape }) => [name, shape])).toEqual([
      ["sample", [2, 4, 4, 8]],
      ["timestep", [1]],
      ["encoder_hidden_states", [2, 77, 12]],
    ]);
    expect(unet.outputs).toEqual([{ name: "out_sample", dtype: "f32", shape: [2, 4, 4, 8] }]);
    await unet.close();
  });

  it("refuses what it cannot do, before it writes", async () => {
    await writeSafetensors(at("x.safetensors"), {
      x: { dtype: "f32", shape: [1], data: new Float32Array(1) },
    });
    const unknown = await run("convert", at("x.safetensors"), at("out"));
    expect([unknown.code, unknown.error]).toEqual([2, expect.stringContaining("no kind that is known")]);
    expect((await run("convert", at("x.safetensors"))).error).toContain(
      "expected OUT: file or folder to write",
    );
    expect((await run("convert", "a", "b", "--to", "gguf")).error).toContain("--to does not know");
    expect((await run("convert", "a", "b.onnx", "--dtype", "f16")).error).toContain(
      "--dtype is not for onnx",
    );
    expect(readdirSync(at())).toEqual(["x.safetensors"]);
  });
});

describe("tweedie models check", () => {
  it("finds nothing in a sound model", async () => {
    await savePipeline(at("sd"), tinySd(), { maxShardBytes: 200_000 });
    const report = await json<CheckReport>("check", at("sd"), "--values");
    expect(report).toMatchObject({ safe: true, findings: [] });
  });

  it("finds pickles, programs, damage and bad values, and exits with 2", async () => {
    await saveModel(at("m"), tinyModel(TINY_TEXT, 1));
    const put = (name: string, text: string | Uint8Array) => writeFileSync(at("m", name), text);
    put("weights.bin", new Uint8Array([0x80, 4, 0x95]));
    put("hidden.dat", "PK\x03\x04archive");
    put("modeling.py", "import os");
    put("cut.safetensors", readFileSync(at("m", "model.safetensors")).subarray(0, 9000));
    put("config.json", JSON.stringify({ auto_map: { AutoModel: "modeling.Model" } }));
    put("page.safetensors", "<!doctype html>");
    const nan = { dtype: "f32" as const, shape: [2], data: new Float32Array([1, Number.NaN]) };
    await writeSafetensors(at("m", "nan.safetensors"), { x: nan });
    const { code, out, error } = await run("check", at("m"), "--values", "--json");
    expect([code, error]).toEqual([2, expect.stringContaining("7 findings")]);
    const { findings } = JSON.parse(out) as CheckReport;
    expect(Object.fromEntries(findings.map(({ file, level }) => [file, level]))).toEqual({
      "weights.bin": "danger",
      "hidden.dat": "danger",
      "modeling.py": "danger",
      "config.json": "danger",
      "cut.safetensors": "broken",
      "page.safetensors": "broken",
      "nan.safetensors": "broken",
    });
    expect(findings.find(({ file }) => file === "nan.safetensors")!.message).toContain("1 of 2 values");
    expect((await run("check", at("m", "weights.bin"))).out).toContain("danger: weights.bin");
    expect((await run("check", at("nowhere"))).code).toBe(2);
  });
});
