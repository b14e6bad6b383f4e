/** ONNX's operators in terms of those here: what a foreign graph may be made of to be differentiated. */
import { DTYPES, type DType } from "../dtype.ts";
import * as arithmetic from "../ops/arithmetic.ts";
import { constant, full } from "../ops/create.ts";
import { broadcastShapes } from "../ops/op.ts";
import { type BorderMode, pad as extend, tile } from "../ops/pad.ts";
import { broadcastTo, concat, reshape, split, squeeze, transpose, unsqueeze } from "../ops/shape.ts";
import { flip, sliceAxis } from "../ops/slice.ts";
import type { Tensor } from "../tensor.ts";
import type { OnnxCall } from "./call.ts";
import { layerOperators } from "./operators-layers.ts";

/** From a node to its results. */
export type Operator = (call: OnnxCall) => Tensor | readonly Tensor[];

const unary =
  (f: (x: Tensor) => Tensor): Operator =>
  (call) =>
    f(call.x());

type Binary = (a: Tensor, b: Tensor) => Tensor;
const binary =
  (f: Binary): Operator =>
  (call) =>
    f(call.x(0), call.x(1));

/** Of any number of inputs, from the left. */
const folded =
  (f: Binary): Operator =>
  (call) =>
    call.all().reduce(f);

/** A reduction over the axes of an attribute or, in newer opsets, of input 1; over all of them by default. */
const reduction =
  (f: (x: Tensor, axes: readonly number[] | undefined, keepDims: boolean) => Tensor): Operator =>
  (call) => {
    const axes = call.ints(1, "axes");
    if (!axes?.length && call.number("noop_with_empty_axes", 0) !== 0) return call.x();
    return f(call.x(), axes?.length ? axes : undefined, call.number("keepdims", 1) !== 0);
  };

const arg =
  (f: (x: Tensor, axis: number, keepDims: boolean) => Tensor): Operator =>
  (call) => {
    call.only("select_last_index", 0);
    return f(call.x(), call.number("axis", 0), call.number("keepdims", 1) !== 0);
  };

function cast(call: OnnxCall): Tensor {
  const to = call.number("to", 1);
  const dtype = (Object.keys(DTYPES) as DType[]).find((d) => DTYPES[d].onnx === to);
  if (!dtype || dtype === "bf16") throw call.error(`the element type ${to} is not supported`);
  return call.x().cast(dtype);
}

function clip(call: OnnxCall): Tensor {
  const bound = (i: number, name: string, none: number): number | Tensor => {
    const value = call.values[i];
    if (!value) return call.number(name, none);
    return value.numbers ? value.numbers[0]! : value.tensor;
  };
  const [low, high] = [bound(1, "min", Number.NEGATIVE_INFINITY), bound(2, "max", Number.POSITIVE_INFINITY)];
  if (typeof low === "number" && typeof high === "number") return call.x().clip(low, high);
  return arithmetic.minimum(arithmetic.maximum(call.x(), low), high);
}

function reshaped(call: OnnxCall): Tensor {
  const x = call.x();
  const to = call.ints(1, "shape") ?? [];
  const keep = call.number("allowzero", 0) === 0;
  return reshape(
    x,
    to.map((d, i) => (d === 0 && keep ? x.shape[i]! : d)),
  );
}

function flattened(call: OnnxCall): Tensor {
  const x = call.x();
  const axis = call.number("axis", 1);
  const at = axis < 0 ? axis + x.rank : axis;
  const rows = x.shape.slice(0, at).reduce((a, b) => a * b, 1);
  return reshape(x, [rows, x.size / rows]);
}

function squeezed(call: OnnxCall): Tensor {
  const x = call.x();
  const axes = call.ints(1, "axes");
  const gone = axes?.map((a) => (a < 0 ? a + x.rank : a)) ?? x.shape.flatMap((d, i) => (d === 1 ? [i] : []));
  return gone.sort((a, b) => b - a).reduce((t, axis) => squeeze(t, axis), x);
}

