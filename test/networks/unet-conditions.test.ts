import { describe, expect, it } from "vitest";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { AddedContextAttention, timesOf } from "../../src/networks/blocks/index.ts";
import { unet2D } from "../../src/networks/unet/unet-2d.ts";
import { type UNetCallOptions, unet2DCondition } from "../../src/networks/unet/unet-2d-condition.ts";
import {
  captureFeatures,
  createRng,
  type Linear,
  mapParameters,
  parameters,
  withHooks,
} from "../../src/nn/index.ts";
import { cast, jit, makeKey, softmax, type Tensor, tensor } from "../../src/tensor/index.ts";
import { expectClose } from "../nn/layer-kit.ts";

const SMALL = {
  block_out_channels: [8, 16],
  norm_num_groups: 4,
  layers_per_block: 1,
  attention_head_dim: 2,
  cross_attention_dim: 6,
  down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
};
const rng = createRng(2);
const random = (...shape: number[]): Tensor => rng.normal(shape);
const [x, t, context] = [random(2, 4, 8, 8), tensor([7, 400]), random(2, 3, 6)];
const build = (config: object = {}) => unet2DCondition({ ...SMALL, ...config }, createRng(5));
type UNet = ReturnType<typeof build>;

/** As small as a network can be that has a time embedding. */
const flat = (config: object = {}) =>
  build({
    block_out_channels: [8],
    down_block_types: ["DownBlock2D"],
    up_block_types: ["UpBlock2D"],
    mid_block_type: null,
    ...config,
  });

/** The weights of `from` wherever `to` has them. */
const sharing = (to: UNet, from: UNet): UNet =>
  mapParameters(to, (own, key) => parameters(from).get(key) ?? own);

/** The network computes what the plain one does when `change` is done to its time embedding. */
async function expectTime(unet: UNet, options: UNetCallOptions, change: (time: Tensor) => Tensor) {
  const plain = sharing(flat(), unet);
  const hooked = withHooks(plain, { time_embedding: (time: Tensor) => change(time) });
  const got = await unet.call(x, t, context, options).toArray();
  expectClose(got, await hooked.call(x, t, context).toArray(), 2e-5);
  const without = await plain.call(x, t, context).toArray();
  expect(got.some((v, i) => Math.abs(v - without[i]!) > 1e-3)).toBe(true);
}

describe("conditions of time", () => {
  it("SDXL: pooled text and sizes, embedded and added", async () => {
    const unet = flat({
      addition_embed_type: "text_time",
      addition_time_embed_dim: 4,
      projection_class_embeddings_input_dim: 5 + 6 * 4,
    });
    const addedConditions = { textEmbeds: random(2, 5), timeIds: random(2, 6).mul(100) };
    const { textEmbeds, timeIds } = addedConditions;
    const ids = unet.addTimeProj!.call(timeIds.reshape([12])).reshape([2, 24]);
    const added = unet.addEmbedding!.call(textEmbeds.concat(ids, 1));
    await expectTime(unet, { addedConditions }, (time) => time.add(added));
  });

  it("class labels by table, times, vectors and projections", async () => {
    const byTable = flat({ num_class_embeds: 10 });
    const labels = tensor([3, 9], { dtype: "i64" });
    const table = parameters(byTable).get("class_embedding.weight")!;
    await expectTime(byTable, { classLabels: labels }, (time) => time.add(table.gather(labels)));

    const byTime = flat({ class_embed_type: "timestep" });
    const layer = (unet: UNet) => unet.classEmbedding as { call(v: Tensor): Tensor };
    const embedded = layer(byTime).call(byTime.timeProj.call(tensor([1, 2])));
    await expectTime(byTime, { classLabels: tensor([1, 2]) }, (time) => time.add(embedded));

    const vector = random(2, 32);
    await expectTime(flat({ class_embed_type: "identity" }), { classLabels: vector }, (v) => v.add(vector));
    for (const kind of ["projection", "simple_projection"]) {
      const unet = flat({ class_embed_type: kind, projection_class_embeddings_input_dim: 5 });
      const classLabels = random(2, 5);
      const projected = layer(unet).call(classLabels);
      await expectTime(unet, { classLabels }, (time) => time.add(projected));
    }
  });

  it("joined classes double the embedding that blocks see", () => {
    const unet = build({ num_class_embeds: 3, class_embeddings_concat: true });
    expect(unet.downBlocks[0]!.resnets[0]!.timeEmbProj!.weight.shape).toEqual([8, 64]);
    const options = { classLabels: tensor([0, 2], { dtype: "i64" }) };
    expect(unet.call(x, tensor([5]), context, options).shape).toEqual([2, 4, 8, 8]);
  });

  it("the guidance scale of a distilled model, and activations around the embedding", async () => {
    const unet = flat({ time_cond_proj_dim: 3 });
    const timestepCond = random(2, 3);
    const { condProj, linear1, linear2 } = unet.timeEmbedding;
    const input = unet.timeProj.call(t).add(condProj!.call(timestepCond));
    const time = linear2.call(linear1.call(input).silu());
    await expectTime(unet, { timestepCond }, () => time);
    await expectTime(flat({ timestep_post_act: "silu" }), {}, (v) => v.silu());
    await expectTime(flat({ time_embedding_act_fn: "gelu" }), {}, (v) => v.gelu());
  });

  it("one time serves the whole batch, as a vector or a scalar", async () => {
    const unet = flat();
    const each = await unet.call(x, tensor([9, 9]), context).toArray();
    expectClose(await unet.call(x, tensor([9]), context).toArray(), each, 1e-6);
    expectClose(await unet.call(x, tensor(9), context).toArray(), each, 1e-6);
    expectClose(await unet.call(x, tensor([9, 9], { dtype: "i64" }), context).toArray(), each, 0);
    expect(() => timesOf(tensor([1, 2, 3]), 2)).toThrow(ShapeError);
  });

  it("missing and useless conditions are refused", () => {
    const classLabels = tensor([1, 1], { dtype: "i64" });
    expect(() => build().call(x, t, context, { classLabels })).toThrow(/no classLabels/);
    expect(() => build({ num_class_embeds: 2 }).call(x, t, context)).toThrow(
      /expected classLabels, got none/,
    );
    expect(() => build().call(x, t, context, { timestepCond: random(2, 3) })).toThrow(ArgumentError);
    expect(() => build().call(x, t)).toThrow(/expected a context/);
    const controls = { down: [x], mid: x };
    expect(() => build().call(x, t, context, { controls })).toThrow(/expected 4 tensors/);
  });
});

