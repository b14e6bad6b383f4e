/** One ONNX file for all sizes of some axes, and files with their weights beside them. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { writeFileAtomic } from "../../src/io/index.ts";
import { guidedDiffusionUNet } from "../../src/networks/index.ts";
import { createRng, Linear, mapParameters } from "../../src/nn/index.ts";
import {
  conv,
  exportOnnx,
  exportOnnxWithWeights,
  fillNormal,
  fromHost,
  groupNorm,
  type Tensor,
  tensor,
  zeros,
} from "../../src/tensor/index.ts";

const random = (shape: readonly number[], seed = 1): Tensor =>
  fromHost("f32", shape, fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed }));

async function agrees(
  bytes: Uint8Array | string,
  f: (...inputs: Tensor[]) => Tensor,
  inputs: Readonly<Record<string, Tensor>>,
): Promise<ort.InferenceSession> {
  const session = await (typeof bytes === "string"
    ? ort.InferenceSession.create(bytes)
    : ort.InferenceSession.create(bytes));
  const feeds: Record<string, ort.Tensor> = {};
  for (const [name, x] of Object.entries(inputs))
    feeds[name] = new ort.Tensor("float32", (await x.data()) as Float32Array, x.shape);
  const [got] = Object.values(await session.run(feeds));
  const expected = f(...Object.values(inputs));
  expect(got!.dims).toEqual([...expected.shape]);
  const values = (await expected.data()) as Float32Array;
  (got!.data as Float32Array).forEach((v, i) => {
    expect(Math.abs(v - values[i]!)).toBeLessThan(1e-4 * (1 + Math.abs(values[i]!)));
  });
  return session;
}

const [w, gain, bias] = [random([16, 3, 3, 3], 2), random([16], 3), random([16], 4)];
const head = new Linear(16, 4, createRng(0));
/** Attention over all places, a ones' plane of the picture's size, and a classifier: shapes that depend on all sizes. */
function network(x: Tensor): Tensor {
  const [n, , height, width] = x.shape as [number, number, number, number];
  const features = groupNorm(conv(x, w, undefined, { padding: 1, stride: 2 }), 4, gain, bias).silu();
  const places = features.reshape([n, 16, (height * width) / 4]).transpose([0, 2, 1]);
  const seen = places
    .matmul(places.transpose([0, 2, 1]))
    .softmax(-1)
    .matmul(places);
  const lit = seen.add(zeros([n, (height * width) / 4, 16]).add(0.5));
  return head.call(lit.mean([1]));
}

describe("exportOnnx with free axes", () => {
  it("gives one file for every batch, height and width", async () => {
    const bytes = await exportOnnx(network, [zeros([1, 3, 8, 8])], {
      inputNames: ["picture"],
      outputNames: ["scores"],
      freeAxes: { picture: { 0: "batch", 2: "height", 3: "width" } },
    });
    for (const shape of [
      [1, 3, 8, 8],
      [3, 3, 8, 24],
      [2, 3, 32, 16],
    ]) {
      const session = await agrees(bytes, network, { picture: random(shape) });
      expect(session.inputMetadata[0]).toMatchObject({ shape: ["batch", 3, "height", "width"] });
      expect(session.outputMetadata[0]).toMatchObject({ shape: ["batch", 4] });
      await session.release();
    }
  });

  it("holds for a U-Net of the library", async () => {
    const config = {
      ...{ in_channels: 3, out_channels: 3, model_channels: 8, channel_mult: [1, 2], num_res_blocks: 1 },
      ...{ attention_resolutions: [2], norm_groups: 4 },
    };
    let k = 0;
    const unet = mapParameters(guidedDiffusionUNet(config, createRng(1)), (t) =>
      t.add(random(t.shape, 50 + k++).mul(0.05)),
    );
    const f = (x: Tensor, t: Tensor): Tensor => unet.call(x, t);
    const bytes = await exportOnnx(f, [zeros([1, 3, 8, 8]), zeros([1])], {
      inputNames: ["x", "t"],
      freeAxes: { x: { 0: "batch", 2: "height", 3: "width" }, t: { 0: "batch" } },
    });
    for (const [n, h, wide] of [
      [1, 8, 8],
      [3, 16, 40],
    ] as const)
      await (
        await agrees(bytes, f, { x: random([n, 3, h, wide]), t: tensor(new Float32Array(n).fill(9)) })
      ).release();
  });

  it("gives sums of sizes and offsets, and results whose size is a product", async () => {
    const f = (x: Tensor): Tensor =>
      x
        .pad([
          [1, 2],
          [0, 0],
        ])
        .slice([1, 0], [x.shape[0]! + 2, 2])
        .reshape([-1]);
    const bytes = await exportOnnx(f, [zeros([4, 2])], { inputNames: ["x"], freeAxes: { x: { 0: "rows" } } });
    for (const rows of [1, 2, 7]) await (await agrees(bytes, f, { x: random([rows, 2]) })).release();
  });

  it("refuses what depends on a size otherwise, and axes that are none", async () => {
    const free = { freeAxes: { x: { 0: "n" } }, inputNames: ["x"] };
    const table = (x: Tensor): Tensor => x.mul(random([x.shape[0]!]));
    await expect(exportOnnx(table, [zeros([4])], free)).rejects.toThrow(/n: a constant depends on the size/);
    const scaled = (x: Tensor): Tensor => x.mul(Math.sqrt(x.shape[0]!));
    await expect(exportOnnx(scaled, [zeros([4])], free)).rejects.toThrow(/depends on the size/);
    const branch = (x: Tensor): Tensor => (x.shape[0]! > 10 ? x.exp() : x.tanh());
    await expect(exportOnnx(branch, [zeros([4])], free)).rejects.toThrow(/depends on the size/);
    const same = (x: Tensor): Tensor => x.mul(2);
    const refuses = async (freeAxes: Record<string, Record<number, string>>, what: RegExp) =>
      expect(exportOnnx(same, [zeros([4])], { inputNames: ["x"], freeAxes })).rejects.toThrow(what);
    await refuses({ y: { 0: "n" } }, /no input "y"; there are x/);
    await refuses({ x: { 1: "n" } }, /has no axis 1/);
    await refuses({ x: { 0: "n m" } }, /expected a name/);
  });
});

describe("exportOnnxWithWeights", () => {
  it("keeps large constants in a file beside the model", async () => {
    const folder = await mkdtemp(join(tmpdir(), "tweedie-export-"));
    const [large, other] = [random([64, 64], 5), random([64, 32], 6)];
    const f = (x: Tensor): Tensor => x.matmul(large).tanh().matmul(other);
    const options = { inputNames: ["x"], weightsFile: "weights.bin", freeAxes: { x: { 0: "n" } } };
    const { model, weights } = await exportOnnxWithWeights(f, [zeros([1, 64])], options);
    expect(model.length).toBeLessThan(2000);
    await writeFileAtomic(join(folder, "weights.bin"), weights);
    await writeFile(join(folder, "model.onnx"), model);
    await (await agrees(join(folder, "model.onnx"), f, { x: random([5, 64]) })).release();
    await rm(folder, { recursive: true });
  });
});
