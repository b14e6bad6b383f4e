import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { writeSafetensors } from "../../../src/io/index.ts";
import {
  GlobalAdapter,
  localAdapter,
  MultiControlEncoder,
  PAPER_SIZES,
  unet2DCondition,
  withGlobalConditions,
} from "../../../src/networks/index.ts";
import { blankRng, createRng, parameterCount, parameters } from "../../../src/nn/index.ts";
import { localAdapterRules, renamed } from "../../../src/pipelines/index.ts";
import { loadOfficial, PUBLISHED } from "../../../src/systems/anycontrol/official.ts";
import { zeros } from "../../../src/tensor/index.ts";

const RANGES = /\{(\d+)\.\.(\d+)\}/;
/** Names with {0..3} as many names. */
const spread = (name: string): string[] => {
  const [all, from, to] = RANGES.exec(name) ?? [];
  if (all === undefined) return [name];
  return Array.from({ length: Number(to) - Number(from) + 1 }, (_, i) =>
    name.replace(all, String(Number(from) + i)),
  ).flatMap(spread);
};
const linear = (name: string, out: number, input: number): [string, number[]][] => [
  [`${name}.weight`, [out, input]],
  [`${name}.bias`, [out]],
];
const norm = (name: string, dim: number): [string, number[]][] => [
  [`${name}.weight`, [dim]],
  [`${name}.bias`, [dim]],
];

/** Names and shapes of the release's encoder, written down from its code. */
function encoderTable(): Map<string, number[]> {
  const rows: [string, number[]][] = [
    ["query_tokens", [1, 256, 768]],
    ["crossattn_embeddings.position_embeddings.weight", [512, 1408]],
    ...norm("crossattn_embeddings.LayerNorm", 1408),
    ...norm("ln_vision.{0..5}", 1408),
    ["visual_encoder.cls_token", [1, 1, 1408]],
    ["visual_encoder.pos_embed", [1, 257, 1408]],
    ["visual_encoder.patch_embed.proj.weight", [1408, 3, 14, 14]],
    ["visual_encoder.patch_embed.proj.bias", [1408]],
    ...norm("visual_encoder.blocks.{0..38}.norm1", 1408),
    ...norm("visual_encoder.blocks.{0..38}.norm2", 1408),
    ["visual_encoder.blocks.{0..38}.attn.qkv.weight", [4224, 1408]],
    ["visual_encoder.blocks.{0..38}.attn.q_bias", [1408]],
    ["visual_encoder.blocks.{0..38}.attn.v_bias", [1408]],
    ...linear("visual_encoder.blocks.{0..38}.attn.proj", 1408, 1408),
    ...linear("visual_encoder.blocks.{0..38}.mlp.fc1", 6144, 1408),
    ...linear("visual_encoder.blocks.{0..38}.mlp.fc2", 1408, 6144),
    ["Qformer.bert.embeddings.word_embeddings.weight", [30523, 768]],
    ["Qformer.bert.embeddings.position_embeddings.weight", [512, 768]],
    ...norm("Qformer.bert.embeddings.LayerNorm", 768),
  ];
  const layer = "Qformer.bert.encoder.layer.{0..11}";
  for (const part of ["query", "key", "value"])
    rows.push(...linear(`${layer}.attention.self.${part}`, 768, 768));
  rows.push(
    ...linear(`${layer}.attention.output.dense`, 768, 768),
    ...norm(`${layer}.attention.output.LayerNorm`, 768),
  );
  for (const end of ["", "_query"])
    rows.push(
      ...linear(`${layer}.intermediate${end}.dense`, 3072, 768),
      ...linear(`${layer}.output${end}.dense`, 768, 3072),
      ...norm(`${layer}.output${end}.LayerNorm`, 768),
    );
  for (const k of [0, 2, 4, 6, 8, 10]) {
    const cross = `Qformer.bert.encoder.layer.${k}.crossattention`;
    rows.push(
      ...linear(`${cross}.self.query`, 768, 768),
      ...linear(`${cross}.self.key`, 768, 1408),
      ...linear(`${cross}.self.value`, 768, 1408),
    );
    rows.push(...linear(`${cross}.output.dense`, 768, 768), ...norm(`${cross}.output.LayerNorm`, 768));
  }
  return new Map(rows.flatMap(([name, shape]) => spread(name).map((one) => [one, shape] as const)));
}

