/** Elementwise functions of one tensor. */
import { DTypeError } from "../../errors.ts";
import type { Aval } from "../aval.ts";
import type { DType } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Cotangent, Op, Tensor } from "../tensor.ts";
import { logicalAnd, maximum, minimum, where } from "./arithmetic.ts";
import { elementwise as throughBlocks } from "./blocked.ts";
import { cast } from "./cast.ts";
import { zerosLike } from "./create.ts";
import { apply1, needFloat, notDifferentiable } from "./op.ts";

type UnaryOp = Op<object>;
type Derivative = (ct: Tensor, x: Tensor, y: Tensor) => Cotangent;

/** f(0) = 0. */
const KEEPS_ZERO: ReadonlySet<string> = new Set(["Neg", "Abs", "Relu", "Tanh", "Sqrt", "Sin", "Erf"]);

/** An operation that ONNX has under one name. */
function unary(
  name: string,
  onnx: string,
  derivative: Derivative | undefined,
  check: (x: Aval) => void = needFloat,
): UnaryOp {
  return {
    name,
    infer: ([x]) => {
      check(x!);
      return [x!];
    },
    lower: (g, [x], _, { inputs }) => [
      throughBlocks(g, [x!], inputs, ([v]) => g.op(onnx, [v!]), KEEPS_ZERO.has(onnx)),
    ],
    vjp: ([ct], [x], [y]) => [ct && derivative?.(ct, x!, y!)],
  };
}

const numeric = (x: Aval): void => {
  if (x.dtype === "bool") throw new DTypeError("expected numbers, got bool");
};

/** True where a predicate holds. */
function predicate(name: string, onnx: string): UnaryOp {
  return {
    name,
    infer: ([x]) => {
      needFloat(x!);
      return [{ shape: x!.shape, dtype: "bool" }];
    },
    lower: (g, [x]) => [g.op(onnx, [x!])],
    vjp: notDifferentiable,
  };
}

const negOp = unary("neg", "Neg", (ct) => neg(ct), numeric);
const absOp = unary("abs", "Abs", (ct, x) => ct.mul(sign(x)), numeric);
const signOp = unary("sign", "Sign", undefined, numeric);
const expOp = unary("exp", "Exp", (ct, _, y) => ct.mul(y));
const logOp = unary("log", "Log", (ct, x) => ct.div(x));
const sqrtOp = unary("sqrt", "Sqrt", (ct, _, y) => ct.div(y.mul(2)));
const reciprocalOp = unary("reciprocal", "Reciprocal", (ct, _, y) => ct.mul(y.square().neg()));
const sinOp = unary("sin", "Sin", (ct, x) => ct.mul(cos(x)));
const cosOp = unary("cos", "Cos", (ct, x) => ct.mul(sin(x)).neg());
const tanOp = unary("tan", "Tan", (ct, _, y) => ct.mul(y.square().add(1)));
const atanOp = unary("atan", "Atan", (ct, x) => ct.div(x.square().add(1)));
const asinOp = unary("asin", "Asin", (ct, x) => ct.div(sqrt(x.square().neg().add(1))));
const acosOp = unary("acos", "Acos", (ct, x) => ct.div(sqrt(x.square().neg().add(1))).neg());
const tanhOp = unary("tanh", "Tanh", (ct, _, y) => ct.mul(y.square().neg().add(1)));
const erfOp = unary("erf", "Erf", (ct, x) => ct.mul(x.square().neg().exp()).mul(2 / Math.sqrt(Math.PI)));
const sigmoidOp: UnaryOp = {
  ...unary("sigmoid", "Sigmoid", (ct, _, y) => ct.mul(y.sub(y.square()))),
  lower: (g, [x], _, { outputs: [y] }) => [lowerSigmoid(g, x!, y!.dtype)],
};
const softplusOp = unary("softplus", "Softplus", (ct, x) => ct.mul(sigmoid(x)));
const reluOp = unary("relu", "Relu", (ct, x) => ct.mul(cast(x.greater(0), x.dtype)));
const floorOp = unary("floor", "Floor", undefined);
const ceilOp = unary("ceil", "Ceil", undefined);
const roundOp = unary("round", "Round", undefined);
const isNaNOp = predicate("isNaN", "IsNaN");
const isInfOp = predicate("isInf", "IsInf");

const notOp: UnaryOp = {
  name: "logicalNot",
  infer: ([x]) => {
    if (x!.dtype !== "bool") throw new DTypeError(`expected bool, got ${x!.dtype}`);
    return [x!];
  },
  lower: (g, [x]) => [g.op("Not", [x!])],
  vjp: notDifferentiable,
};

const bitwiseNotOp = unary("bitwiseNot", "BitwiseNot", undefined, (x) => {
  if (x.dtype === "bool" || x.dtype.includes("f")) throw new DTypeError(`expected integers, got ${x.dtype}`);
});

