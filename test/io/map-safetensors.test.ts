import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { mapSafetensors, writeSafetensors } from "../../src/io/index.ts";
import { convertHost } from "../../src/tensor/index.ts";
import { useTemporaryFolder } from "./temporary-folder.ts";

const at = useTemporaryFolder();
const values = Float32Array.from([1, -2, 0.5, 1024, 0, 3]);

describe("mapSafetensors", () => {
  it("gives every tensor with its type and shape, and reads none but bf16", async () => {
    await writeSafetensors(at("w.safetensors"), {
      plain: { dtype: "f32", shape: [2, 3], data: values },
      half: { dtype: "f16", shape: [6], data: convertHost(values, "f32", "f16") },
      brain: { dtype: "bf16", shape: [3, 2], data: convertHost(values, "f32", "bf16") },
      ids: { dtype: "i64", shape: [2], data: BigInt64Array.from([7n, -1n]) },
    });
    const tensors = await mapSafetensors(at("w.safetensors"));
    const described = [...tensors].map(([name, t]) => `${name} ${t.dtype}[${t.shape}] ${"host" in t.value!}`);
    expect(described.sort()).toEqual([
      "brain bf16[3,2] true",
      "half f16[6] false",
      "ids i64[2] false",
      "plain f32[2,3] false",
    ]);
    expect(await tensors.get("plain")!.toArray()).toEqual(Array.from(values));
    expect(await tensors.get("half")!.cast("f32").toArray()).toEqual(Array.from(values));
    expect(await tensors.get("brain")!.cast("f32").toArray()).toEqual(Array.from(values));
    expect(await tensors.get("ids")!.toArray()).toEqual([7, -1]);
  });

  it("refuses types that are no tensors", async () => {
    const bytes = Uint8Array.from([1, 2]);
    await writeSafetensors(at("f8.safetensors"), { small: { dtype: "F8_E4M3", shape: [2], bytes } });
    await expect(mapSafetensors(at("f8.safetensors"))).rejects.toThrow(FormatError);
  });
});
