/** Mistakes of the first hour, outside of the type checker's reach: each is refused in words that name what came. */
import { describe, expect, it } from "vitest";
import {
  classifierFreeGuidance,
  euler,
  eulerAncestral,
  finalSample,
  karrasSigmas,
  withZero,
} from "../../src/diffusion/index.ts";
import { adamW, Conv2d, createRng, GroupNorm, Linear, loadParameters, MLP } from "../../src/nn/index.ts";
import { grad, importOnnx, type Tensor, tensor, zeros } from "../../src/tensor/index.ts";

const never = (value: unknown) => value as never;
const rng = createRng(0);
const x = tensor([[1, 2]]);
const sigmas = withZero(karrasSigmas(5, { min: 0.1, max: 10 }));
const guided = (scale: number) =>
  classifierFreeGuidance((z, _, c: Tensor) => z.mul(c.reshape([-1, 1])), {
    ...{ scale, condition: tensor([0.5]), negative: tensor([0.1]) },
  });

const WRONG: Record<string, readonly [program: () => unknown, words: RegExp]> = {
  "a layer of another width": [
    () => new Linear(3, 2, rng).call(x),
    /Linear: expected \[\.\.\., 3\], got .*\[1, 2\]/,
  ],
  "a layer without its generator": [
    () => new Linear(3, 2, never(undefined)),
    /Linear: expected a random generator.*got nothing/,
  ],
  "options before the generator": [
    () => new Linear(3, 2, never({}), never(rng)),
    /Linear: expected a random generator.*got object/,
  ],
  "a negative width": [() => new Linear(-3, 2, rng), /Linear: inFeatures must be .*got -3/],
  "a convolution of NaN channels": [
    () => new Conv2d(Number.NaN, 2, 3, rng),
    /Conv: inChannels must be .*got NaN/,
  ],
  "a convolution without its generator": [
    () => new Conv2d(3, 2, 3, never({ padding: 1 })),
    /Conv: expected a random generator.*got object/,
  ],
  "other channels": [
    () => new Conv2d(3, 4, 3, rng).call(zeros([1, 2, 8, 8])),
    /expected \[N, 3, H, W\], got/,
  ],
  "a kernel beyond its picture": [
    () => new Conv2d(3, 4, 5, rng).call(zeros([1, 3, 2, 2])),
    /kernel is larger/,
  ],
  "groups that do not divide": [() => new GroupNorm(8, 12), /12 channels do not split into 8 groups/],
  "one width": [() => new MLP([2], rng), /at least two widths, got \[2\]/],
  "weights of another model": [
    () => loadParameters(new MLP([2, 3, 1], rng), new Map([["foo", zeros([1])]])),
    /missing "layers\.0\.weight"/,
  ],
  "no learning rate": [() => adamW(never({})), /learning rate must be.*got undefined/],
  "ragged arrays": [() => tensor(never([[1, 2], [3]])), /ragged/],
  "a shape of NaN": [() => zeros([Number.NaN]), /non-negative integers, got \[NaN\]/],
  "more than there is": [() => zeros([1e6, 1e6]).add(1).data(), /needs 3\.64 TiB/],
  "an axis that is not there": [() => tensor([1, 2]).sum(3), /axis 3 is outside a tensor with 1 axes/],
  "an index beyond the end": [() => tensor([1, 2, 3]).gather([7]), /index 7 is outside an axis of size 3/],
  "the item of many": [() => tensor([1, 2]).item(), /exactly one element, got shape \[2\]/],
  "a gradient of integers": [
    () => grad((t: Tensor) => t.sum())(tensor([1], { dtype: "i32" })),
    /tensors of i32 only/,
  ],
  "a model file that is not there": [
    () => importOnnx("/nowhere.onnx"),
    /nowhere\.onnx: there is no such file/,
  ],
  "a model file that is none": [() => importOnnx(Uint8Array.of(1, 2, 3, 4)), /protobuf/],
  "a sampler without noise": [
    () => finalSample(eulerAncestral((z) => z, x, sigmas)),
    /give it a source as options\.noise/,
  ],
  "a denoiser of another shape": [
    () => finalSample(euler((z) => z.sum(), x, sigmas)),
    /expected a sample of shape \[1,2\], got \[\]/,
  ],
  "a denoiser of NaN": [() => finalSample(euler((z) => z.neg().log(), x, sigmas)), /NaN at element 0/],
  "levels with 0 in between": [
    () => finalSample(euler((z) => z, x, [1, 0, 2])),
    /noise level 1 of 3 must be/,
  ],
  "integers as samples": [
    () => finalSample(euler((z) => z, x.cast("i32"), sigmas)),
    /a sample is of floats, got i32/,
  ],
  "guidance of NaN": [
    () => finalSample(euler(guided(Number.NaN), x, sigmas)),
    /the scale at sigma 10\S* is NaN/,
  ],
  "no steps": [() => karrasSigmas(0, { min: 0.1, max: 10 }), /positive integer, got 0/],
  "levels upside down": [
    () => karrasSigmas(3, { min: 10, max: 1 }),
    /0 < sigma_min < sigma_max, got 10 and 1/,
  ],
};

describe("a wrong program is told", () => {
  for (const [name, [program, words]] of Object.entries(WRONG))
    it(name, async () => {
      await expect((async () => program())()).rejects.toThrow(words);
    });
});