describe("context", () => {
  it("tokens that are masked have no effect", async () => {
    const unet = build();
    const mask = tensor([
      [1, 1, 0],
      [1, 0, 0],
    ]);
    const others = context.mul(mask.unsqueeze(2)).add(mask.neg().add(1).unsqueeze(2).mul(5));
    const a = await unet.call(x, t, context, { mask }).toArray();
    expectClose(await unet.call(x, t, others, { mask: cast(mask, "bool") }).toArray(), a, 1e-5);
    const unmasked = await unet.call(x, t, others).toArray();
    expect(unmasked.some((v, i) => Math.abs(v - a[i]!) > 1e-3)).toBe(true);
    expect(() => unet.call(x, t, context, { mask: random(2, 4) })).toThrow(/one value for each token/);
  });

  it("is projected where the configuration says so, and can be all that attention sees", async () => {
    const unet = build({ encoder_hid_dim: 9 });
    const wide = random(2, 3, 9);
    const plain = sharing(build(), unet);
    const expected = plain.call(x, t, unet.encoderHidProj!.call(wide));
    expectClose(await unet.call(x, t, wide).toArray(), await expected.toArray(), 1e-5);
    const only = build({ only_cross_attention: true });
    const key = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight";
    expect(parameters(only).get(key)!.shape).toEqual([8, 6]);
    expect(only.call(x, t, context).shape).toEqual([2, 4, 8, 8]);
  });

  it("one context serves the whole batch", async () => {
    const unet = build();
    const one = context.slice([0], [1]);
    const expected = await unet.call(x, t, one.concat(one, 0)).toArray();
    expectClose(await unet.call(x, t, one).toArray(), expected, 1e-5);
  });
});

