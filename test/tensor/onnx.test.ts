import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as ort from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { createRng, Linear } from "../../src/nn/index.ts";
import {
  conv,
  exportOnnx,
  fillNormal,
  fromHost,
  groupNorm,
  importOnnx,
  type Tensor,
  tensor,
} from "../../src/tensor/index.ts";
import { ProtoWriter, readProto } from "../../src/tensor/onnx/protobuf.ts";

const random = (...shape: number[]): Tensor =>
  fromHost("f32", shape, fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed: 1 }));

/** A network that would use contributed operators on the CPU. */
function network() {
  const [w, gain, bias] = [random(16, 3, 3, 3), random(16), random(16)];
  const head = new Linear(16, 4, createRng(0));
  return (x: Tensor): Tensor =>
    head.call(
      groupNorm(conv(x, w, undefined, { padding: 1 }), 4, gain, bias)
        .silu()
        .mean([2, 3]),
    );
}

/** Operators by domain, read back from the file. */
function operators(model: Uint8Array): string[] {
  const text = new TextDecoder();
  const graph = [...readProto(model)].find((f) => f.field === 7)!;
  return [...readProto(graph.bytes)]
    .filter((f) => f.field === 1)
    .map((node) => {
      const fields = [...readProto(node.bytes)];
      const [domain, op] = [7, 4].map((k) =>
        text.decode(fields.find((f) => f.field === k)?.bytes ?? new Uint8Array()),
      );
      return `${domain}:${op}`;
    });
}

describe("an exported model", () => {
  it("runs in plain ONNX Runtime and gives the same numbers", async () => {
    const f = network();
    const x = random(2, 3, 8, 8);
    const model = await exportOnnx(f, [x], { inputNames: ["image"], outputNames: ["scores"] });
    const session = await ort.InferenceSession.create(model);
    expect(session.inputNames).toEqual(["image"]);
    const { scores } = await session.run({
      image: new ort.Tensor("float32", (await x.data()) as Float32Array, [2, 3, 8, 8]),
    });
    const expected = await f(x).toArray();
    for (const [i, v] of [...(scores!.data as Float32Array)].entries())
      expect(v).toBeCloseTo(expected[i]!, 5);
    await session.release();
  });

  it("uses standard operators only, and passes the reader", async () => {
    const model = await exportOnnx(network(), [random(2, 3, 8, 8)]);
    const used = operators(model);
    expect(used.length).toBeGreaterThan(5);
    expect(used.every((op) => op.startsWith(":"))).toBe(true);
  });

  it("comes back through importOnnx, from bytes and from a file", async () => {
    const f = network();
    const x = random(2, 3, 8, 8);
    const model = await exportOnnx(f, [x], { inputNames: ["image"], outputNames: ["scores"] });
    const folder = await mkdtemp(join(tmpdir(), "tweedie-onnx-"));
    await writeFile(join(folder, "model.onnx"), model);
    for (const source of [model, join(folder, "model.onnx")]) {
      const imported = await importOnnx(source);
      expect(imported.inputs).toEqual([{ name: "image", dtype: "f32", shape: [2, 3, 8, 8] }]);
      const { scores } = await imported.run({ image: x });
      const [got, expected] = [await scores!.toArray(), await f(x).toArray()];
      for (const [i, v] of got.entries()) expect(v).toBeCloseTo(expected[i]!, 5);
      await imported.close();
      await expect(imported.run({ image: x })).rejects.toThrow(/closed/);
    }
    await rm(folder, { recursive: true });
  });
});

describe("importOnnx refuses", () => {
  it("missing, unknown and mis-shaped inputs, and files that are no models", async () => {
    const model = await importOnnx(
      await exportOnnx((x: Tensor) => x.mul(2), [tensor([1, 2])], { inputNames: ["x"] }),
    );
    await expect(model.run({})).rejects.toThrow(/missing: x/);
    await expect(model.run({ x: tensor([1, 2]), y: tensor([1]) })).rejects.toThrow(/unknown: y/);
    await expect(model.run({ x: tensor([1]) })).rejects.toThrow(/has shape \[2\], got \[1\]/);
    await expect(model.run({ x: tensor([1, 2], { dtype: "f64" }) })).rejects.toThrow(/is f32, got f64/);
    await model.close();
    await expect(importOnnx(new Uint8Array([1, 2, 3]))).rejects.toMatchObject({ code: "DEVICE" });
    await expect(importOnnx("no/such/file.onnx")).rejects.toMatchObject({ code: "FORMAT" });
  });
});

describe("the protobuf codec", () => {
  it("round-trips every kind of field, negative and 64-bit numbers included", () => {
    const w = new ProtoWriter();
    w.int(1, -1)
      .int(2, 300)
      .int(3, 2n ** 63n - 1n)
      .float(4, 1.5)
      .string(5, "é")
      .message(6, (m) => m.int(1, 7));
    const fields = [...readProto(w.finish())];
    expect(fields.map((f) => f.field)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(BigInt.asIntN(64, fields[0]!.int)).toBe(-1n);
    expect(fields[1]!.int).toBe(300n);
    expect(fields[2]!.int).toBe(2n ** 63n - 1n);
    expect(new DataView(fields[3]!.bytes.slice().buffer).getFloat32(0, true)).toBe(1.5);
    expect(new TextDecoder().decode(fields[4]!.bytes)).toBe("é");
    expect([...readProto(fields[5]!.bytes)][0]!.int).toBe(7n);
  });
  it("refuses truncated and malformed messages", () => {
    for (const bytes of [[0x08], [0x0a, 5, 1], [0x0b], [0x08, ...Array(11).fill(0x80)]]) {
      expect(() => [...readProto(Uint8Array.from(bytes))]).toThrow(/protobuf/);
    }
  });
});

it("a model that does not say the shape of its input takes any", async () => {
  const path = new URL("../fixtures/files/33-onnx-unknown-rank/relu.onnx", import.meta.url);
  const model = await importOnnx(fileURLToPath(path));
  expect(model.inputs[0]!.shape).toBeUndefined();
  const name = model.inputs[0]!.name;
  for (const x of [tensor([[1, -2, 3]]), tensor([-1]), tensor(2)])
    expect(await Object.values(await model.run({ [name]: x }))[0]!.toArray()).toEqual(
      (await x.toArray()).map((v) => Math.max(0, v)),
    );
  await model.close();
});
