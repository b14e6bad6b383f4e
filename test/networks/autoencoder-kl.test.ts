import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import {
  autoencoderKL,
  gaussianOf,
  klDivergence,
  negativeLogLikelihood,
  sampleGaussian,
} from "../../src/networks/autoencoder-kl.ts";
import { blankRng, createRng, parameterCount } from "../../src/nn/index.ts";
import { concat, type Tensor, tensor } from "../../src/tensor/index.ts";
import { expectClose } from "../nn/layer-kit.ts";
import { expectConformance } from "./conformance.ts";
import {
  expectTinyLayout,
  expectTinyOutput,
  firstBadLayer,
  layoutOf,
  officialLayout,
  recorded,
  type TraceEntry,
  tinyCase,
  tinyInput,
  withTinyWeights,
} from "./tiny-models.ts";

const build = (config: unknown) => autoencoderKL(config, blankRng);
const SD = {
  block_out_channels: [128, 256, 512, 512],
  layers_per_block: 2,
  down_block_types: Array.from({ length: 4 }, () => "DownEncoderBlock2D"),
  up_block_types: Array.from({ length: 4 }, () => "UpDecoderBlock2D"),
};

/** Modules of the reference that are functions here. */
const SKIP = /\.(nonlinearity|dropout|conv_act|to_out\.1)$/;

/** Groups are normalised on the map here, on its points in a row there. */
const asMap = (trace: readonly TraceEntry[]): TraceEntry[] =>
  trace.map(([name, shape, mean, first]) => {
    if (!name.endsWith("group_norm")) return [name, shape, mean, first];
    const side = Math.sqrt(shape[2]!);
    return [name, [shape[0]!, shape[1]!, side, side], mean, first];
  });

describe("AutoencoderKL computes what the reference computes", () => {
  it.each(["vae_tinyA_unit_test", "vae_tinyB_sd_topology"])("layer by layer: %s", async (name) => {
    const tiny = tinyCase(name);
    const { network, recording } = recorded(withTinyWeights(build(tiny.config)));
    await expectTinyLayout(network, tiny);
    const moments = network.moments(tinyInput(tiny, "sample"));
    const { mean, logvar } = gaussianOf(moments);
    const decoded = network.decode(tinyInput(tiny, "latent"));
    const trace = asMap(tiny.trace!);
    expect(await firstBadLayer(trace, recording, { tolerance: 5e-5, skip: SKIP })).toBeUndefined();
    for (const [key, value] of Object.entries({ moments, mean, logvar, decoded }))
      await expectTinyOutput(value, tiny, key, 5e-5);
  });

  // The second has another activation, and an image of odd sizes.
  it.each(["autoencoder-kl", "autoencoder-kl-relu"])("with gradients: %s", (folder) =>
    expectConformance(folder, build, (vae, { sample, latent }: Record<string, Tensor>) => ({
      ...vae.encode(sample!),
      decoded: vae.decode(latent!),
    })),
  );
});

