/** Arithmetic of shapes: numbers that are known while tracing stay known through the operators that exporters use for them. */
import type { Tensor } from "../tensor.ts";
import type { OnnxCall } from "./call.ts";

type Numbers = readonly number[];
type Fold = (call: OnnxCall, inputs: readonly Numbers[], result: Numbers) => Numbers | undefined;

const same: Fold = (_, [x]) => x;

const pairwise =
  (f: (a: number, b: number) => number): Fold =>
  (_, [a, b]) => {
    const size = Math.max(a!.length, b!.length);
    if (![a!.length, b!.length].every((n) => n === size || n === 1)) return undefined;
    return Array.from({ length: size }, (_, i) => f(a![i % a!.length]!, b![i % b!.length]!));
  };

/** Elements by their index: `source` says from which index of the input that of the result comes. */
function moved(x: Numbers, from: Numbers, to: Numbers, source: (index: number[]) => Numbers): Numbers {
  const size = to.reduce((a, b) => a * b, 1);
  return Array.from({ length: size }, (_, flat) => {
    const index = new Array<number>(to.length);
    for (let axis = to.length - 1, rest = flat; axis >= 0; axis--) {
      index[axis] = rest % to[axis]!;
      rest = Math.floor(rest / to[axis]!);
    }
    return x[source(index).reduce((at, i, axis) => at * from[axis]! + i, 0)]!;
  });
}

const transposed: Fold = (call, [x], result) => {
  const { shape } = call.x();
  const perm = call.list("perm") ?? shape.map((_, i) => shape.length - 1 - i);
  return moved(x!, shape, result, (index) => shape.map((_, axis) => index[perm.indexOf(axis)]!));
};

const sliced: Fold = (call, [x], result) => {
  const { shape } = call.x();
  const starts = call.ints(1, "starts")!;
  const axes = call.ints(3, "axes") ?? starts.map((_, i) => i);
  const steps = call.numbers(4) ?? starts.map(() => 1);
  const [first, step] = [shape.map(() => 0), shape.map(() => 1)];
  for (const [i, axis] of axes.entries()) {
    const at = axis < 0 ? axis + shape.length : axis;
    const size = shape[at]!;
    step[at] = steps[i]!;
    first[at] = Math.min(
      size - (step[at]! < 0 ? 1 : 0),
      starts[i]! < 0 ? Math.max(0, starts[i]! + size) : starts[i]!,
    );
  }
  return moved(x!, shape, result, (index) => index.map((v, axis) => first[axis]! + v * step[axis]!));
};

const isVector = (call: OnnxCall): boolean => call.x(0).rank === 1;

const FOLDS: Readonly<Record<string, Fold>> = {
  Identity: same,
  Unsqueeze: same,
  Squeeze: same,
  Reshape: same,
  Flatten: same,
  Cast: (call, [x]) => (call.number("to", 1) === 7 || call.number("to", 1) === 6 ? x!.map(Math.trunc) : x),
  Concat: (_, inputs) => inputs.flat(),
  Gather: (call, [x, indices]) =>
    isVector(call) ? indices!.map((i) => x![i < 0 ? i + x!.length : i]!) : undefined,
  Slice: sliced,
  Transpose: transposed,
  Add: pairwise((a, b) => a + b),
  Sub: pairwise((a, b) => a - b),
  Mul: pairwise((a, b) => a * b),
  Div: pairwise((a, b) => Math.trunc(a / b)),
  ReduceProd: (call, [x]) => (isVector(call) ? [x!.reduce((a, b) => a * b, 1)] : undefined),
  Equal: pairwise((a, b) => Number(a === b)),
  Where: (_, [condition, a, b]) => {
    const at = (v: Numbers, i: number): number => v[v.length === 1 ? 0 : i]!;
    return condition!.map((c, i) => (c ? at(a!, i) : at(b!, i)));
  },
};

/** The numbers of a node's first result, where they follow from known ones. */
export function foldedValues(call: OnnxCall, result: Tensor): Numbers | undefined {
  const { op } = call.node;
  if (op === "Shape") {
    const start = call.number("start", 0);
    return call.x().shape.slice(start, call.node.attributes.has("end") ? call.number("end", 0) : undefined);
  }
  if (op === "ConstantOfShape" && call.values[0]?.numbers && result.size <= 64) {
    const fill = call.node.attributes.get("value");
    const value = typeof fill === "object" && "data" in fill ? Number(fill.data[0]) : 0;
    return Array.from({ length: result.size }, () => value);
  }
  const fold = FOLDS[op];
  if (!fold || call.values.some((v) => v && !v.numbers)) return undefined;
  // Quotients of floats are none of integers.
  if (op === "Div" && !["i64", "i32"].includes(result.dtype)) return undefined;
  const numbers = fold(
    call,
    call.values.map((v) => v?.numbers as Numbers),
    result.shape,
  );
  return numbers?.length === result.size ? numbers : undefined;
}
