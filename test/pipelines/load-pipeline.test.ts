import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { type HostTensor, readSafetensors, writeSafetensors } from "../../src/io/index.ts";
import type { LoadedModel, PipelineComponents } from "../../src/pipelines/components.ts";
import { convertToFolder, convertToSingleFile } from "../../src/pipelines/convert.ts";
import { detectFile } from "../../src/pipelines/detect.ts";
import { controlNetPlace } from "../../src/pipelines/key-maps/layouts.ts";
import { loadModel, loadPipelineComponents } from "../../src/pipelines/load.ts";
import { controlNetConfig } from "../../src/pipelines/original-configs.ts";
import { moduleWeights, savePipeline } from "../../src/pipelines/save.ts";
import { configsOf } from "../../src/pipelines/single-file.ts";
import { openWeights, renamed, weightsInMemory } from "../../src/pipelines/weights.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";
import { SCHEDULER, TINY_UNET, TOKENIZER, tinyModel, tinySd, tinyXl, valuesOf } from "./tiny-models.ts";

const at = useTemporaryFolder();

const networksOf = ({ unet, transformer, vae, textEncoders }: PipelineComponents): LoadedModel[] =>
  [unet, transformer, vae, ...textEncoders].filter((m) => m !== undefined);

async function expectSameWeights(a: PipelineComponents, b: PipelineComponents): Promise<void> {
  expect(networksOf(a).map((m) => m.className)).toEqual(networksOf(b).map((m) => m.className));
  for (const [i, network] of networksOf(a).entries())
    expect(await valuesOf(network.model)).toEqual(await valuesOf(networksOf(b)[i]!.model));
}

const messageOf = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(Error);
  return (error as Error).message;
};

const editJson = (path: string, change: (value: Record<string, unknown>) => void): void => {
  const value = JSON.parse(readFileSync(path, "utf8"));
  change(value);
  writeFileSync(path, JSON.stringify(value));
};

async function editTensors(path: string, change: (tensors: Map<string, never>) => void): Promise<void> {
  const { tensors, metadata } = await readSafetensors(path);
  change(tensors as Map<string, never>);
  await writeSafetensors(path, tensors, metadata);
}

