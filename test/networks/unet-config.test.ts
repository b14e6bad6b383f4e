import { describe, expect, it } from "vitest";
import { ArgumentError, FormatError } from "../../src/errors.ts";
import type { Transformer2DModel } from "../../src/networks/blocks/index.ts";
import { controlNet, createControlNet } from "../../src/networks/unet/controlnet.ts";
import { createUNet2D, unet2D } from "../../src/networks/unet/unet-2d.ts";
import { createUNet2DCondition, unet2DCondition } from "../../src/networks/unet/unet-2d-condition.ts";
import { blankRng, parameterCount, parameters } from "../../src/nn/index.ts";
import { tensor, zeros } from "../../src/tensor/index.ts";
import { layoutOf, officialLayout } from "./tiny-models.ts";
import { unetLayout } from "./unet-layout.ts";

const SDXL = {
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
  block_out_channels: [320, 640, 1280],
  attention_head_dim: [5, 10, 20],
  transformer_layers_per_block: [1, 2, 10],
  cross_attention_dim: 2048,
  use_linear_projection: true,
  addition_embed_type: "text_time",
  addition_time_embed_dim: 256,
  projection_class_embeddings_input_dim: 2816,
};

const SD2 = { attention_head_dim: [5, 10, 20, 20], cross_attention_dim: 1024, use_linear_projection: true };

describe("official configurations", () => {
  it.each([
    ["Stable Diffusion 1.5", { cross_attention_dim: 768 }, 686, 859_520_964],
    ["Stable Diffusion 1.5 inpainting", { cross_attention_dim: 768, in_channels: 9 }, 686, 859_535_364],
    ["LCM", { cross_attention_dim: 768, time_cond_proj_dim: 256 }, 687, 859_602_884],
    ["Stable Diffusion 2.1", { ...SD2, upcast_attention: true }, 686, 865_910_724],
    ["SDXL", SDXL, 1680, 2_567_463_684],
  ])("%s has the published number of tensors and values", (_, config, tensors, values) => {
    const unet = unet2DCondition(config, blankRng);
    expect(parameters(unet).size).toBe(tensors);
    expect(parameterCount(unet)).toBe(values);
  });

  it("ControlNet for Stable Diffusion 1.5 has its official layout", () => {
    const network = controlNet({ cross_attention_dim: 768 }, blankRng);
    expect(layoutOf(network)).toEqual(officialLayout("controlnet_sd15"));
    expect(parameterCount(network)).toBe(361_279_120);
  });

  it("DDPM on CIFAR-10 has its published number of values", () => {
    const config = {
      block_out_channels: [128, 256, 256, 256],
      down_block_types: ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
      up_block_types: ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
      attention_head_dim: null,
      downsample_padding: 0,
      flip_sin_to_cos: false,
      freq_shift: 1,
      norm_eps: 1e-6,
    };
    const unet = unet2D(config, blankRng);
    expect(parameterCount(unet)).toBe(35_746_307);
    expect(unet.call(zeros([1, 3, 32, 32]), zeros([1])).shape).toEqual([1, 3, 32, 32]);
  });
});