function unsqueezed(call: OnnxCall): Tensor {
  const axes = call.ints(1, "axes");
  if (!axes) throw call.error("axes are missing");
  const rank = call.x().rank + axes.length;
  return axes
    .map((a) => (a < 0 ? a + rank : a))
    .sort((a, b) => a - b)
    .reduce((t, axis) => unsqueeze(t, axis), call.x());
}

function sliced(call: OnnxCall): Tensor {
  const x = call.x();
  const [starts, ends] = [call.ints(1, "starts"), call.ints(2, "ends")];
  if (!starts || !ends) throw call.error("starts and ends are missing");
  const axes = call.ints(3, "axes") ?? starts.map((_, i) => i);
  const steps = call.numbers(4) ?? starts.map(() => 1);
  return axes.reduce((t, axis, i) => {
    const size = t.shape.at(axis)!;
    const step = steps[i]!;
    const within = (v: number): number => Math.min(size, Math.max(0, v < 0 ? v + size : v));
    if (step > 0) return sliceAxis(t, axis, within(starts[i]!), within(ends[i]!), step);
    if (step !== -1) throw call.error(`a step of ${step} is not supported`);
    // Backwards: from `start` down to, but without, `end`.
    const first = Math.min(size - 1, starts[i]! < 0 ? starts[i]! + size : starts[i]!);
    const last = ends[i]! < -size ? -1 : ends[i]! < 0 ? ends[i]! + size : ends[i]!;
    return flip(sliceAxis(t, axis, last + 1, first + 1), axis);
  }, x);
}

function splitUp(call: OnnxCall): Tensor[] {
  const axis = call.number("axis", 0);
  const sizes = call.ints(1, "split");
  const size = call.x().shape.at(axis)!;
  const count = call.number("num_outputs", call.node.outputs.length);
  const even = Math.ceil(size / count);
  return split(
    call.x(),
    sizes ?? Array.from({ length: count }, (_, i) => Math.min(even, size - i * even)),
    axis,
  );
}

const MODES: Readonly<Record<string, "constant" | BorderMode>> = {
  constant: "constant",
  reflect: "reflect",
  edge: "replicate",
  wrap: "circular",
};

function padded(call: OnnxCall): Tensor {
  const x = call.x();
  const pads = call.ints(1, "pads");
  if (!pads) throw call.error("pads are missing");
  const mode = MODES[call.string("mode", "constant")];
  if (!mode) throw call.error(`the mode ${call.string("mode", "")} is not supported`);
  const axes = (call.numbers(3) ?? x.shape.map((_, i) => i)).map((a) => (a < 0 ? a + x.rank : a));
  const all = x.shape.map((_, axis): [number, number] => {
    const i = axes.indexOf(axis);
    return i < 0 ? [0, 0] : [pads[i]!, pads[i + axes.length]!];
  });
  return extend(x, all, mode, call.numbers(2)?.[0] ?? call.number("value", 0));
}

function expanded(call: OnnxCall): Tensor {
  const shape = call.numbers(1);
  if (!shape) throw call.error("the shape is missing");
  return broadcastTo(call.x(), broadcastShapes(call.x().shape, shape));
}

function filled(call: OnnxCall): Tensor {
  const fill = call.node.attributes.get("value");
  const [value, dtype] =
    typeof fill === "object" && "data" in fill ? [Number(fill.data[0]), fill.dtype] : [0, "f32"];
  return full(call.numbers(0)!, value, dtype as DType);
}

function shapeOf(call: OnnxCall): Tensor {
  const end = call.node.attributes.has("end") ? call.number("end", 0) : undefined;
  const shape = call.x().shape.slice(call.number("start", 0), end);
  return constant("i64", [shape.length], shape);
}

const hardSigmoid = (x: Tensor, alpha: number, beta: number): Tensor => x.mul(alpha).add(beta).clip(0, 1);

