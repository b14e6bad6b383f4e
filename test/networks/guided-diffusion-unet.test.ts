import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FormatError, ShapeError } from "../../src/errors.ts";
import {
  ADM_CLASSIFIER_256,
  ADM_UNETS,
  type GuidedDiffusionClassifier,
  GuidedDiffusionUNet,
  guidedDiffusionClassifier,
  guidedDiffusionUNet,
} from "../../src/networks/guided-diffusion/unet.ts";
import { blankRng, captureFeatures, createRng, parameterCount, parameters } from "../../src/nn/index.ts";
import { jit, makeKey, type Tensor, tensor, valueAndGrad } from "../../src/tensor/index.ts";
import { expectRelative } from "./conformance.ts";
import { fill, layoutOf, withTinyWeights } from "./tiny-models.ts";

type Shape = readonly number[];
interface Values {
  readonly shape: Shape;
  /** f32 little endian in base64. */
  readonly f32le: string;
}
interface Case {
  readonly network: "unet" | "classifier";
  readonly config: Record<string, unknown>;
  /** A shape, or values of `t` and `labels`. */
  readonly inputs: Record<string, number[]>;
  readonly params: number;
  readonly layout: Record<string, Shape>;
  readonly output: Values;
  readonly inputGradients: Record<string, Values>;
  readonly gradientNorms: Record<string, number>;
}

const file = new URL("../fixtures/networks/guided-diffusion/reference.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: Record<string, Case> };

const hashed = (key: string, shape: Shape, scale: number): Tensor => {
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Float32Array.from(fill(key, size), (v) => v * scale),
    { shape },
  );
};

const decoded = ({ shape, f32le }: Values): Tensor =>
  tensor(new Float32Array(Uint8Array.from(Buffer.from(f32le, "base64")).buffer), { shape });

type Network = GuidedDiffusionUNet | GuidedDiffusionClassifier;
type Inputs = Record<string, Tensor>;

function build({ network, config }: Case): Network {
  return withTinyWeights(
    network === "unet" ? guidedDiffusionUNet(config, blankRng) : guidedDiffusionClassifier(config, blankRng),
  );
}

const forward = (network: Network, { x, t, ...rest }: Inputs): Tensor =>
  network instanceof GuidedDiffusionUNet ? network.call(x!, t!, rest) : network.call(x!, t!);

describe.each(Object.entries(cases))("guided-diffusion, %s", (_, reference) => {
  const { t, labels, ...floats } = reference.inputs;
  const fixed: Inputs = { t: tensor(t!, { dtype: "f32" }) };
  if (labels) fixed.labels = tensor(labels, { dtype: "i64" });
  const free: Inputs = Object.fromEntries(
    Object.entries(floats).map(([name, shape]) => [name, hashed(`input:${name}`, shape, Math.sqrt(3))]),
  );

  it("has the keys and shapes of the checkpoints", () => {
    const network = build(reference);
    expect(layoutOf(network)).toEqual(reference.layout);
    expect(parameterCount(network)).toBe(reference.params);
  });

  it("gives the reference's output and gradients", async () => {
    const network = build(reference);
    const cotangent = hashed("cotangent", reference.output.shape, 1);
    const loss = (arg: { network: Network; free: Inputs }, given: Inputs): [Tensor, Tensor] => {
      const output = forward(arg.network, { ...arg.free, ...given });
      return [output.mul(cotangent).sum(), output];
    };
    const step = jit((arg: { network: Network; free: Inputs }, given: Inputs) =>
      valueAndGrad(loss, { aux: true })(arg, given),
    );
    const [[, output], gradients] = await step({ network, free }, fixed);
    await expectRelative(output, decoded(reference.output), 2e-5, "output");
    for (const [name, expected] of Object.entries(reference.inputGradients))
      await expectRelative(gradients.free[name]!, decoded(expected), 1e-4, `gradient of ${name}`);
    for (const [key, gradient] of parameters(gradients.network)) {
      const norm = Math.sqrt((await gradient.toArray()).reduce((sum, v) => sum + v * v, 0));
      const expected = reference.gradientNorms[key]!;
      expect(Math.abs(norm - expected), key).toBeLessThan(1e-3 * expected + 1e-5);
    }
    await step.close();
  });
});

