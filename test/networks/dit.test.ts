import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { decodeSafetensors, isRawTensor } from "../../src/io/safetensors.ts";
import { ditConfig, ditPreset } from "../../src/networks/dit/config.ts";
import { DiTTransformer2DModel, ditTransformer2D } from "../../src/networks/dit/dit.ts";
import { diffusersFromMeta, isMetaDiT, metaFromDiffusers } from "../../src/networks/dit/meta-keys.ts";
import { blankRng, createRng, loadParameters, parameterCount, parameters } from "../../src/nn/index.ts";
import { evaluate, fromHost, type Tensor, tensor, vjp } from "../../src/tensor/index.ts";
import { expectConformance } from "./conformance.ts";
import {
  expectTinyLayout,
  expectTinyOutput,
  firstBadLayer,
  layoutOf,
  officialLayout,
  recorded,
  type TinyCase,
  tinyCase,
  tinyInput,
  withTinyWeights,
} from "./tiny-models.ts";

const build = (tiny: TinyCase): DiTTransformer2DModel =>
  withTinyWeights(ditTransformer2D(tiny.config, blankRng));
const labelsOf = (tiny: TinyCase): Tensor => tensor(tiny.inputs.class_labels as number[], { dtype: "i64" });
const labels = (...values: number[]): Tensor => tensor(values, { dtype: "i64" });

const fixture = new URL("../fixtures/networks/dit-transformer2d/", import.meta.url);
const read = (name: string): Buffer => readFileSync(new URL(name, fixture));
const tensorsOf = (name: string): Map<string, Tensor> =>
  new Map(
    [...decodeSafetensors(read(name)).tensors].map(([key, stored]) => {
      if (isRawTensor(stored)) throw new Error(`${key}: unexpected ${stored.dtype}`);
      return [key, fromHost(stored.dtype, stored.shape, stored.data)];
    }),
  );
const largest = async (x: Tensor): Promise<number> => x.abs().max().item();
const relativeError = async (got: Tensor, expected: Tensor): Promise<number> =>
  (await largest(got.sub(expected))) / (await largest(expected));

