import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { mapSafetensors } from "../../src/io/index.ts";
import { taesdConfig, taesdWeights } from "../../src/networks/autoencoder/taesd-weights.ts";
import { autoencoderTiny } from "../../src/networks/autoencoder-tiny.ts";
import { blankRng, createRng, loadParameters, parameterCount, parameters } from "../../src/nn/index.ts";
import { tensor } from "../../src/tensor/index.ts";
import { expectClose } from "../nn/layer-kit.ts";
import { layoutOf, withTinyWeights } from "./tiny-models.ts";

const build = (config: unknown) => autoencoderTiny(config, blankRng);

describe("AutoencoderTiny", () => {
  it("has the layout and size of TAESD", () => {
    const model = build({});
    const keys = Object.keys(layoutOf(model));
    expect(parameterCount(model)).toBe(2_445_063); // 1,222,532 of the encoder, 1,222,531 of the decoder
    expect(layoutOf(model)["encoder.layers.14.weight"]).toEqual([4, 64, 3, 3]);
    expect(layoutOf(model)["decoder.layers.18.weight"]).toEqual([3, 64, 3, 3]);
    expect(keys.filter((key) => key.startsWith("decoder.layers.6."))).toEqual(["decoder.layers.6.weight"]);
    expect(keys.filter((key) => /^decoder\.layers\.(1|5|10|15)\./.test(key))).toEqual([]);
    expect(model.sizeFactor).toBe(8);
  });

  it("clamps latents softly and keeps eight bits of them", async () => {
    const model = withTinyWeights(
      build({
        latent_channels: 2,
        encoder_block_out_channels: [8, 8],
        decoder_block_out_channels: [8, 8],
        num_encoder_blocks: [1, 1],
        num_decoder_blocks: [1, 1],
      }),
    );
    const z = tensor([-7, -3, 0, 1.5, 3, 9]);
    expectClose(await model.toUnit(z).toArray(), [0, 0, 0.5, 0.75, 1, 1], 1e-6);
    expectClose(await model.fromUnit(model.toUnit(z)).toArray(), [-3, -3, 0, 1.5, 3, 3], 1e-6);
    const x = createRng(1).normal([1, 3, 8, 6]);
    const bytes = (await model.toUnit(model.encode(x)).toArray()).map((v) => Math.round(v * 255) / 255);
    const stored = tensor(Float32Array.from(bytes), { shape: [1, 2, 4, 3] });
    const expected = model.decode(model.fromUnit(stored));
    expectClose(await model.call(x).toArray(), await expected.toArray(), 1e-4);
    const far = createRng(2).normal([1, 2, 2, 2], 100);
    expectClose(
      await model.decode(far).toArray(),
      await model.decode(far.mul(10)).toArray(),
      0.2, // beyond the clamp hardly anything changes
    );
  });

  it("says what does not fit", () => {
    const wrong = (config: object) => () => build(config);
    expect(wrong({ encoder_block_out_channels: [64, 64] })).toThrow(
      /"encoder_block_out_channels": expected 4/,
    );
    expect(wrong({ decoder_block_out_channels: [64, 64, 32, 64] })).toThrow(/the same number for each level/);
    const shallow = { num_decoder_blocks: [1, 1], decoder_block_out_channels: [64, 64] };
    expect(wrong(shallow)).toThrow(/"num_decoder_blocks": expected as many levels as the encoder's 4/);
    expect(wrong({ upsample_fn: "bicubic" })).toThrow(/"upsample_fn"/);
    expect(() => build({}).encode(createRng(1).normal([1, 3, 20, 32]))).toThrow(/the nearest is 24 x 32/);
  });

  it("reads the names of the original files, and says when a file is another", () => {
    const decoder = new Map([
      ["1.weight", { shape: [64, 16, 3, 3] }],
      ["3.pool.0.weight", { shape: [256, 64, 1, 1] }],
    ]);
    const encoder = new Map([["0.bias", { shape: [64] }]]);
    const weights = taesdWeights({ encoder, decoder });
    expect([...weights.keys()]).toEqual([
      "encoder.layers.0.bias",
      "decoder.layers.0.weight",
      "decoder.layers.2.pool.0.weight",
    ]);
    expect(taesdConfig(weights)).toMatchObject({ latent_channels: 16, use_midblock_gn: true });
    expect(() => taesdWeights({ decoder: encoder })).toThrow(FormatError);
    expect(() => taesdWeights({ encoder: new Map([["conv_in.weight", 0]]) })).toThrow(/conv_in\.weight/);
    expect(() => taesdConfig(new Map())).toThrow(/decoder\.layers\.0\.weight.*got none/);
  });
});

const data = new URL("../../../shared/data/", import.meta.url);
const place = (name: string): string => fileURLToPath(new URL(name, data));
const here = existsSync(place("weights/taef2_decoder.safetensors"));
if (!here) console.log("autoencoder-tiny.test.ts: no shared/data/weights, the test of TAEF2 is skipped");

describe.skipIf(!here)("TAEF2, from its original files", () => {
  it("encodes and decodes a photo as an independent implementation does", async () => {
    const { taef2 } = JSON.parse(readFileSync(place("weights/reference-values.json"), "utf8"));
    const [encoder, decoder] = await Promise.all([
      mapSafetensors(place("weights/taef2_encoder.safetensors")),
      mapSafetensors(place("weights/taef2_decoder.safetensors")),
    ]);
    const weights = taesdWeights({ encoder, decoder });
    const model = loadParameters(build(taesdConfig(weights)), weights, { widen: true });
    expect([...parameters(model).keys()].sort()).toEqual([...weights.keys()].sort());

    const region = { left: 100, top: 100, width: 64, height: 64 };
    const photo = sharp(place("stereo-middlebury/cones/im2.png")).removeAlpha().extract(region);
    const bytes = await photo.raw().toBuffer();
    const pixels = Float32Array.from({ length: 3 * 64 * 64 }, (_, i) => {
      const [channel, at] = [Math.floor(i / 4096), i % 4096];
      return bytes[3 * at + channel]! / 255;
    });
    const image = tensor(pixels, { shape: [1, 3, 64, 64] });

    const latents = model.encode(image.mul(2).sub(1));
    expect(latents.shape.slice(1)).toEqual(taef2.latent_shape);
    const z = await latents.toArray();
    const mean = z.reduce((a, b) => a + b) / z.length;
    const std = Math.sqrt(z.reduce((sum, v) => sum + (v - mean) ** 2, 0) / z.length);
    expectClose([mean, std], [taef2.latent_mean, taef2.latent_std], 2e-5);
    expectClose(
      [0, 1, 2, 3].map((c) => z[64 * c]!),
      taef2["latent[0..3][0][0]"],
      2e-5,
    );
    expectClose([z.at(-1)!], [taef2["latent[31][7][7]"]], 2e-5);

    const decoded = model.decode(latents).add(1).div(2);
    const y = await decoded.toArray();
    const point = (row: number, column: number) => [0, 1, 2].map((c) => y[4096 * c + 64 * row + column]!);
    expectClose(point(0, 0), taef2["decoded[0..2][0][0]"], 2e-5);
    expectClose(point(40, 20), taef2["decoded[0..2][40][20]"], 2e-5);
    const error = y.reduce((sum, v, i) => sum + (v - pixels[i]!) ** 2, 0) / y.length;
    expect(-10 * Math.log10(error)).toBeCloseTo(taef2.psnr_db, 2);
  });
});
