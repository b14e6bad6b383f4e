import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { HostTensor } from "../../src/io/index.ts";
import { type KeyRule, renames, translateKey } from "../../src/pipelines/key-maps/engine.ts";
import { controlNetPlace, textPlaces, unetPlace, vaePlace } from "../../src/pipelines/key-maps/layouts.ts";
import { openClipRules } from "../../src/pipelines/key-maps/stable-diffusion.ts";
import { controlNetConfig, FAMILIES } from "../../src/pipelines/original-configs.ts";
import { renamed, weightsInMemory } from "../../src/pipelines/weights.ts";
import { compVisUNet, compVisVae } from "./comp-vis-names.ts";

type Shapes = Record<string, number[]>;
const official = JSON.parse(
  readFileSync(new URL("../fixtures/networks/keys.json", import.meta.url), "utf8"),
) as Record<"unet_sd15" | "vae_sd" | "controlnet_sd15" | "clip_text_l14", Shapes>;
const { unet, vae, textEncoders } = FAMILIES.sd1;

const sources = (shapes: Shapes) => ({
  path: "test",
  metadata: new Map<string, string>(),
  entries: new Map(Object.entries(shapes).map(([name, shape]) => [name, { dtype: "F16", shape }])),
  read: () => Promise.reject(new Error("only headers are needed")),
  close: async () => undefined,
});

/** To CompVis' names and back: both must be complete. */
function roundTrip(shapes: Shapes, rules: readonly KeyRule[]) {
  const there = renamed(sources(shapes), { rules, to: "original" });
  const back = renamed(there, { rules, to: "diffusers" });
  expect(there.unknown).toEqual([]);
  expect(back.unknown).toEqual([]);
  expect(Object.fromEntries([...back.entries].map(([name, { shape }]) => [name, shape]))).toEqual(shapes);
  return there.entries;
}

describe("names of Stable Diffusion 1.5", () => {
  it("of the U-Net are CompVis' 686, one for one", () => {
    const there = roundTrip(official.unet_sd15, unetPlace(unet).rules);
    expect([...there.keys()].sort()).toEqual(compVisUNet().sort());
    expect(there.size).toBe(686);
  });

  it("of the autoencoder are CompVis' 248, with attention as 1x1 convolutions", () => {
    const there = roundTrip(official.vae_sd, vaePlace(vae).rules);
    expect([...there.keys()].sort()).toEqual(compVisVae().sort());
    expect(there.get("decoder.mid.attn_1.q.weight")?.shape).toEqual([512, 512, 1, 1]);
    expect(there.get("decoder.mid.attn_1.q.bias")?.shape).toEqual([512]);
    expect(there.get("decoder.up.0.block.0.nin_shortcut.weight")?.shape).toEqual([128, 256, 1, 1]);
  });

  it("of an autoencoder with attention in its levels count the decoder's from the image", () => {
    const rules = vaePlace({ block_out_channels: [8, 8, 8], layers_per_block: 2 }).rules;
    const attention = (level: string, j: number) =>
      Object.fromEntries([
        [`${level}.attentions.${j}.group_norm.weight`, [8]],
        [`${level}.attentions.${j}.to_q.weight`, [8, 8]],
        [`${level}.attentions.${j}.to_out.0.bias`, [8]],
      ]);
    const shapes = { ...attention("encoder.down_blocks.2", 1), ...attention("decoder.up_blocks.0", 2) };
    const there = roundTrip(shapes, rules);
    expect([...there].map(([name, { shape }]) => [name, shape])).toEqual([
      ["encoder.down.2.attn.1.norm.weight", [8]],
      ["encoder.down.2.attn.1.q.weight", [8, 8, 1, 1]],
      ["encoder.down.2.attn.1.proj_out.bias", [8]],
      ["decoder.up.2.attn.2.norm.weight", [8]],
      ["decoder.up.2.attn.2.q.weight", [8, 8, 1, 1]],
      ["decoder.up.2.attn.2.proj_out.bias", [8]],
    ]);
  });

  it("of the text encoder stay, in its place", () => {
    const [place] = textPlaces("sd1", textEncoders);
    const there = roundTrip(official.clip_text_l14, place!.rules);
    expect([...there.keys()]).toEqual(Object.keys(official.clip_text_l14));
    expect(place!.prefix).toBe("cond_stage_model.transformer");
  });

  it("of the ControlNet have their convolutions numbered through", () => {
    const there = roundTrip(official.controlnet_sd15, controlNetPlace(controlNetConfig(unet)).rules);
    expect(there.get("input_hint_block.14.weight")?.shape).toEqual([320, 256, 3, 3]);
    expect(there.get("zero_convs.11.0.weight")?.shape).toEqual([1280, 1280, 1, 1]);
    expect(there.get("middle_block_out.0.bias")?.shape).toEqual([1280]);
    expect(there.size).toBe(340);
  });

  it("follow the reference library's block order", () => {
    const { rules } = unetPlace(unet);
    const diffusers = (name: string) => translateKey(name, rules, "diffusers")?.targets[0];
    expect(diffusers("input_blocks.4.1.proj_in.weight")).toBe("down_blocks.1.attentions.0.proj_in.weight");
    expect(diffusers("input_blocks.6.0.op.bias")).toBe("down_blocks.1.downsamplers.0.conv.bias");
    expect(diffusers("output_blocks.2.1.conv.weight")).toBe("up_blocks.0.upsamplers.0.conv.weight");
    expect(diffusers("output_blocks.5.2.conv.weight")).toBe("up_blocks.1.upsamplers.0.conv.weight");
    expect(diffusers("output_blocks.5.0.skip_connection.bias")).toBe(
      "up_blocks.1.resnets.2.conv_shortcut.bias",
    );
    expect(diffusers("output_blocks.55.0.in_layers.0.bias")).toBeUndefined();
  });
});

