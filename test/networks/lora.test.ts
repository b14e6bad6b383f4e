import { describe, expect, it } from "vitest";
import { clipText, clipTextWithProjection } from "../../src/networks/clip-text.ts";
import { ditTransformer2D } from "../../src/networks/dit/dit.ts";
import {
  attachedAdapters,
  attachLoras,
  fuseLoras,
  type LoraAdapters,
  type LoraComponent,
  ldmNames,
  readLora,
  writeLora,
} from "../../src/networks/lora/index.ts";
import { adaptableLayers } from "../../src/networks/lora/names.ts";
import { type UNet2DConditionModel, unet2DCondition } from "../../src/networks/unet/unet-2d-condition.ts";
import {
  blankRng,
  Conv2d,
  createRng,
  Lora,
  loraParameters,
  type Module,
  mapParameters,
  mergeLora,
  modules,
  parameters,
  type Rng,
} from "../../src/nn/index.ts";
import {
  cachedSessions,
  castHost,
  clearEagerCache,
  type Tensor,
  tensor,
  zeros,
} from "../../src/tensor/index.ts";
import { officialLayout, tinyCase, withTinyWeights } from "./tiny-models.ts";

const unet = withTinyWeights(unet2DCondition(tinyCase("unet_tinyA_unit_test").config, blankRng));
const textEncoder = withTinyWeights(clipText(tinyCase("clip_tinyA_pipeline").config, blankRng));
const textEncoder2 = withTinyWeights(
  clipTextWithProjection({ ...tinyCase("clip_tinyA_pipeline").config, projection_dim: 4 }, blankRng),
);
const targets = { unet, textEncoder };

const run = (m: UNet2DConditionModel): Tensor =>
  m.call(createRng(1).normal([1, 4, 8, 8]), tensor([500]), createRng(2).normal([1, 3, 8]));
const largest = async (x: Tensor): Promise<number> => x.abs().max().item();
const difference = (a: Tensor, b: Tensor): Promise<number> => largest(a.sub(b));

/** Adapters for the matching layers of a network, as training would leave them. */
function adaptersFor(module: Module, match: RegExp, rank: number, alpha: number, rng: Rng) {
  const layers = [...adaptableLayers(module)].filter(([key]) => match.test(key));
  return new Map(
    layers.map(([key, { weight }]) => {
      const [out, ...input] = weight.shape as [number, ...number[]];
      const down = rng.normal([rank, ...input], 0.3);
      return [
        key,
        { down, up: rng.normal([out, rank, ...input.slice(1).map(() => 1)], 0.3), alpha },
      ] as const;
    }),
  );
}
const ATTENTION = /attn\d\.to_(q|k|v|out\.0)$/;
const adapters: LoraAdapters = {
  unet: adaptersFor(
    unet,
    /attn|ff\.|resnets.*conv|sampler|proj_in|time_emb|conv_in|conv_out/,
    2,
    3,
    createRng(5),
  ),
  textEncoder: adaptersFor(textEncoder, /self_attn|mlp/, 3, 3, createRng(6)),
};

async function expectSame(got: LoraAdapters, expected: LoraAdapters): Promise<void> {
  for (const component of ["unet", "transformer", "textEncoder", "textEncoder2"] as LoraComponent[]) {
    const [a, b] = [got[component] ?? new Map(), expected[component] ?? new Map()];
    expect([...a.keys()].sort()).toEqual([...b.keys()].sort());
    for (const [key, { down, up, alpha }] of b) {
      const other = a.get(key)!;
      expect(await difference(other.down, down), key).toBe(0);
      const rank = down.shape[0]!;
      const error = await difference(other.up.mul(other.alpha / rank), up.mul(alpha / rank));
      expect(error, key).toBeLessThan(1e-6);
    }
  }
}

