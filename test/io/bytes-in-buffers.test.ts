/** Node's files and sockets give Buffers: views into larger memory whose own `slice` does not copy. */
import { describe, expect, it } from "vitest";
import { niftiLike, tiffStack } from "../../src/data/formats/write-volumes.ts";
import { decodePicture, decodeSafetensors, encodePicture, encodeSafetensors } from "../../src/io/index.ts";
import { upright } from "../../src/io/picture-file.ts";
import { exportOnnx, importOnnxGraph, tensor } from "../../src/tensor/index.ts";

/** The same bytes within other memory, as Node's pool has them. */
function inPool(bytes: Uint8Array): Buffer {
  const pool = Buffer.alloc(bytes.length + 64, 0xa5);
  pool.set(bytes, 24);
  return pool.subarray(24, 24 + bytes.length);
}

function nifti(): Uint8Array {
  const bytes = new Uint8Array(352 + 2 * 3 * 2);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, 348, true);
  for (const [i, d] of [3, 3, 2, 1, 1, 1, 1, 1].entries()) view.setInt16(40 + 2 * i, d, true);
  view.setInt16(70, 4, true);
  view.setInt16(72, 16, true);
  view.setFloat32(108, 352, true);
  bytes.set([0x6e, 0x2b, 0x31, 0], 344); // n+1
  return bytes;
}

const pixels = Uint8Array.from({ length: 6 }, (_, i) => 40 * i);
const picture = (data: Uint8Array) => ({ width: 3, height: 2, channels: 1, data });

describe("bytes in a Buffer that lies in larger memory", () => {
  it("are the header of a volume and its slices", () => {
    const slices = (data: Uint8Array) => [{ width: 3, height: 2, data }];
    const plain = niftiLike(nifti(), slices(pixels), "masks");
    expect(niftiLike(inPool(nifti()), slices(inPool(pixels)), "masks")).toEqual(plain);
    expect(tiffStack(slices(inPool(pixels)), "masks")).toEqual(tiffStack(slices(pixels), "masks"));
  });

  it("are the weights of an ONNX graph", async () => {
    const weights = tensor([
      [1.5, -2],
      [0.25, 8],
    ]);
    const file = await exportOnnx((x) => x.matmul(weights), [tensor([[1, 1]])], { inputNames: ["x"] });
    for (const bytes of [file, inPool(file)]) {
      const graph = importOnnxGraph(bytes);
      expect(await Object.values(graph.call({ x: tensor([[1, 1]]) }))[0]!.toArray()).toEqual([1.75, 6]);
    }
  });

  it("are tensors of a safetensors file", () => {
    const w = { dtype: "f32", shape: [3], data: Float32Array.of(1, 2, 3) } as const;
    const { tensors } = decodeSafetensors(inPool(encodeSafetensors({ w })));
    expect(tensors).toEqual(decodeSafetensors(encodeSafetensors({ w })).tensors);
  });

  it("are pictures, which stay as they were when they are turned and scaled", async () => {
    const pooled = inPool(pixels);
    for (let orientation = 2; orientation <= 8; orientation++)
      expect([...upright(picture(pooled), orientation).data], `${orientation}`).toEqual([
        ...upright(picture(pixels), orientation).data,
      ]);
    expect([...pooled]).toEqual([...pixels]);
    expect(
      (await decodePicture(inPool(await encodePicture(picture(pooled))), { colour: "as-is" })).data,
    ).toEqual(pixels);
  });
});