describe("any order of blocks", () => {
  const [c, d, u] = [true, "DownBlock2D", "UpBlock2D"];
  const cross = { [d]: "CrossAttnDownBlock2D", [u]: "CrossAttnUpBlock2D" };
  it.each([
    {
      channels: [8, 16, 24, 8],
      layers: 1,
      down: [!c, c, !c, c],
      up: [!c, c, c, !c],
      linear: false,
      depth: [1, 1, 1, 1],
    },
    { channels: [16, 8], layers: 3, down: [c, c], up: [!c, !c], linear: true, depth: [2, 3] },
    { channels: [8], layers: 2, down: [!c], up: [c], linear: false, depth: [1] },
  ])("channels $channels, down $down, up $up", ({ channels, layers, down, up, linear, depth }) => {
    const config = {
      in_channels: 5,
      out_channels: 6,
      block_out_channels: channels,
      layers_per_block: layers,
      cross_attention_dim: 10,
      norm_num_groups: 4,
      attention_head_dim: 2,
      down_block_types: down.map((x) => (x ? cross[d] : d)),
      up_block_types: up.map((x) => (x ? cross[u] : u)),
      use_linear_projection: linear,
      transformer_layers_per_block: depth,
    };
    const unet = unet2DCondition(config, blankRng);
    const shape = {
      channels,
      layers,
      down,
      up,
      linear,
      depth,
      contextDim: 10,
      inChannels: 5,
      outChannels: 6,
    };
    expect(layoutOf(unet)).toEqual(unetLayout(shape));
    const out = unet.call(zeros([2, 5, 9, 13]), tensor([3]), zeros([2, 4, 10]));
    expect(out.shape).toEqual([2, 6, 9, 13]);
  });

  it("numbers of layers, depths and widths of context that differ by level", () => {
    const config = {
      block_out_channels: [8, 16],
      layers_per_block: [1, 2],
      cross_attention_dim: [6, 6],
      norm_num_groups: 4,
      attention_head_dim: [2, 4],
      down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
      up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
      transformer_layers_per_block: [[1], [2, 1]],
      reverse_transformer_layers_per_block: [
        [1, 1, 2],
        [1, 3],
      ],
    };
    const unet = unet2DCondition(config, blankRng);
    const blocks = (up: number, layer: number) =>
      [...parameters(unet).keys()].filter((key) =>
        new RegExp(`up_blocks.${up}.attentions.${layer}.transformer_blocks.\\d+.norm1.weight`).test(key),
      ).length;
    expect([blocks(0, 0), blocks(0, 1), blocks(0, 2), blocks(1, 0), blocks(1, 1)]).toEqual([1, 1, 2, 1, 3]);
    expect(unet.call(zeros([1, 4, 8, 8]), tensor([1]), zeros([1, 3, 6])).shape).toEqual([1, 4, 8, 8]);
  });
});

describe("a configuration that is wrong, or not built here, is refused by key", () => {
  const small = {
    block_out_channels: [8, 16],
    norm_num_groups: 4,
    attention_head_dim: 2,
    down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
  };
  it.each([
    [{ num_classes: 10 }, /no key "num_classes".*"num_class_embeds"/],
    [{ norm_num_groups: 3 }, /norm_num_groups.*divisor of the 8 channels of level 0/],
    [{ attention_head_dim: 9 }, /attention_head_dim.*at most the 8 channels of down_blocks.0/],
    [{ num_attention_heads: 9 }, /num_attention_heads.*at most/],
    [{ block_out_channels: [8] }, /block_out_channels.*2 numbers/],
    [{ block_out_channels: [8, "16"] }, /block_out_channels.*positive integer/],
    [{ up_block_types: ["UpBlock2D"] }, /up_block_types.*2 types/],
    [
      { down_block_types: ["KDownBlock2D", "DownBlock2D"] },
      /down_block_types.*CrossAttnDownBlock2D.*KDownBlock2D/,
    ],
    [{ down_block_types: ["constructor", "DownBlock2D"] }, /down_block_types/],
    [{ layers_per_block: [1] }, /layers_per_block.*2 values/],
    [{ layers_per_block: 0 }, /layers_per_block.*positive integer.*got 0/],
    [{ cross_attention_dim: -1 }, /cross_attention_dim/],
    [{ norm_eps: 0 }, /norm_eps.*above 0/],
    [{ norm_num_groups: null }, /norm_num_groups.*got null/],
    [{ act_fn: "tanhshrink" }, /act_fn.*"silu".*got "tanhshrink"/],
    [{ dual_cross_attention: true }, /dual_cross_attention.*got true/],
    [{ attention_type: "gated" }, /attention_type.*got "gated"/],
    [{ cross_attention_norm: "layer_norm" }, /cross_attention_norm.*none/],
    [{ addition_embed_type: "image" }, /addition_embed_type.*"text_time"/],
    [{ addition_embed_type: "text_time" }, /addition_time_embed_dim.*positive integer/],
    [{ encoder_hid_dim_type: "ip_image_proj" }, /encoder_hid_dim_type.*text_proj/],
    [{ class_embed_type: "projection" }, /projection_class_embeddings_input_dim/],
    [{ class_embed_type: "magic" }, /class_embed_type.*timestep/],
    [{ class_embeddings_concat: true }, /class_embeddings_concat/],
    [{ conv_in_kernel: 2 }, /conv_in_kernel.*odd/],
    [{ time_embedding_type: "learned" }, /time_embedding_type.*positional/],
    [{ dropout: 1 }, /dropout.*probability/],
    [{ transformer_layers_per_block: [[1], [2]] }, /reverse_transformer_layers_per_block|at least/],
    [{ mid_block_type: "UNetMidBlock3D" }, /mid_block_type.*UNetMidBlock2DCrossAttn/],
  ])("%o", (wrong, message) => {
    expect(() => unet2DCondition({ ...small, ...wrong }, blankRng)).toThrow(message);
    expect(() => unet2DCondition({ ...small, ...wrong }, blankRng)).toThrow(FormatError);
  });

  it("anything but an object", () => {
    for (const config of [null, [], "sd", 3])
      expect(() => unet2D(config, blankRng)).toThrow(/UNet2DModel: expected a configuration object/);
  });

  it("of UNet2DModel and ControlNetModel", () => {
    expect(() => unet2D({ down_block_types: ["SkipDownBlock2D"] }, blankRng)).toThrow(/down_block_types/);
    expect(() => unet2D({ time_embedding_type: "adm" }, blankRng)).toThrow(/time_embedding_type/);
    expect(() => unet2D({ attention_head_dim: 900 }, blankRng)).toThrow(/attention_head_dim.*at most/);
    expect(() => controlNet({ controlnet_conditioning_channel_order: "hsv" }, blankRng)).toThrow(
      /channel_order/,
    );
    expect(() => controlNet({ conditioning_embedding_out_channels: [] }, blankRng)).toThrow(/a list/);
  });
});

