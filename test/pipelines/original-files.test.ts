import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { ArgumentError, FormatError } from "../../src/errors.ts";
import { type HostTensor, readSafetensors, writeSafetensors } from "../../src/io/index.ts";
import {
  ADM_CLASSIFIER_256,
  ADM_UNETS,
  type AutoencoderTiny,
  type DiTTransformer2DModel,
  diffusersFromMeta,
  guidedDiffusionClassifier,
  guidedDiffusionUNet,
  MaskedAutoencoder,
  maePreset,
  metaFromDiffusers,
  VisionTransformer,
  vitPreset,
} from "../../src/networks/index.ts";
import { blankRng, parameters } from "../../src/nn/index.ts";
import type { Config, LoadedModel } from "../../src/pipelines/components.ts";
import { convertToOriginalFile } from "../../src/pipelines/convert.ts";
import { detectFile } from "../../src/pipelines/detect.ts";
import { inspectModel } from "../../src/pipelines/inspect.ts";
import { loadModel } from "../../src/pipelines/load.ts";
import { openGuided } from "../../src/pipelines/original/guided.ts";
import { openOriginal } from "../../src/pipelines/original/open.ts";
import { controlNetConfig } from "../../src/pipelines/original-configs.ts";
import { moduleWeights, saveModel } from "../../src/pipelines/save.ts";
import { weightsInMemory } from "../../src/pipelines/weights.ts";
import { fromHost, type Tensor, zeros } from "../../src/tensor/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";
import { TINY_UNET, TINY_VAE, tinyModel, valuesOf } from "./tiny-models.ts";

const at = useTemporaryFolder();

const messageOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "no error",
    (error: Error) => error.message,
  );

const namesIn = async (path: string): Promise<string[]> => [...(await readSafetensors(path)).tensors.keys()];
const shapesIn = async (path: string) =>
  new Map([...(await readSafetensors(path)).tensors].map(([name, { shape }]) => [name, shape]));

/** Headers alone, as a module of any size has them. */
const headersOf = (module: object) => ({
  ...weightsInMemory(new Map(), () => ({ dtype: "F32", shape: [] }), "headers"),
  entries: new Map([...parameters(module)].map(([name, { shape }]) => [name, { dtype: "F32", shape }])),
});

/** To the original layout by a file, and back. */
async function roundTrip(before: LoadedModel, config?: Config): Promise<LoadedModel> {
  await saveModel(at("before"), before);
  await convertToOriginalFile(at("before"), at("original.safetensors"));
  return loadModel(at("original.safetensors"), { config });
}

async function expectSame(after: LoadedModel, before: LoadedModel): Promise<void> {
  expect(after.className).toBe(before.className);
  expect(await valuesOf(after.model)).toEqual(await valuesOf(before.model));
}

