/** ONNX's operators of layers in terms of those here: products, convolutions, pooling, norms, resizing. */

import { where } from "../ops/arithmetic.ts";
import { conv, convTranspose } from "../ops/conv.ts";
import { onesLike } from "../ops/create.ts";
import { resize } from "../ops/image.ts";
import { einsum, matmul } from "../ops/matmul.ts";
import { groupNorm, layerNorm } from "../ops/normalize.ts";
import { avgPool, maxPool, upsample } from "../ops/pool.ts";
import { max, mean } from "../ops/reduce.ts";
import { reshape } from "../ops/shape.ts";
import { padConstant } from "../ops/slice.ts";
import type { Tensor } from "../tensor.ts";
import type { OnnxCall } from "./call.ts";

type Operator = (call: OnnxCall) => Tensor;
type Pads = readonly (readonly [before: number, after: number])[];

const spatialAxes = (x: Tensor): number[] => Array.from({ length: x.rank - 2 }, (_, i) => i + 2);

interface Window {
  readonly stride: readonly number[];
  readonly dilation: readonly number[];
  readonly padding: Pads;
}

/** Stride, dilation and padding of a window over the spatial axes of x. */
function windowOf(call: OnnxCall, x: Tensor, kernel: readonly number[]): Window {
  const each = (name: string, standard: number): readonly number[] =>
    call.list(name) ?? kernel.map(() => standard);
  const [stride, dilation] = [each("strides", 1), each("dilations", 1)];
  const mode = call.string("auto_pad", "NOTSET");
  const pads = call.list("pads");
  const padding = kernel.map((size, i): [number, number] => {
    if (mode === "VALID" || (mode === "NOTSET" && !pads)) return [0, 0];
    if (mode === "NOTSET") return [pads![i]!, pads![i + kernel.length]!];
    const d = x.shape[i + 2]!;
    const total = Math.max(
      0,
      (Math.ceil(d / stride[i]!) - 1) * stride[i]! + dilation[i]! * (size - 1) + 1 - d,
    );
    const [less, more] = [Math.floor(total / 2), Math.ceil(total / 2)];
    return mode === "SAME_LOWER" ? [more, less] : [less, more];
  });
  return { stride, dilation, padding };
}

function pooled(call: OnnxCall, kind: "max" | "average"): Tensor {
  const x = call.x();
  const kernel = call.list("kernel_shape");
  if (!kernel) throw call.error("kernel_shape is missing");
  call.only("ceil_mode", 0);
  call.only(
    "dilations",
    kernel.map(() => 1),
  );
  const { stride, padding } = windowOf(call, x, kernel);
  const even = padding.every(([before, after]) => before === after);
  const options = { stride, padding: even ? padding.map(([before]) => before) : 0 };
  const around: Pads = [[0, 0], [0, 0], ...padding];
  if (kind === "max") {
    if (call.node.outputs.length > 1) throw call.error("indices are not supported");
    return maxPool(even ? x : padConstant(x, around, Number.NEGATIVE_INFINITY), kernel, options);
  }
  const averaged = (t: Tensor): Tensor => avgPool(even ? t : padConstant(t, around), kernel, options);
  const padded = padding.some(([before, after]) => before + after > 0);
  const sum = averaged(x);
  return padded && call.number("count_include_pad", 0) === 0 ? sum.div(averaged(onesLike(x))) : sum;
}

/** Values per channel against [N, C, ...]. */
const perChannel = (values: Tensor, x: Tensor): Tensor =>
  reshape(values, [1, -1, ...spatialAxes(x).map(() => 1)]);

function batchNormalization(call: OnnxCall): Tensor {
  call.only("training_mode", 0);
  const x = call.x();
  const [scale, bias, average, variance] = [1, 2, 3, 4].map((i) => call.x(i)) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const factor = scale.div(variance.add(call.number("epsilon", 1e-5)).sqrt());
  return x.mul(perChannel(factor, x)).add(perChannel(bias.sub(average.mul(factor)), x));
}

function layerNormalization(call: OnnxCall): Tensor {
  const x = call.x();
  const axis = call.number("axis", -1);
  if (axis !== -1 && axis !== x.rank - 1) throw call.error("only the last axis is supported");
  return layerNorm(x, call.x(1), call.maybe(2), call.number("epsilon", 1e-5));
}

function gemm(call: OnnxCall): Tensor {
  const product = matmul(call.x(0), call.x(1), {
    transA: call.number("transA", 0) !== 0,
    transB: call.number("transB", 0) !== 0,
    alpha: call.number("alpha", 1),
  });
  const added = call.maybe(2);
  return added ? product.add(added.mul(call.number("beta", 1))) : product;
}

