import { describe, expect, it } from "vitest";
import { applyPromptWeights } from "../../src/networks/clip/prompt-weights.ts";
import { clipText } from "../../src/networks/clip-text.ts";
import { ditTransformer2D } from "../../src/networks/dit/dit.ts";
import { MaskedAutoencoder } from "../../src/networks/mae.ts";
import { VisionTransformer } from "../../src/networks/vit/vit.ts";
import { blankRng, createRng, mapParameters, parameters } from "../../src/nn/index.ts";
import { castHost, type Tensor, tensor } from "../../src/tensor/index.ts";
import { tinyCase, withTinyWeights } from "./tiny-models.ts";

/** The module with weights of half precision. */
async function halved<T extends object>(module: T): Promise<T> {
  const halves = new Map<string, Tensor>();
  for (const [key, t] of parameters(module)) halves.set(key, await castHost(t, "f16"));
  return mapParameters(module, (_, key) => halves.get(key)!);
}

/** Half precision in, half precision out, and nearly the same numbers. */
async function expectHalf<T extends object>(
  module: T,
  x: Tensor,
  run: (m: T, x: Tensor) => Tensor,
): Promise<void> {
  const [full, half] = [run(module, x), run(await halved(module), await castHost(x, "f16"))];
  expect(half.dtype).toBe("f16");
  const [a, b] = [await full.toArray(), await half.toArray()];
  const scale = Math.max(...a.map(Math.abs));
  const worst = a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0);
  expect(worst).toBeLessThan(2e-2 * scale);
}

describe("networks of half precision", () => {
  const ids = tensor([[998, 3, 999, 999]], { dtype: "i64" });
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
  const image = createRng(1).normal([2, 3, 8, 8]);

  it("CLIP, with weighted tokens", () => {
    const model = withTinyWeights(clipText(tinyCase("clip_tinyA_pipeline").config, blankRng));
    return expectHalf(model, tensor([[1, 1.5, 1, 1]]), (m, weights) =>
      applyPromptWeights(m.call(ids).lastHiddenState, weights, { rescale: false }),
    );
  });

  it("DiT", () => {
    const model = withTinyWeights(ditTransformer2D(tinyCase("dit_tinyA_unit_test").config, blankRng));
    const labels = tensor([1, 8], { dtype: "i64" });
    return expectHalf(model, createRng(1).normal([2, 4, 8, 8]), (m, x) =>
      m.call(x, tensor([3, 777]), labels),
    );
  });

  it("the vision transformer, on another size", () =>
    expectHalf(
      withTinyWeights(new VisionTransformer(tiny, blankRng)),
      createRng(1).normal([1, 3, 12, 8]),
      (m, x) => m.features(x),
    ));

  it("the masked autoencoder", () => {
    const config = { ...tiny, decoderDim: 8, decoderDepth: 1, decoderHeads: 2, normPixLoss: true };
    const noise = createRng(2).uniform([2, 16], 0, 1);
    return expectHalf(
      withTinyWeights(new MaskedAutoencoder(config, blankRng)),
      image,
      (m, x) => m.call(x, noise).loss,
    );
  });
});
