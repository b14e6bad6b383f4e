import { describe, expect, test } from "vitest";
import {
  extractFeatures,
  FeatureNetwork,
  type FeatureNetworkConfig,
  labelAgreement,
  openFeatureNetwork,
  saveFeatureNetwork,
  trainFeatureNetwork,
} from "../../src/metrics/index.ts";
import { createRng } from "../../src/nn/index.ts";
import { createNoise, fromHost } from "../../src/tensor/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";

const at = useTemporaryFolder();
const config: FeatureNetworkConfig = { size: 8, channels: 1, classes: 5, heads: [2, 3] };

/** Bright or dark, and where the bright column is. */
function examples(count: number, step: number): { values: Float32Array; labels: Int32Array } {
  const values = createNoise("philox", 3)
    .normal([count, 64], { step })
    .map((x) => 0.1 * x);
  const labels = new Int32Array(2 * count);
  for (let i = 0; i < count; i++) {
    const [bright, column] = [i % 2, Math.floor(i / 2) % 3];
    labels.set([bright, column], 2 * i);
    for (let k = 0; k < 64; k++) {
      values[64 * i + k]! += bright ? 0.5 : -0.5;
      if (k % 8 >= 2 + 2 * column && k % 8 < 4 + 2 * column) values[64 * i + k]! += 0.5;
    }
  }
  return { values, labels };
}

describe("a feature network with two questions", () => {
  test("learns both, and is the same after a file", async () => {
    const batch = (step: number) => {
      const { values, labels } = examples(24, step);
      return { x: fromHost("f32", [24, 1, 8, 8], values), labels: fromHost("i32", [24, 2], labels) };
    };
    const held = examples(60, 9999);
    let network: FeatureNetwork | undefined;
    for await (const event of trainFeatureNetwork({ config, batch, steps: 60, seed: 0 }))
      if (event.type === "done") network = event.state.model;
    const found = await extractFeatures(network!, held.values, 20);
    expect(found.features.size).toBe(60);
    for (const head of [0, 1]) expect(labelAgreement(found, held.labels, head)).toBeGreaterThan(0.95);
    for (let i = 0; i < 60; i++) {
      const row = found.probabilities.subarray(5 * i, 5 * i + 5);
      expect(row[0]! + row[1]!).toBeCloseTo(1, 5);
      expect(row[2]! + row[3]! + row[4]!).toBeCloseTo(1, 5);
    }
    await saveFeatureNetwork(at("f.safetensors"), network!, { seed: "0" });
    const opened = await openFeatureNetwork(at("f.safetensors"), "columns");
    expect([opened.recipe.name, opened.recipe.hash.length, opened.metadata.get("seed")]).toEqual([
      "columns",
      64,
      "0",
    ]);
    const again = await extractFeatures(opened.network, held.values, 60);
    expect(labelAgreement(again, held.labels, 1)).toBeGreaterThan(0.95);
  });
  test("refuses heads that do not add up, and pictures of another size", async () => {
    expect(() => new FeatureNetwork({ ...config, classes: 6 }, createRng(0))).toThrow(
      /heads of 5 classes, 6/,
    );
    const network = new FeatureNetwork(config, createRng(0));
    expect(() => network.features(fromHost("f32", [1, 1, 4, 4], new Float32Array(16)))).toThrow(
      /expected \[N, 1, 8, 8\]/,
    );
    await expect(extractFeatures(network, new Float32Array(65))).rejects.toThrow(/65 values/);
  });
});
