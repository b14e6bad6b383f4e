/**
 * Kernels that ONNX Runtime chooses by the processor's instructions, where they break first: integer products of the
 * largest numbers, which may overflow the 16 bits between, and work over several threads.
 */
import { describe, expect, it, test } from "vitest";
import {
  conv,
  dynamicQuantizeMatmul,
  fillNormal,
  fromHost,
  hostArray,
  jit,
  matmulInteger,
  matmulNBits,
  type Tensor,
} from "../../src/tensor/index.ts";

const BYTES = { i8: [-128, 127], u8: [0, 255] } as const;
type ByteType = keyof typeof BYTES;
const TYPES = ["u8", "i8"] as const;
const PAIRS = TYPES.flatMap((a) => TYPES.map((b) => [a, b] as const));
const ROWS = 3;
const COLUMNS = 18; // one more than a kernel's block
const LENGTHS = [1, 4, 64, 70];

/** A matrix of the two values: all low, all high, then both in turn, row by row. // [rows, columns] */
const extremes = (rows: number, columns: number, [low, high]: readonly [number, number]): number[] =>
  Array.from({ length: rows * columns }, (_, i) => {
    const row = Math.floor(i / columns) % 3;
    return row === 0 ? high : row === 1 ? low : i % 2 ? high : low;
  });

const transposed = (x: readonly number[], rows: number): number[] =>
  x.map((_, i) => x[(i % rows) * (x.length / rows) + Math.floor(i / rows)]!);

const bytes = (dtype: ByteType, shape: readonly number[], data: readonly number[]): Tensor =>
  fromHost(dtype, shape, hostArray(dtype, data));

const floats = (shape: readonly number[], data: readonly number[]): Tensor =>
  fromHost("f32", shape, Float32Array.from(data));

/** a b with both in rows: b is given transposed. // [ROWS, k] by [COLUMNS, k] to [ROWS, COLUMNS] */
function product(a: readonly number[], b: readonly number[], k: number): number[] {
  return Array.from({ length: ROWS * COLUMNS }, (_, at) => {
    let sum = 0;
    for (let i = 0; i < k; i++) sum += a[Math.floor(at / COLUMNS) * k + i]! * b[(at % COLUMNS) * k + i]!;
    return sum;
  });
}

describe.each(PAIRS)("products of the largest %s by the largest %s", (ta, tb) => {
  it.each(LENGTHS)("are exact over %i terms, with every zero point", async (k) => {
    const [a, b] = [extremes(ROWS, k, BYTES[ta]), extremes(COLUMNS, k, BYTES[tb])];
    for (const za of [undefined, ...BYTES[ta], ta === "u8" ? 128 : 0])
      for (const zb of za === undefined ? [undefined] : [...BYTES[tb], tb === "u8" ? 128 : 0]) {
        const y = matmulInteger(
          bytes(ta, [ROWS, k], a),
          bytes(tb, [k, COLUMNS], transposed(b, COLUMNS)),
          za === undefined ? undefined : bytes(ta, [], [za]),
          zb === undefined ? undefined : bytes(tb, [], [zb]),
        );
        const shifted = (x: readonly number[], zero = 0): number[] => x.map((v) => v - zero);
        expect(await y.toArray(), `zero points ${za} and ${zb}`).toEqual(
          product(shifted(a, za), shifted(b, zb), k),
        );
      }
  });
});

test("64 products of 255 - 128 by 127 are 1,032,256", async () => {
  const [a, b] = [bytes("u8", [1, 64], Array(64).fill(255)), bytes("i8", [64, 1], Array(64).fill(127))];
  expect(await matmulInteger(a, b, bytes("u8", [], [128])).toArray()).toEqual([127 * 127 * 64]);
});

/** Ranges that rounding to bytes keeps as they are: a step of one, and 0 in them. */
const RANGES = [
  [0, 255],
  [-255, 0],
  [-128, 127],
] as const;

describe.each(TYPES)("a product that rounds its input, by the largest %s", (tb) => {
  it.each(LENGTHS)("is exact over %i terms where rounding is", async (k) => {
    for (const range of RANGES) {
      const [a, b] = [extremes(ROWS, k, range), extremes(COLUMNS, k, BYTES[tb])];
      const scales = Array.from({ length: COLUMNS }, (_, i) => 2 ** -(i % 5));
      const weight = bytes(tb, [k, COLUMNS], transposed(b, COLUMNS));
      const y = dynamicQuantizeMatmul(floats([ROWS, k], a), weight, floats([COLUMNS], scales));
      const expected = product(a, b, k).map((v, i) => v * scales[i % COLUMNS]!);
      expect(await y.toArray(), `inputs from ${range}`).toEqual(expected);
    }
  });
});

describe.each([4, 8] as const)("a product by packed weights of %i bits at their ends", (bits) => {
  const [blockSize, blocks] = [32, 3];
  const k = blockSize * blocks;
  const top = 2 ** bits - 1;
  const packed = (codes: readonly number[]): number[] =>
    bits === 8 ? [...codes] : codes.flatMap((v, i) => (i % 2 ? [] : [v | (codes[i + 1]! << 4)]));

  it.each([0, 4] as const)("is right at accuracy level %i, with zero points and without", async (level) => {
    // Each block of each row holds 127 or -127, so that rounding to signed bytes keeps it.
    const x = extremes(ROWS, k, [-127, 127]);
    const codes = extremes(COLUMNS, k, [0, top]);
    const layout = { k, n: COLUMNS, bits, blockSize, accuracyLevel: level };
    const scales = floats([COLUMNS, blocks], Array(COLUMNS * blocks).fill(0.5));
    const weight = bytes("u8", [COLUMNS, blocks, (blockSize * bits) / 8], packed(codes));
    for (const zero of [undefined, 0, top]) {
      const perRow = Math.ceil((blocks * bits) / 8);
      const byte = zero && bits === 4 ? zero * 17 : (zero ?? 0);
      const zeros =
        zero === undefined ? undefined : bytes("u8", [COLUMNS, perRow], Array(COLUMNS * perRow).fill(byte));
      const y = matmulNBits(floats([ROWS, k], x), weight, scales, zeros, layout);
      const centred = codes.map((v) => (v - (zero ?? 2 ** (bits - 1))) / 2);
      const expected = product(x, centred, k);
      const largest = Math.max(...expected.map(Math.abs));
      for (const [i, v] of (await y.toArray()).entries())
        expect(Math.abs(v - expected[i]!), `zero point ${zero}, element ${i}: ${v}`).toBeLessThan(
          1e-5 * largest,
        );
    }
  });
});

test("one thread and several give the same", async () => {
  const normal = (shape: readonly number[], sample: number): Tensor =>
    fromHost("f32", shape, fillNormal(new Float32Array(shape.reduce((a, b) => a * b)), { seed: 3, sample }));
  const [x, w, m] = [normal([2, 8, 24, 24], 0), normal([24, 8, 3, 3], 1), normal([24, 40], 2)];
  const network = (input: Tensor): Tensor =>
    conv(input, w, undefined, { padding: 1 }).silu().transpose([0, 2, 3, 1]).matmul(m).softmax(-1);
  const results: number[][] = [];
  for (const threads of [1, 2, 3]) {
    const compiled = jit(network, { threads });
    results.push(await (await compiled(x)).toArray());
    await compiled.close();
  }
  for (const other of results.slice(1))
    expect(Math.max(...other.map((v, i) => Math.abs(v - results[0]![i]!)))).toBeLessThan(1e-5);
});