describe("LoRA files", () => {
  for (const format of ["diffusers", "kohya"] as const) {
    it(`come back from ${format} as they were written`, async () => {
      const { adapters: got, unmatched } = await readLora(writeLora(adapters, format), targets);
      await expectSame(got, adapters);
      expect(unmatched).toEqual([]);
    });
  }

  it("of SDXL's second text encoder and of a DiT come back as well", async () => {
    const transformer = withTinyWeights(ditTransformer2D(tinyCase("dit_tinyA_unit_test").config, blankRng));
    const others: LoraAdapters = {
      transformer: adaptersFor(transformer, ATTENTION, 2, 1, createRng(1)),
      textEncoder: adapters.textEncoder!,
      textEncoder2: adaptersFor(textEncoder2, /proj/, 2, 1, createRng(2)),
    };
    expect(others.textEncoder2!.has("text_projection")).toBe(true);
    const all = { transformer, textEncoder, textEncoder2 };
    for (const format of ["diffusers", "kohya"] as const)
      await expectSame((await readLora(writeLora(others, format), all)).adapters, others);
  });

  it("are spelled as diffusers and kohya spell them", () => {
    const one = {
      unet: adaptersFor(
        unet,
        /^down_blocks\.0\.attentions\.0\.transformer_blocks\.0\.attn1\.to_q$/,
        2,
        4,
        createRng(1),
      ),
      textEncoder: adaptersFor(textEncoder, /layers\.0\.self_attn\.q_proj/, 2, 4, createRng(1)),
      textEncoder2: adaptersFor(textEncoder2, /text_projection/, 2, 4, createRng(1)),
    };
    const q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
    expect([...writeLora({ unet: one.unet, textEncoder: one.textEncoder }, "diffusers").keys()]).toEqual([
      `unet.${q}.lora_A.weight`,
      `unet.${q}.lora_B.weight`,
      "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
      "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight",
    ]);
    const kohya = [...writeLora({ unet: one.unet, textEncoder: one.textEncoder }, "kohya").keys()];
    expect(kohya.slice(0, 4)).toEqual([
      "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
      "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight",
      "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.alpha",
      "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
    ]);
    const sdxl = [...writeLora(one, "kohya").keys()];
    expect(sdxl.filter((key) => key.endsWith("up.weight")).slice(1)).toEqual([
      "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight",
      "lora_te2_text_projection.lora_up.weight",
    ]);
  });

  it.each([
    [
      "PEFT with an adapter's name",
      "base_model.model.unet.$.lora_A.default.weight",
      "base_model.model.unet.$.lora_B.default.weight",
    ],
    ["diffusers 0.2x", "unet.$.lora.down.weight", "unet.$.lora.up.weight"],
    [
      "attention processors",
      "unet.@.processor.to_q_lora.down.weight",
      "unet.@.processor.to_q_lora.up.weight",
    ],
    [
      "attention processors without a prefix",
      "@.processor.to_q_lora.down.weight",
      "@.processor.to_q_lora.up.weight",
    ],
    ["the original block names", "lora_unet_%.lora_down.weight", "lora_unet_%.lora_up.weight"],
  ])("are read as %s", async (_, down, up) => {
    const [key, pair] = [...adapters.unet!].find(([k]) =>
      /down_blocks\.0\.attentions\.0.*attn1\.to_q$/.test(k),
    )!;
    const original = ldmNames([...adaptableLayers(unet).keys()]).get(key)!;
    expect(original).toBe("input_blocks.1.1.transformer_blocks.0.attn1.to_q");
    const name = (pattern: string): string =>
      pattern
        .replace("$", key)
        .replace("@", key.replace(".to_q", ""))
        .replace("%", original.replaceAll(".", "_"));
    const file = new Map([
      [name(down), pair.down],
      [name(up), pair.up],
    ]);
    const { adapters: got } = await readLora(file, targets);
    await expectSame(got, { unet: new Map([[key, { ...pair, alpha: 2 }]]) });
  });

  it("of the text encoder are read in older spellings", async () => {
    const layer = "text_model.encoder.layers.1.self_attn.q_proj";
    const pair = adapters.textEncoder!.get(layer)!;
    for (const [down, up] of [
      [
        `text_encoder.${layer}.lora_linear_layer.down.weight`,
        `text_encoder.${layer}.lora_linear_layer.up.weight`,
      ],
      [
        "text_encoder.encoder.layers.1.self_attn.to_q_lora.down.weight",
        "text_encoder.encoder.layers.1.self_attn.to_q_lora.up.weight",
      ],
      [
        "lora_te1_text_model_encoder_layers_1_self_attn_q_proj.lora_down.weight",
        "lora_te1_text_model_encoder_layers_1_self_attn_q_proj.lora_up.weight",
      ],
    ] as const) {
      const file = new Map([
        [down, pair.down],
        [up, pair.up],
      ]);
      await expectSame((await readLora(file, targets)).adapters, { textEncoder: new Map([[layer, pair]]) });
    }
  });

  it("take alpha from a tensor, from the metadata, or from the rank", async () => {
    const key = [...adapters.unet!.keys()].find((k) => k.endsWith("attn1.to_q"))!;
    const { down, up } = adapters.unet!.get(key)!;
    const file = new Map([
      [`unet.${key}.lora_A.weight`, down],
      [`unet.${key}.lora_B.weight`, up],
    ]);
    const alphaOf = async (json?: object, more: [string, Tensor][] = []): Promise<number> => {
      const metadata = json && new Map([["lora_adapter_metadata", JSON.stringify(json)]]);
      const { adapters: got } = await readLora(new Map([...file, ...more]), targets, { metadata });
      return got.unet!.get(key)!.alpha;
    };
    expect(await alphaOf()).toBe(2);
    expect(await alphaOf({ "unet.lora_alpha": 8 })).toBe(8);
    expect(await alphaOf({ "unet.lora_alpha": 8, "unet.use_rslora": true })).toBeCloseTo(8 * Math.SQRT2);
    expect(await alphaOf({ "unet.lora_alpha": 8, "unet.alpha_pattern": { "attn1.to_q": 5 } })).toBe(5);
    const half = await castHost(tensor(6), "f16");
    expect(await alphaOf({ "unet.lora_alpha": 8 }, [[`unet.${key}.alpha`, half]])).toBe(6);
  });

  it("join the three matrices of LoCon", async () => {
    const key = "down_blocks.0.resnets.0.conv1";
    const [out, input] = unet.downBlocks[0]!.resnets[0]!.conv1.weight.shape as [number, number];
    const rng = createRng(3);
    const [down, mid, up] = [
      rng.normal([2, input, 1, 1]),
      rng.normal([2, 2, 3, 3]),
      rng.normal([out, 2, 1, 1]),
    ];
    const stem = "lora_unet_down_blocks_0_resnets_0_conv1";
    const file = new Map(
      Object.entries({ lora_down: down, lora_mid: mid, lora_up: up }).map(([n, t]) => [
        `${stem}.${n}.weight`,
        t,
      ]),
    );
    const { adapters: got } = await readLora(file, targets);
    const x = createRng(4).normal([1, input, 5, 5]);
    const chain = new Conv2d(2, 2, 3, blankRng, { padding: 1, bias: false });
    const point = (weight: Tensor, h: Tensor): Tensor =>
      mapParameters(
        new Conv2d(h.shape[1]!, weight.shape[0]!, 1, blankRng, { bias: false }),
        () => weight,
      ).call(h);
    const through = point(up, mapParameters(chain, () => mid).call(point(down, x)));
    const pair = got.unet!.get(key)!;
    const one = mapParameters(
      new Conv2d(input, 2, 3, blankRng, { padding: 1, bias: false }),
      () => pair.down,
    );
    expect(await difference(point(pair.up, one.call(x)), through)).toBeLessThan(1e-4);
  });

  it("take a matrix for a kernel of one point, and the other way round", async () => {
    const key = [...adapters.unet!.keys()].find((k) => k.endsWith("proj_in"))!;
    const { down, up } = adapters.unet!.get(key)!;
    const stem = `lora_unet_${key.replaceAll(".", "_")}`;
    const file = new Map([
      [`${stem}.lora_down.weight`, down.reshape([2, -1])],
      [`${stem}.lora_up.weight`, up.reshape([-1, 2])],
    ]);
    const { adapters: got } = await readLora(file, targets);
    expect(got.unet!.get(key)!.down.shape).toEqual(down.shape);
    expect(got.unet!.get(key)!.up.shape).toEqual(up.shape);
  });

  it("load nothing when a name or a shape does not fit, and say which", async () => {
    const file = writeLora({ unet: adapters.unet! }, "kohya");
    const q = [...file.keys()].find((name) => name.includes("attn1_to_q.lora_down"))!;
    const more = (...entries: [string, Tensor][]): Map<string, Tensor> => new Map([...file, ...entries]);
    const strange = more(
      ["lora_unet_no_such_layer.lora_down.weight", tensor([1])],
      ["lora_unet_x.hada_w1_a", tensor([1])],
    );
    await expect(readLora(strange, targets)).rejects.toThrow(
      /2 problems, nothing was loaded.*hada_w1_a": LoHa is not supported.*no_such_layer/s,
    );
    const { unmatched } = await readLora(strange, targets, { ignoreUnmatched: true });
    expect(unmatched).toEqual(["lora_unet_no_such_layer.lora_down.weight", "lora_unet_x.hada_w1_a"]);
    await expect(readLora(more([q, tensor([[1, 2, 3]])]), targets)).rejects.toThrow(
      /attn1_to_q.*expected matrices.*\[1, 3\]/s,
    );
    const empty = zeros([0, 32]);
    await expect(readLora(more([q, empty]), targets)).rejects.toThrow(/attn1_to_q.*a matrix of rank 0/);
    const without = new Map([...file].filter(([name]) => name !== q));
    await expect(readLora(without, targets)).rejects.toThrow(/down matrix is missing/);
    await expect(
      readLora(more([q.replace("lora_down.weight", "dora_scale"), tensor([1])]), targets),
    ).rejects.toThrow(/DoRA/);
    const nothing = new Map([["text_encoder_2.x.lora_A.weight", tensor([1])]]);
    await expect(readLora(nothing, targets, { ignoreUnmatched: true })).rejects.toThrow(/no name belongs/);
    await expect(
      readLora(more([q.replace("lora_down.weight", "alpha"), tensor(Number.NaN)]), targets),
    ).rejects.toThrow(/finite alpha/);
    const twice = more([
      `unet.${[...adapters.unet!.keys()].find((k) => k.endsWith("attn1.to_q"))}.lora_A.weight`,
      tensor([1]),
    ]);
    await expect(readLora(twice, targets)).rejects.toThrow(/same layer/);
  });
});