/** In f64 by the formula: the runtime fuses x Sigmoid(x) into a kernel that it has for f32 only. */
function lowerSigmoid(g: GraphBuilder, x: string, dtype: DType): string {
  if (dtype !== "f64") return g.op("Sigmoid", [x]);
  return g.op("Reciprocal", [g.op("Add", [g.op("Exp", [g.op("Neg", [x])]), g.scalar(dtype, 1)])]);
}

/** x * sigmoid(alpha x) with one kernel where the device has it (QuickGelu). */
function lowerSwish(g: GraphBuilder, x: string, dtype: DType, alpha: number): string {
  if (g.contrib && dtype === "f32") return g.contribOp("QuickGelu", [x], { alpha: { float: alpha } });
  const scaled = alpha === 1 ? x : g.op("Mul", [x, g.scalar(dtype, alpha)]);
  return g.op("Mul", [x, lowerSigmoid(g, scaled, dtype)]);
}

const swishOp: Op<{ alpha: number }> = {
  name: "swish",
  infer: ([x]) => {
    needFloat(x!);
    return [x!];
  },
  lower: (g, [x], { alpha }, { inputs }) => [
    throughBlocks(g, [x!], inputs, ([v]) => lowerSwish(g, v!, inputs[0]!.dtype, alpha), true),
  ],
  // d/dx x s(ax) = s + a y (1 - s) = s (1 + a (x - y)), with y the output: four passes instead of five.
  vjp: ([ct], [x], [y], { alpha }) => {
    if (!ct) return [];
    const s = sigmoid(alpha === 1 ? x! : x!.mul(alpha));
    const slope = x!.sub(y!);
    return [ct.mul(s).mul((alpha === 1 ? slope : slope.mul(alpha)).add(1))];
  },
};

const geluOp: Op<{ approximate: "none" | "tanh" }> = {
  name: "gelu",
  infer: ([x]) => {
    needFloat(x!);
    return [x!];
  },
  lower: (g, [x], { approximate }, { inputs }) => [
    throughBlocks(g, [x!], inputs, ([v]) => g.op("Gelu", [v!], { approximate }), true),
  ],
  vjp: ([ct], [x], [y], { approximate }) => [
    ct?.mul(approximate === "tanh" ? geluTanhSlope(x!, y!) : geluErfSlope(x!)),
  ],
};

/** Phi(x) + x phi(x), with the standard normal distribution and density. */
function geluErfSlope(x: Tensor): Tensor {
  const cdf = erf(x.mul(Math.SQRT1_2)).mul(0.5).add(0.5);
  return cdf.add(
    x
      .square()
      .mul(-0.5)
      .exp()
      .mul(x)
      .mul(1 / Math.sqrt(2 * Math.PI)),
  );
}

/**
 * Derivative of y = 0.5 x (1 + tanh(z / 2)) = x s(z), z = x (k x^2 + m), m = sqrt(8 / pi), k = 0.044715 m, with the
 * sigmoid s: s + y (1 - s) z'. Eleven passes over the tensor instead of fifteen.
 */
function geluTanhSlope(x: Tensor, y: Tensor): Tensor {
  const m = Math.sqrt(8 / Math.PI);
  const square = x.square().mul(0.044715 * m); // k x^2
  const s = sigmoid(x.mul(square.add(m)));
  return s.add(y.sub(y.mul(s)).mul(square.mul(3).add(m)));
}

const clipOp: Op<{ min: number; max: number }> = {
  name: "clip",
  infer: ([x]) => {
    numeric(x!);
    return [x!];
  },
  lower: (g, [x], { min, max }, { inputs: [a] }) => {
    const bound = (v: number): string => (Number.isFinite(v) ? g.scalar(a!.dtype, v) : "");
    return [g.op("Clip", [x!, bound(min), bound(max)])];
  },
  vjp: ([ct], [x], _, { min, max }) => [
    ct && where(logicalAnd(x!.greaterEqual(min), x!.lessEqual(max)), ct, zerosLike(ct)),
  ],
};

