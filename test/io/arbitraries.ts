/** Random tensors for property tests. */

import fc from "fast-check";
import type { StoredTensor } from "../../src/io/safetensors.ts";
import { DTYPES, type DType } from "../../src/tensor/dtype.ts";

const shape = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 });
const dtypes = Object.keys(DTYPES) as DType[];
const RAW: Readonly<Record<string, number>> = { F8_E4M3: 1, F8_E5M2: 1, I16: 2, U16: 2, C64: 8 };

const bytesFor = (dims: readonly number[], width: number) => {
  const length = dims.reduce((n, d) => n * d, width);
  return fc.uint8Array({ minLength: length, maxLength: length });
};

const hostTensor: fc.Arbitrary<StoredTensor> = fc
  .record({ dtype: fc.constantFrom(...dtypes), shape })
  .chain(({ dtype, shape }) =>
    bytesFor(shape, DTYPES[dtype].bytes).map((bytes) => {
      const clean = dtype === "bool" ? bytes.map((b) => b & 1) : bytes;
      return { dtype, shape, data: new DTYPES[dtype].array(clean.slice().buffer) };
    }),
  );

const rawTensor: fc.Arbitrary<StoredTensor> = fc
  .record({ dtype: fc.constantFrom(...Object.keys(RAW)), shape })
  .chain(({ dtype, shape }) => bytesFor(shape, RAW[dtype]!).map((bytes) => ({ dtype, shape, bytes })));

const text = fc.string({ unit: "binary", maxLength: 12 });
const name = fc
  .oneof(
    text,
    fc.constantFrom("__proto__", "constructor", "", "0", "../x", "a\u0000b", "\u{1f600}", "\uffee"),
  )
  .filter((value) => value !== "__metadata__");

/** Up to six tensors of any dtype, shape (also empty and 0-rank) and bits, with any well-formed names. */
export const namedTensors: fc.Arbitrary<Map<string, StoredTensor>> = fc
  .array(fc.tuple(name, fc.oneof(hostTensor, rawTensor)), { maxLength: 6 })
  .map((pairs) => new Map(pairs));

/** Metadata with any well-formed keys and values. */
export const textMetadata: fc.Arbitrary<Map<string, string>> = fc
  .array(fc.tuple(text, text), { maxLength: 3 })
  .map((pairs) => new Map(pairs));
