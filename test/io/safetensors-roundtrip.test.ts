import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError, DTypeError, FormatError, ShapeError } from "../../src/errors.ts";
import {
  decodeFloat8,
  decodeSafetensors,
  encodeSafetensors,
  safetensorsChunks,
} from "../../src/io/safetensors.ts";
import { namedTensors, textMetadata } from "./arbitraries.ts";
import { bytesOfTensor, valuesOf } from "./safetensors-bytes.ts";

const f32 = (...values: number[]) => ({
  dtype: "f32" as const,
  shape: [values.length],
  data: new Float32Array(values),
});

describe("safetensors round trip", () => {
  it("returns every bit of every tensor and all metadata", () => {
    fc.assert(
      fc.property(namedTensors, textMetadata, fc.boolean(), (tensors, metadata, share) => {
        const read = decodeSafetensors(encodeSafetensors(tensors, metadata), { share });
        expect(read.metadata).toEqual(metadata);
        expect(new Set(read.tensors.keys())).toEqual(new Set(tensors.keys()));
        for (const [name, tensor] of tensors) {
          const back = read.tensors.get(name)!;
          expect([back.dtype, back.shape]).toEqual([tensor.dtype, tensor.shape]);
          expect(bytesOfTensor(back)).toEqual(bytesOfTensor(tensor));
        }
      }),
      { numRuns: 300 },
    );
  });

  it("writes the same bytes whatever the order of tensors and metadata", () => {
    fc.assert(
      fc.property(namedTensors, textMetadata, (tensors, metadata) => {
        const reversed = encodeSafetensors(new Map([...tensors].reverse()), new Map([...metadata].reverse()));
        expect(reversed).toEqual(encodeSafetensors(tensors, metadata));
      }),
    );
  });

  it("rejects every strict prefix of a valid file", () => {
    fc.assert(
      fc.property(namedTensors, (tensors) => {
        const bytes = encodeSafetensors(tensors, { format: "pt" });
        for (let end = 0; end < bytes.length; end++) {
          expect(() => decodeSafetensors(bytes.subarray(0, end))).toThrow(FormatError);
        }
      }),
      { numRuns: 20 },
    );
  });

  it("throws nothing but FormatError on random damage", () => {
    fc.assert(
      fc.property(namedTensors, fc.nat(), fc.nat({ max: 255 }), (tensors, at, value) => {
        const bytes = encodeSafetensors(tensors);
        bytes[at % bytes.length] = value;
        try {
          decodeSafetensors(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("safetensors writer", () => {
  it("writes the bytes of the reference implementation: wide dtypes first, then by name, padded with spaces", () => {
    const bytes = encodeSafetensors(
      {
        b: f32(1),
        a: f32(2),
        h: { dtype: "f16", shape: [1], data: new Uint16Array([0x3c00]) },
        z: { dtype: "i64", shape: [1], data: new BigInt64Array([-5n]) },
      },
      { format: "pt" },
    );
    const header =
      '{"__metadata__":{"format":"pt"},"z":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},' +
      '"a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},' +
      '"h":{"dtype":"F16","shape":[1],"data_offsets":[16,18]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8, " ");
    expect(Buffer.from(bytes.subarray(8, 8 + padded.length)).toString()).toBe(padded);
    expect(Buffer.from(bytes).readBigUInt64LE(0)).toBe(BigInt(padded.length));
    expect(Buffer.from(bytes.subarray(8 + padded.length)).toString("hex")).toBe(
      "fbffffffffffffff" + "00000040" + "0000803f" + "003c",
    );
  });

  it("hands out the tensors' own memory instead of a copy", () => {
    const whole = new Float32Array([0, 1, 2, 3]);
    const chunks = safetensorsChunks({ a: { dtype: "f32", shape: [2], data: whole.subarray(1, 3) } });
    expect(chunks[1]!.buffer).toBe(whole.buffer);
    expect(chunks[1]).toHaveLength(8);
  });

  it("copies on decoding unless asked to share", () => {
    const bytes = encodeSafetensors({ a: f32(1, 2) });
    const copy = decodeSafetensors(bytes).tensors.get("a")!;
    const view = decodeSafetensors(bytes, { share: true }).tensors.get("a")!;
    bytes.fill(0);
    expect([valuesOf(copy), valuesOf(view)]).toEqual([
      [1, 2],
      [0, 0],
    ]);
  });

  it("refuses what the format cannot hold", () => {
    expect(() => encodeSafetensors({ __metadata__: f32(1) })).toThrow(ArgumentError);
    expect(() => encodeSafetensors({ "\ud800": f32(1) })).toThrow(ArgumentError);
    expect(() => encodeSafetensors({ a: f32(1) }, { k: 1 as unknown as string })).toThrow(ArgumentError);
    expect(() => encodeSafetensors({ a: { ...f32(1), shape: [2] } })).toThrow(ShapeError);
    expect(() => encodeSafetensors({ a: { ...f32(1), shape: [-1] } })).toThrow(ShapeError);
    expect(() => encodeSafetensors({ a: { ...f32(1), shape: [0.5, 2] } })).toThrow(ShapeError);
    expect(() => encodeSafetensors({ a: { ...f32(1), dtype: "i32" } })).toThrow(DTypeError);
    expect(() => encodeSafetensors({ a: { dtype: "X9", shape: [1], bytes: new Uint8Array(1) } })).toThrow(
      DTypeError,
    );
  });
});

describe("8-bit floats", () => {
  it("decodes every E4M3 pattern", () => {
    const { data } = decodeFloat8({
      dtype: "F8_E4M3",
      shape: [256],
      bytes: Uint8Array.from({ length: 256 }, (_, i) => i),
    });
    expect([data[0x00], data[0x01], data[0x38], data[0x7e], data[0x7f]]).toEqual([
      0,
      2 ** -9,
      1,
      448,
      Number.NaN,
    ]);
    expect([data[0x08], data[0x80], data[0xc0], data[0xff]]).toEqual([2 ** -6, -0, -2, Number.NaN]);
    for (let i = 1; i < 0x7f; i++) expect(data[i]!).toBeGreaterThan(data[i - 1]! as number);
  });

  it("decodes every E5M2 pattern", () => {
    const { data } = decodeFloat8({
      dtype: "F8_E5M2",
      shape: [256],
      bytes: Uint8Array.from({ length: 256 }, (_, i) => i),
    });
    expect([data[0x01], data[0x3c], data[0x7b], data[0x7c], data[0x7d]]).toEqual([
      2 ** -16,
      1,
      57344,
      Number.POSITIVE_INFINITY,
      Number.NaN,
    ]);
    for (let i = 1; i <= 0x7c; i++) expect(data[i]!).toBeGreaterThan(data[i - 1]! as number);
  });

  it("refuses other raw dtypes", () => {
    expect(() => decodeFloat8({ dtype: "I16", shape: [1], bytes: new Uint8Array(2) })).toThrow(DTypeError);
  });
});
