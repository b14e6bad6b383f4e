/** Errors name the operation, the operands and the user's line. */
import { describe, expect, it } from "vitest";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.ts";
import * as tw from "../../src/tensor/index.ts";

const x = tw.ones([2, 3]);
const i = tw.zeros([2], "i64");

type Kind = new (message: string) => Error;
const CASES: readonly [name: string, run: () => unknown, kind: Kind, pattern: RegExp][] = [
  ["add", () => x.add(tw.ones([4])), ShapeError, /^add\(f32\[2, 3\] and f32\[4\]\): .*axis -1 has 3 and 4/],
  ["add", () => x.add(i), DTypeError, /^add\(f32\[2, 3\] and i64\[2\]\): dtypes differ: f32 and i64/],
  [
    "matmul",
    () => x.matmul(x),
    ShapeError,
    /^matmul\(f32\[2, 3\] and f32\[2, 3\]\): inner dimensions 3 and 2/,
  ],
  ["exp", () => i.exp(), DTypeError, /^exp\(i64\[2\]\): expected a float tensor/],
  [
    "conv",
    () => tw.conv(tw.ones([1, 2, 5]), tw.ones([1, 3, 3])),
    ShapeError,
    /^conv\(f32\[1, 2, 5\] and f32\[1, 3, 3\]\): the input has 2 channels, the kernel expects 3/,
  ],
  ["conv", () => tw.conv(tw.ones([1, 2, 5]), tw.ones([1, 2, 7])), ShapeError, /larger than the padded input/],
  ["concat", () => x.concat(tw.ones([2, 4]), 0), ShapeError, /^concat\(f32\[2, 3\] and f32\[2, 4\]\)/],
  [
    "reshape",
    () => x.reshape([4, 2]),
    ShapeError,
    /^reshape\(f32\[2, 3\]\): cannot hold 6 elements in \[4, 2\]/,
  ],
  ["slice", () => x.slice([0, -5], [1, 2]), ArgumentError, /^slice\(f32\[2, 3\]\).*outside axis 1 of size 3/],
  [
    "transpose",
    () => x.transpose([0, 0]),
    ArgumentError,
    /^transpose\(f32\[2, 3\]\): \[0, 0\] is not a permutation/,
  ],
  [
    "gather",
    () => x.gather(tw.ones([1])),
    DTypeError,
    /^gather\(f32\[2, 3\] and f32\[1\]\): indices must be/,
  ],
  ["where", () => tw.where(x, x, x), DTypeError, /^where\(.*expected bool, got f32/],
  ["broadcastTo", () => x.broadcastTo([2, 4]), ShapeError, /^broadcastTo\(f32\[2, 3\]\)/],
  ["avgPool", () => tw.avgPool(tw.ones([1, 1, 2]), 3), ShapeError, /^avgPool\(f32\[1, 1, 2\]\).*larger/],
  ["philox", () => tw.randomNormal(x, [2]), DTypeError, /^philox\(f32\[2, 3\]\): a key must be i64/],
  [
    "quantizeLinear",
    () => tw.quantizeLinear(x, tw.ones([2])),
    ShapeError,
    /^quantizeLinear\(f32\[2, 3\] and f32\[2\]\): the scales need shape \[3\], got \[2\]/,
  ],
  ["matmulInteger", () => tw.matmulInteger(x, x), DTypeError, /^matmulInteger\(.*expected i8 or u8/],
];

describe("an operation that does not fit", () => {
  it.each(CASES)("%s tells what came and where", (_, run, kind, pattern) => {
    let error: unknown;
    try {
      run();
    } catch (e) {
      error = e;
    }
    expect(error).toBeInstanceOf(kind);
    const { message } = error as Error;
    expect(message).toMatch(pattern);
    expect(message).toMatch(/\n {4}called at .*op-errors\.test\.ts:\d+:\d+$/);
  });
});

describe("functions made of operations", () => {
  it.each([
    [() => tw.resize(x, [4, 4]), /resize: Tensor f32\[2, 3\]/],
    [() => tw.resize(tw.ones([1, 1, 2, 2]), 4, { mode: "nearest", antialias: true }), /antialias.*"nearest"/],
    [() => tw.pixelShuffle(tw.ones([1, 3, 2, 2]), 2), /pixelShuffle: .*\[1, 3, 2, 2\]/],
    [
      () => tw.gridSample(tw.ones([1, 1, 2, 2]), tw.ones([1, 2, 3])),
      /gridSample: .*got Tensor f32\[1, 2, 3\]/,
    ],
    [() => tw.einsum("ij,jk->ik", x, x), /"j".* 3 and 2/],
    [() => tw.attention(x, tw.ones([2, 4]), x), /attention: .*\[2, 3\].*\[2, 4\]/],
    [() => tw.groupNorm(tw.ones([1, 3, 2]), 2), /groupNorm.*3 channels/s],
  ])("say what they expected (%#)", (run, pattern) => {
    expect(run).toThrow(pattern);
  });
});

describe("a fraction among integers", () => {
  it.each([() => i.mul(0.5), () => i.mean(), () => i.greater(0.5)])(
    "is refused, not truncated (%#)",
    (run) => {
      expect(run).toThrow(/0\.5 does not go with a tensor of i64/);
    },
  );
});

describe("matmulNBits without the contributed kernels", () => {
  it.each([4, 8] as const)("unpacks %i bits and gives the same numbers", async (bits) => {
    const layout = { k: 40, n: 3, bits, blockSize: 16 } as const;
    const random = (size: number, seed: number): Uint8Array =>
      Uint8Array.from({ length: size }, (_, i) => (Math.imul(i + 1, 2654435761 + seed) >>> 9) & 255);
    const packed = tw.tensor(random((3 * 3 * 16 * bits) / 8, 1), { shape: [3, 3, 2 * bits], dtype: "u8" });
    const zeros = tw.tensor(random(3 * Math.ceil((3 * bits) / 8), 2), {
      shape: [3, Math.ceil((3 * bits) / 8)],
      dtype: "u8",
    });
    const scales = tw.linspace(0.1, 0.9, 9).reshape([3, 3]);
    await scales.eval();
    const f = (t: tw.Tensor): tw.Tensor => tw.matmulNBits(t, packed, scales, zeros, layout);
    const x = tw.linspace(-1, 1, 80).reshape([2, 40]);
    const plain = await tw.importOnnx(await tw.exportOnnx(f, [x]));
    const expected = await f(x).toArray();
    const [y] = Object.values(await plain.run({ [plain.inputs[0]!.name]: x }));
    const got = await y!.toArray();
    for (const [i, e] of expected.entries()) expect(got[i]).toBeCloseTo(e, 2);
    await plain.close();
  });
});