const f32 = (shape: number[], from = 0): HostTensor => ({
  dtype: "f32",
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => from + i),
});

describe("OpenCLIP's names", () => {
  const rules = openClipRules(1, { projection: true });
  const layer = "transformer.resblocks.0";
  const source = () =>
    weightsInMemory(
      new Map([
        [`${layer}.attn.in_proj_weight`, f32([6, 2])],
        [`${layer}.attn.in_proj_bias`, f32([6], 100)],
        [`${layer}.mlp.c_fc.weight`, f32([8, 2])],
        ["text_projection", f32([2, 3])],
        ["positional_embedding", f32([77, 2])],
      ]),
      ({ shape }) => ({ dtype: "F32", shape }),
    );

  it("split the joint projection into q, k and v and turn the text projection", async () => {
    const there = renamed(source(), { rules, to: "diffusers" });
    const attention = "text_model.encoder.layers.0.self_attn";
    const read = async (name: string) => {
      const { shape, data } = await there.read(name);
      expect(there.entries.get(name)?.shape).toEqual(shape);
      return [shape, [...data]];
    };
    expect(await read(`${attention}.q_proj.weight`)).toEqual([
      [2, 2],
      [0, 1, 2, 3],
    ]);
    expect(await read(`${attention}.v_proj.weight`)).toEqual([
      [2, 2],
      [8, 9, 10, 11],
    ]);
    expect(await read(`${attention}.k_proj.bias`)).toEqual([[2], [102, 103]]);
    expect(await read("text_projection.weight")).toEqual([
      [3, 2],
      [0, 3, 1, 4, 2, 5],
    ]);
    expect(there.entries.has("text_model.encoder.layers.0.mlp.fc1.weight")).toBe(true);
    expect(there.entries.has("text_model.embeddings.position_embedding.weight")).toBe(true);
  });

  it("come back with the same values", async () => {
    const before = source();
    const back = renamed(renamed(before, { rules, to: "diffusers" }), { rules, to: "original" });
    expect([...back.entries.keys()].sort()).toEqual([...before.entries.keys()].sort());
    for (const name of before.entries.keys()) expect(await back.read(name)).toEqual(await before.read(name));
  });

  it("are not made of parts when one is missing", () => {
    const there = renamed(source(), { rules, to: "diffusers" });
    const partial = { ...there, entries: new Map(there.entries) };
    partial.entries.delete("text_model.encoder.layers.0.self_attn.k_proj.bias");
    expect(renamed(partial, { rules, to: "original" }).unknown).toEqual([
      "text_model.encoder.layers.0.self_attn.q_proj.bias",
      "text_model.encoder.layers.0.self_attn.v_proj.bias",
    ]);
  });
});

describe("rules", () => {
  it("match whole names only", () => {
    const rules = renames({ "a.1": "b.1" });
    expect(translateKey("a.1.weight", rules, "diffusers")?.targets).toEqual(["b.1.weight"]);
    expect(translateKey("a.10.weight", rules, "diffusers")).toBeUndefined();
    expect(translateKey("a.weight", rules, "diffusers")).toBeUndefined();
  });

  it("take only names below a prefix, and put another before", () => {
    const part = renamed(sources({ "x.a.1.weight": [1], "y.a.1.weight": [2], xa: [3] }), {
      rules: renames({ "a.1": "b.1" }),
      to: "diffusers",
      from: "x",
      below: "z",
    });
    expect([...part.entries.keys()]).toEqual(["z.b.1.weight"]);
    expect(part.unknown).toEqual([]);
  });
});
