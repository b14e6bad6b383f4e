import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ditPreset } from "../../src/networks/dit/config.ts";
import { initDiT } from "../../src/networks/dit/dit.ts";
import {
  initMaskedAutoencoder,
  keptPatches,
  MaskedAutoencoder,
  maePreset,
  randomMasking,
} from "../../src/networks/mae.ts";
import { patchify, unpatchify } from "../../src/networks/patches.ts";
import { resizePositions, vitPreset } from "../../src/networks/vit/layers.ts";
import { initVisionTransformer, VisionTransformer } from "../../src/networks/vit/vit.ts";
import {
  blankRng,
  createRng,
  loadParameters,
  parameterCount,
  parameters,
  sinCosPositions2d,
} from "../../src/nn/index.ts";
import { evaluate, jit, sizeOf, type Tensor, tensor, valueAndGrad, vjp } from "../../src/tensor/index.ts";
import { fill, withTinyWeights } from "./tiny-models.ts";

interface Case {
  readonly out: number[];
  readonly loss: number;
  readonly prediction: number[];
  readonly latent: number[];
  readonly mask: number[];
  readonly gradIn: number[];
  readonly gradNorms: Record<string, number>;
}
const path = new URL("../fixtures/networks/vit-mae.json", import.meta.url);
const cases = JSON.parse(readFileSync(path, "utf8")) as Record<string, Case>;

const tiny = {
  imageSize: 8,
  patchSize: 2,
  inChannels: 3,
  dim: 8,
  depth: 2,
  heads: 2,
  mlpRatio: 4,
  eps: 1e-6,
};
const tinyMae = { ...tiny, decoderDim: 12, decoderDepth: 1, decoderHeads: 3, normPixLoss: false };
const input = (name: string, ...shape: number[]): Tensor =>
  tensor(
    Float32Array.from(fill(`input:${name}`, sizeOf(shape)), (v) => v * Math.sqrt(3)),
    { shape },
  );

function expectNear(got: readonly number[], expected: readonly number[], tolerance: number): void {
  expect(got.length).toBeGreaterThanOrEqual(expected.length);
  const worst = expected.reduce((m, v, i) => Math.max(m, Math.abs(v - got[i]!)), 0);
  expect(worst).toBeLessThan(tolerance);
}

async function expectGradients(of: object, inputGradient: Tensor, expected: Case): Promise<void> {
  const byKey = parameters(of);
  await evaluate([inputGradient, ...byKey.values()]);
  expectNear(await inputGradient.toArray(), expected.gradIn, 1e-4);
  expect([...byKey.keys()].sort()).toEqual(Object.keys(expected.gradNorms).sort());
  for (const [key, norm] of Object.entries(expected.gradNorms)) {
    const got = await byKey.get(key)!.square().sum().sqrt().item();
    expect(Math.abs(got - norm), key).toBeLessThan(1e-4 * norm + 1e-5);
  }
}