describe("variants", () => {
  it.each([
    [
      "residual samplers",
      {
        down_block_types: ["ResnetDownsampleBlock2D", "DownBlock2D"],
        up_block_types: ["UpBlock2D", "ResnetUpsampleBlock2D"],
      },
    ],
    [
      "attention to map and tokens at once",
      {
        down_block_types: ["SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D"],
        up_block_types: ["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
        mid_block_type: "UNetMidBlock2DSimpleCrossAttn",
      },
    ],
    [
      "self attention",
      {
        down_block_types: ["AttnDownBlock2D", "DownBlock2D"],
        up_block_types: ["UpBlock2D", "AttnUpBlock2D"],
      },
    ],
    ["no middle", { mid_block_type: null }],
    ["a middle without attention", { mid_block_type: "UNetMidBlock2D" }],
    [
      "scale and shift",
      { resnet_time_scale_shift: "scale_shift", resnet_out_scale_factor: 1.4, resnet_skip_time_act: true },
    ],
    ["Fourier times", { time_embedding_type: "fourier", time_embedding_dim: 12 }],
    ["large kernels, centred input", { conv_in_kernel: 5, conv_out_kernel: 1, center_input_sample: true }],
    ["asymmetric downsampling", { downsample_padding: 0 }],
  ])("%s", async (_, config) => {
    const out = await build(config).call(x, t, context).toArray();
    expect(out).toHaveLength(512);
    expect(out.every(Number.isFinite)).toBe(true);
  });

  it("attention to map and tokens is softmax attention over both", async () => {
    const layer = new AddedContextAttention(4, rng, { headDim: 4, contextDim: 6, groups: 2 });
    const map = random(1, 4, 2, 3);
    const tokens = layer.groupNorm.call(map).reshape([1, 4, 6]).transpose([0, 2, 1]);
    const both = (added: Linear, own: Linear) =>
      added.call(context.slice([0], [1])).concat(own.call(tokens), 1);
    const scores = layer.toQ.call(tokens).matmul(both(layer.addKProj, layer.toK!).transpose([0, 2, 1]));
    const seen = softmax(scores.mul(0.5)).matmul(both(layer.addVProj, layer.toV!));
    const expected = layer.toOut[0].call(seen).transpose([0, 2, 1]).reshape([1, 4, 2, 3]).add(map);
    const got = layer.call(map, { context: context.slice([0], [1]) });
    expectClose(await got.toArray(), await expected.toArray(), 1e-5);
  });

  it("attention to map and tokens: masked tokens have no effect", async () => {
    const types = { down_block_types: ["SimpleCrossAttnDownBlock2D", "DownBlock2D"] };
    const unet = build({ ...types, mid_block_type: null, up_block_types: ["UpBlock2D", "UpBlock2D"] });
    const mask = tensor([[1, 1, 0]]);
    const others = context.mul(mask.unsqueeze(2));
    const a = await unet.call(x, t, context, { mask }).toArray();
    expectClose(await unet.call(x, t, others, { mask }).toArray(), a, 1e-5);
  });

  it("UNet2DModel with classes, residual samplers, Fourier times, no norm in the middle", async () => {
    const unet = unet2D(
      {
        block_out_channels: [8, 16],
        norm_num_groups: 4,
        attention_head_dim: 4,
        down_block_types: ["AttnDownBlock2D", "DownBlock2D"],
        up_block_types: ["AttnUpBlock2D", "AttnUpBlock2D"],
        downsample_type: "resnet",
        upsample_type: "resnet",
        time_embedding_type: "fourier",
        resnet_time_scale_shift: "scale_shift",
        num_class_embeds: 4,
      },
      createRng(1),
    );
    const keys = [...parameters(unet).keys()];
    expect(keys).toContain("down_blocks.0.downsamplers.0.conv1.weight");
    expect(keys).toContain("up_blocks.0.upsamplers.0.conv1.weight");
    expect(keys).toContain("time_proj.weight");
    expect(keys.filter((key) => /mid_block.attentions.0.group_norm/.test(key))).toEqual([]);
    const labels = (n: number) => ({ classLabels: tensor([n], { dtype: "i64" }) });
    const picture = random(1, 3, 8, 8);
    const a = await unet.call(picture, tensor([3]), labels(0)).toArray();
    const b = await unet.call(picture, tensor([3]), labels(1)).toArray();
    expect(a.every(Number.isFinite)).toBe(true);
    expect(a).not.toEqual(b);
  });
});

describe("inside", () => {
  it("features of any module can be read and edited, h-space among them", async () => {
    const unet = build();
    const [, { mid_block: h }] = captureFeatures(unet, ["mid_block"], (m) => m.call(x, t, context));
    expect(h!.shape).toEqual([2, 16, 4, 4]);
    const edited = withHooks(unet, { mid_block: (out: Tensor) => out.mul(0) });
    expect(await edited.call(x, t, context).toArray()).not.toEqual(await unet.call(x, t, context).toArray());
  });

  it("dropout layers draw apart from each other, and only with a key", async () => {
    const unet = build({ dropout: 0.3 });
    const purposes = [...unet.downBlocks, unet.midBlock!, ...unet.upBlocks]
      .flatMap((block) => block.resnets)
      .map((resnet) => resnet.dropout.purpose);
    expect(new Set(purposes).size).toBe(purposes.length);
    const dry = await unet.call(x, t, context).toArray();
    expectClose(await sharing(build(), unet).call(x, t, context).toArray(), dry, 1e-6);
    expect(await unet.call(x, t, context, { key: makeKey(1) }).toArray()).not.toEqual(dry);
  });

  it("compiles once for all times", async () => {
    const unet = build();
    const step = jit((net: UNet, time: Tensor) => net.call(x, time, context));
    const a = await (await step(unet, tensor([1]))).toArray();
    const b = await (await step(unet, tensor([500]))).toArray();
    expect(a).not.toEqual(b);
    expect(step.signatures).toBe(1);
    await step.close();
  });
});
