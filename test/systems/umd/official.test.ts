import { describe, expect, it } from "vitest";
import { FormatError } from "../../../src/errors.ts";
import { linearProbeAccuracy } from "../../../src/metrics/linear-probe.ts";
import { initMaskedAutoencoder, VisionTransformer } from "../../../src/networks/index.ts";
import { blankRng, createRng, parameters } from "../../../src/nn/index.ts";
import { initUMD, PRESETS } from "../../../src/systems/umd/model.ts";
import {
  maeFeatures,
  metaMAEConfig,
  publishedMAE,
  withMAEEncoder,
} from "../../../src/systems/umd/official.ts";
import { createNoise, fromHost, type Tensor, tensor, zeros } from "../../../src/tensor/index.ts";

const noise = createNoise("philox", 3);
const normal = (shape: number[], purpose: string): Tensor =>
  fromHost("f32", shape, noise.normal(shape, { sample: 0, purpose, step: 0 }));

const mae = initMaskedAutoencoder(
  {
    imageSize: 16,
    patchSize: 4,
    inChannels: 3,
    dim: 32,
    depth: 2,
    heads: 4,
    mlpRatio: 4,
    eps: 1e-6,
    decoderDim: 16,
    decoderDepth: 1,
    decoderHeads: 2,
    normPixLoss: false,
  },
  createRng(4),
);

describe("published weights", () => {
  it("MAE: the encoder of a whole checkpoint loads, sizes by its shapes", async () => {
    const weights = parameters(mae);
    const published = publishedMAE(weights, { heads: 4 });
    const x = normal([2, 3, 16, 16], "x");
    const all = fromHost(
      "i64",
      [2, 16],
      BigInt64Array.from({ length: 32 }, (_, i) => BigInt(i % 16)),
    );
    const expected = mae.encode(x, { keep: all });
    const got = published.tokens(x);
    expect(await got.sub(expected).abs().max().item()).toBeLessThan(1e-5);
  });

  it("MAE: a UMD encoder that begins with its weights computes the same", async () => {
    const config = { ...PRESETS.smoke, classTokens: 1, activation: "gelu" } as const;
    const model = withMAEEncoder(initUMD(config, 0), parameters(mae));
    const x = normal([2, 3, 16, 16], "x");
    const all = fromHost(
      "i64",
      [2, 16],
      BigInt64Array.from({ length: 32 }, (_, i) => BigInt(i % 16)),
    );
    const colours = (values: number[]) => tensor(values, { shape: [1, 3, 1, 1] });
    const standardised = x
      .add(1)
      .mul(0.5)
      .sub(colours([0.485, 0.456, 0.406]))
      .div(colours([0.229, 0.224, 0.225]));
    const theirs = mae.encode(standardised, { keep: all });
    const { tokens, representation } = model.encode({ x, t: zeros([2]) });
    expect(await tokens.sub(theirs.sliceAxis(1, 1)).abs().max().item()).toBeLessThan(1e-4);
    expect(await representation.sub(theirs.select(1, 0)).abs().max().item()).toBeLessThan(1e-4);
    const values = (await x.data()) as Float32Array;
    const pictures = { count: 2, size: 16, channels: 3, values, labels: undefined, classes: [] };
    const encoder = publishedMAE(parameters(mae), { heads: 4 });
    const published = await maeFeatures(encoder, pictures, 1);
    const ours = (await representation.toArray()) as number[];
    ours.forEach((value, i) => {
      expect(published[i]).toBeCloseTo(value, 3);
    });
    const gray = { ...config, channels: 1 } as const;
    expect(() => withMAEEncoder(initUMD(gray, 0), parameters(mae))).toThrow(/inChannels 3, this model has 1/);
    expect(() => withMAEEncoder(initUMD(PRESETS.mini, 0), parameters(mae))).toThrow(
      /imageSize 16, this model has 24/,
    );
    const token = { ...config, conditioning: "token" } as const;
    expect(() => withMAEEncoder(initUMD(token, 0), parameters(mae))).toThrow(/use adaLN/);
  });

  it("the released sizes are known by their shapes", () => {
    const shapes = (entries: Record<string, number[]>): Map<string, Tensor> =>
      new Map(Object.entries(entries).map(([key, shape]) => [key, zeros(shape)]));
    const base = shapes({
      "patch_embed.proj.weight": [768, 3, 16, 16],
      pos_embed: [1, 197, 768],
      "blocks.0.mlp.fc1.weight": [3072, 768],
      "blocks.11.norm1.weight": [768],
    });
    expect(metaMAEConfig(base)).toMatchObject({ imageSize: 224, depth: 12, heads: 12, mlpRatio: 4 });
  });

  it("names what is missing and what is something else", () => {
    expect(() => publishedMAE(new Map([["unet.conv.weight", zeros([1])]]))).toThrow(/no MAE.*unet\.conv/);
    const dit = ["x_embedder.proj.weight", "y_embedder.embedding_table.weight", "blocks.0.attn.qkv.weight"];
    expect(() => publishedMAE(new Map(dit.map((key) => [key, zeros([1])])))).toThrow(/tweedie generate/);
    const short = new Map(parameters(new VisionTransformer(metaMAEConfig(parameters(mae), 4), blankRng)));
    short.delete("blocks.1.mlp.fc2.bias");
    expect(() => publishedMAE(short, { heads: 4 })).toThrow(FormatError);
    expect(() => publishedMAE(short, { heads: 4 })).toThrow(/missing "blocks\.1\.mlp\.fc2\.bias"/);
  });
});

describe("full linear probe", () => {
  it("learns separable features, and nothing from noise", async () => {
    const clouds = (count: number, gap: number, purpose: string) => {
      const values = noise.normal([count, 6], { sample: 0, purpose, step: 0 });
      const labels = Int32Array.from({ length: count }, (_, i) => i % 3);
      return {
        rows: Float32Array.from(values, (v, at) => v + (at % 6 === labels[Math.floor(at / 6)]! ? gap : 0)),
        width: 6,
        labels,
      };
    };
    const options = { classes: 3, epochs: 40, batch: 64, learningRate: 0.1 * 1000, seed: 0, threads: 1 };
    expect(await linearProbeAccuracy(clouds(256, 8, "a"), clouds(150, 8, "b"), options)).toBeGreaterThan(
      0.97,
    );
    expect(await linearProbeAccuracy(clouds(256, 0, "a"), clouds(150, 0, "b"), options)).toBeLessThan(0.5);
  });
});
