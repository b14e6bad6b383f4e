/** Values and gradients of resampling, attention and norms against torch's. */
import * as tw from "../../src/tensor/index.ts";
import { torchCases } from "./torch-cases.ts";

torchCases("torch-ops.json", {
  resize: ({ size, ...options }: tw.ResizeOptions & { size: number[] }, x) => x!.resize(size, options),
  pixelShuffle: ({ factor }: { factor: number }, x) => x!.pixelShuffle(factor),
  pixelUnshuffle: ({ factor }: { factor: number }, x) => x!.pixelUnshuffle(factor),
  gridSample: (options: tw.GridSampleOptions, x, grid) => tw.gridSample(x!, grid!, options),
  gelu: (_, x) => x!.gelu(),
  geluTanh: (_, x) => x!.gelu("tanh"),
  silu: (_, x) => x!.silu(),
  softplus: (_, x) => x!.softplus(),
  attention: (_, q, k, v) => tw.attention(q!, k!, v!),
  attentionCausal: (_, q, k, v) => tw.attention(q!, k!, v!, { mask: tw.tril(4, 4) }),
  attentionFloatMask: (_, q, k, v, mask) => tw.attention(q!, k!, v!, { mask }),
  groupNorm: ({ groups }: { groups: number }, x, w, b) => tw.groupNorm(x!, groups, w, b),
  layerNorm: (_, x, w, b) => tw.layerNorm(x!, w, b),
  rmsNorm: (_, x, w) => tw.rmsNorm(x!, w),
  instanceNorm: (_, x, w, b) => tw.instanceNorm(x!, w, b),
  batchNorm: (_, x, w, b) => tw.batchNorm(x!, w!, b!),
});