describe("a pipeline's folder", () => {
  it("comes back as it was saved", async () => {
    const before = tinySd();
    await savePipeline(at("sd"), before);
    expect(readdirSync(at("sd")).sort()).toEqual(
      ["model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae"].sort(),
    );
    const after = await loadPipelineComponents(at("sd"));
    expect([after.kind, after.className]).toEqual(["sd", "StableDiffusionPipeline"]);
    expect(after.scheduler).toEqual(SCHEDULER);
    expect(after.tokenizers).toEqual([TOKENIZER]);
    expect(after.unet?.config).toEqual(TINY_UNET);
    await expectSameWeights(after, before);
  });

  it("has two text encoders in order for XL", async () => {
    const before = tinyXl();
    await savePipeline(at("xl"), before, { dtype: "f16", maxShardBytes: 100_000 });
    const after = await loadPipelineComponents(at("xl"));
    expect(after.kind).toBe("sdxl");
    expect(after.textEncoders.map((m) => m.className)).toEqual([
      "CLIPTextModel",
      "CLIPTextModelWithProjection",
    ]);
    expect(after.tokenizers.map((t) => t.config.pad_token)).toEqual([undefined, "!"]);
  });

  it("without text is unconditional, and labels are read where there are any", async () => {
    const unet = tinyModel(
      {
        _class_name: "UNet2DModel",
        sample_size: 8,
        in_channels: 3,
        out_channels: 3,
        block_out_channels: [8, 16],
        layers_per_block: 1,
        norm_num_groups: 4,
        down_block_types: ["DownBlock2D", "AttnDownBlock2D"],
        up_block_types: ["AttnUpBlock2D", "UpBlock2D"],
      },
      1,
    );
    const before: PipelineComponents = {
      kind: "unconditional",
      className: "DDPMPipeline",
      path: "memory",
      unet,
      textEncoders: [],
      tokenizers: [],
      scheduler: { _class_name: "DDPMScheduler", num_train_timesteps: 10 },
      labels: new Map([[0, "cat"]]),
    };
    await savePipeline(at("ddpm"), before);
    // As early files of the reference library name the attention.
    await editTensors(at("ddpm", "unet", "diffusion_pytorch_model.safetensors"), (tensors) => {
      for (const [now, then] of [
        ["to_q", "query"],
        ["to_k", "key"],
        ["to_v", "value"],
        ["to_out.0", "proj_attn"],
      ])
        for (const [name, t] of [...tensors])
          if (name.includes(`.attentions.0.${now}.`)) {
            tensors.delete(name);
            tensors.set(name.replace(`.${now}.`, `.${then}.`), t);
          }
    });
    const after = await loadPipelineComponents(at("ddpm"));
    expect([after.kind, after.labels]).toEqual(["unconditional", new Map([[0, "cat"]])]);
    await expectSameWeights(after, before);
  });

  it("of unknown classes or components is refused, with what is known", async () => {
    await savePipeline(at("sd"), tinySd());
    const index = at("sd", "model_index.json");
    const original = readFileSync(index, "utf8");
    for (const [change, said] of [
      [{ _class_name: "EvilPipeline" }, "StableDiffusionPipeline"],
      [{ _class_name: "constructor" }, "StableDiffusionPipeline"],
      [{ unet: ["os", "system"] }, 'component "unet": expected one of UNet2DConditionModel'],
      [{ extra: ["x", "Y"] }, "expected components unet"],
      [{ "../evil": ["x", "Y"] }, "expected a folder's name"],
      [{ unet: [null, null] }, 'expected a component "unet" or "transformer"'],
      [{ unet: [1, 2] }, "expected [library, class]"],
    ] as const) {
      writeFileSync(index, original);
      editJson(index, (value) => Object.assign(value, change));
      expect(await messageOf(loadPipelineComponents(at("sd")))).toContain(said);
    }
  });

  it("loads nothing when any component is wrong", async () => {
    await savePipeline(at("sd"), tinySd());
    await editTensors(at("sd", "text_encoder", "model.safetensors"), (tensors) =>
      tensors.delete("text_model.final_layer_norm.bias"),
    );
    const seen: number[] = [];
    const message = await messageOf(
      loadPipelineComponents(at("sd"), { onProgress: (read) => seen.push(read) }),
    );
    expect(message).toContain('missing "text_model.final_layer_norm.bias": expected [12]');
    expect(seen).toEqual([]);
  });

  it("ignores a safety checker and needs no tokenizer vocabulary", async () => {
    await savePipeline(at("sd"), tinySd());
    editJson(at("sd", "model_index.json"), (value) => {
      value.safety_checker = ["stable_diffusion", "StableDiffusionSafetyChecker"];
      value.feature_extractor = ["transformers", "CLIPImageProcessor"];
    });
    expect((await loadPipelineComponents(at("sd"))).kind).toBe("sd");
    rmSync(at("sd", "tokenizer", "merges.txt"));
    expect(await messageOf(loadPipelineComponents(at("sd")))).toContain("expected a tokenizer");
    const whole = { model: { vocab: { a: 0, b: 1 }, merges: [["a", "b"], "ab c</w>"] } };
    writeFileSync(at("sd", "tokenizer", "tokenizer.json"), JSON.stringify(whole));
    expect((await loadPipelineComponents(at("sd"))).tokenizers[0]).toEqual({
      ...TOKENIZER,
      merges: TOKENIZER.merges.trimEnd(),
      vocabulary: { a: 0, b: 1 },
    });
  });
});

