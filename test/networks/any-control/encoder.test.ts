import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import {
  FeatureNorm,
  initMultiControl,
  type MultiControlConfig,
  MultiControlEncoder,
  smallSizes,
} from "../../../src/networks/index.ts";
import { blankRng, createRng, loadParameters, parameters } from "../../../src/nn/index.ts";
import { fromHost, grad, type Tensor, tensor } from "../../../src/tensor/index.ts";

interface Reference {
  readonly names: Record<string, number[]>;
  readonly maps: number[][];
  readonly fdn: number[];
}
const file = new URL("../../fixtures/networks/any-control.json", import.meta.url);
const reference = JSON.parse(await readFile(file, "utf8")) as Reference;

/** Weights as the reference has them: sines of index and name. */
function weight(name: string, shape: readonly number[]): Tensor {
  let hash = 0;
  for (const c of name) hash = (hash * 31 + c.charCodeAt(0)) % 65521;
  const scale = name.endsWith("patch_embed.proj.weight") ? 0.05 : 0.3;
  const isNorm = shape.length === 1 && name.endsWith("weight");
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({ length: size }, (_, i) => {
    const v = Math.sin((i + 1) * 0.7 + hash * 0.013) * scale;
    return isNorm ? 1 + 0.3 * v : v;
  });
  return fromHost("f32", shape, values);
}

const wave = (shape: readonly number[], f: (i: number) => number): Tensor =>
  fromHost(
    "f32",
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => f(i)),
  );

const published: MultiControlConfig = {
  visual: {
    ...{
      imageSize: 16,
      patchSize: 8,
      inChannels: 3,
      dim: 24,
      depth: 3,
      heads: 2,
      mlpRatio: 40 / 24 + 1e-3,
      eps: 1e-6,
    },
    qkvBias: "qv",
  },
  levels: [0, 2],
  ...{ dim: 16, layers: 4, heads: 4, inner: 32, grid: 4, positions: 32, vocabulary: 50, textLength: 8 },
  ...{ readouts: [2, 3, 4], norm: "after", eps: 1e-12 },
};

const every = async (t: Tensor, step: number): Promise<number[]> => {
  const [n, c, h, w] = t.shape as [number, number, number, number];
  const values = (await t.data()) as Float32Array;
  return Array.from(values)
    .filter((_, i) => (Math.floor(i / (h * w)) % c) % step === 0)
    .slice(0, n * c * h * w);
};

describe("the encoder against PyTorch", () => {
  const names = new Map(Object.entries(reference.names).filter(([name]) => !name.startsWith("fdn")));

  it("has the published names", () => {
    const own = [...parameters(new MultiControlEncoder(published, blankRng))].map(([key, t]) => [
      key,
      t.shape,
    ]);
    expect(Object.fromEntries(own)).toEqual(Object.fromEntries(names));
  });

  it("gives the published numbers, text and a condition masked", async () => {
    const weights = new Map([...names].map(([name, shape]) => [name, weight(name, shape)]));
    const encoder = loadParameters(new MultiControlEncoder(published, blankRng), weights);
    const maps = encoder.call({
      conditions: wave([2, 2, 3, 16, 16], (i) => Math.sin(i * 0.37)),
      weights: tensor([
        [1, 1],
        [1, 0],
      ]),
      ids: fromHost("i32", [2, 6], Int32Array.of(1, 5, 9, 2, 0, 0, 1, 7, 2, 0, 0, 0)),
      textMask: tensor([
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0, 0],
      ]),
    });
    for (const [i, map] of maps.entries()) {
      const got = await every(map, 5);
      const want = reference.maps[i]!;
      expect(got.length).toBe(want.length);
      expect(Math.max(...got.map((v, j) => Math.abs(v - want[j]!)))).toBeLessThan(2e-4);
    }
  });

  it("modulates as the reference does", async () => {
    const shapes = Object.entries(reference.names).filter(([name]) => name.startsWith("fdn."));
    const fdn = loadParameters(
      new FeatureNorm(4, 8, 5, blankRng),
      new Map(shapes.map(([name, shape]) => [name.slice(4), weight(name, shape)])),
    );
    const x = wave([1, 8, 6, 6], (i) => Math.sin(i * 0.11));
    const f = wave([1, 5, 3, 3], (i) => Math.cos(i * 0.2));
    const got = await every(fdn.call(x, f), 3);
    expect(Math.max(...got.map((v, j) => Math.abs(v - reference.fdn[j]!)))).toBeLessThan(2e-5);
  });
});

