/** Builders and readers of safetensors bytes for the tests. */

import { decodeFloat8, isRawTensor, type StoredTensor } from "../../src/io/safetensors.ts";
import { elementToNumber } from "../../src/tensor/dtype.ts";

/** A file from its header (text or bytes), its data, and optionally a false header length. */
export function fileOf(header: string | Uint8Array, data = new Uint8Array(0), length?: bigint): Uint8Array {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const out = new Uint8Array(8 + json.length + data.length);
  new DataView(out.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  out.set(json, 8);
  out.set(data, 8 + json.length);
  return out;
}

/** A file whose only tensor, F32 of one element named `a`, is described by the given JSON. */
export const describedBy = (entry: string, bytes = 4): Uint8Array =>
  fileOf(`{"a":${entry}}`, new Uint8Array(bytes));

/** Elements as numbers, whatever their dtype. */
export function valuesOf(tensor: StoredTensor): number[] {
  const { dtype, data } = isRawTensor(tensor) ? decodeFloat8(tensor) : tensor;
  return Array.from(data as ArrayLike<number | bigint>, (value) => elementToNumber(dtype, value));
}

/** The memory of a tensor. */
export function bytesOfTensor(tensor: StoredTensor): Uint8Array {
  if (isRawTensor(tensor)) return tensor.bytes;
  return new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
}