/** -x. */
export function neg(x: Tensor): Tensor {
  return apply1(negOp, [x], {});
}
/** Magnitude |x|. */
export function abs(x: Tensor): Tensor {
  return apply1(absOp, [x], {});
}
/** -1, 0 or 1. */
export function sign(x: Tensor): Tensor {
  return apply1(signOp, [x], {});
}
/** e to the power of x. */
export function exp(x: Tensor): Tensor {
  return apply1(expOp, [x], {});
}
/** Natural logarithm. */
export function log(x: Tensor): Tensor {
  return apply1(logOp, [x], {});
}
/** Square root; NaN below 0. */
export function sqrt(x: Tensor): Tensor {
  return apply1(sqrtOp, [x], {});
}
/** 1 / x. */
export function reciprocal(x: Tensor): Tensor {
  return apply1(reciprocalOp, [x], {});
}
/** 1 / sqrt(x). */
export function rsqrt(x: Tensor): Tensor {
  return reciprocal(sqrt(x));
}
/** x times x. */
export function square(x: Tensor): Tensor {
  return x.mul(x);
}
/** Sine of radians. */
export function sin(x: Tensor): Tensor {
  return apply1(sinOp, [x], {});
}
/** Cosine of radians. */
export function cos(x: Tensor): Tensor {
  return apply1(cosOp, [x], {});
}
/** Tangent of radians. */
export function tan(x: Tensor): Tensor {
  return apply1(tanOp, [x], {});
}
/** Arc sine, in radians. */
export function asin(x: Tensor): Tensor {
  return apply1(asinOp, [x], {});
}
/** Arc cosine, in radians. */
export function acos(x: Tensor): Tensor {
  return apply1(acosOp, [x], {});
}
/** Arc tangent, in radians. */
export function atan(x: Tensor): Tensor {
  return apply1(atanOp, [x], {});
}
/** Hyperbolic tangent. */
export function tanh(x: Tensor): Tensor {
  return apply1(tanhOp, [x], {});
}
/** Error function. */
export function erf(x: Tensor): Tensor {
  return apply1(erfOp, [x], {});
}
/** 1 / (1 + exp(-x)). */
export function sigmoid(x: Tensor): Tensor {
  return apply1(sigmoidOp, [x], {});
}
/** log(1 + exp(x)). */
export function softplus(x: Tensor): Tensor {
  return apply1(softplusOp, [x], {});
}
/** x above 0, else 0. */
export function relu(x: Tensor): Tensor {
  return apply1(reluOp, [x], {});
}
/** x sigmoid(x). */
export function silu(x: Tensor): Tensor {
  return apply1(swishOp, [x], { alpha: 1 });
}
/** x sigmoid(1.702 x), the activation of CLIP. */
export function quickGelu(x: Tensor): Tensor {
  return apply1(swishOp, [x], { alpha: 1.702 });
}
/** Gaussian error linear unit; `"tanh"` is the usual approximation. */
export function gelu(x: Tensor, approximate: "none" | "tanh" = "none"): Tensor {
  return apply1(geluOp, [x], { approximate });
}
/** Largest whole number that is not above x. */
export function floor(x: Tensor): Tensor {
  return apply1(floorOp, [x], {});
}
/** Smallest whole number that is not below x. */
export function ceil(x: Tensor): Tensor {
  return apply1(ceilOp, [x], {});
}
/** Nearest integer, halves to even. */
export function round(x: Tensor): Tensor {
  return apply1(roundOp, [x], {});
}
/** Where x is NaN, as bool. */
export function isNan(x: Tensor): Tensor {
  return apply1(isNaNOp, [x], {});
}
/** Where x is infinite, of either sign, as bool. */
export function isInf(x: Tensor): Tensor {
  return apply1(isInfOp, [x], {});
}
/** True where x is false. Of bool. */
export function logicalNot(x: Tensor): Tensor {
  return apply1(notOp, [x], {});
}
/** All bits turned over. Of integers. */
export function bitwiseNot(x: Tensor): Tensor {
  return apply1(bitwiseNotOp, [x], {});
}
/** Limits to [min, max]; either bound may be infinite. The gradient is 1 inside the bounds (included), 0 outside. */
export function clip(x: Tensor, min: number, max: number): Tensor {
  return apply1(clipOp, [x], { min, max });
}
/** min(max(x, -limit), limit) by tensors, for bounds that are themselves computed. */
export function clipTo(x: Tensor, min: Tensor, max: Tensor): Tensor {
  return minimum(maximum(x, min), max);
}

/** Functions of each element, by name. */
export const elementwiseOps = {
  neg: negOp,
  abs: absOp,
  sign: signOp,
  exp: expOp,
  log: logOp,
  sqrt: sqrtOp,
  reciprocal: reciprocalOp,
  sin: sinOp,
  cos: cosOp,
  tan: tanOp,
  asin: asinOp,
  acos: acosOp,
  atan: atanOp,
  tanh: tanhOp,
  erf: erfOp,
  sigmoid: sigmoidOp,
  softplus: softplusOp,
  relu: reluOp,
  swish: swishOp,
  gelu: geluOp,
  floor: floorOp,
  ceil: ceilOp,
  round: roundOp,
  isNaN: isNaNOp,
  isInf: isInfOp,
  logicalNot: notOp,
  bitwiseNot: bitwiseNotOp,
  clip: clipOp,
};