describe("vision transformer", () => {
  it.each([
    ["vit_token", "token", [8, 8]],
    ["vit_average", "average", [8, 8]],
    ["vit_resized", "token", [12, 6]],
  ] as const)("%s: output and gradients as in PyTorch", async (name, pooling, size) => {
    const model = withTinyWeights(new VisionTransformer(tiny, blankRng, { classes: 5, pooling }));
    const [out, pull] = vjp(
      (m: VisionTransformer, x: Tensor) => m.call(x),
      model,
      input("image", 2, 3, ...size),
    );
    expectNear(await out.toArray(), cases[name]!.out, 1e-5);
    const [gradients, inputGradient] = pull(input("cotangent", 2, 5));
    await expectGradients(gradients, inputGradient, cases[name]!);
  });

  it("has the published numbers of parameters", () => {
    const count = (size: Parameters<typeof vitPreset>[0], classes?: number): number =>
      parameterCount(new VisionTransformer(vitPreset(size), blankRng, { classes }));
    expect(count("B/16")).toBe(85_798_656);
    expect(count("B/16", 1000)).toBe(86_567_656);
    expect(count("S/16", 1000)).toBe(22_050_664);
    expect(count("Ti/16", 1000)).toBe(5_717_416);
    expect(count("L/16", 1000)).toBe(304_326_632);
  });

  it("has timm's names", () => {
    const model = new VisionTransformer({ ...tiny, depth: 1 }, blankRng, { classes: 2 });
    expect([...parameters(model)].map(([key, t]) => `${key} ${t.shape.join("x")}`)).toEqual([
      "cls_token 1x1x8",
      "pos_embed 1x17x8",
      "patch_embed.proj.weight 8x3x2x2",
      "patch_embed.proj.bias 8",
      "blocks.0.norm1.weight 8",
      "blocks.0.norm1.bias 8",
      "blocks.0.attn.qkv.weight 24x8",
      "blocks.0.attn.qkv.bias 24",
      "blocks.0.attn.proj.weight 8x8",
      "blocks.0.attn.proj.bias 8",
      "blocks.0.norm2.weight 8",
      "blocks.0.norm2.bias 8",
      "blocks.0.mlp.fc1.weight 32x8",
      "blocks.0.mlp.fc1.bias 32",
      "blocks.0.mlp.fc2.weight 8x32",
      "blocks.0.mlp.fc2.bias 8",
      "norm.weight 8",
      "norm.bias 8",
      "head.weight 2x8",
      "head.bias 2",
    ]);
  });

  it("gives features of every block, and refuses what does not fit", () => {
    const model = new VisionTransformer(tiny, blankRng);
    const x = input("image", 2, 3, 8, 8);
    expect(model.hiddenStates(x).map((h) => h.shape)).toEqual([
      [2, 17, 8],
      [2, 17, 8],
    ]);
    expect(model.features(x).shape).toEqual([2, 8]);
    expect(() => model.call(x)).toThrow(/no classifier/);
    expect(() => model.features(input("image", 1, 3, 9, 8))).toThrow(/divisible by 2/);
    expect(() => new VisionTransformer({ ...tiny, heads: 3 }, blankRng)).toThrow(/divisible by the heads/);
    expect(() => new VisionTransformer({ ...tiny, patchSize: 3 }, blankRng)).toThrow(/8 and 3/);
    expect(() => vitPreset("X/16" as "B/16")).toThrow(/Ti, S, B, L, H/);
    expect(() => resizePositions(model.posEmbed, 2, 2, 2)).toThrow(/square number/);
  });
});

describe("masked autoencoder", () => {
  it.each([
    ["mae", 0.75, false],
    ["mae_norm_pix", 0.6, true],
  ] as const)("%s: loss, predictions and gradients as in PyTorch", async (name, maskRatio, normPixLoss) => {
    const expected = cases[name]!;
    const model = withTinyWeights(new MaskedAutoencoder({ ...tinyMae, normPixLoss }, blankRng));
    const [x, noise] = [input("image", 2, 3, 8, 8), input("noise", 2, 16)];
    const out = model.call(x, noise, { maskRatio });
    expect(await out.loss.item()).toBeCloseTo(expected.loss, 5);
    expectNear(await out.prediction.toArray(), expected.prediction, 1e-5);
    expect(await out.mask.toArray()).toEqual(expected.mask);
    expectNear(await model.encode(x, randomMasking(noise, maskRatio)).toArray(), expected.latent, 1e-5);
    const [, pull] = vjp((m: MaskedAutoencoder, y: Tensor) => m.call(y, noise, { maskRatio }).loss, model, x);
    const [gradients, inputGradient] = pull(tensor(1));
    await expectGradients(gradients, inputGradient, expected);
  });

  it("has the published numbers of parameters, and an encoder that is a vision transformer", () => {
    const mae = new MaskedAutoencoder(maePreset("B/16"), blankRng);
    expect(parameterCount(mae)).toBe(111_907_840);
    const vit = new VisionTransformer(vitPreset("B/16"), blankRng);
    const encoder = new Map([...parameters(mae)].filter(([key]) => !/^(decoder_|mask_token)/.test(key)));
    expect(parameterCount(loadParameters(vit, encoder))).toBe(85_798_656);
  });

  it("keeps the patches with the smallest noise, each sample its own", async () => {
    const noise = tensor([
      [0.9, 0.1, 0.5, 0.3],
      [0.2, 0.8, 0.4, 0.6],
    ]);
    const { keep, restore, mask } = randomMasking(noise, 0.5);
    expect(await keep.toArray()).toEqual([1, 3, 0, 2]);
    expect(await restore.toArray()).toEqual([3, 0, 2, 1, 0, 3, 1, 2]);
    expect(await mask.toArray()).toEqual([1, 0, 1, 0, 0, 1, 0, 1]);
    expect(() => randomMasking(noise, 1)).toThrow(/keeps none of 4/);
    expect([keptPatches(100, 0.9), keptPatches(100, 0.8), keptPatches(36, 0.375)]).toEqual([10, 20, 22]);
    expect(() => randomMasking(tensor([1]), 0.5)).toThrow(/\[N, L\]/);
  });

  it("learns in a compiled step", async () => {
    const step = jit((model: MaskedAutoencoder, x: Tensor, noise: Tensor) => {
      const [loss, gradients] = valueAndGrad((m: MaskedAutoencoder) => m.call(x, noise).loss)(model);
      const [all, now] = [parameters(gradients), parameters(model)];
      const next = new Map([...now].map(([key, t]) => [key, t.sub(all.get(key)!.mul(0.5))]));
      return { loss, model: loadParameters(model, next) };
    });
    let model = initMaskedAutoencoder(tinyMae, createRng(3));
    const [x, noise] = [
      createRng(1).normal([4, 3, 8, 8]).mul(0.2).add(0.5),
      createRng(2).uniform([4, 16], 0, 1),
    ];
    const losses: number[] = [];
    for (let i = 0; i < 20; i++) {
      const out = await step(model, x, noise);
      model = out.model;
      losses.push(await out.loss.item());
    }
    expect(losses.at(-1)).toBeLessThan(0.5 * losses[0]!);
    expect(step.signatures).toBe(1);
    await step.close();
  });
});

