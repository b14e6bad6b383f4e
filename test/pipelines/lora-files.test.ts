/** Files of adapters as training tools write them: the strength that PEFT gives them, or a refusal that names the kind. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { readSafetensors } from "../../src/io/index.ts";
import { unet2DCondition } from "../../src/networks/index.ts";
import { createRng, parameters } from "../../src/nn/index.ts";
import { type PipelineComponents, withLoras } from "../../src/pipelines/index.ts";
import { fromHost, type Tensor } from "../../src/tensor/index.ts";

const files = (path: string): string => fileURLToPath(new URL(`../fixtures/files/${path}`, import.meta.url));

const unet = unet2DCondition(
  {
    ...{ _class_name: "UNet2DConditionModel", sample_size: 8, in_channels: 4, out_channels: 4 },
    ...{ layers_per_block: 1, block_out_channels: [32, 64], norm_num_groups: 8 },
    down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
    ...{ cross_attention_dim: 32, attention_head_dim: 8 },
  },
  createRng(0),
);
const components: PipelineComponents = {
  ...{ kind: "sd", className: "", path: "", textEncoders: [], tokenizers: [], scheduler: {} },
  unet: { className: "UNet2DConditionModel", config: {}, model: unet },
};

const Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
const K = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k";
const COMFY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q";

/** The factor s of the change s B A of a layer's weight. */
async function strength(path: string, file: string, layer: string, name: string): Promise<number> {
  const { unet: adapted } = await withLoras(components, [{ path, weight: 1 }]);
  const { tensors } = await readSafetensors(file);
  const matrix = (part: string): Tensor => {
    const t = tensors.get(`${name}.${part}.weight`)!;
    return fromHost("f32", t.shape, (t as { data: Float32Array }).data);
  };
  const has = (part: string): boolean => tensors.has(`${name}.${part}.weight`);
  const [down, up] = has("lora_A") ? ["lora_A", "lora_B"] : ["lora_down", "lora_up"];
  const change = await matrix(up!).matmul(matrix(down!)).toArray();
  const weightOf = (model: object) => parameters(model).get(`${layer}.weight`)!.toArray();
  const [before, after] = [await weightOf(unet), await weightOf(adapted!.model)];
  const dot = (a: readonly number[], b: readonly number[]): number =>
    a.reduce((sum, v, i) => sum + v * b[i]!, 0);
  return (
    dot(
      change,
      after.map((v, i) => v - before[i]!),
    ) / dot(change, change)
  );
}

const ALPHA16 = "20-lora-peft-alpha/alpha16-r4";

describe("adapters have the strength that PEFT gives them", () => {
  it.each([
    [
      "alpha above the rank, from adapter_config.json",
      `${ALPHA16}/adapter_model.safetensors`,
      4,
      Q,
      `base_model.model.${Q}`,
    ],
    [
      "alpha below the rank",
      "20-lora-peft-alpha/alpha1-r4/adapter_model.safetensors",
      0.25,
      Q,
      `base_model.model.${Q}`,
    ],
    ["a regular expression in alpha_pattern", "21-lora-alpha-pattern/regex.safetensors", 1.5, K, `unet.${K}`],
    ["ComfyUI's names", "23-lora-comfyui/diffusion_model.safetensors", 1, Q, COMFY],
  ] as const)("%s", async (_, path, expected, layer, name) => {
    expect(await strength(files(path), files(path), layer, name)).toBeCloseTo(expected, 4);
  });

  it("in a folder as PEFT saves it", async () => {
    const file = files(`${ALPHA16}/adapter_model.safetensors`);
    expect(await strength(files(ALPHA16), file, Q, `base_model.model.${Q}`)).toBeCloseTo(4, 4);
  });
});

describe("kinds that are not applied are named", () => {
  it.each([
    ["loha", /LoHa is not supported/],
    ["full-diff", /a full difference of weights is not supported/],
    ["bias", /a LoRA with biases is not supported/],
    ["rank0", /lora_down\.weight": a matrix of rank 0/],
  ])("%s", async (name, words) => {
    const path = files(`22-lora-other-kinds/${name}.safetensors`);
    await expect(withLoras(components, [{ path, weight: 1 }])).rejects.toThrow(words);
  });
});