describe("LoRA in networks", () => {
  it("fused and attached compute the same, which is not what there was", async () => {
    const attached = attachLoras(targets, [{ adapters, weight: 0.7 }]);
    const fused = await fuseLoras(targets, [{ adapters, weight: 0.7 }]);
    const [plain, a, b] = [run(unet), run(attached.unet), run(fused.unet)];
    const scale = await largest(plain);
    expect(await difference(a, plain)).toBeGreaterThan(0.05 * scale);
    expect((await difference(a, b)) / scale).toBeLessThan(1e-5);
    const ids = tensor([[1, 2, 3]], { dtype: "i64" });
    const states = [attached, fused, targets].map((t) => t.textEncoder.call(ids).lastHiddenState);
    expect(await difference(states[0]!, states[1]!)).toBeLessThan(1e-5);
    expect(await difference(states[0]!, states[2]!)).toBeGreaterThan(0.01);
    expect([...modules(fused.unet).values()].some((m) => m instanceof Lora)).toBe(false);
    expect(await difference(run(mergeLora(attached.unet)), b)).toBeLessThan(1e-5 * scale);
    expect([...parameters(fused.unet).keys()]).toEqual([...parameters(unet).keys()]);
  });

  it("several add up, however they come", async () => {
    const second = { unet: adaptersFor(unet, ATTENTION, 4, 1, createRng(7)) };
    const both = [
      { adapters, weight: { unet: 0.5, textEncoder: 0 } },
      { adapters: second, weight: -1.5 },
    ];
    const fused = run((await fuseLoras({ unet }, both)).unet);
    const scale = await largest(fused);
    const inTurn = attachLoras(attachLoras({ unet }, both.slice(0, 1)), both.slice(1));
    for (const other of [run(attachLoras({ unet }, both).unet), run(inTurn.unet)])
      expect((await difference(other, fused)) / scale).toBeLessThan(1e-5);
    const undone = await fuseLoras(await fuseLoras({ unet }, both), [
      { adapters, weight: -0.5 },
      { adapters: second, weight: 1.5 },
    ]);
    expect((await difference(run(undone.unet), run(unet))) / scale).toBeLessThan(1e-5);
  });

  it("are trained and written from where they sit", async () => {
    const attached = attachLoras({ unet }, [{ adapters }]).unet;
    expect(Object.keys(loraParameters(attached)).length).toBe(2 * adapters.unet!.size);
    await expectSame({ unet: attachedAdapters(attached) }, { unet: adapters.unet! });
    const written = await readLora(writeLora({ unet: attachedAdapters(attached) }, "diffusers"), {
      unet: attached,
    });
    await expectSame(written.adapters, { unet: adapters.unet! });
  });

  it("keep the precision of the network", async () => {
    const halves = new Map<string, Tensor>();
    for (const [key, t] of parameters(unet)) halves.set(key, await castHost(t, "f16"));
    const half = mapParameters(unet, (_, key) => halves.get(key)!);
    const fused = parameters((await fuseLoras({ unet: half }, [{ adapters }])).unet);
    for (const [key, t] of fused) expect(t.dtype, key).toBe("f16");
    const attached = parameters(attachLoras({ unet: half }, [{ adapters }]).unet);
    for (const [key, t] of attached) expect(t.dtype, key).toBe("f16");
    const key = "mid_block.attentions.0.proj_in.weight";
    const expected = parameters((await fuseLoras({ unet }, [{ adapters }])).unet).get(key)!;
    expect(await difference(fused.get(key)!.cast("f32"), expected)).toBeLessThan(
      2e-3 * (await largest(expected)),
    );
  });

  it("fuse without a new graph for each factor", async () => {
    await clearEagerCache();
    await fuseLoras({ textEncoder }, [{ adapters, weight: 0.1 }]);
    const before = cachedSessions();
    for (const weight of [0.2, 0.3, 0.4]) await fuseLoras({ textEncoder }, [{ adapters, weight }]);
    expect(cachedSessions()).toBe(before);
  });

  it("are refused for layers that are not there, and factors that are no numbers", async () => {
    const other = { textEncoder: adapters.unet! };
    expect(() => attachLoras(targets, [{ adapters: other }])).toThrow(/textEncoder has no layer/);
    await expect(fuseLoras(targets, [{ adapters, weight: Number.NaN }])).rejects.toThrow(/finite weight/);
  });
});