describe("typed options make the network of the file with the same values", () => {
  it("a conditional U-Net", () => {
    const typed = createUNet2DCondition(blankRng, {
      channels: [320, 640, 1280],
      downBlocks: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
      upBlocks: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
      heads: [5, 10, 20],
      depths: [1, 2, 10],
      contextDim: 2048,
      linearProjection: true,
      additionEmbedding: "text_time",
      additionTimeDim: 256,
      projectionInputDim: 2816,
    });
    expect(layoutOf(typed)).toEqual(layoutOf(unet2DCondition(SDXL, blankRng)));
    expect(layoutOf(createUNet2DCondition(blankRng))).toEqual(layoutOf(unet2DCondition({}, blankRng)));
  });

  it("a U-Net over pictures", () => {
    const typed = createUNet2D(blankRng, {
      channels: [32, 64],
      downBlocks: ["DownBlock2D", "AttnDownBlock2D"],
      upBlocks: ["AttnUpBlock2D", "UpBlock2D"],
      headDim: null,
      groups: 16,
      classes: 10,
      layers: 1,
    });
    const config = {
      block_out_channels: [32, 64],
      down_block_types: ["DownBlock2D", "AttnDownBlock2D"],
      up_block_types: ["AttnUpBlock2D", "UpBlock2D"],
      attention_head_dim: null,
      norm_num_groups: 16,
      num_class_embeds: 10,
      layers_per_block: 1,
    };
    expect(layoutOf(typed)).toEqual(layoutOf(unet2D(config, blankRng)));
  });

  it("a ControlNet", () => {
    const typed = createControlNet(blankRng, { contextDim: 768, hintChannels: 1, hintOrder: "bgr" });
    const config = {
      cross_attention_dim: 768,
      conditioning_channels: 1,
      controlnet_conditioning_channel_order: "bgr",
    };
    expect(layoutOf(typed)).toEqual(layoutOf(controlNet(config, blankRng)));
    expect(typed.bgr).toBe(true);
  });

  it("in files attention_head_dim is the number of heads, in options headDim is a width", () => {
    const heads = (unet: ReturnType<typeof unet2DCondition>) =>
      unet.downBlocks[0]!.attentions!.map((a) => (a as Transformer2DModel).transformerBlocks[0]!.attn1.heads);
    const sizes = { channels: [64, 64, 64, 64] };
    expect(heads(createUNet2DCondition(blankRng, { ...sizes, headDim: 4 }))).toEqual([8, 8]);
    expect(heads(createUNet2DCondition(blankRng, { ...sizes, heads: 4 }))).toEqual([4, 4]);
    const file = { block_out_channels: sizes.channels, attention_head_dim: 4 };
    expect(heads(unet2DCondition(file, blankRng))).toEqual([4, 4]);
  });

  it("an error names the option", () => {
    const wrong = () => createUNet2DCondition(blankRng, { channels: [30, 640, 1280, 1280] });
    expect(wrong).toThrow(ArgumentError);
    expect(wrong).toThrow(/"groups": expected a divisor of the 30 channels/);
    expect(() => createUNet2DCondition(blankRng, { heads: [8] })).toThrow(/"heads": expected 4 values/);
  });
});