describe("guided-diffusion networks", () => {
  const small = {
    in_channels: 3,
    out_channels: 3,
    model_channels: 32,
    num_res_blocks: 1,
    channel_mult: [1, 1],
    attention_resolutions: [2],
  };

  it("have as many parameters as the published ones", () => {
    const count = (config: unknown) => parameterCount(guidedDiffusionUNet(config, blankRng));
    expect(count(ADM_UNETS.imagenet256Unconditional)).toBe(552_814_086);
    expect(count(ADM_UNETS.imagenet256) - 552_814_086).toBe(1000 * 1024); // the embedding of the classes
    expect(count(ADM_UNETS.imagenet64) / 1e6).toBeCloseTo(296, 0); // as the paper rounds it
    expect(count(ADM_UNETS.imagenet128) / 1e6).toBeCloseTo(422, 0);
    expect(count(ADM_UNETS.imagenet512) / 1e6).toBeCloseTo(559, 0);
    const classifier = guidedDiffusionClassifier(ADM_CLASSIFIER_256, blankRng);
    expect(parameterCount(classifier) / 1e6).toBeCloseTo(54, 0);
  });

  it("are also the U-Nets of latent diffusion's checkpoints", () => {
    const sd = { in_channels: 4, out_channels: 4, model_channels: 320, use_spatial_transformer: true };
    const sd15 = { ...sd, attention_resolutions: [4, 2, 1], channel_mult: [1, 2, 4, 4], num_heads: 8 };
    const sdxl = { ...sd, attention_resolutions: [4, 2], channel_mult: [1, 2, 4], num_head_channels: 64 };
    const wide = { use_linear_in_transformer: true, transformer_depth: [1, 2, 10], context_dim: 2048 };
    const labels = { num_classes: "sequential", adm_in_channels: 2816 };
    const count = (config: unknown) => parameterCount(guidedDiffusionUNet(config, blankRng));
    expect(count({ ...sd15, context_dim: 768 })).toBe(859_520_964);
    expect(count({ ...sdxl, ...wide, ...labels })).toBe(2_567_463_684);
  });

  it("begin with an output of zeros, and an edit of h-space is an edit of the middle block", async () => {
    const fresh = guidedDiffusionUNet(small, createRng(1));
    const x = createRng(2).normal([1, 3, 4, 4]);
    expect((await fresh.call(x, tensor(3)).toArray()).every((v) => v === 0)).toBe(true);
    const [, features] = captureFeatures(fresh, ["middle_block", "input_blocks.0.0"], (net) =>
      net.call(x, tensor(3)),
    );
    expect(features.middle_block!.shape).toEqual([1, 32, 2, 2]);
    expect(features["input_blocks.0.0"]!.shape).toEqual([1, 32, 4, 4]);
  });

  it("drop values by a key, in every block differently, and none without", async () => {
    const network = withTinyWeights(guidedDiffusionUNet({ ...small, dropout: 0.3 }, blankRng));
    const x = createRng(2).normal([1, 3, 4, 4]);
    const [dry, wet, same] = [undefined, makeKey(1), makeKey(1)].map((key) =>
      network.call(x, tensor(3), { key }),
    );
    expect(await wet!.toArray()).not.toEqual(await dry!.toArray());
    expect(await wet!.toArray()).toEqual(await same!.toArray());
    const purposes = [...network.inputBlocks, network.middleBlock, ...network.outputBlocks].flatMap((block) =>
      Object.values(block).flatMap((layer) => ("dropout" in layer ? [layer.dropout.purpose] : [])),
    );
    expect(new Set(purposes).size).toBe(purposes.length);
    expect(purposes.length).toBe(2 + 2 + 4);
  });

  it("say which configuration does not fit", () => {
    const wrong = (change: object): (() => unknown) => {
      return () => guidedDiffusionUNet({ ...small, ...change }, blankRng);
    };
    expect(wrong({ model_channels: 48 })).toThrow(/48 channels/);
    expect(wrong({ num_head_channels: 24 })).toThrow(/32 channels do not split into heads of 24/);
    expect(wrong({ num_heads: 3 })).toThrow(/32 channels do not split into 3 heads/);
    expect(wrong({ attention_resolutions: [16] })).toThrow(
      /"attention_resolutions".*factors among 1, 2, got \[16\]/,
    );
    expect(wrong({ num_res_blocks: [1] })).toThrow(/"num_res_blocks": expected 2 values/);
    expect(wrong({ num_res_blocks: 0.5 })).toThrow(FormatError);
    expect(wrong({ context_dim: 8, use_spatial_transformer: false })).toThrow(/"context_dim"/);
    expect(wrong({ use_spatial_transformer: true })).toThrow(/"context_dim"/);
    expect(wrong({ num_classes: "continuous" })).toThrow(/"num_classes"/);
    expect(wrong({ adm_in_channels: 8 })).toThrow(/"adm_in_channels"/);
    expect(wrong({ dims: 3 })).toThrow(/"dims"/);
    expect(wrong({ dropout: 1 })).toThrow(/"dropout"/);
    const classifier = { ...ADM_CLASSIFIER_256, image_size: 250 };
    expect(() => guidedDiffusionClassifier(classifier, blankRng)).toThrow(/"image_size".*multiple of 32/);
    const pool = { ...ADM_CLASSIFIER_256, pool: "max" };
    expect(() => guidedDiffusionClassifier(pool, blankRng)).toThrow(/"attention" or "adaptive"/);
  });

  it("say which input does not fit, and offer the nearest size", () => {
    const network = guidedDiffusionUNet({ ...small, num_classes: 4, concat_channels: 1 }, blankRng);
    const x = createRng(1).normal([2, 3, 4, 4]);
    const map = createRng(1).normal([2, 1, 4, 4]);
    const labels = tensor([0, 1], { dtype: "i64" });
    const call = (x_: Tensor, inputs: object) => () => network.call(x_, tensor(1), inputs);
    expect(call(x, { concat: map })).toThrow(/expected labels, got neither/);
    expect(call(x, { labels })).toThrow(/expected concat \[2, 1, 4, 4\], got none/);
    expect(call(createRng(1).normal([2, 3, 5, 4]), { labels })).toThrow(
      /multiples of 2, got 5 x 4; the nearest is 6 x 4/,
    );
    expect(call(createRng(1).normal([2, 4, 4, 4]), { labels })).toThrow(ShapeError);
    expect(() => network.call(x, tensor([1, 2, 3]), { labels, concat: map })).toThrow(
      /timestep: expected \[2\] or \[1\]/,
    );
    expect(call(x, { labels, concat: map })().shape).toEqual([2, 3, 4, 4]);
  });
});