describe("the published sizes", () => {
  it("have the encoder's names and shapes, key by key", () => {
    const own = new Map(
      [...parameters(new MultiControlEncoder(PAPER_SIZES.encoder, blankRng))].map(([key, t]) => [
        key,
        [...t.shape],
      ]),
    );
    expect(Object.fromEntries([...own].sort())).toEqual(Object.fromEntries([...encoderTable()].sort()));
  });

  it("have 348 tensors and 404,725,696 parameters in the adapter, under the published names", () => {
    const adapter = localAdapter(PUBLISHED.unet, PAPER_SIZES.adapter, blankRng);
    const own = parameters(adapter);
    expect(own.size).toBe(348);
    expect(parameterCount(adapter)).toBe(404_725_696);
    const entries = new Map([...own].map(([key, { shape }]) => [key, { dtype: "F32", shape }]));
    const source = {
      path: "adapter",
      metadata: new Map(),
      entries,
      read: () => Promise.reject(new Error("not read")),
      close: async () => undefined,
    };
    const structure = { levels: 4, layers: 2, upAttention: [] };
    const named = renamed(source, { rules: localAdapterRules(structure), to: "original" });
    expect(named.unknown).toEqual([]);
    expect(named.entries.size).toBe(348);
    const shape = (name: string) => named.entries.get(name)?.shape;
    for (const [i, [first, second, features]] of (
      [
        [320, 320, 192],
        [320, 640, 256],
        [640, 1280, 384],
        [1280, 1280, 512],
      ] as const
    ).entries()) {
      const block = `input_blocks.${1 + 3 * i}.0`;
      expect(shape(`${block}.norm_in.conv_gamma.weight`)).toEqual([first, features, 3, 3]);
      expect(shape(`${block}.norm_out.conv_beta.weight`)).toEqual([second, features, 3, 3]);
      expect(shape(`visual_projs.${i}.weight`)).toEqual([features, 768]);
      expect(shape(`${block}.in_layers.2.weight`)).toEqual([second, first, 3, 3]);
      expect(shape(`${block}.in_layers.0.weight`)).toBeUndefined();
    }
    for (const name of spread("zero_convs.{0..11}.0.weight")) expect(shape(name)).toBeDefined();
    for (const name of [
      "time_embed.0.weight",
      "time_embed.2.bias",
      "input_blocks.0.0.weight",
      "middle_block.1.norm.weight",
      "middle_block_out.0.weight",
    ])
      expect(shape(name)).toBeDefined();
  });

  it("have the names of the demonstration's global branch: 64 further tensors in the U-Net", () => {
    const config = {
      block_out_channels: [8, 16, 32, 32],
      cross_attention_dim: 6,
      norm_num_groups: 4,
      attention_head_dim: 2,
    };
    const unet = unet2DCondition(config, blankRng);
    const before = parameters(unet).size;
    const names = [...parameters(withGlobalConditions(unet, blankRng)).keys()];
    expect(before).toBe(686);
    expect(names.length).toBe(750);
    expect(names.filter((name) => /attn2\.to_[kv]_(extra|color)\.weight$/.test(name)).length).toBe(64);
    const adapter = [...parameters(new GlobalAdapter({}, blankRng))].map(([key, t]) => [key, [...t.shape]]);
    expect(Object.fromEntries(adapter)).toEqual(
      Object.fromEntries([
        ...linear("proj", 3072, 768),
        ...norm("norm", 768),
        ...linear("color_embed.mlp.0", 512, 1440),
        ...norm("color_embed.mlp.1", 512),
        ...linear("color_embed.mlp.3", 512, 512),
        ...norm("color_embed.mlp.4", 512),
        ...linear("color_embed.mlp.6", 3072, 512),
        ["color_embed.null_features", [1440]],
      ]),
    );
  });
});

it("content and colours act apart from the text, and not at strength 0", async () => {
  const config = {
    block_out_channels: [8, 8],
    down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
    layers_per_block: 1,
    cross_attention_dim: 6,
    norm_num_groups: 4,
    attention_head_dim: 2,
  };
  const unet = unet2DCondition(config, createRng(1));
  const rng = createRng(5);
  const [x, t, text, tokens] = [
    rng.normal([1, 4, 8, 8]),
    zeros([1]).add(7),
    rng.normal([1, 5, 6]),
    rng.normal([1, 4, 6]),
  ];
  const context = text.concat([tokens, tokens.mul(2)], 1);
  const plain = unet.call(x, t, text);
  const gap = async (content: number, colours: number): Promise<number> =>
    withGlobalConditions(unet, createRng(2), { tokens: 2, content, colours })
      .call(x, t, text.concat(tokens, 1))
      .sub(plain)
      .abs()
      .max()
      .item();
  expect(context.shape).toEqual([1, 13, 6]);
  expect(await gap(0, 0)).toBe(0);
  expect(await gap(1, 0)).toBeGreaterThan(1e-6);
  expect(await gap(0, 1)).toBeGreaterThan(1e-6);
});

it("a file that is no such checkpoint is refused by name", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tweedie-official-"));
  const path = join(folder, "a.safetensors");
  await writeSafetensors(
    path,
    new Map([["q_former.tokens", { dtype: "f32" as const, shape: [1], data: Float32Array.of(1) }]]),
    {},
  );
  await expect(loadOfficial(path)).rejects.toThrow(/unexpected "q_former\.tokens"/);
  await rm(folder, { recursive: true });
});
