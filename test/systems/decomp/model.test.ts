import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { blankRng, parameterCount, parameters } from "../../../src/nn/index.ts";
import {
  checkConfig,
  DecompUNet,
  decompFile,
  fromPublished,
  initDecomp,
  openDecomp,
  PRESETS,
  publishedConfig,
} from "../../../src/systems/decomp/model.ts";
import { fromHost, type Tensor, treeLeaves } from "../../../src/tensor/index.ts";

interface Reference {
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly latents: readonly number[];
  readonly components: readonly number[];
  readonly mean: readonly number[];
}

/** Numbers of a network written by hand in PyTorch, with weights that are sines of their index. */
const reference = async (): Promise<Reference> =>
  JSON.parse(await readFile("test/fixtures/networks/decomp-forward.json", "utf8"));

function wave(name: string, count: number): Float64Array {
  const offset = [...name].reduce((sum, letter, i) => sum + (i + 1) * letter.charCodeAt(0), 0) % 1000;
  return Float64Array.from({ length: count }, (_, i) => Math.sin(0.37 * i + offset));
}

function weightsOf({ shapes }: Reference): Map<string, Tensor> {
  const weights = new Map<string, Tensor>();
  for (const [name, shape] of Object.entries(shapes)) {
    const size = shape.reduce((a, b) => a * b, 1);
    const [scale, shift] = name.endsWith("running_var")
      ? [0.5, 1]
      : name.endsWith("running_mean")
        ? [0.1, 0]
        : shape.length === 1
          ? [0.1, name.endsWith("weight") ? 1 : 0]
          : [1.5 / Math.sqrt(size / shape[0]!), 0];
    weights.set(
      name,
      fromHost(
        "f32",
        shape,
        Float32Array.from(wave(name, size), (v) => scale * v + shift),
      ),
    );
  }
  return weights;
}

const every = async (x: Tensor, stride: number): Promise<number[]> =>
  Array.from((await x.data()) as Float32Array).filter((_, i) => i % stride === 0);

const furthest = (a: readonly number[], b: readonly number[]): number => {
  expect(a.length).toBe(b.length);
  return Math.max(...a.map((v, i) => Math.abs(v - b[i]!)));
};

describe("the published layout", () => {
  // Counted by building the published code; each encoder keeps 6 counters of batches that are dropped here.
  it.each([
    ["clevr", 354, 18_202_947],
    ["celeba", 354, 31_348_611],
    ["tetris", 208, 9_270_083],
    ["falcor3d", 246, 9_028_707],
    ["celeba-128", 432, 94_069_827],
  ] as const)("%s has as many tensors and numbers", (name, tensors, numbers) => {
    const model = new DecompUNet(PRESETS[name], blankRng, { withMean: false });
    const counters = 6;
    expect(parameters(model).size + counters).toBe(tensors);
    expect(parameterCount(model, { trained: true })).toBe(numbers);
  });

  it("agrees with a network written by hand, sizes read from the shapes", async () => {
    const found = await reference();
    const model = fromPublished(weightsOf(found));
    const { size, components, latent, unet } = model.config;
    expect({ size, components, latent, ...unet }).toMatchObject({
      ...{ size: 16, components: 3, latent: 6, channels: 32, mult: [1, 4], resBlocks: 1, attention: [2] },
    });
    const values = Float32Array.from(wave("x", 2 * 3 * 256), (v) => 0.5 + 0.5 * v);
    const x = fromHost("f32", [2, 3, 16, 16], values);
    const t = fromHost("f32", [2], Float32Array.of(0, 637));
    const z = model.encode(x);
    expect(furthest(await every(z, 1), found.latents)).toBeLessThan(1e-4);
    expect(furthest(await every(model.components(x, t, z), 97), found.components)).toBeLessThan(1e-4);
    expect(furthest(await every(model.denoise(x, t, z), 29), found.mean)).toBeLessThan(1e-4);
    // Weights of any sum: the last convolution's bias counts as often as they do.
    const weights = fromHost("f32", [1, 3], Float32Array.of(2, -0.5, 1));
    const parts = model
      .components(x, t, z)
      .split(3, 1)
      .map((part) => part.squeeze(1));
    const sum = parts[0]!.mul(2).sub(parts[1]!.mul(0.5)).add(parts[2]!);
    expect(furthest(await every(model.denoise(x, t, z, weights), 7), await every(sum, 7))).toBeLessThan(1e-4);
  });

  it("names a tensor that is missing, mis-shaped or unknown", async () => {
    const weights = weightsOf(await reference());
    const without = (name: string) => new Map([...weights].filter(([key]) => key !== name));
    expect(() => fromPublished(without("out.2.weight"))).toThrow(/out\.2\.weight/);
    expect(() => publishedConfig(without("latent_encoder.15.weight"), "a.safetensors")).toThrow(
      /a\.safetensors: tensor "latent_encoder\.15\.weight" is missing/,
    );
    const bent = new Map(weights).set(
      "middle_block.1.norm.weight",
      fromHost("f32", [3], new Float32Array(3)),
    );
    expect(() => fromPublished(bent)).toThrow(/middle_block\.1\.norm\.weight/);
    const more = new Map(weights).set("extra.weight", fromHost("f32", [3], new Float32Array(3)));
    expect(() => fromPublished(more)).toThrow(/extra\.weight/);
  });
});

describe("a miniature", () => {
  it("comes back from its file with its configuration", async () => {
    const folder = await mkdtemp(join(tmpdir(), "tweedie-decomp-"));
    try {
      const model = initDecomp({ ...PRESETS.smoke, weighted: true, guided: true }, 3);
      const path = join(folder, "model.safetensors");
      await decompFile.save(path, model, { training: "none" }, "f32");
      const again = await openDecomp(path);
      expect(again.config).toEqual(model.config);
      const [a, b] = [treeLeaves(model), treeLeaves(again)] as Tensor[][];
      for (const [i, leaf] of a!.entries()) expect(await b![i]!.data()).toEqual(await leaf.data());
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("refuses numbers that do not fit each other", () => {
    expect(() => checkConfig({ ...PRESETS.smoke, size: 9 })).toThrow(/divisible by 2/);
    const unet = { ...PRESETS.smoke.unet, groups: 7 };
    expect(() => checkConfig({ ...PRESETS.smoke, unet })).toThrow(/16 channels .* 7 groups/);
  });
});
