import { describe, expect, it } from "vitest";
import {
  classifierFreeGuidance,
  conditionalDenoiser,
  perturbedAttentionGuidance,
  rewardGuidance,
  tracedDenoiser,
} from "../../src/diffusion/guidance/index.ts";
import { diffusionLoss, epsilonObjective, preservingLevel } from "../../src/diffusion/objectives/index.ts";
import { epsilonPrediction } from "../../src/diffusion/parameterization.ts";
import { finalSample } from "../../src/diffusion/sample.ts";
import { euler } from "../../src/diffusion/samplers/euler.ts";
import { ArgumentError } from "../../src/errors.ts";
import { type UNet2DConditionModel, unet2DCondition } from "../../src/networks/unet/unet-2d-condition.ts";
import {
  addLora,
  captureFeatures,
  createRng,
  frozen,
  loraParameters,
  type MultiHeadAttention,
  modules,
  parameters,
  perturbAttention,
  withHooks,
  withLoraParameters,
} from "../../src/nn/index.ts";
import { cachedSessions, grad, jit, type Tensor, tensor } from "../../src/tensor/index.ts";
import { geometric, maxDifference } from "./gaussian.ts";

const unet = unet2DCondition(
  {
    block_out_channels: [8, 16],
    norm_num_groups: 4,
    layers_per_block: 1,
    attention_head_dim: 2,
    cross_attention_dim: 6,
    down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
  },
  createRng(5),
);
const rng = createRng(8);
const x = rng.normal([1, 4, 8, 8], 5);
const prompt = rng.normal([1, 3, 6]);
const empty = rng.normal([1, 3, 6]);
const t = tensor([300]);

describe("a U-Net with hooks", () => {
  it("shows its h-space, and paints differently when it is moved", async () => {
    const [out, { mid_block: h }] = captureFeatures(unet, ["mid_block"], (m) => m.call(x, t, prompt));
    expect(h!.shape).toEqual([1, 16, 4, 4]);
    expect(await maxDifference(out, unet.call(x, t, prompt))).toBe(0);
    const moved = withHooks(unet, { mid_block: (own: Tensor) => own.add(h!.mul(0.5)) });
    expect(await maxDifference(moved.call(x, t, prompt), out)).toBeGreaterThan(1e-3);
    const zero = withHooks(unet, { mid_block: (own: Tensor) => own.add(h!.mul(0)) });
    expect(await maxDifference(zero.call(x, t, prompt), out)).toBeLessThan(1e-5);
  });

  it("is a frozen judge: a loss on its h-space reaches an image and none of its weights", async () => {
    const distance = (image: Tensor, judge: UNet2DConditionModel): Tensor =>
      captureFeatures(frozen(judge), ["mid_block"], (m) => m.call(image, t, prompt))[1]
        .mid_block!.square()
        .mean();
    const both = jit((image: Tensor, judge: UNet2DConditionModel) =>
      grad((pair: readonly [Tensor, UNet2DConditionModel]) => distance(pair[0], pair[1]))([image, judge]),
    );
    const [toImage, toJudge] = await both(x, unet);
    expect(await toImage.abs().max().item()).toBeGreaterThan(1e-6);
    for (const g of parameters(toJudge).values()) expect(await g.abs().max().item()).toBe(0);
    await both.close();
  });
});