describe("layer names of the original code", () => {
  it("of Stable Diffusion 1.5", () => {
    const keys = Object.keys(officialLayout("unet_sd15"))
      .filter((key) => key.endsWith(".weight"))
      .map((key) => key.replace(/\.weight$/, ""));
    const names = ldmNames(keys);
    expect(
      Object.fromEntries([...names].filter(([key]) => !/norm|transformer_blocks\.0\.(attn|ff)/.test(key))),
    ).toMatchObject({
      conv_in: "input_blocks.0.0",
      "time_embedding.linear_2": "time_embed.2",
      "down_blocks.0.resnets.1.conv1": "input_blocks.2.0.in_layers.2",
      "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
      "down_blocks.1.resnets.0.conv_shortcut": "input_blocks.4.0.skip_connection",
      "down_blocks.2.attentions.1.proj_out": "input_blocks.8.1.proj_out",
      "down_blocks.3.resnets.1.time_emb_proj": "input_blocks.11.0.emb_layers.1",
      "mid_block.resnets.1.conv2": "middle_block.2.out_layers.3",
      "mid_block.attentions.0.proj_in": "middle_block.1.proj_in",
      "up_blocks.0.upsamplers.0.conv": "output_blocks.2.1.conv",
      "up_blocks.1.upsamplers.0.conv": "output_blocks.5.2.conv",
      "up_blocks.3.attentions.2.proj_in": "output_blocks.11.1.proj_in",
      conv_out: "out.2",
    });
    const layers = keys.filter((key) => !/norm/.test(key));
    expect(layers.filter((key) => !names.has(key))).toEqual([]);
    expect(new Set(layers.map((key) => names.get(key))).size).toBe(layers.length);
  });
});
