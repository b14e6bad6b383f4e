/** Operations that change no numbers but steer differentiation, recomputation and types. */
import { DTypeError } from "../../errors.ts";
import { convertHost, DTYPES, type DType, isFloat, sizeOf } from "../dtype.ts";
import { type Cotangent, type Op, readHost, type Tensor } from "../tensor.ts";
import { fromHost } from "./create.ts";
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

const castOp: Op<{ to: DType }> = {
  name: "cast",
  infer: ([x], { to }) => {
    if (to === "bf16") throw new DTypeError("bf16 is for storage only: use castHost on a computed tensor");
    return [{ shape: x!.shape, dtype: to }];
  },
  lower: (g, [x], { to }) => [g.op("Cast", [x!], { to: DTYPES[to].onnx })],
  vjp: ([ct], [x]) => [isFloat(x!.dtype) ? ct && cast(ct, x!.dtype) : undefined],
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

/**
 * Another element type. Floats to integers truncate towards zero; gradients flow between float types. A bf16 leaf is
 * widened on the host.
 */
export function cast(x: Tensor, to: DType): Tensor {
  if (x.dtype === to) return x;
  if (x.dtype === "bf16")
    return cast(fromHost("f32", x.shape, convertHost(readHost(x), "bf16", "f32") as Float32Array), to);
  return apply1(castOp, [x], { to });
}

/** The value in another element type, converted on the host: how f16 and bf16 weights are made for storage. */
export async function castHost(x: Tensor, to: DType): Promise<Tensor> {
  return fromHost(to, x.shape, convertHost(await x.data(), x.dtype, to));
}

/**
 * What is in memory of a tensor: the f16 leaf that a cast would widen, as weights are kept, or the tensor itself.
 */
export function storedOf(x: Tensor): Tensor {
  const [source] = x.node.inputs;
  const isWidened = x.node.op === castOp && !x.node.gone && source?.dtype === "f16" && source.value;
  return isWidened ? source : x;
}

export const controlOps = {
  alias: aliasOp,
  stopGradient: stopGradientOp,
  barrier: barrierOp,
  customGradient: customVjpOp,
  cast: castOp,
};
