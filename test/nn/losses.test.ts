import { describe, expect, it } from "vitest";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.ts";
import * as nn from "../../src/nn/index.ts";
import { grad, type Tensor, tensor, zeros } from "../../src/tensor/index.ts";
import { torchCases } from "../tensor/torch-cases.ts";

torchCases("torch-losses.json", {
  crossEntropy: (options: nn.CrossEntropyOptions, x, t) => nn.crossEntropy(x!, t!, options),
  binaryCrossEntropyWithLogits: (options: nn.BinaryOptions, x, t) =>
    nn.binaryCrossEntropyWithLogits(x!, t!, options),
  logSigmoid: (_, x) => nn.logSigmoid(x!),
  huber: (options: nn.HuberOptions, x, t) => nn.huber(x!, t!, options),
  charbonnier: (options: nn.CharbonnierOptions, x, t) => nn.charbonnier(x!, t!, options),
  gaussianDivergence: (_, mean, logvar, mean2, logvar2) =>
    nn.gaussianDivergence({ mean: mean!, logvar: logvar! }, mean2 && { mean: mean2, logvar: logvar2! }),
  categoricalDivergence: ({ axis }: { axis: number }, p, q) => nn.categoricalDivergence(p!, q!, axis),
  totalVariation: (_, x) => nn.totalVariation(x!),
});

describe("losses", () => {
  it("with no label that counts are 0, with gradients of 0", async () => {
    const labels = tensor([-100, -100], { dtype: "i32" });
    const loss = (x: Tensor): Tensor => nn.crossEntropy(x, labels);
    expect(await loss(zeros([2, 3])).item()).toBe(0);
    expect(await grad(loss)(zeros([2, 3])).toArray()).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it("are smooth where their values meet", async () => {
    const x = tensor([0, 0.5]);
    const slope = await grad((t: Tensor) => nn.charbonnier(t, x, { reduction: "sum" }))(x).toArray();
    expect(slope).toEqual([0, 0]);
    expect(await nn.totalVariation(tensor([[[[1], [1]]]])).item()).toBe(0);
  });

  it("refuse what they cannot take", () => {
    const [x, labels] = [zeros([2, 3]), zeros([2], "i64")];
    expect(() => nn.crossEntropy(zeros([3]), labels)).toThrow(ShapeError);
    expect(() => nn.crossEntropy(x, zeros([3], "i64"))).toThrow(/need labels \[2\]/);
    expect(() => nn.crossEntropy(x, zeros([2], "u8"))).toThrow(DTypeError);
    expect(() => nn.crossEntropy(x, labels, { labelSmoothing: 2 })).toThrow(ArgumentError);
    expect(() => nn.crossEntropy(x, labels, { reduction: "median" as "mean" })).toThrow(/reduction/);
    expect(() => nn.huber(x, x, { delta: 0 })).toThrow(ArgumentError);
    expect(() => nn.huber(x, labels)).toThrow(ShapeError);
    expect(() => nn.charbonnier(x, x, { eps: -1 })).toThrow(ArgumentError);
    expect(() => nn.totalVariation(x)).toThrow(ShapeError);
  });
});