/** Operators by name. Anything else is refused. */
export const OPERATORS: Readonly<Record<string, Operator>> = {
  ...layerOperators,
  Identity: unary((x) => x),
  Dropout: unary((x) => x), // inference
  Neg: unary((x) => x.neg()),
  Abs: unary((x) => x.abs()),
  Sign: unary((x) => x.sign()),
  Exp: unary((x) => x.exp()),
  Log: unary((x) => x.log()),
  Sqrt: unary((x) => x.sqrt()),
  Reciprocal: unary((x) => x.reciprocal()),
  Sin: unary((x) => x.sin()),
  Cos: unary((x) => x.cos()),
  Tanh: unary((x) => x.tanh()),
  Erf: unary((x) => x.erf()),
  Sigmoid: unary((x) => x.sigmoid()),
  Softplus: unary((x) => x.softplus()),
  Relu: unary((x) => x.relu()),
  LeakyRelu: (c) => c.x().leakyRelu(c.number("alpha", 0.01)),
  Elu: (c) => c.x().elu(c.number("alpha", 1)),
  Gelu: (c) => c.x().gelu(c.string("approximate", "none") as "none" | "tanh"),
  HardSigmoid: (c) => hardSigmoid(c.x(), c.number("alpha", 0.2), c.number("beta", 0.5)),
  HardSwish: unary((x) => x.mul(hardSigmoid(x, 1 / 6, 0.5))),
  Floor: unary((x) => x.floor()),
  Ceil: unary((x) => x.ceil()),
  Round: unary((x) => x.round()),
  Not: unary((x) => x.logicalNot()),
  Clip: clip,
  Cast: cast,
  Add: binary(arithmetic.add),
  Sub: binary(arithmetic.sub),
  Mul: binary(arithmetic.mul),
  Div: binary(arithmetic.div),
  Pow: (c) => c.x().pow(c.x(1).cast(c.x().dtype)),
  Max: folded(arithmetic.maximum),
  Min: folded(arithmetic.minimum),
  Sum: folded(arithmetic.add),
  Equal: binary(arithmetic.equal),
  Less: binary(arithmetic.less),
  LessOrEqual: binary(arithmetic.lessEqual),
  Greater: binary(arithmetic.greater),
  GreaterOrEqual: binary(arithmetic.greaterEqual),
  And: binary(arithmetic.logicalAnd),
  Or: binary(arithmetic.logicalOr),
  Where: (c) => arithmetic.where(c.x(0), c.x(1), c.x(2)),
  ReduceSum: reduction((x, axes, keep) => x.sum(axes, keep)),
  ReduceMean: reduction((x, axes, keep) => x.mean(axes, keep)),
  ReduceMax: reduction((x, axes, keep) => x.max(axes, keep)),
  ReduceMin: reduction((x, axes, keep) => x.min(axes, keep)),
  ReduceProd: reduction((x, axes, keep) => {
    const each = (axes ?? x.shape.map((_, i) => i)).map((a) => (a < 0 ? a + x.rank : a));
    return each.sort((a, b) => b - a).reduce((t, axis) => t.prod(axis, keep), x);
  }),
  ReduceL2: reduction((x, axes, keep) => x.norm(axes, keep)),
  ReduceSumSquare: reduction((x, axes, keep) => x.square().sum(axes, keep)),
  ReduceLogSumExp: reduction((x, axes, keep) => x.logSumExp(axes, keep)),
  ArgMax: arg((x, axis, keep) => x.argmax(axis, keep)),
  ArgMin: arg((x, axis, keep) => x.argmin(axis, keep)),
  Reshape: reshaped,
  Flatten: flattened,
  Transpose: (c) => transpose(c.x(), c.list("perm")),
  Squeeze: squeezed,
  Unsqueeze: unsqueezed,
  Concat: (c) => concat(c.all()[0]!, c.all().slice(1), c.number("axis", 0)),
  Split: splitUp,
  Slice: sliced,
  Gather: (c) => c.x().gather(c.x(1), c.number("axis", 0)),
  GatherElements: (c) => c.x().gatherElements(c.x(1), c.number("axis", 0)),
  Expand: expanded,
  Tile: (c) => tile(c.x(), c.numbers(1) ?? []),
  Pad: padded,
  Shape: shapeOf,
  ConstantOfShape: filled,
};