describe("AutoencoderKL", () => {
  it("of Stable Diffusion has its official layout", () => {
    const vae = build(SD);
    expect(layoutOf(vae)).toEqual(officialLayout("vae_sd"));
    expect(parameterCount(vae)).toBe(83_653_863);
    expect(vae.sizeFactor).toBe(8);
  });

  it("has parts only where the configuration has them", () => {
    const small = { block_out_channels: [8, 16], norm_num_groups: 4, layers_per_block: 1 };
    const types = (kind: string) => ({
      down_block_types: ["DownEncoderBlock2D", `${kind}DownEncoderBlock2D`],
      up_block_types: [`${kind}UpDecoderBlock2D`, "UpDecoderBlock2D"],
    });
    const plain = Object.keys(layoutOf(build({ ...small, ...types("") })));
    const bare = { use_quant_conv: false, use_post_quant_conv: false, mid_block_add_attention: false };
    expect(Object.keys(layoutOf(build({ ...small, ...types(""), ...bare }))).sort()).toEqual(
      plain.filter((key) => !/quant_conv|attentions/.test(key)).sort(),
    );
    const attention = Object.keys(layoutOf(build({ ...small, ...types("Attn") }))).filter(
      (key) => !plain.includes(key),
    );
    const blocks = new Set(attention.map((key) => key.replace(/\.(group_norm|to_\w+).*/, "")));
    expect([...blocks]).toEqual([
      "encoder.down_blocks.1.attentions.0",
      "decoder.up_blocks.0.attentions.0",
      "decoder.up_blocks.0.attentions.1",
    ]);
    const vae = withTinyWeights(build({ ...small, ...types("Attn"), ...bare, latent_channels: 2 }));
    expect(vae.call(createRng(1).normal([1, 3, 6, 8])).shape).toEqual([1, 3, 6, 8]);
    expect(vae.encode(createRng(1).normal([1, 3, 6, 8])).mean.shape).toEqual([1, 2, 3, 4]);
  });

  it("scales latents by factor and shift, or by means and deviations, and back", async () => {
    const z = createRng(3).normal([2, 2, 3, 3]);
    const [a, b] = (await z.toArray()) as [number, number];
    const factors = { latent_channels: 2, scaling_factor: 0.5, shift_factor: 0.25 };
    const shifted = build(factors);
    expectClose((await shifted.scaled(z).toArray()).slice(0, 2), [(a - 0.25) / 2, (b - 0.25) / 2], 1e-6);
    const statistics = build({ ...factors, latents_mean: [1, 2], latents_std: [4, 5] });
    const scaled = await statistics.scaled(z).toArray();
    const last = (await z.toArray()).at(-1)!;
    expectClose([scaled[0]!, scaled.at(-1)!], [(a - 1) / 8, (last - 2) / 10], 1e-6);
    for (const vae of [shifted, statistics])
      expectClose(await vae.unscaled(vae.scaled(z)).toArray(), await z.toArray(), 1e-6);
  });

  it("says which configuration does not fit", () => {
    const two = { ...SD, block_out_channels: [32, 64] };
    expect(() => build(two)).toThrow(/"down_block_types": expected 2 names/);
    expect(() => build({ ...SD, norm_num_groups: 48 })).toThrow(
      /"norm_num_groups".*divisor of the 128 channels of level 0/,
    );
    expect(() => build({ ...SD, up_block_types: ["UpBlock2D"] })).toThrow(
      /"up_block_types".*UpDecoderBlock2D/,
    );
    expect(() => build({ ...SD, layers_per_block: 0 })).toThrow(FormatError);
    expect(() => build({ ...SD, scaling_factor: 0 })).toThrow(/"scaling_factor": expected a number above 0/);
    expect(() => build({ ...SD, latents_mean: [0, 0, 0, 0] })).toThrow(
      /"latents_std": expected both means and deviations/,
    );
    expect(() => build({ ...SD, latents_mean: [0], latents_std: [1] })).toThrow(/4 values/);
    expect(() => build("vae.json")).toThrow(/expected a configuration object/);
  });

  it("rounds sizes down, and refuses an image that is smaller than a latent point", () => {
    const vae = build(SD);
    const image = (h: number, w: number): Tensor => createRng(1).normal([1, 3, h, w]);
    expect(vae.encode(image(61, 64)).mean.shape).toEqual([1, 4, 7, 8]);
    expect(() => vae.encode(image(3, 64))).toThrow(/at least 8 x 8, got 3 x 64/);
    expect(() => vae.decode(image(8, 8))).toThrow(/AutoencoderKL.decode: expected \[N, 4, H, W\]/);
  });
});

describe("DiagonalGaussian", () => {
  const rng = createRng(5);
  const moments = rng.normal([2, 4, 3, 3], 2);
  const total = async (f: (mean: number, logvar: number, i: number) => number): Promise<number[]> => {
    const [means, logvars] = await Promise.all(moments.split(2, 1).map((t) => t.toArray()));
    const sums = [0, 0];
    means!.forEach((m, i) => {
      sums[Math.floor(i / 18)]! += f(m, logvars![i]!, i);
    });
    return sums;
  };

  it("clamps the logarithm of the variance", async () => {
    const extreme = concat(tensor([[[[0, 0]]]]), tensor([[[[-100, 50]]]]), 1);
    expect(await gaussianOf(extreme).logvar.toArray()).toEqual([-30, 20]);
  });

  it("samples at mean plus deviation times noise", async () => {
    const noise = rng.normal([2, 2, 3, 3]);
    const values = await noise.toArray();
    const expected = await total((m, l, i) => m + Math.exp(l / 2) * values[i]!);
    const sample = sampleGaussian(gaussianOf(moments), noise);
    expectClose(await sample.flattenAxes(1).sum(1).toArray(), expected, 1e-3);
  });

  it("has the divergences and densities of a normal", async () => {
    const posterior = gaussianOf(moments);
    const standard = await total((m, l) => (m * m + Math.exp(l) - 1 - l) / 2);
    expectClose(await klDivergence(posterior).toArray(), standard, 1e-3);
    const other = gaussianOf(concat(tensor([[[[1]]]]), tensor([[[[Math.log(4)]]]]), 1));
    const shifted = await total((m, l) => ((m - 1) ** 2 / 4 + Math.exp(l) / 4 - 1 - l + Math.log(4)) / 2);
    expectClose(await klDivergence(posterior, other).toArray(), shifted, 1e-3);
    expectClose(await klDivergence(posterior, posterior).toArray(), [0, 0], 1e-4);
    const density = await total((m, l) => (Math.log(2 * Math.PI) + l + (m - 0.5) ** 2 / Math.exp(l)) / 2);
    const half = moments.split(2, 1)[0]!.mul(0).add(0.5);
    const relative = (await negativeLogLikelihood(posterior, half).toArray()).map((v, i) => v / density[i]!);
    expectClose(relative, [1, 1], 1e-5);
  });
});
