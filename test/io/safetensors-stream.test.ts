import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ShapeError } from "../../src/errors.ts";
import {
  decodeSafetensors,
  encodeSafetensors,
  isRawTensor,
  type NamedTensors,
  safetensorsName,
  safetensorsStream,
} from "../../src/io/safetensors.ts";
import { namedTensors } from "./arbitraries.ts";

async function gather(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return new Uint8Array(Buffer.concat(chunks));
}

describe("a streamed safetensors file", () => {
  it("has the bytes of one written at once, with one tensor read at a time", async () => {
    await fc.assert(
      fc.asyncProperty(namedTensors, async (given: NamedTensors) => {
        const whole = encodeSafetensors(given, { a: "b" });
        const { tensors } = decodeSafetensors(whole);
        const entries = new Map(
          [...tensors].map(([name, t]) => [
            name,
            { dtype: isRawTensor(t) ? t.dtype : safetensorsName(t.dtype), shape: t.shape },
          ]),
        );
        const streamed = await gather(
          safetensorsStream(entries, async (name) => tensors.get(name)!, { a: "b" }),
        );
        expect(streamed).toEqual(whole);
      }),
      { numRuns: 50 },
    );
  });

  it("ends with an error when a tensor is not what was announced", async () => {
    const entries = new Map([["x", { dtype: "F32", shape: [2] }]]);
    const wrong = async () => ({ dtype: "f32" as const, shape: [1], data: new Float32Array(1) });
    await expect(gather(safetensorsStream(entries, wrong))).rejects.toThrow(ShapeError);
    await expect(gather(safetensorsStream(entries, wrong))).rejects.toThrow(
      'tensor "x": expected F32 [2], got F32 [1]',
    );
  });
});
