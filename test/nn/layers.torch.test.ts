import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  BatchNorm,
  blankRng,
  Conv1d,
  Conv2d,
  Conv3d,
  ConvTranspose,
  FeedForward,
  GroupNorm,
  LayerNorm,
  Linear,
  MultiHeadAttention,
  parameters,
  RMSNorm,
  timestepEmbedding,
} from "../../src/nn/index.ts";
import { grad, type Tensor, tensor, vjp } from "../../src/tensor/index.ts";
import { expectClose, withWeights } from "./layer-kit.ts";

interface Case {
  readonly shape: number[];
  readonly output: number[];
  readonly gradients: number[][];
}
const fixture = new URL("../fixtures/torch-layers.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(fixture, "utf8")) as { cases: Record<string, Case> };
const updated = (cases as never as { batchNormUpdated: { mean: number[]; variance: number[] } })
  .batchNormUpdated;
const timesteps = (cases as never as { timesteps: { unet: number[]; default: number[] } }).timesteps;

/** The operands of the reference: sin(0.7 i + phase). */
function wave(phase: number, ...shape: number[]): Tensor {
  const n = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Float32Array.from({ length: n }, (_, i) => Math.sin(0.7 * i + phase)),
    { shape },
  );
}

/** Output and all gradients against the reference. */
async function expectTorch(
  name: string,
  f: (...operands: Tensor[]) => Tensor,
  operands: Tensor[],
): Promise<void> {
  const expected = cases[name]!;
  const [out, pull] = vjp(f, ...operands);
  expect(out.shape).toEqual(expected.shape);
  const gradients = pull(wave(9, ...out.shape));
  expectClose(await out.toArray(), expected.output, 1e-5, `${name}: output`);
  for (const [i, g] of gradients.entries())
    expectClose(await g.toArray(), expected.gradients[i]!, 4e-5, `${name}: gradient ${i}`);
}

describe("layers agree with PyTorch, forward and backward", () => {
  it("Linear", () =>
    expectTorch("linear", (x, w, b) => withWeights(new Linear(4, 5, blankRng), w!, b!).call(x!), [
      wave(0, 2, 3, 4),
      wave(1, 5, 4),
      wave(2, 5),
    ]));

  it("Conv2d with stride, padding, groups", () =>
    expectTorch(
      "conv2d",
      (x, w, b) =>
        withWeights(new Conv2d(4, 6, 3, blankRng, { stride: 2, padding: 1, groups: 2 }), w!, b!).call(x!),
      [wave(0, 2, 4, 5, 5), wave(1, 6, 2, 3, 3), wave(2, 6)],
    ));

  it("Conv1d with dilation", () =>
    expectTorch(
      "conv1d",
      (x, w, b) => withWeights(new Conv1d(3, 4, 3, blankRng, { dilation: 2, padding: 2 }), w!, b!).call(x!),
      [wave(0, 2, 3, 7), wave(1, 4, 3, 3), wave(2, 4)],
    ));

  it("Conv3d", () =>
    expectTorch(
      "conv3d",
      (x, w, b) => withWeights(new Conv3d(2, 2, 3, blankRng, { padding: 1 }), w!, b!).call(x!),
      [wave(0, 1, 2, 3, 3, 3), wave(1, 2, 2, 3, 3, 3), wave(2, 2)],
    ));

  it("ConvTranspose", () =>
    expectTorch(
      "convTranspose2d",
      (x, w, b) =>
        withWeights(
          new ConvTranspose(3, 2, 3, blankRng, { stride: 2, padding: 1, outputPadding: 1 }),
          w!,
          b!,
        ).call(x!),
      [wave(0, 1, 3, 4, 4), wave(1, 3, 2, 3, 3), wave(2, 2)],
    ));

  it("LayerNorm", () =>
    expectTorch("layerNorm", (x, w, b) => withWeights(new LayerNorm(6), w!, b!).call(x!), [
      wave(0, 2, 3, 6),
      wave(1, 6),
      wave(2, 6),
    ]));

  it("GroupNorm", () =>
    expectTorch("groupNorm", (x, w, b) => withWeights(new GroupNorm(2, 4, { eps: 1e-6 }), w!, b!).call(x!), [
      wave(0, 2, 4, 3, 3),
      wave(1, 4),
      wave(2, 4),
    ]));

  it("RMSNorm", () =>
    expectTorch("rmsNorm", (x, w) => withWeights(new RMSNorm(6), w!).call(x!), [
      wave(0, 2, 3, 6),
      wave(1, 6),
    ]));

  const batchNorm = (w: Tensor, b: Tensor): BatchNorm =>
    withWeights(new BatchNorm(2), w, b, wave(3, 2), wave(4, 2).square());

  it("BatchNorm by the batch's statistics", () =>
    expectTorch("batchNormBatch", (x, w, b) => batchNorm(w!, b!).call(x!, "batch"), [
      wave(0, 3, 2, 2, 2),
      wave(1, 2),
      wave(2, 2),
    ]));

  it("BatchNorm by frozen statistics", () =>
    expectTorch("batchNormFrozen", (x, w, b) => batchNorm(w!, b!).call(x!), [
      wave(0, 3, 2, 2, 2),
      wave(1, 2),
      wave(2, 2),
    ]));

  it("BatchNorm's running statistics", async () => {
    const before = batchNorm(wave(1, 2), wave(2, 2));
    const after = before.updated(wave(0, 3, 2, 2, 2));
    expect(after).toBeInstanceOf(BatchNorm);
    expectClose(await after.runningMean.toArray(), updated.mean, 1e-6);
    expectClose(await after.runningVar.toArray(), updated.variance, 1e-6);
    expect(await before.runningMean.toArray()).toEqual(await wave(3, 2).toArray());
    expect([...parameters(after).keys()]).toEqual(["weight", "bias", "running_mean", "running_var"]);
    const gradient = grad((layer: BatchNorm) =>
      layer
        .call(wave(0, 3, 2, 2, 2))
        .square()
        .sum(),
    )(after);
    expect(await gradient.runningVar.toArray()).toEqual([0, 0]);
  });

  it("FeedForward with a gated GELU", () =>
    expectTorch(
      "geglu",
      (x, ...weights) => withWeights(new FeedForward(4, blankRng, { innerDim: 8 }), ...weights).call(x!),
      [wave(0, 2, 3, 4), wave(1, 16, 4), wave(2, 16), wave(3, 4, 8), wave(4, 4)],
    ));

  it("MultiHeadAttention across a context", () =>
    expectTorch(
      "crossAttention",
      (x, context, ...weights) =>
        withWeights(new MultiHeadAttention(6, blankRng, { heads: 2, contextDim: 5 }), ...weights).call(x!, {
          context: context!,
        }),
      [
        wave(0, 2, 3, 6),
        wave(5, 2, 4, 5),
        wave(1, 6, 6),
        wave(2, 6, 5),
        wave(3, 6, 5),
        wave(4, 6, 6),
        wave(6, 6),
      ],
    ));

  it("timestepEmbedding", async () => {
    const t = tensor([0, 1, 17.5, 501, 999]);
    const unet = timestepEmbedding(t, 16, { flipSinToCos: true, freqShift: 0 });
    expect(unet.shape).toEqual([5, 16]);
    expectClose(await unet.toArray(), timesteps.unet, 7e-5); // one unit in the last place of the phase
    const odd = timestepEmbedding(t, 9);
    expect(odd.shape).toEqual([5, 9]);
    expectClose(await odd.toArray(), timesteps.default, 7e-5);
  });
});
