import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import * as tw from "../../src/tensor/index.ts";
import type { TensorMethods } from "../../src/tensor/tensor-methods.ts";
import { methodsText, WRITTEN } from "../../tools/tensor-methods.ts";

/** All methods by name: one more or less is a change of what users may write. */
const METHODS = `
  abs acos add argmax argmin argsort asin atan atan2 bitwiseAnd bitwiseNot bitwiseOr bitwiseXor broadcastTo cast
  castHost ceil clip clipTo concat cos cumprod cumsum data div elu equal erf eval exp expm1 flattenAxes flip floor
  gather gatherElements gatherND gelu greater greaterEqual gridSample isFinite isInf isNan item leakyRelu less
  lessEqual log log1p logSoftmax logSumExp logicalAnd logicalNot logicalOr logicalXor matmul max maximum mean min minimum mod
  mul neg norm oneHot pad pixelShuffle pixelUnshuffle pow prod quickGelu reciprocal relu repeat reshape
  resize roll round rsqrt scatterAdd scatterElements scatterND select setSlice shiftLeft shiftRight sigmoid
  sign silu sin slice sliceAxis softmax softplus sort split sqrt square squeeze std stopGradient sub sum sumTo
  tan tanh tile toArray topK transpose unsqueeze variance
`
  .trim()
  .split(/\s+/);

/** What the class itself has. */
const OWN = ["bytes", "constructor", "dispose", "dtype", "rank", "shape", "size", "toString", "value"];

it("a tensor has the listed methods and no others", () => {
  expect(Object.getOwnPropertyNames(tw.Tensor.prototype).sort()).toEqual([...METHODS, ...OWN].sort());
});

it("a method is the function of its name with the tensor as first argument", async () => {
  const x = tw.tensor([
    [3, 1],
    [2, 5],
  ]);
  const calls: [keyof TensorMethods, tw.Tensor, tw.Tensor][] = [
    ["sub", x.sub(1), tw.sub(x, 1)],
    ["sum", x.sum(0), tw.sum(x, 0)],
    ["matmul", x.matmul(x), tw.matmul(x, x)],
    ["sliceAxis", x.sliceAxis(1, 1), tw.sliceAxis(x, 1, 1)],
    ["cast", x.cast("i32"), tw.cast(x, "i32")],
  ];
  for (const [name, byMethod, byFunction] of calls) {
    expect(byMethod.dtype, name).toBe(byFunction.dtype);
    expect(await byMethod.toArray(), name).toEqual(await byFunction.toArray());
  }
});

it("every method has the text and the parameters of its function, for who hovers over it", () => {
  const bare = (text: string): string => text.replace(/\s+/g, "").replace(/,(?=[)}\]])/g, "");
  expect(bare(readFileSync(WRITTEN, "utf8"))).toBe(bare(methodsText())); // npx tsx tools/tensor-methods.ts
});
