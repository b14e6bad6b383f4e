import { describe, expect, it } from "vitest";
import {
  conv,
  exportOnnx,
  fillNormal,
  fromHost,
  jit,
  type Tensor,
  upsample,
} from "../../src/tensor/index.ts";
import { CPU_CAPABILITIES } from "../../src/tensor/onnx/builder.ts";

const random = (shape: readonly number[], sample: number): Tensor =>
  fromHost("f32", shape, fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed: 2, sample }));

const count = (model: Uint8Array, word: string): number =>
  new TextDecoder("latin1").decode(model).split(word).length - 1;

/** Compiled with the weights as constants, and with them as arguments, where nothing is rewritten. */
async function bothWays(f: (x: Tensor, w: Tensor, b: Tensor) => Tensor, [x, w, b]: [Tensor, Tensor, Tensor]) {
  const [constant, plain] = [jit((input: Tensor) => f(input, w, b)), jit(f)];
  const values = [await (await constant(x)).toArray(), await (await plain(x, w, b)).toArray()] as const;
  await Promise.all([constant.close(), plain.close()]);
  const model = await exportOnnx((input: Tensor) => f(input, w, b), [x], { capabilities: CPU_CAPABILITIES });
  return { values, model };
}

function expectSame([got, want]: readonly [number[], number[]]): void {
  expect(got.length).toBe(want.length);
  for (const [i, v] of want.entries()) expect(Math.abs(got[i]! - v)).toBeLessThan(1e-4);
}

describe("a convolution of a doubled map", () => {
  const tensors = (): [Tensor, Tensor, Tensor] => [
    random([2, 3, 4, 5], 0),
    random([6, 3, 3, 3], 1),
    random([6], 2),
  ];

  it("by constant weights is four small ones, with the same result at every border", async () => {
    const { values, model } = await bothWays(
      (x, w, b) => conv(upsample(x, 2), w, b, { padding: 1 }),
      tensors(),
    );
    expectSame(values);
    expect(count(model, "DepthToSpace")).toBe(1);
    expect(count(model, "Resize")).toBe(0);
  });

  it("keeps the doubled map where something else needs it too", async () => {
    const { values, model } = await bothWays((x, w, b) => {
      const large = upsample(x, 2);
      return conv(large, w, b, { padding: 1 }).add(large.sum(1, true));
    }, tensors());
    expectSame(values);
    expect(count(model, "Resize")).toBeGreaterThan(0);
  });

  it.each([
    ["another factor", (x: Tensor, w: Tensor, b: Tensor) => conv(upsample(x, [2, 3]), w, b, { padding: 1 })],
    ["another padding", (x: Tensor, w: Tensor, b: Tensor) => conv(upsample(x, 2), w, b)],
    ["a stride", (x: Tensor, w: Tensor, b: Tensor) => conv(upsample(x, 2), w, b, { padding: 1, stride: 2 })],
  ])("with %s is left as it is", async (_, f) => {
    const { values, model } = await bothWays(f, tensors());
    expectSame(values);
    expect(count(model, "DepthToSpace")).toBe(0);
  });
});