describe("patches and positions", () => {
  it("images come back from their patches, on any grid", async () => {
    const x = createRng(1).normal([2, 3, 4, 6]);
    const patches = patchify(x, 2);
    expect(patches.shape).toEqual([2, 6, 12]);
    expect(await unpatchify(patches, 2, 2, 3).sub(x).abs().max().item()).toBe(0);
    // The first patch, in the order of height, width, channel.
    const [values, first] = [await x.toArray(), (await patches.toArray()).slice(0, 12)];
    expect(first).toEqual([0, 1, 6, 7].flatMap((at) => [0, 24, 48].map((channel) => values[channel + at])));
    expect(() => patchify(x, 4)).toThrow(/divisible by 4/);
    expect(() => unpatchify(patches, 2, 2, 2)).toThrow(/\[N, 4, 2² C\]/);
  });

  it("a grid with half the step has the known positions at every other place", async () => {
    const coarse = await sinCosPositions2d(8, 2, 3).toArray();
    const fine = await sinCosPositions2d(8, 4, 6, { rowStep: 0.5, columnStep: 0.5 }).toArray();
    for (let row = 0; row < 2; row++)
      for (let column = 0; column < 3; column++)
        for (let i = 0; i < 8; i++)
          expect(fine[(2 * row * 6 + 2 * column) * 8 + i]).toBe(coarse[(row * 3 + column) * 8 + i]);
  });
});

describe("beginnings", () => {
  const spread = async (t: Tensor): Promise<number> => t.square().mean().sqrt().item();

  it("a vision transformer: matrices within 0.02, biases and classifier zero", async () => {
    const all = parameters(initVisionTransformer({ ...tiny, dim: 64 }, createRng(1), { classes: 5 }));
    expect(await spread(all.get("blocks.0.mlp.fc1.weight")!)).toBeCloseTo(0.02, 3);
    for (const key of ["head.weight", "head.bias", "blocks.1.attn.qkv.bias"])
      expect(await spread(all.get(key)!)).toBe(0);
    expect(await spread(all.get("norm.weight")!)).toBe(1);
  });

  it("a masked autoencoder: matrices by Glorot and Bengio, fixed positions", async () => {
    const all = parameters(initMaskedAutoencoder({ ...tinyMae, dim: 64 }, createRng(1)));
    expect(await spread(all.get("patch_embed.proj.weight")!)).toBeCloseTo(Math.sqrt(2 / (64 + 12)), 2);
    expect(await spread(all.get("mask_token")!)).toBeLessThan(0.05);
    const positions = (await all.get("pos_embed")!.toArray()).slice(64);
    expect(positions).toEqual(await sinCosPositions2d(64, 4, 4).toArray());
  });

  it("a DiT: the identity in every block, and nothing comes out", async () => {
    const config = { ...ditPreset("S/2", { sampleSize: 8 }), layers: 2, heads: 2, headDim: 8 };
    const model = initDiT(config, createRng(1));
    const out = model.call(createRng(2).normal([1, 4, 8, 8]), tensor([3]), tensor([1], { dtype: "i64" }));
    expect(await spread(out)).toBe(0);
    const all = parameters(model);
    const table = all.get("transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight")!;
    expect(await spread(table)).toBeCloseTo(0.02, 3);
    expect(await spread(all.get("transformer_blocks.1.attn1.to_q.weight")!)).toBeCloseTo(
      Math.sqrt(2 / 32),
      1,
    );
    expect(await spread(all.get("transformer_blocks.1.norm1.linear.weight")!)).toBe(0);
  });
});