/** Sizes of the spatial axes; batch and channels must stay. */
function newSize(call: OnnxCall, x: Tensor): number[] {
  const [scales, sizes] = [call.numbers(2), call.numbers(3)];
  const all = sizes?.length ? sizes : scales?.map((s, i) => Math.floor(x.shape[i]! * s));
  if (!all?.length || call.node.attributes.has("axes"))
    throw call.error("expected scales or sizes for all axes");
  if (all[0] !== x.shape[0] || all[1] !== x.shape[1]) throw call.error("only spatial axes can be resized");
  return all.slice(2);
}

function resized(call: OnnxCall): Tensor {
  const x = call.x();
  const to = newSize(call, x);
  const mode = call.string("mode", "nearest");
  const places = call.string("coordinate_transformation_mode", "half_pixel");
  if (mode === "nearest") {
    const whole = to.every((d, i) => d % x.shape[i + 2]! === 0);
    if (whole && ["half_pixel", "asymmetric"].includes(places)) {
      // With whole factors the nearest element is the same by all of these rules.
      call.only(
        "nearest_mode",
        ...(places === "asymmetric" ? ["floor"] : ["round_prefer_floor", "round_prefer_ceil"]),
      );
      return upsample(
        x,
        to.map((d, i) => d / x.shape[i + 2]!),
      );
    }
    call.only("nearest_mode", "floor");
    if (places !== "asymmetric")
      throw call.error(`nearest with ${places} is supported for whole factors only`);
    return resize(x, to, { mode: "nearest" });
  }
  const half = ["half_pixel", "pytorch_half_pixel"].includes(places);
  if (!half && places !== "align_corners") throw call.error(`${places} is not supported`);
  const options = { antialias: call.number("antialias", 0) !== 0, alignCorners: !half };
  if (mode === "linear") return resize(x, to, { mode: "bilinear", ...options });
  call.only("cubic_coeff_a", -0.75);
  return resize(x, to, { mode: "bicubic", ...options });
}

/** A softmax before opset 13 ran over all axes from its own on. */
function alongAxis(call: OnnxCall, f: (x: Tensor, axis: number) => Tensor): Tensor {
  const x = call.x();
  const axis = call.number("axis", call.opset < 13 ? 1 : -1);
  if (call.opset < 13 && axis !== -1 && axis !== x.rank - 1)
    throw call.error(`an axis of ${axis} in opset ${call.opset} is not supported`);
  return f(x, axis);
}

export const layerOperators: Readonly<Record<string, Operator>> = {
  MatMul: (c) => matmul(c.x(0), c.x(1)),
  Gemm: gemm,
  Einsum: (c) => einsum(c.string("equation", ""), ...c.all()),
  Conv: (c) => {
    const [x, weight] = [c.x(0), c.x(1)];
    return conv(x, weight, c.maybe(2), {
      ...windowOf(c, x, weight.shape.slice(2)),
      groups: c.number("group", 1),
    });
  },
  ConvTranspose: (c) => {
    c.only("auto_pad", "NOTSET", "VALID");
    if (c.node.attributes.has("output_shape")) throw c.error("output_shape is not supported");
    const [x, weight] = [c.x(0), c.x(1)];
    return convTranspose(x, weight, c.maybe(2), {
      ...windowOf(c, x, weight.shape.slice(2)),
      groups: c.number("group", 1),
      outputPadding: c.list("output_padding") ?? 0,
    });
  },
  MaxPool: (c) => pooled(c, "max"),
  AveragePool: (c) => pooled(c, "average"),
  GlobalAveragePool: (c) => mean(c.x(), spatialAxes(c.x()), true),
  GlobalMaxPool: (c) => max(c.x(), spatialAxes(c.x()), true),
  BatchNormalization: batchNormalization,
  InstanceNormalization: (c) => groupNorm(c.x(), c.x().shape[1]!, c.x(1), c.x(2), c.number("epsilon", 1e-5)),
  LayerNormalization: layerNormalization,
  GroupNormalization: (c) => {
    if (c.opset < 21) throw c.error(`opset ${c.opset} is not supported`);
    return groupNorm(c.x(), c.number("num_groups", 1), c.x(1), c.x(2), c.number("epsilon", 1e-5));
  },
  Softmax: (c) => alongAxis(c, (x, axis) => x.softmax(axis)),
  LogSoftmax: (c) => alongAxis(c, (x, axis) => x.logSoftmax(axis)),
  PRelu: (c) => where(c.x().greater(0), c.x(), c.x().mul(c.x(1))),
  Resize: resized,
};