describe("a DiT with its authors' names", () => {
  const CONFIG: Config = {
    _class_name: "DiTTransformer2DModel",
    sample_size: 8,
    num_layers: 3,
    patch_size: 2,
    attention_head_dim: 8,
    num_attention_heads: 2,
    in_channels: 4,
    out_channels: 8,
    num_embeds_ada_norm: 5,
    norm_eps: 1e-6,
    freq_shift: 0,
  };

  /** A model whose blocks have one embedding of timestep and class, and a file of it in the authors' spelling. */
  async function metaFile(): Promise<LoadedModel> {
    const before = tinyModel(CONFIG, 1);
    const all = new Map(parameters(before.model));
    for (const name of all.keys()) {
      const first = name.replace(/^transformer_blocks\.\d+\.norm1\.emb\./, "transformer_blocks.0.norm1.emb.");
      all.set(name, all.get(first)!);
    }
    const meta = await metaFromDiffusers(all, 4);
    const tensors = new Map<string, HostTensor>();
    for (const [name, t] of meta)
      tensors.set(name, { dtype: "f32", shape: t.shape, data: (await t.data()) as Float32Array });
    await writeSafetensors(at("dit.safetensors"), tensors);
    return before;
  }

  it("is loaded as its own conversion does, with sizes from shapes and its authors' numerics", async () => {
    await metaFile();
    const after = await loadModel(at("dit.safetensors"), { config: { num_attention_heads: 2 } });
    expect(after.className).toBe("DiTTransformer2DModel");
    expect(after.config).toMatchObject(CONFIG);
    const { freqShift, mlpNormEps } = (after.model as DiTTransformer2DModel).config;
    expect([freqShift, mlpNormEps]).toEqual([0, 1e-6]);
    const { tensors } = await readSafetensors(at("dit.safetensors"));
    const given = new Map<string, Tensor>();
    for (const [name, t] of tensors) {
      const { dtype, shape, data } = t as HostTensor;
      given.set(name, fromHost(dtype, shape, data));
    }
    const expected: Record<string, number[]> = {};
    for (const [name, t] of diffusersFromMeta(given)) expected[name] = await t.toArray();
    expect(await valuesOf(after.model)).toEqual(expected);
  });

  it("goes to a folder and back to the same file, also below the name of a training state", async () => {
    await metaFile();
    const { tensors } = await readSafetensors(at("dit.safetensors"));
    const below = new Map([...tensors].map(([name, t]) => [`model.${name}`, t as HostTensor]));
    await writeSafetensors(at("state.safetensors"), below);
    for (const name of ["dit", "state"]) {
      const model = await loadModel(at(`${name}.safetensors`), { config: { num_attention_heads: 2 } });
      await saveModel(at(name), model);
      await expectSame(await loadModel(at(name)), model);
      await convertToOriginalFile(at(name), at("again.safetensors"));
      const again = await readSafetensors(at("again.safetensors"));
      expect([...again.tensors.keys()].sort()).toEqual([...tensors.keys()].sort());
      for (const [key, t] of again.tensors) expect(t).toEqual(tensors.get(key));
    }
  });

  it("of a published size tells its heads by its width; of another it asks for them", async () => {
    await metaFile();
    const report = await inspectModel(at("dit.safetensors"));
    expect(report).toMatchObject({ what: "weights" });
    expect(report.note).toMatch(/width of 16 is none.*384, 768, 1024, 1152.*num_attention_heads/);
    const shapes = new Map<string, readonly number[]>([
      ["x_embedder.proj.weight", [1152, 4, 4, 4]],
      ["y_embedder.embedding_table.weight", [1001, 1152]],
      ["final_layer.linear.weight", [128, 1152]],
      ["pos_embed", [1, 64, 1152]],
      ["blocks.27.attn.qkv.weight", [3456, 1152]],
    ]);
    const entries = new Map([...shapes].map(([name, shape]) => [name, { dtype: "F32", shape }]));
    const source = { ...headersOf({}), entries };
    const kind = detectFile(source);
    expect(kind).toEqual({ kind: "dit", prefix: "" });
    const { config } = await openOriginal(source, kind as never, {});
    expect(config).toMatchObject({
      sample_size: 32,
      patch_size: 4,
      in_channels: 4,
      out_channels: 8,
      num_layers: 28,
      num_attention_heads: 16,
      attention_head_dim: 72,
      num_embeds_ada_norm: 1000,
    });
  });

  it("is not written when the blocks' embeddings differ", async () => {
    await saveModel(at("dit"), tinyModel(CONFIG, 1));
    await expect(convertToOriginalFile(at("dit"), at("x.safetensors"))).rejects.toThrow(
      /norm1\.emb.*differs from that of block 0/,
    );
  });
});

describe("a tiny autoencoder in its authors' files", () => {
  const CONFIG: Config = {
    _class_name: "AutoencoderTiny",
    latent_channels: 4,
    encoder_block_out_channels: [8, 8, 8, 8],
    decoder_block_out_channels: [8, 8, 8, 8],
  };

  /** Two files, as they are published. */
  async function halves(): Promise<LoadedModel> {
    const before = tinyModel(CONFIG, 3);
    const weights = await moduleWeights(before.model);
    for (const [half, shift] of [
      ["encoder", 0],
      ["decoder", 1],
    ] as const) {
      const own = [...weights].flatMap(([name, t]): [string, HostTensor][] => {
        const [, index, rest] = new RegExp(`^${half}\\.layers\\.(\\d+)\\.(.+)$`).exec(name) ?? [];
        return rest ? [[`${Number(index) + shift}.${rest}`, t]] : [];
      });
      await writeSafetensors(at(`tiny_${half}.safetensors`), new Map(own));
    }
    return before;
  }

  it("is whole when the other half lies beside it, or is given", async () => {
    const before = await halves();
    await expectSame(await loadModel(at("tiny_decoder.safetensors")), before);
    await expectSame(await loadModel(at("tiny_encoder.safetensors")), before);
    const { tensors } = await readSafetensors(at("tiny_decoder.safetensors"));
    await writeSafetensors(at("alone.safetensors"), tensors as Map<string, HostTensor>);
    const pair = at("tiny_encoder.safetensors");
    await expectSame(await loadModel(at("alone.safetensors"), { pair }), before);
    await expect(loadModel(at("alone.safetensors"), { pair: at("alone.safetensors") })).rejects.toThrow(
      FormatError,
    );
  });

  it("without the other half does what it can", async () => {
    const before = (await halves()).model as AutoencoderTiny;
    for (const half of ["encoder", "decoder"]) {
      const { tensors } = await readSafetensors(at(`tiny_${half}.safetensors`));
      await writeSafetensors(at(`${half[0]}.safetensors`), tensors as Map<string, HostTensor>);
    }
    const decoder = (await loadModel(at("d.safetensors"))).model as AutoencoderTiny;
    const z = zeros([1, 4, 1, 1]);
    expect(await decoder.decode(z).toArray()).toEqual(await before.decode(z).toArray());
    expect(() => decoder.encode(zeros([1, 3, 8, 8]))).toThrow(/has no encoder/);
    const encoder = await loadModel(at("e.safetensors"));
    expect(encoder.config).toMatchObject({ latent_channels: 4, halves: "encoder" });
    expect(() => (encoder.model as AutoencoderTiny).decode(z)).toThrow(ArgumentError);
  });

  it("goes into one file and back", async () => {
    const before = tinyModel(CONFIG, 3);
    await expectSame(await roundTrip(before), before);
    const names = await namesIn(at("original.safetensors"));
    expect(names).toContain("encoder.1.conv.0.weight");
    expect(names).toContain("decoder.3.conv.0.weight");
  });
});

