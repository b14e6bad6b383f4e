/** Integer products where kernels saturate: on processors with AVX2 and without VNNI, signed weights must be raised. */
import { describe, expect, it } from "vitest";
import {
  dynamicQuantizeMatmul,
  exportOnnx,
  fromHost,
  importOnnx,
  matmulInteger,
  type Tensor,
  tensor,
} from "../../src/tensor/index.ts";
import { CPU_CAPABILITIES, PLAIN_ONNX } from "../../src/tensor/onnx/builder.ts";

type ByteType = "i8" | "u8";
const EXTREMES = { i8: [-128, 127], u8: [0, 255] } as const;
const INNER = 64;

const bytes = (dtype: ByteType, shape: readonly number[], value: (i: number) => number): Tensor => {
  const values = Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => value(i));
  return fromHost(dtype, shape, dtype === "i8" ? Int8Array.from(values) : Uint8Array.from(values));
};

/** Mostly one value, now and then the other. */
const mixed = (often: number, seldom: number) => (i: number) => (i % 7 === 3 ? seldom : often);

const pairs = (["u8", "i8"] as const).flatMap((a) => (["u8", "i8"] as const).map((b) => [a, b] as const));

describe("matmulInteger is exact at the extremes", () => {
  it.each(pairs)("of %s by %s", async (ta, tb) => {
    for (const rows of [1, 8])
      for (const columns of [1, 32])
        for (const [a, b] of [0, 1].flatMap((i) => [0, 1].map((j) => [i, j] as const)))
          for (const zeros of [false, true]) {
            const x = bytes(ta, [rows, INNER], mixed(EXTREMES[ta][a]!, EXTREMES[ta][1 - a]!));
            const w = bytes(tb, [INNER, columns], mixed(EXTREMES[tb][b]!, EXTREMES[tb][1 - b]!));
            const [za, zb] = zeros ? [EXTREMES[ta][1]!, EXTREMES[tb][0]!] : [0, 0];
            const scalar = (dtype: ByteType, value: number) => bytes(dtype, [], () => value);
            const y = zeros ? matmulInteger(x, w, scalar(ta, za), scalar(tb, zb)) : matmulInteger(x, w);
            const [left, right] = [await x.toArray(), await w.toArray()];
            const expected = Array.from({ length: rows * columns }, (_, at) => {
              let sum = 0;
              for (let k = 0; k < INNER; k++)
                sum +=
                  (left[Math.floor(at / columns) * INNER + k]! - za) *
                  (right[k * columns + (at % columns)]! - zb);
              return sum;
            });
            expect(await y.toArray()).toEqual(expected);
          }
  });
});

/** Both ways to lower signed weights: as they are, and raised to unsigned ones as on a processor without VNNI. */
const WAYS = {
  "signed weights": { ...CPU_CAPABILITIES, exactSignedBytes: true },
  "raised weights": CPU_CAPABILITIES,
  "plain operators": PLAIN_ONNX,
} as const;

describe.each(Object.entries(WAYS))("with %s", (name, capabilities) => {
  const weight = bytes("i8", [INNER, 8], mixed(3, -5));
  const scales = tensor(Float32Array.from({ length: 8 }, (_, i) => 0.01 * (i + 1)));

  /** Operators and element types in a model's bytes. */
  async function run(f: (x: Tensor) => Tensor, x: Tensor): Promise<number[]> {
    const model = await importOnnx(await exportOnnx(f, [x], { capabilities }));
    const { output } = await model.run({ "input.0": x });
    await model.close();
    return output!.toArray();
  }

  it("small products come out the same, with and without zero points", async () => {
    const x = bytes("u8", [3, INNER], (i) => i % 3);
    const zero = (dtype: ByteType, shape: number[], value: number) => bytes(dtype, shape, () => value);
    for (const zeros of [[], [zero("u8", [], 1)], [zero("u8", [], 1), zero("i8", [8], -2)]] as Tensor[][])
      expect(await run((a) => matmulInteger(a, weight, ...zeros), x), name).toEqual(
        await matmulInteger(x, weight, ...zeros).toArray(),
      );
  });

  it("dynamically quantised products come out the same, with and without a bias", async () => {
    const x = tensor(Float32Array.from({ length: 2 * INNER }, (_, i) => Math.sin(i))).reshape([2, INNER]);
    await x.eval();
    const bias = tensor(Float32Array.from({ length: 8 }, (_, i) => i - 4));
    for (const b of [undefined, bias]) {
      const expected = await dynamicQuantizeMatmul(x, weight, scales, b).toArray();
      const found = await run((a) => dynamicQuantizeMatmul(a, weight, scales, b), x);
      for (const [i, v] of expected.entries()) expect(found[i]).toBeCloseTo(v, 4);
    }
  });
});

it("dynamicQuantizeMatmul does not saturate", async () => {
  const x = tensor(new Float32Array(8 * INNER).fill(1)).reshape([8, INNER]);
  const w = bytes("i8", [INNER, 16], () => 127);
  const scales = tensor(new Float32Array(16).fill(0.01));
  for (const y of await dynamicQuantizeMatmul(x, w, scales).toArray()) expect(y).toBeCloseTo(64 * 1.27, 3);
});
