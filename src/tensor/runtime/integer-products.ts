/** Finds out what the CPU kernels of this machine do with integers. */

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

/**
 * Whether packed weights are multiplied in integers when that is allowed: not without AVX2. The product of 0.3 and 1 by
 * weights of 1, whose first factor is rounded to 38 / 127 then.
 */
export async function roundsBlocks(rt: Runtime): Promise<boolean> {
  const g = new GraphBuilder(CPU_CAPABILITIES);
  const attributes = { K: 32, N: 1, bits: 8, block_size: 32, accuracy_level: 4 };
  const weight = g.constant("u8", [1, 1, 32], new Uint8Array(32).fill(129)); // 1 above the middle
  const y = g.contribOp(
    "MatMulNBits",
    ["x", weight, g.constant("f32", [1, 1], Float32Array.of(1))],
    attributes,
  );
  const value = (name: string, columns: number) => [{ name, shape: [1, columns], dtype: "f32" as const }];
  const session = await rt.createSession(encodeModel(g, value("x", 32), value(y, 1)), "cpu", { threads: 1 });
  const x = new rt.Tensor("float32", Float32Array.of(0.3, 1, ...new Float32Array(30)), [1, 32]);
  const results = await session.run({ x }, { [y]: null });
  await session.close();
  return Math.abs((results[y]!.data[0] as number) - (1 + 38 / 127)) < 1e-4;
}