describe("a single file", () => {
  /** The pipeline as one file, and its own folder as the base for the configurations of unusual size. */
  async function single(components: PipelineComponents, name: string): Promise<[file: string, base: string]> {
    await savePipeline(at(name), components);
    await convertToSingleFile(at(name), at(`${name}.safetensors`));
    return [at(`${name}.safetensors`), at(name)];
  }

  it("holds a pipeline of SD 1.x, and gives it back", async () => {
    const before = tinySd();
    const [file, base] = await single(before, "sd");
    const names = [...(await readSafetensors(file)).tensors.keys()];
    expect(names.length).toBe(686 + 248 + 2 + 16 * 2 + 2);
    expect(names).toContain("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight");
    expect(names).toContain("first_stage_model.decoder.mid.attn_1.proj_out.weight");
    expect(names).toContain("cond_stage_model.transformer.text_model.final_layer_norm.bias");
    const after = await loadPipelineComponents(file, { base });
    expect(after.className).toBe("StableDiffusionPipeline");
    expect(after.tokenizers).toEqual([TOKENIZER]);
    await expectSameWeights(after, before);
  });

  it("holds a pipeline of SD 2.x, whose text encoder keeps an unused last layer", async () => {
    const sd2 = tinySd({ ...TINY_UNET, use_linear_projection: true });
    const before = { ...sd2, scheduler: { ...SCHEDULER, prediction_type: "v_prediction" } };
    const [file, base] = await single(before, "sd2");
    await editTensors(file, (tensors) => {
      const layer = "cond_stage_model.model.transformer.resblocks.";
      expect(tensors.get(`${layer}0.attn.in_proj_weight`)).toMatchObject({ shape: [36, 12] });
      for (const [name, t] of [...tensors])
        if (name.startsWith(`${layer}1.`)) tensors.set(name.replace(`${layer}1.`, `${layer}2.`), t);
      for (const name of ["cond_stage_model.model.logit_scale", "alphas_cumprod", "model_ema.decay"])
        tensors.set(name, { dtype: "f32", shape: [], data: new Float32Array(1) } as never);
    });
    const after = await loadPipelineComponents(file, { base });
    await expectSameWeights(after, before);
    expect(after.scheduler.prediction_type).toBe("v_prediction");
    expect(
      (await loadPipelineComponents(file, { base, predictionType: "epsilon" })).scheduler.prediction_type,
    ).toBe("epsilon");
  });

  it("holds a pipeline of SDXL with both text encoders", async () => {
    const before = tinyXl();
    const [file, base] = await single(before, "xl");
    const { tensors } = await readSafetensors(file);
    expect(tensors.has("conditioner.embedders.0.transformer.text_model.final_layer_norm.bias")).toBe(true);
    expect(tensors.get("conditioner.embedders.1.model.text_projection")).toMatchObject({ shape: [16, 16] });
    expect(tensors.has("model.diffusion_model.label_emb.0.2.weight")).toBe(true);
    await expectSameWeights(await loadPipelineComponents(file, { base }), before);
  });

  it("becomes a folder in half precision, and a folder changes its width", async () => {
    const [file, base] = await single(tinySd(), "sd");
    await convertToFolder(file, at("half"), { base, dtype: "f16" });
    const { tensors } = await readSafetensors(at("half", "unet", "diffusion_pytorch_model.safetensors"));
    expect(new Set([...tensors.values()].map((t) => t.dtype))).toEqual(new Set(["f16"]));
    const half = await loadPipelineComponents(at("half"));
    await convertToFolder(at("half"), at("full"), { dtype: "f32" });
    await expectSameWeights(await loadPipelineComponents(at("full")), half);
    await convertToSingleFile(at("half"), at("half.safetensors"));
    await expectSameWeights(await loadPipelineComponents(at("half.safetensors"), { base }), half);
  });

  it("with tensors that belong nowhere, or without a component, is refused by name", async () => {
    const [file, base] = await single(tinySd(), "sd");
    await editTensors(file, (tensors) => {
      tensors.set("model.diffusion_model.strange.weight", tensors.get("model.diffusion_model.out.2.bias")!);
      tensors.set("elsewhere.weight", tensors.get("model.diffusion_model.out.2.bias")!);
      for (const name of [...tensors.keys()]) if (name.startsWith("first_stage_model.")) tensors.delete(name);
    });
    const message = await messageOf(loadPipelineComponents(file, { base }));
    expect(message).toContain("3 problems, nothing was loaded");
    expect(message).toContain('unexpected "model.diffusion_model.strange.weight"');
    expect(message).toContain('unexpected "elsewhere.weight"');
    expect(message).toContain('missing vae: expected tensors below "first_stage_model"');
  });

  it("of an autoencoder or a ControlNet alone is loaded as one network", async () => {
    const { vae } = tinySd();
    const [file, base] = await single(tinySd(), "sd");
    const { tensors } = await readSafetensors(file);
    const part = [...tensors].filter(([name]) => name.startsWith("first_stage_model."));
    for (const head of ["first_stage_model.", ""]) {
      await writeSafetensors(
        at("vae.safetensors"),
        new Map(part.map(([name, t]) => [name.replace("first_stage_model.", head), t])),
      );
      const loaded = await loadModel(at("vae.safetensors"), { config: vae!.config });
      expect(await valuesOf(loaded.model)).toEqual(await valuesOf(vae!.model));
    }
    expect(await messageOf(loadPipelineComponents(at("vae.safetensors"), { base }))).toContain(
      "this file holds an autoencoder and not a pipeline",
    );
  });

  it("of a ControlNet is told by its hint encoder, with or without the outer name", async () => {
    const config = {
      ...controlNetConfig(TINY_UNET),
      conditioning_embedding_out_channels: [4, 8],
    };
    const before = tinyModel(config, 5);
    const { prefix, rules } = controlNetPlace(config);
    const weights = await moduleWeights(before.model);
    const source = weightsInMemory(weights, ({ shape }) => ({ dtype: "F32", shape }));
    for (const below of [prefix, ""]) {
      const there = renamed(source, { rules, to: "original", below });
      expect(there.unknown).toEqual([]);
      const tensors = new Map<string, HostTensor>();
      for (const name of there.entries.keys()) tensors.set(name, await there.read(name));
      await writeSafetensors(at("control.safetensors"), tensors);
      const { className, model } = await loadModel(at("control.safetensors"), { config, family: "sd1" });
      expect(className).toBe("ControlNetModel");
      expect(await valuesOf(model)).toEqual(await valuesOf(before.model));
    }
  });

  it("for inpainting has the channels that its first convolution has", async () => {
    const before = tinySd({ ...TINY_UNET, in_channels: 9 });
    const [file] = await single(before, "inpaint");
    const source = await openWeights(file);
    const kind = detectFile(source);
    await source.close();
    expect(kind).toEqual({ kind: "checkpoint", family: "sd1", inChannels: 9 });
    const configs = await configsOf(kind as never, undefined);
    expect([configs.unet.in_channels, configs.scheduler.prediction_type]).toEqual([9, "epsilon"]);
  });

  it("takes its tokenizer from beside it, or from where it is told", async () => {
    const [file, base] = await single(tinyXl(), "xl");
    rmSync(at("xl", "tokenizer"), { recursive: true });
    rmSync(at("xl", "tokenizer_2"), { recursive: true });
    expect((await loadPipelineComponents(file, { base })).tokenizers).toEqual([]);
    writeFileSync(at("merges.txt"), "a b\n");
    const beside = (await loadPipelineComponents(file, { base })).tokenizers;
    expect(beside).toEqual([
      { config: {}, merges: "a b\n" },
      { config: { pad_token: "!" }, merges: "a b\n" },
    ]);
    mkdirSync(at("other"));
    writeFileSync(at("other", "merges.txt"), "c d\n");
    const told = (await loadPipelineComponents(file, { base, tokenizer: at("other") })).tokenizers;
    expect(told.map((t) => t.merges)).toEqual(["c d\n", "c d\n"]);
    await expect(loadPipelineComponents(file, { base, tokenizer: at("nowhere") })).rejects.toThrow(
      FormatError,
    );
  });
});

