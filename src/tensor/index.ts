/** Tensors, operations, differentiation, compilation, random numbers. */
import { installMethods } from "./methods.ts";
import { OPS } from "./ops/table.ts";
import { type Cotangent, Node, type Op, peekHost, readHost, Tensor, type TensorLike } from "./tensor.ts";
import type { TensorMethods } from "./tensor-methods.ts";

// Declared here and not in tensor.ts, which would then import every operation.
declare module "./tensor.js" {
  interface Tensor extends TensorMethods {}
}
installMethods();

export * from "./autodiff.ts";
export type { Aval, FileSlice } from "./aval.ts";
export * from "./diagnose.ts";
export * from "./dtype.ts";
export { cachedSessions, clearEagerCache, evaluate } from "./eager.ts";
export {
  type ExportOptions,
  exportOnnx,
  exportOnnxWithWeights,
  type OnnxWithWeights,
} from "./export-onnx.ts";
export { importOnnxGraph, type NamedTensors, type OnnxGraph } from "./import-graph.ts";
export * from "./import-onnx.ts";
export * from "./jit.ts";
export { formatBytes, memoryLimit, setMemoryLimit } from "./memory.ts";
export type { Capabilities } from "./onnx/builder.ts";
export type { ReadPort } from "./onnx/read.ts";
export * from "./ops/arithmetic.ts";
export type { HeadsAttrs } from "./ops/attention.ts";
export { attention, headsAttention } from "./ops/attention.ts";
export { cast, castHost, storedOf } from "./ops/cast.ts";
export * from "./ops/composed.ts";
export * from "./ops/conv.ts";
export type { ConvGeometry, ConvOptions, WeightGradAttrs } from "./ops/conv-geometry.ts";
export * from "./ops/create.ts";
export type { CumsumAttrs } from "./ops/cumulative.ts";
export { type CumulativeOptions, cumprod, cumsum, prod } from "./ops/cumulative.ts";
export * from "./ops/elementwise.ts";
export { barrier, stopGradient } from "./ops/gradient-control.ts";
export * from "./ops/image.ts";
export * from "./ops/indexing.ts";
export * from "./ops/linear-algebra.ts";
export * from "./ops/matmul.ts";
export * from "./ops/normalize.ts";
export { logSumExp, norm } from "./ops/norms.ts";
export {
  apply,
  apply1,
  broadcastShapes,
  needFloat,
  needRank,
  needSameDType,
  normalizeAxes,
  normalizeAxis,
  notDifferentiable,
} from "./ops/op.ts";
export { type BorderMode, pad, repeat, roll, setSlice, tile } from "./ops/pad.ts";
export * from "./ops/pool.ts";
export * from "./ops/quant.ts";
export * from "./ops/random.ts";
export type { ArgAttrs, ReduceAttrs } from "./ops/reduce.ts";
export {
  type Axes,
  argmax,
  argmin,
  logSoftmax,
  max,
  mean,
  min,
  reduceOps,
  softmax,
  sort,
  sum,
  sumTo,
  topK,
  variance,
} from "./ops/reduce.ts";
export * from "./ops/segments.ts";
export * from "./ops/shape.ts";
export type { Pads, SliceAttrs } from "./ops/slice.ts";
export { flip, select, slice, sliceAxis } from "./ops/slice.ts";
export { sumOfWeighted } from "./ops/weighted-sum.ts";
export * from "./random/index.ts";
export {
  defaultDevice,
  deviceCapabilities,
  listDevices,
  sessionThreads,
  setDefaultDevice,
} from "./runtime/devices.ts";
export type { Device, SessionSettings, ThreadCount } from "./runtime/runtime.ts";
export type { AnyOp, LeafKind, Value } from "./tensor.ts";
export {
  assertSamePaths,
  flatten,
  registerTreeClass,
  type TreeDef,
  treeEntries,
  treeLeaves,
  treeMap,
} from "./tree.ts";
export { type Cotangent, Node, OPS, type Op, peekHost, readHost, Tensor, type TensorLike };