describe("a U-Net with perturbed attention", () => {
  const perturbed = perturbAttention(unet, /^mid_block.*attn1$/);

  it("has identity maps in the self attentions named, and else the same weights", async () => {
    expect([...parameters(perturbed)]).toEqual([...parameters(unet)]);
    const key = "mid_block.attentions.0.transformer_blocks.0.attn1";
    const attention = modules(unet).get(key) as MultiHeadAttention;
    const byHook = withHooks(unet, {
      [key]: (_out: Tensor, [tokens]: readonly Tensor[]) =>
        attention.toOut[0].call(attention.toV.call(tokens!)),
    });
    const out = perturbed.call(x, t, prompt);
    expect(await maxDifference(out, byHook.call(x, t, prompt))).toBeLessThan(1e-5);
    expect(await maxDifference(out, unet.call(x, t, prompt))).toBeGreaterThan(1e-4);
  });

  it("refuses keys that match nothing, and cross attention", () => {
    expect(() => perturbAttention(unet, /attn9/)).toThrow(ArgumentError);
    const cross = perturbAttention(unet, /^mid_block.*attn2$/);
    expect(() => cross.call(x, t, prompt)).toThrow(/self attention/);
  });

  it("guides beside classifier-free guidance, all steps with the graphs of the first two", async () => {
    const options = { parameterization: epsilonPrediction, timestep: (sigma: number) => 100 * sigma };
    const run = jit((m: UNet2DConditionModel, z: Tensor, at: Tensor, c: Tensor) => m.call(z, at, c));
    const denoiser = (m: UNet2DConditionModel) =>
      conditionalDenoiser<Tensor>((z, at, c) => run(m, z, tensor([at]), c), options);
    const guidance = { condition: prompt, negative: empty, scale: 3 };
    const guided = perturbedAttentionGuidance(denoiser(unet), denoiser(perturbed), {
      ...guidance,
      perturbedScale: 2,
    });
    const sampling = euler(guided, x, geometric(5, 0.1, 6));
    await sampling.next();
    await sampling.next();
    const counts = [run.signatures, cachedSessions()];
    const out = await finalSample(sampling);
    expect([run.signatures, cachedSessions()]).toEqual(counts);
    const plain = classifierFreeGuidance(denoiser(unet), guidance);
    expect(
      await maxDifference(out, await finalSample(euler(plain, x, geometric(5, 0.1, 6)))),
    ).toBeGreaterThan(1e-3);
    await run.close();
  });
});

describe("gradients of a U-Net", () => {
  it("lead samples to a larger reward, through the network", async () => {
    const options = { parameterization: epsilonPrediction, timestep: (sigma: number) => 100 * sigma };
    interface Inputs {
      readonly unet: UNet2DConditionModel;
      readonly context: Tensor;
    }
    const { denoise, feed } = tracedDenoiser<Inputs>(
      (z, at, inputs) => inputs.unet.call(z, at, inputs.context),
      options,
    );
    const reward = (x0: Tensor): Tensor => x0.sub(1).square().mean([1, 2, 3]).neg();
    const sample = async (scale: number): Promise<number> => {
      const guided = rewardGuidance(denoise, reward, { inputs: feed({ unet, context: prompt }), scale });
      const out = await finalSample(euler(guided, x, geometric(5, 0.1, 6)));
      await guided.close();
      return reward(out).item();
    };
    expect(await sample(30)).toBeGreaterThan((await sample(0)) + 0.1);
  });

  it("train an adapter in it while its weights stay outside of the gradient", async () => {
    const adapted = addLora(unet, { rank: 2, match: /attn\d\.to_[qkv]$/, rng: createRng(1) });
    const loss = (adapters: Record<string, Tensor>, m: UNet2DConditionModel, z: Tensor): Tensor =>
      diffusionLoss(
        (seen, at, c: Tensor) => withLoraParameters(m, adapters).call(seen, at, c),
        {
          x0: z,
          noise: x.mul(0.2),
          level: preservingLevel(tensor([2])),
          timestep: t,
          condition: prompt,
        },
        { objective: epsilonObjective },
      );
    const step = jit((a: Record<string, Tensor>, m: UNet2DConditionModel, z: Tensor) => grad(loss)(a, m, z));
    const adapters = loraParameters(adapted);
    const gradient = await step(adapters, adapted, x.mul(0.1));
    expect(Object.keys(gradient)).toEqual(Object.keys(adapters));
    let largest = 0;
    for (const g of Object.values(gradient)) largest = Math.max(largest, await g.abs().max().item());
    expect(largest).toBeGreaterThan(1e-7);
    await step.close();
  });
});
