/** Finds out whether the CPU kernels of this machine multiply signed bytes exactly. */

import { CPU_CAPABILITIES, GraphBuilder } from "../onnx/builder.ts";
import { encodeModel } from "../onnx/model.ts";
import type { Runtime } from "./runtime.ts";

const [INNER, COLUMNS] = [64, 32];

/** One row and several go through different kernels. */
const ROWS = [1, 8] as const;

/** The largest products: all sums are 255 · 127 · 64, or its negative in odd columns. */
const sumOf = (column: number): number => (column % 2 ? -1 : 1) * 255 * 127 * INNER;

async function isExact(rt: Runtime, rows: number): Promise<boolean> {
  const g = new GraphBuilder(CPU_CAPABILITIES);
  const weight = Int8Array.from({ length: INNER * COLUMNS }, (_, i) => (i % 2 ? -127 : 127));
  const y = g.op("MatMulInteger", ["x", g.constant("i8", [INNER, COLUMNS], weight)]);
  const [shape, out] = [
    [rows, INNER],
    [rows, COLUMNS],
  ];
  const model = encodeModel(g, [{ name: "x", shape, dtype: "u8" }], [{ name: y, shape: out, dtype: "i32" }]);
  const session = await rt.createSession(model, "cpu", { threads: 1 });
  const x = new rt.Tensor("uint8", new Uint8Array(rows * INNER).fill(255), shape);
  const results = await session.run({ x }, { [y]: null });
  await session.close();
  return (results[y]!.data as Int32Array).every((sum, i) => sum === sumOf(i % COLUMNS));
}

/**
 * True with VNNI, AMX or the dot products of ARM; false with AVX2 alone, where sums of two products saturate in 16 bits.
 * Signed weights are then raised to unsigned ones. By trial, like the channel blocks.
 */
export async function signedBytesAreExact(rt: Runtime): Promise<boolean> {
  for (const rows of ROWS) if (!(await isExact(rt, rows))) return false;
  return true;
}