describe("any mix of conditions", () => {
  const { encoder: config } = smallSizes({
    size: 16,
    dim: 48,
    vocabulary: 30,
    textLength: 6,
    features: [8, 8],
    scales: [1, 0.5],
  });
  const encoder = initMultiControl(config, createRng(3));
  const picture = (seed: number): Tensor => wave([1, 1, 3, 16, 16], (i) => Math.sin(i * 0.1 * seed));
  const ids = fromHost("i32", [1, 6], Int32Array.of(1, 4, 2, 0, 0, 0));
  const textMask = tensor([[1, 1, 1, 0, 0, 0]]);
  const encode = (
    conditions: readonly Tensor[],
    weights: readonly number[],
    own: MultiControlEncoder = encoder,
  ) =>
    own.call({
      conditions: conditions.reduce((a, b) => a.concat(b, 1)),
      weights: tensor([[...weights]]),
      ids,
      textMask,
    });
  const gap = async (a: readonly Tensor[], b: readonly Tensor[]): Promise<number> => {
    const all = await Promise.all(a.map(async (t, i) => await t.sub(b[i]!).abs().max().item()));
    return Math.max(...all);
  };

  it("does not see their order", async () => {
    const [a, b, c] = [picture(1), picture(2), picture(3)];
    expect(await gap(encode([a, b, c], [1, 1, 1]), encode([c, a, b], [1, 1, 1]))).toBeLessThan(1e-5);
    expect(await gap(encode([a, b], [1, 1]), encode([a, c], [1, 1]))).toBeGreaterThan(1e-3);
  });

  it("does not see what is masked, whatever it holds", async () => {
    const plain = encode([picture(1), picture(2)], [1, 1]);
    expect(await gap(plain, encode([picture(1), picture(2), picture(9)], [1, 1, 0]))).toBeLessThan(1e-5);
    expect(await gap(plain, encode([picture(1), picture(2)], [1, 0.2]))).toBeGreaterThan(1e-4);
  });

  it("gives numbers without any condition, the same for all", async () => {
    const none = encode([picture(1)], [0]);
    expect(await gap(none, encode([picture(5), picture(6)], [0, 0]))).toBe(0);
    expect(Number.isFinite(await none[0]!.sum().item())).toBe(true);
  });

  it("has ablations that leave out what they are about", async () => {
    const other = fromHost("i32", [1, 6], Int32Array.of(9, 8, 7, 0, 0, 0));
    const made = (ablation: object) => initMultiControl({ ...config, ...ablation }, createRng(3));
    const deaf = made({ align: false });
    const inputs = { conditions: picture(1), weights: tensor([[1]]), textMask };
    expect(await gap(deaf.call({ ...inputs, ids }), deaf.call({ ...inputs, ids: other }))).toBe(0);
    expect(
      await gap(encoder.call({ ...inputs, ids }), encoder.call({ ...inputs, ids: other })),
    ).toBeGreaterThan(1e-5);
    const slotted = made({ slots: 2 });
    const [a, b] = [picture(1), picture(2)];
    expect(await gap(encode([a, b], [1, 1], slotted), encode([b, a], [1, 1], slotted))).toBeLessThan(1e-4); // equal at first
    const mean = made({ fuse: false });
    expect(await gap(encode([a, a], [1, 1], mean), encode([a], [1], mean))).toBeLessThan(1e-5);
    expect(() => encode([a, a, a], [1, 1, 1], slotted)).toThrow(/at most 2/);
  });

  it("has the gradient of its finite differences, through the mask", async () => {
    const loss = (q: MultiControlEncoder): Tensor =>
      encode([picture(1), picture(2)], [1, 0.5], q)[1]!
        .square()
        .sum();
    const gradient = grad(loss)(encoder);
    const name = "qformer.bert.encoder.layer.0.crossattention.self.key.weight";
    const key = (m: MultiControlEncoder): Tensor =>
      (m.qformer.bert.encoder.layer[0] as { crossattention: { self: { key: { weight: Tensor } } } })
        .crossattention.self.key.weight;
    const direction = wave(key(encoder).shape, (i) => Math.sin(i * 1.3));
    const slope = await key(gradient).mul(direction).sum().item();
    const moved = (by: number): MultiControlEncoder => {
      const weights = new Map(parameters(encoder));
      const full = `Qformer${name.slice(7)}`;
      weights.set(full, weights.get(full)!.add(direction.mul(by)));
      return loadParameters(encoder, weights);
    };
    const h = 2e-3;
    const difference = ((await loss(moved(h)).item()) - (await loss(moved(-h)).item())) / (2 * h);
    expect(Math.abs(slope - difference)).toBeLessThan(0.02 * Math.abs(difference) + 1e-2);
  });
});