describe("a file of another kind", () => {
  const tensor = (...shape: number[]) => ({
    dtype: "f32" as const,
    shape,
    data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
  });
  const cases: readonly [said: string, names: Record<string, number[]>][] = [
    ["Stable Diffusion 3", { "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": [3, 1] }],
    ["FLUX", { "double_blocks.0.img_attn.qkv.weight": [3, 1] }],
    ["a LoRA", { "lora_unet_down_blocks_0.lora_up.weight": [2, 2] }],
    ["textual-inversion", { emb_params: [2, 768] }],
    ["of no kind that is known", { x: [1] }],
    [
      "attends to text of width 99",
      {
        "model.diffusion_model.input_blocks.0.0.weight": [1, 4, 3, 3],
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [1, 99],
      },
    ],
    [
      "the SDXL refiner",
      {
        "model.diffusion_model.input_blocks.0.0.weight": [1, 4, 3, 3],
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": [1, 1280],
        "conditioner.embedders.0.model.ln_final.weight": [1280],
      },
    ],
  ];

  for (const [said, names] of cases)
    it(`is told apart: ${said}`, async () => {
      const tensors = Object.entries(names).map(([n, s]) => [n, tensor(...s)] as const);
      await writeSafetensors(at("x.safetensors"), new Map(tensors));
      const message = await messageOf(loadPipelineComponents(at("x.safetensors")));
      expect(message).toContain(said);
      expect(message).toContain("Known single files are Stable Diffusion");
    });

  it("that is no safetensors says what it is", async () => {
    for (const [name, bytes, said] of [
      ["v1-5.ckpt", "PK\x03\x04", "Convert it once with PyTorch"],
      ["page.safetensors", "<!doctype html><html>", "web page"],
      ["lfs.safetensors", "version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"],
      ["gguf.safetensors", "GGUF\x03\x00\x00\x00", "GGUF"],
    ] as const) {
      writeFileSync(at(name), bytes);
      expect(await messageOf(loadPipelineComponents(at(name)))).toContain(said);
    }
    mkdirSync(at("empty"));
    expect(await messageOf(loadPipelineComponents(at("empty")))).toContain("model_index.json");
  });
});