const shared = fileURLToPath(new URL("../../../shared/data/weights/", import.meta.url));
const hasTaef2 = existsSync(`${shared}taef2_decoder.safetensors`);
if (!hasTaef2) console.log("original-files.test.ts: no shared/data/weights, the test of TAEF2 is skipped");

it.skipIf(!hasTaef2)("TAEF2 is loaded from its two files", async () => {
  const { className, config } = await loadModel(`${shared}taef2_decoder.safetensors`);
  expect(className).toBe("AutoencoderTiny");
  expect(config).toMatchObject({ latent_channels: 32, use_midblock_gn: true });
  expect(config.halves).toBeUndefined();
  const report = await inspectModel(`${shared}taef2_encoder.safetensors`);
  expect(report.components[0]).toMatchObject({ className: "AutoencoderTiny", tensors: 158 });
  expect(report.components[0]!.problem).toBeUndefined();
});

describe("networks of latent diffusion alone", () => {
  it("an autoencoder with attention in its levels goes to CompVis' names and back, its sizes told by shapes", async () => {
    const before = tinyModel(
      {
        ...TINY_VAE,
        latent_channels: 3,
        block_out_channels: [4, 8, 8],
        down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        up_block_types: ["AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
      },
      4,
    );
    const after = await roundTrip(before, undefined).catch((error: Error) => error.message);
    expect(after).toMatch(/norm_num_groups.*32/); // the one thing that shapes do not tell
    const same = await loadModel(at("original.safetensors"), { config: before.config });
    await expectSame(same, before);
    const shapes = await shapesIn(at("original.safetensors"));
    expect(shapes.get("decoder.up.2.attn.2.q.weight")).toEqual([8, 8, 1, 1]);
    const headers = {
      ...headersOf({}),
      entries: new Map([...shapes].map(([n, shape]) => [n, { dtype: "F32", shape }])),
    };
    const { config } = await openOriginal(headers, { kind: "vae", prefix: "" }, { family: "sdxl" });
    const { norm_num_groups: _, sample_size: __, scaling_factor: ___, ...told } = before.config;
    expect(config).toMatchObject({ ...told, scaling_factor: 0.13025 });
  });

  it("a ControlNet goes to its authors' names and back", async () => {
    const config = { ...controlNetConfig(TINY_UNET), conditioning_embedding_out_channels: [4, 8] };
    const before = tinyModel(config, 5);
    await saveModel(at("before"), before);
    await convertToOriginalFile(at("before"), at("control.safetensors"), { dtype: "f16" });
    expect(await namesIn(at("control.safetensors"))).toContain("control_model.input_hint_block.0.weight");
    const after = await loadModel(at("control.safetensors"), { config, family: "sd1" });
    await saveModel(at("half"), before, { dtype: "f16" });
    await expectSame(after, await loadModel(at("half")));
  });

  it("a U-Net alone has no such file", async () => {
    await saveModel(at("unet"), tinyModel(TINY_UNET, 1));
    await expect(convertToOriginalFile(at("unet"), at("x.safetensors"))).rejects.toThrow(
      /no original layout/,
    );
  });
});

describe("vision transformers with timm's names", () => {
  const TRUNK: Config = {
    img_size: 8,
    patch_size: 4,
    embed_dim: 192,
    depth: 1,
    num_heads: 3,
    mlp_ratio: 0.25,
  };

  it("are loaded with or without a classifier, by either pooling, sizes told by shapes", async () => {
    for (const [own, head] of [
      [{ num_classes: 3, global_pool: "token" }, ["norm.weight", "head.bias"]],
      [{ num_classes: 0, global_pool: "token" }, ["norm.weight"]],
      [{ num_classes: 3, global_pool: "avg" }, ["fc_norm.weight", "head.bias"]],
    ] as const) {
      const before = tinyModel({ _class_name: "VisionTransformer", ...TRUNK, ...own }, 6);
      await saveModel(at("before"), before, { overwrite: true });
      await expectSame(await loadModel(at("before")), before);
      const after = await roundTripOver(before);
      await expectSame(after, before);
      expect(after.config).toMatchObject({ ...TRUNK, ...own, in_chans: 3 });
      expect(await namesIn(at("original.safetensors"))).toEqual(expect.arrayContaining([...head]));
    }
  });

  async function roundTripOver(before: LoadedModel): Promise<LoadedModel> {
    await convertToOriginalFile(at("before"), at("original.safetensors"));
    expect(before.className).toBe("VisionTransformer");
    return loadModel(at("original.safetensors"));
  }

  it("and masked autoencoders with their decoder", async () => {
    const config = { _class_name: "MaskedAutoencoder", ...TRUNK, decoder_embed_dim: 16, decoder_depth: 2 };
    const before = tinyModel({ ...config, decoder_num_heads: 2 }, 7);
    const after = await roundTrip(before, { decoder_num_heads: 2 });
    await expectSame(after, before);
    expect(after.config).toMatchObject(config);
    expect(await messageOf(loadModel(at("original.safetensors")))).toContain("decoder_num_heads");
  });

  it("of the published sizes need nothing but their shapes", async () => {
    const vit = headersOf(new VisionTransformer(vitPreset("H/14"), blankRng));
    const opened = await openOriginal(vit, detectFile(vit) as never, {});
    expect(opened.config).toMatchObject({
      img_size: 224,
      patch_size: 14,
      embed_dim: 1280,
      depth: 32,
      num_heads: 16,
    });
    const mae = headersOf(new MaskedAutoencoder(maePreset("B/16"), blankRng));
    const both = await openOriginal(mae, detectFile(mae) as never, {});
    expect(both).toMatchObject({
      className: "MaskedAutoencoder",
      config: { depth: 12, num_heads: 12, decoder_embed_dim: 512, decoder_depth: 8, decoder_num_heads: 16 },
    });
  });
});

describe("a network of guided-diffusion", () => {
  const CONFIG: Config = {
    _class_name: "GuidedDiffusionUNet",
    in_channels: 3,
    out_channels: 3,
    model_channels: 32,
    channel_mult: [1, 1],
    num_res_blocks: 1,
    attention_resolutions: [2],
    num_heads: 2,
  };

  it("is loaded with its configuration, and saved as a folder", async () => {
    const before = tinyModel(CONFIG, 8);
    await expectSame(await roundTrip(before, CONFIG), before);
    await expectSame(await loadModel(at("before")), before);
  });

  it("asks for its configuration when there is none", async () => {
    const before = tinyModel(CONFIG, 8);
    const message = await messageOf(roundTrip(before));
    expect(message).toMatch(/U-Net of guided-diffusion.*heads.*imagenet64, imagenet128, imagenet256/);
    expect(message).toContain("Its shapes are of none of these");
  });

  it("names the published configurations that its shapes fit", () => {
    const source = headersOf(guidedDiffusionUNet(ADM_UNETS.imagenet64, blankRng));
    expect(detectFile(source)).toEqual({ kind: "guided", className: "GuidedDiffusionUNet" });
    expect(() => openGuided(source, "GuidedDiffusionUNet")).toThrow(
      /names and shapes are those of imagenet64$/,
    );
    const classifier = headersOf(guidedDiffusionClassifier(ADM_CLASSIFIER_256, blankRng));
    expect(detectFile(classifier)).toEqual({ kind: "guided", className: "GuidedDiffusionClassifier" });
    expect(() => openGuided(classifier, "GuidedDiffusionClassifier")).toThrow(/those of classifier256$/);
  });
});
