import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { controlNet } from "../../src/networks/controlnet.ts";
import { unet2D } from "../../src/networks/unet-2d.ts";
import { unet2DCondition } from "../../src/networks/unet-2d-condition.ts";
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