describe("DiT", () => {
  it("has the reference's outputs and gradients with a trained norm and CLIP's activation", () =>
    expectConformance(
      "dit-transformer2d-affine",
      (config) => ditTransformer2D(config, blankRng),
      (dit, { hidden_states, timestep, class_labels }: Record<string, Tensor>) => ({
        sample: dit.call(hidden_states!, timestep!, class_labels!),
      }),
    ));

  for (const name of ["dit_tinyA_unit_test", "dit_tinyB_pipeline"]) {
    it(`${name}: every layer and the output as in the reference`, async () => {
      const tiny = tinyCase(name);
      const model = build(tiny);
      await expectTinyLayout(model, tiny);
      const { network, recording } = recorded(model);
      const out = network.call(tinyInput(tiny, "hidden_states"), tinyInput(tiny, "timestep"), labelsOf(tiny));
      // The reference embeds the condition again for the last layer; here the first block's is used.
      const last = tiny.trace!.findLastIndex(([key]) => key === "transformer_blocks.0.norm1.emb.time_proj");
      const trace = tiny.trace!.filter(
        ([key], i) => i < last || !key.startsWith("transformer_blocks.0.norm1.emb"),
      );
      expect(trace.length).toBe(tiny.trace!.length - 8);
      const skip = /\.(time_proj|act|silu|to_out\.1)$/;
      expect(await firstBadLayer(trace, recording, { tolerance: 2e-4, skip })).toBeUndefined();
      await expectTinyOutput(out, tiny, "sample", 2e-4);
    });
  }

  it("outputs, gradients and every gradient norm of the conformance case", async () => {
    const weights = tensorsOf("model.safetensors");
    const config = ditConfig(JSON.parse(read("config.json").toString()));
    const model = loadParameters(new DiTTransformer2DModel(config, blankRng), weights);
    const expected = tensorsOf("expected.safetensors");
    const { gradNorms } = JSON.parse(read("expected.json").toString()) as {
      gradNorms: Record<string, number>;
    };
    const [t, y] = [expected.get("in.timestep")!, expected.get("in.class_labels")!];
    const forward = (m: DiTTransformer2DModel, x: Tensor): Tensor => m.call(x, t, y);
    const [out, pull] = vjp(forward, model, expected.get("in.hidden_states")!);
    const [gradients, inputGradient] = pull(expected.get("cotangent.sample")!);
    const byKey = parameters(gradients);
    await evaluate([out, inputGradient, ...byKey.values()]);
    expect(await relativeError(out, expected.get("out.sample")!)).toBeLessThan(1e-4);
    expect(await relativeError(inputGradient, expected.get("grad.in.hidden_states")!)).toBeLessThan(1e-3);
    expect([...byKey.keys()].sort()).toEqual(Object.keys(gradNorms).sort());
    for (const [key, norm] of Object.entries(gradNorms)) {
      const got = await byKey.get(key)!.square().sum().sqrt().item();
      // The bias of the keys shifts all scores alike: its gradient is rounding alone.
      expect(Math.abs(got - norm), key).toBeLessThan(1e-3 * norm + 1e-4);
    }
    for (const [key, value] of expected) {
      if (!key.startsWith("grad.param.")) continue;
      expect(await relativeError(byKey.get(key.slice(11))!, value), key).toBeLessThan(1e-3);
    }
  });

  it("has the official names and shapes of DiT-XL/2", () => {
    const config = ditConfig({ sample_size: 32, out_channels: 8, num_embeds_ada_norm: 1000 });
    const model = new DiTTransformer2DModel(config, blankRng);
    expect(layoutOf(model)).toEqual(officialLayout("dit_xl2_256"));
    expect(parameterCount(model)).toBe(749_826_464);
  });

  it("has the published numbers of parameters in the authors' form", () => {
    const count = (size: Parameters<typeof ditPreset>[0]): number =>
      parameterCount(new DiTTransformer2DModel(ditPreset(size), blankRng));
    const millions = (["S/2", "B/2", "L/2", "XL/2"] as const).map((size) => Math.round(count(size) / 1e6));
    expect(millions).toEqual([33, 130, 458, 675]); // Peebles and Xie 2022, tables 1 and 4
    expect(count("XL/2") + 256 * 1152).toBe(675_129_632); // with the table of positions, which they store
  });

  it("stretches its positions to other sizes, square or not", async () => {
    const model = build(tinyCase("dit_tinyA_unit_test"));
    const out = model.call(createRng(1).normal([1, 4, 12, 8]), tensor([3]), labels(1));
    expect(out.shape).toEqual([1, 8, 12, 8]);
    expect(Number.isFinite(await out.sum().item())).toBe(true);
    expect(() => model.call(createRng(1).normal([1, 4, 9, 8]), tensor([3]), labels(1))).toThrow(
      /divisible by 2/,
    );
    expect(() => model.call(createRng(1).normal([2, 4, 8, 8]), tensor([3]), labels(1))).toThrow(
      /labels \[2\]/,
    );
  });

  it("treats a sample of a batch as the sample alone, and one time as a time for all", async () => {
    const model = build(tinyCase("dit_tinyA_unit_test"));
    const x = createRng(1).normal([2, 4, 8, 8]);
    const both = model.call(x, tensor(5), labels(1, 8));
    const second = model.call(x.sliceAxis(0, 1, 2), tensor([5]), labels(8));
    expect(await largest(both.sliceAxis(0, 1, 2).sub(second))).toBeLessThan(1e-5);
  });

  it("without a null class says so when it is asked for", () => {
    const { config } = build(tinyCase("dit_tinyA_unit_test"));
    const without = new DiTTransformer2DModel({ ...config, nullClass: false }, blankRng);
    expect(() => without.nullClass).toThrow(/no null class/);
  });

  it("names what is wrong with a configuration", () => {
    expect(() => ditConfig({ norm_type: "layer_norm" })).toThrow(/norm_type.*ada_norm_zero/);
    expect(() => ditConfig({ sample_size: 9 })).toThrow(/patch_size.*divisor of the sample_size 9/);
    expect(() => ditConfig({ dropout: 1 })).toThrow(/dropout.*below 1/);
    expect(() => ditPreset("M/2" as "S/2")).toThrow(/S, B, L or XL/);
    expect(() => ditPreset("S/8", { sampleSize: 20 })).toThrow(/divisible by 8/);
  });
});

