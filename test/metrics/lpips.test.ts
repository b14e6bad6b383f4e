/** LPIPS against the numbers of an independent forward pass; needs the public weights of ../shared/data. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { featureDistance, type Lpips, openLpips } from "../../src/metrics/index.ts";
import { PerceptualNetwork } from "../../src/networks/index.ts";
import { blankRng, createRng, parameters } from "../../src/nn/index.ts";
import { createNoise, fromHost, grad, type Tensor, tensor, zerosLike } from "../../src/tensor/index.ts";

const weights = new URL("../../../shared/data/weights/", import.meta.url);
const present = existsSync(weights);

/** An 8-bit RGB picture as [1, 3, H, W] in [0, 1]. */
async function picture(name: string): Promise<Tensor> {
  const { data, info } = await sharp(readFileSync(new URL(`lpips_v0.1/${name}`, weights)))
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  const pixels = Float32Array.from(data, (x) => x / 255);
  return fromHost("f32", [1, info.height, info.width, 3], pixels).transpose([0, 3, 1, 2]);
}

const squeezeLpips = (): Promise<Lpips> => openLpips(fileURLToPath(weights));

describe.skipIf(!present)("with the public weights (skipped: ../shared/data is not there)", () => {
  test("SqueezeNet's features have the reference's shapes and means", async () => {
    const reference = JSON.parse(
      readFileSync(new URL("reference-values.json", weights), "utf8"),
    ).squeezenet1_1;
    const { network } = await squeezeLpips();
    const mean = fromHost("f32", [1, 3, 1, 1], Float32Array.of(0.485, 0.456, 0.406));
    const std = fromHost("f32", [1, 3, 1, 1], Float32Array.of(0.229, 0.224, 0.225));
    const features = network.call((await picture("ex_ref.png")).sub(mean).div(std));
    expect(features.map((f) => f.shape.slice(1))).toEqual(reference.feature_shapes);
    for (const [i, f] of features.entries())
      expect(await f.mean().item()).toBeCloseTo(reference.feature_means[i], 3);
  });

  test("LPIPS (squeeze) of the reference pictures is the published package's", async () => {
    const lpips = await squeezeLpips();
    const [ref, p0, p1] = await Promise.all(
      ["ex_ref.png", "ex_p0.png", "ex_p1.png"].map(async (name) => (await picture(name)).mul(2).sub(1)),
    );
    expect(await lpips.call(ref!, p0!).item()).toBeCloseTo(0.71121, 3);
    expect(await lpips.call(ref!, p1!).item()).toBeCloseTo(0.14794, 3);
    expect(await lpips.call(p0!, p1!).item()).toBeCloseTo(0.72797, 3);
    expect(await lpips.call(ref!, ref!).item()).toBe(0);
  });
});

test("the backbones have torchvision's layout", () => {
  const shapes = (name: "squeezenet" | "alexnet" | "vgg16") =>
    parameters(new PerceptualNetwork(name, blankRng));
  expect(shapes("alexnet").get("features.10.weight")?.shape).toEqual([256, 256, 3, 3]);
  expect(shapes("vgg16").get("features.28.bias")?.shape).toEqual([512]);
  expect(shapes("squeezenet").get("features.12.expand3x3.weight")?.shape).toEqual([256, 64, 3, 3]);
  const count = (name: "squeezenet" | "alexnet" | "vgg16"): number =>
    [...shapes(name).values()].reduce((sum, t) => sum + t.size, 0);
  // The feature parts of torchvision's models.
  expect([count("alexnet"), count("vgg16"), count("squeezenet")]).toEqual([2469696, 14714688, 722496]);
  expect(() => new PerceptualNetwork("resnet" as "vgg16", blankRng)).toThrow(/squeezenet, alexnet, vgg16/);
});

test("the unlearned feature distance is 0 for equal pictures and symmetric", async () => {
  const network = new PerceptualNetwork("squeezenet", createRng(1));
  const noise = createNoise("philox", 2);
  const [a, b] = [0, 1].map((step) =>
    fromHost("f32", [1, 3, 40, 40], noise.uniform([1, 3, 40, 40], { step })),
  );
  const [fa, fb] = [network.call(a!), network.call(b!)];
  expect(await featureDistance(fa, fa).item()).toBe(0);
  expect(await featureDistance(fa, fb).item()).toBeGreaterThan(0);
  expect(await featureDistance(fa, fb).item()).toBeCloseTo(Number(await featureDistance(fb, fa).item()), 6);
});

test("the gradient is finite where all channels of a feature are 0, and where both pictures are equal", async () => {
  const distance = (x: Tensor, y: Tensor): Tensor => featureDistance([x], [y]).sum();
  const ones = tensor([[[[1]], [[1]], [[1]], [[1]]]]);
  for (const [x, y] of [
    [zerosLike(ones), ones],
    [zerosLike(ones), zerosLike(ones)],
    [ones, ones],
  ] as const) {
    const gradient = await grad(distance)(x, y).toArray();
    expect(gradient.every(Number.isFinite)).toBe(true);
  }
});
