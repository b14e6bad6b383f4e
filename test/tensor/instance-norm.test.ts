import { expect, it } from "vitest";
import { exportOnnx, fillNormal, fromHost, groupNorm, jit, type Tensor } from "../../src/tensor/index.ts";
import { CPU_CAPABILITIES } from "../../src/tensor/onnx/builder.ts";

const random = (shape: readonly number[], sample: number): Tensor =>
  fromHost("f32", shape, fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed: 4, sample }));

it.each([
  [6, 1],
  [3, 0],
])(
  "group norm of %i groups over 6 channels is one kernel when each is a group and weights are constant",
  async (groups, kernels) => {
    const [x, w, b] = [random([2, 6, 5, 7], 0).mul(3).add(2), random([6], 1), random([6], 2)];
    const constant = jit((input: Tensor) => groupNorm(input, groups, w, b));
    const plain = jit((input: Tensor, weight: Tensor, bias: Tensor) =>
      groupNorm(input, groups, weight, bias),
    );
    const [got, want] = [await (await constant(x)).toArray(), await (await plain(x, w, b)).toArray()];
    await Promise.all([constant.close(), plain.close()]);
    for (const [i, v] of want.entries()) expect(Math.abs(got[i]! - v)).toBeLessThan(1e-5);
    const model = await exportOnnx((input: Tensor) => groupNorm(input, groups, w, b), [x], {
      capabilities: CPU_CAPABILITIES,
    });
    const text = new TextDecoder("latin1").decode(model);
    expect(text.split("InstanceNormalization").length - 1).toBe(kernels);
  },
);