describe("the authors' spelling of DiT", () => {
  const config = ditPreset("S/2", { sampleSize: 8, classes: 5 });
  const small = { ...config, layers: 2, heads: 2, headDim: 4 };
  const model = withTinyWeights(new DiTTransformer2DModel(small, blankRng));
  const run = (m: DiTTransformer2DModel): Tensor =>
    m.call(createRng(1).normal([2, 4, 8, 8]), tensor([0.5, 900]), labels(1, 5));

  it("has their names and shapes", async () => {
    const theirs = await metaFromDiffusers(parameters(model), 4);
    expect(isMetaDiT(theirs.keys())).toBe(true);
    expect(isMetaDiT(parameters(model).keys())).toBe(false);
    const shapes = Object.fromEntries([...theirs].map(([key, t]) => [key, t.shape.join("x")]));
    const block = (i: number): Record<string, string> => ({
      [`blocks.${i}.attn.qkv.weight`]: "24x8",
      [`blocks.${i}.attn.qkv.bias`]: "24",
      [`blocks.${i}.attn.proj.weight`]: "8x8",
      [`blocks.${i}.attn.proj.bias`]: "8",
      [`blocks.${i}.mlp.fc1.weight`]: "32x8",
      [`blocks.${i}.mlp.fc1.bias`]: "32",
      [`blocks.${i}.mlp.fc2.weight`]: "8x32",
      [`blocks.${i}.mlp.fc2.bias`]: "8",
      [`blocks.${i}.adaLN_modulation.1.weight`]: "48x8",
      [`blocks.${i}.adaLN_modulation.1.bias`]: "48",
    });
    expect(shapes).toEqual({
      pos_embed: "1x16x8",
      "x_embedder.proj.weight": "8x4x2x2",
      "x_embedder.proj.bias": "8",
      "t_embedder.mlp.0.weight": "8x256",
      "t_embedder.mlp.0.bias": "8",
      "t_embedder.mlp.2.weight": "8x8",
      "t_embedder.mlp.2.bias": "8",
      "y_embedder.embedding_table.weight": "6x8",
      ...block(0),
      ...block(1),
      "final_layer.linear.weight": "32x8",
      "final_layer.linear.bias": "32",
      "final_layer.adaLN_modulation.1.weight": "16x8",
      "final_layer.adaLN_modulation.1.bias": "16",
    });
  });

  it("comes back as it was, with one embedding for all blocks or one each", async () => {
    const theirs = await metaFromDiffusers(parameters(model), 4);
    await evaluate([...theirs.values()]); // as if read from a file
    const shared = loadParameters(model, diffusersFromMeta(theirs, { sharedEmbedding: true }));
    expect(await largest(run(shared).sub(run(model)))).toBe(0);
    const separate = new DiTTransformer2DModel({ ...small, sharedEmbedding: false }, blankRng);
    const copied = loadParameters(separate, diffusersFromMeta(theirs));
    expect(await largest(run(copied).sub(run(model)))).toBeLessThan(1e-6);
    const again = await metaFromDiffusers(parameters(copied), 4);
    for (const [key, value] of theirs)
      expect(await again.get(key)!.toArray(), key).toEqual(await value.toArray());
  });

  it("is refused for blocks that embed differently, and lists what it does not know", async () => {
    const separate = withTinyWeights(
      new DiTTransformer2DModel({ ...small, sharedEmbedding: false }, blankRng),
    );
    await expect(metaFromDiffusers(parameters(separate), 4)).rejects.toThrow(
      /transformer_blocks\.1\.norm1\.emb/,
    );
    const extra = new Map([...parameters(model), ["other.weight", tensor([1])]]);
    await expect(metaFromDiffusers(extra, 4)).rejects.toThrow(/other\.weight/);
    const theirs = new Map([["blocks.0.attn.qkv.weight", tensor([[1], [2]])]]);
    expect(() => diffusersFromMeta(theirs)).toThrow(/three times as many rows/);
    expect([...diffusersFromMeta(new Map([["ema.decay", tensor([1])]])).keys()]).toEqual(["ema.decay"]);
  });
});
