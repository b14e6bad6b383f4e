import { describe, expect, it } from "vitest";
import { clipTextConfig, officialClipTextConfig } from "../../src/networks/clip/config.ts";
import {
  CLIPTextModel,
  CLIPTextModelWithProjection,
  clipText,
  withTextModelPrefix,
} from "../../src/networks/clip-text.ts";
import { blankRng, createRng, loadParameters, parameterCount, parameters } from "../../src/nn/index.ts";
import { jit, type Tensor, tensor } from "../../src/tensor/index.ts";
import {
  expectTinyLayout,
  expectTinyOutput,
  firstBadLayer,
  layoutOf,
  officialLayout,
  recorded,
  type TinyCase,
  type TraceEntry,
  tinyCase,
  withTinyWeights,
} from "./tiny-models.ts";

const ids = (rows: number[][]): Tensor => tensor(rows, { dtype: "i64" });
const idsOf = (tiny: TinyCase): Tensor => ids(tiny.inputs.input_ids as number[][]);
const build = (tiny: TinyCase): CLIPTextModel => withTinyWeights(clipText(tiny.config, blankRng));

describe("CLIP text encoder", () => {
  for (const name of ["clip_tinyA_pipeline", "clip_tinyB_controlnet", "clip_tinyC_gelu"]) {
    it(`${name}: every layer and every output as in the reference`, async () => {
      const tiny = tinyCase(name);
      const model = build(tiny);
      await expectTinyLayout(model, tiny);
      const { network, recording } = recorded(model.textModel);
      const out = network.call(idsOf(tiny));
      // Positions are the same for all samples: here they come without an axis for them.
      const trace = tiny.trace!.map(
        ([key, shape, ...values]): TraceEntry => [
          key,
          key.endsWith("position_embedding") ? shape.slice(1) : shape,
          ...values,
        ],
      );
      const bad = await firstBadLayer(trace, recording, { tolerance: 2e-5, skip: /activation_fn$/ });
      expect(bad).toBeUndefined();
      await expectTinyOutput(out.lastHiddenState, tiny, "last_hidden_state", 5e-5);
      await expectTinyOutput(out.poolerOutput, tiny, "pooler_output", 5e-5);
      await expectTinyOutput(out.hiddenStates.at(-2)!, tiny, "hidden_state_penultimate", 5e-5);
    });
  }

  it("has the official names and shapes of CLIP ViT-L/14", () => {
    const model = new CLIPTextModel(officialClipTextConfig("clip-vit-large-patch14"), blankRng);
    expect(layoutOf(model)).toEqual(officialLayout("clip_text_l14"));
    expect(parameterCount(model)).toBe(123_060_480);
  });

  it("has the published numbers of parameters of the encoders of SD 2 and SDXL", () => {
    const h = new CLIPTextModel(officialClipTextConfig("openclip-vit-h-14"), blankRng);
    expect(parameterCount(h)).toBe(340_387_840);
    const g = new CLIPTextModelWithProjection(officialClipTextConfig("openclip-vit-bigg-14"), blankRng);
    expect(parameterCount(g)).toBe(694_659_840);
    expect([...parameters(g).keys()].at(-1)).toBe("text_projection.weight");
  });

  it("takes weights without the prefix, and leaves position_ids alone", async () => {
    const model = build(tinyCase("clip_tinyA_pipeline"));
    const bare = [...parameters(model)].map(([key, t]) => [key.replace("text_model.", ""), t] as const);
    const weights = new Map([...bare, ["embeddings.position_ids", tensor([[0]])] as const]);
    const loaded = loadParameters(model, withTextModelPrefix(weights));
    const input = ids([[5, 6, 7]]);
    const same = loaded.call(input).lastHiddenState.sub(model.call(input).lastHiddenState).abs().max();
    expect(await same.item()).toBe(0);
  });

  it("is causal: what comes later changes nothing before", async () => {
    const model = build(tinyCase("clip_tinyA_pipeline"));
    const state = async (row: number[]) => model.call(ids([row])).lastHiddenState.toArray();
    const [a, b] = [await state([1, 2, 3, 4]), await state([1, 2, 3, 9])];
    expect(a.slice(0, 24)).toEqual(b.slice(0, 24));
    expect(a.slice(24)).not.toEqual(b.slice(24));
  });

  it("pools where the text ends: at the largest id when EOS is 2, else at the first EOS", async () => {
    const { config } = tinyCase("clip_tinyA_pipeline");
    const row = ids([
      [7, 500, 3, 3],
      [900, 3, 5, 3],
    ]);
    const pooledAt = async (eos: number): Promise<number[]> => {
      const model = withTinyWeights(
        new CLIPTextModel(clipTextConfig({ ...config, eos_token_id: eos }), blankRng),
      );
      const out = model.call(row);
      const [states, pooled] = [await out.lastHiddenState.toArray(), await out.poolerOutput.toArray()];
      const same = (n: number, t: number): boolean =>
        pooled.slice(8 * n, 8 * n + 8).every((v, i) => v === states[8 * (4 * n + t) + i]);
      return [0, 1].map((n) => [0, 1, 2, 3].findIndex((t) => same(n, t)));
    };
    expect(await pooledAt(2)).toEqual([1, 0]);
    expect(await pooledAt(3)).toEqual([2, 1]);
  });

  it("skips last layers, with and without the final norm", async () => {
    const model = build(tinyCase("clip_tinyB_controlnet"));
    const out = model.call(ids([[1, 2, 3]]));
    const difference = async (a: Tensor, b: Tensor): Promise<number> => a.sub(b).abs().max().item();
    expect(model.hidden(out)).toBe(out.lastHiddenState);
    expect(model.hidden(out, { skip: 1, norm: false })).toBe(out.hiddenStates[4]);
    const normed = model.textModel.finalLayerNorm.call(out.hiddenStates[4]!);
    expect(await difference(model.hidden(out, { skip: 1 }), normed)).toBe(0);
    expect(() => model.hidden(out, { skip: 6 })).toThrow(/0 to 5 layers, got 6/);
  });

  it("projects the pooled state", async () => {
    const config = clipTextConfig({ ...tinyCase("clip_tinyA_pipeline").config, projection_dim: 3 });
    const model = new CLIPTextModelWithProjection(config, createRng(0));
    const out = model.call(ids([[1, 2, 3]]));
    const expected = out.poolerOutput.matmul(model.textProjection.weight.transpose());
    expect(out.textEmbeds.shape).toEqual([1, 3]);
    expect(await out.textEmbeds.sub(expected).abs().max().item()).toBeLessThan(1e-6);
  });

  it("masks padding and takes vectors instead of ids, inside jit", async () => {
    const model = build(tinyCase("clip_tinyA_pipeline"));
    const run = jit((m: CLIPTextModel, x: Tensor, attentionMask: Tensor) => {
      const tokenEmbeddings = m.textModel.embeddings.tokenEmbedding.call(x);
      return m.call(x, { attentionMask, tokenEmbeddings }).lastHiddenState;
    });
    const masked = async (mask: number[]) =>
      (await run(model, ids([[1, 2, 3]]), tensor([mask], { dtype: "i64" }))).toArray();
    const plain = await model.call(ids([[1, 2, 3]])).lastHiddenState.toArray();
    for (const [i, v] of (await masked([1, 1, 1])).entries()) expect(v).toBeCloseTo(plain[i]!, 5);
    const some = await masked([1, 0, 1]);
    for (let i = 0; i < 8; i++) expect(some[i]).toBeCloseTo(plain[i]!, 5);
    expect(Math.abs(some[23]! - plain[23]!)).toBeGreaterThan(1e-4);
    await run.close();
  });

  it("names what is wrong with a configuration or an input", () => {
    expect(() => clipTextConfig({ hidden_size: 10, num_attention_heads: 4 })).toThrow(/num_attention_heads/);
    expect(() => clipTextConfig({ hidden_act: "tanhshrink" })).toThrow(/hidden_act.*quick_gelu/);
    const model = build(tinyCase("clip_tinyA_pipeline"));
    expect(() => model.call(ids([Array.from({ length: 78 }, () => 1)]))).toThrow(/77 positions, got 78/);
    expect(() => model.call(tensor([1, 2], { dtype: "i64" }))).toThrow(/ids \[N, T\]/);
  });
});
