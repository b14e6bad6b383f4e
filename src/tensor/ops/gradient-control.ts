/** Operations that change no numbers but control differentiation and recomputation. */
import { DTYPES, sizeOf } from "../dtype.ts";
import type { Cotangent, Op, Tensor } from "../tensor.ts";
import { apply, apply1, notDifferentiable } from "./op.ts";

/** A fresh name for a tensor: differentiating by the alias leaves other uses of the tensor alone. */
const aliasOp: Op<object> = {
  name: "alias",
  infer: ([x]) => [x!],
  lower: (_, [x]) => [x!],
  vjp: ([ct]) => [ct],
};

const stopGradientOp: Op<object> = {
  name: "stopGradient",
  infer: ([x]) => [x!],
  lower: (_, [x]) => [x!],
  vjp: notDifferentiable,
};

/** `x`, but not before `token` has been computed. */
const barrierOp: Op<object> = {
  name: "barrier",
  infer: ([x]) => [x!],
  lower: (g, [x, token], _, { inputs: [xa, ta] }) => {
    // A copy of x with zero elements of the token appended: the dependency is real and costs one pass over x.
    const flat = g.reshape(token!, [sizeOf(ta!.shape)]);
    const none = g.slice(flat, [0], [0], [0], [1]);
    const typed = ta!.dtype === xa!.dtype ? none : g.op("Cast", [none], { to: DTYPES[xa!.dtype].onnx });
    const joined = g.op("Concat", [g.reshape(x!, [sizeOf(xa!.shape)]), typed], { axis: 0 });
    return [g.reshape(joined, xa!.shape)];
  },
  vjp: ([ct]) => [ct],
};

type Vjp = (
  cotangents: readonly Cotangent[],
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
) => readonly Cotangent[];

/** Inputs are the results followed by what they depend on; the given rule stands for the real derivative. */
const customVjpOp: Op<{ count: number; rule: Vjp }> = {
  name: "customGradient",
  infer: (inputs, { count }) => inputs.slice(0, count),
  lower: (_, inputs, { count }) => inputs.slice(0, count),
  vjp: (cts, inputs, outputs, { count, rule }) => [
    ...Array.from({ length: count }, () => undefined),
    ...rule(cts, inputs.slice(count), outputs),
  ],
};

/** The same values under a new identity, for differentiation. */
export function alias(x: Tensor): Tensor {
  return apply1(aliasOp, [x], {});
}

/** The same values, through which no gradient flows. */
export function stopGradient(x: Tensor): Tensor {
  return apply1(stopGradientOp, [x], {});
}

/** A copy of `x` that is computed only after `token`. */
export function barrier(x: Tensor, token: Tensor): Tensor {
  return apply1(barrierOp, [x, token], {});
}

/** `outputs` with the given rule as their derivative with respect to `inputs`. */
export function customVjp(outputs: readonly Tensor[], inputs: readonly Tensor[], rule: Vjp): Tensor[] {
  return apply(customVjpOp, [...outputs, ...inputs], { count: outputs.length, rule });
}

export const gradientControlOps = {
  alias: aliasOp,
  stopGradient: stopGradientOp,
  barrier: barrierOp,
  customGradient: customVjpOp,
};
