/** Elementwise functions of two or three tensors, with broadcasting. */
import { DTypeError } from "../../errors.ts";
import type { Aval } from "../aval.ts";
import { elementToNumber, isFloat, isInteger } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { type Cotangent, type Op, peekHost, Tensor, type TensorLike } from "../tensor.ts";
import { unblocked } from "./block-form.ts";
import { blockedSum, elementwise, withChannels } from "./blocked.ts";
import { cast } from "./cast.ts";
import { asTensor, literal, zerosLike } from "./create.ts";
import { apply1, broadcastShapes, needSameDType } from "./op.ts";
import { sumTo } from "./reduce.ts";

type BinaryOp = Op<object>;
type Derivative = (ct: Tensor, a: Tensor, b: Tensor, y: Tensor) => readonly [Cotangent, Cotangent];
type Check = (x: Aval) => void;

const numbers: Check = (x) => {
  if (x.dtype === "bool") throw new DTypeError("expected numbers, got bool; cast first");
};
const integers: Check = (x) => {
  if (!isInteger(x.dtype)) throw new DTypeError(`expected integers, got ${x.dtype}`);
};
const booleans: Check = (x) => {
  if (x.dtype !== "bool") throw new DTypeError(`expected bool, got ${x.dtype}`);
};

function binary(
  name: string,
  onnx: string,
  check: Check,
  result: "same" | "bool",
  derivative?: Derivative,
  attributes = {},
): BinaryOp {
  return {
    name,
    infer: (inputs) => {
      needSameDType(inputs);
      check(inputs[0]!);
      const [a, b] = inputs as [Aval, Aval];
      return [{ shape: broadcastShapes(a.shape, b.shape), dtype: result === "bool" ? "bool" : a.dtype }];
    },
    lower: (g, inputs, _, { inputs: avals }) => [
      result === "bool"
        ? g.op(onnx, inputs, attributes)
        : elementwise(g, inputs, avals, (v) => g.op(onnx, v, attributes)),
    ],
    vjp: ([ct], [a, b], [y]) => {
      if (!ct || !derivative) return [];
      const [da, db] = derivative(ct, a!, b!, y!);
      return [da && sumTo(da, a!.shape), db && sumTo(db, b!.shape)];
    },
  };
}

const addOp: BinaryOp = {
  ...binary("add", "Add", numbers, "same", (ct) => [ct, ct]),
  lower: (g, inputs, _, { inputs: avals }) => [
    byChannel(g, "Add", inputs, avals) ?? lowerAdd(g, inputs, avals),
  ],
};
const subOp: BinaryOp = {
  ...binary("sub", "Sub", numbers, "same", (ct) => [ct, ct.neg()]),
  lower: (g, inputs, _, { inputs: avals }) => [
    elementwise(g, inputs, avals, (v) => g.op("Sub", v), sameShapes(avals)),
  ],
};
const mulOp: BinaryOp = {
  ...binary("mul", "Mul", numbers, "same", (ct, a, b) => [ct.mul(b), ct.mul(a)]),
  lower: (g, inputs, _, { inputs: avals }) => [
    byChannel(g, "Mul", inputs, avals) ?? elementwise(g, inputs, avals, (v) => g.op("Mul", v), true),
  ],
};
const divOp = binary("div", "Div", numbers, "same", (ct, _, b, y) => [ct.div(b), ct.mul(y).div(b).neg()]);
const powOp = binary("pow", "Pow", numbers, "same", (ct, a, b, y) => [
  powSlope(ct, a, b),
  ct.mul(y).mul(where(logicalAnd(a.equal(0), b.greaterEqual(0)), onesWhere(a), a).log()),
]);

/** Slope of a^b in a: 0 for b = 0 everywhere, at a = 0 too. An exponent that is a number in a formula stays one. */
function powSlope(ct: Tensor, a: Tensor, b: Tensor): Tensor {
  if (b.node.leaf === "literal" && b.size === 1) {
    const exponent = elementToNumber(b.dtype, peekHost(b)[0]!);
    return exponent === 0 ? zerosLike(ct) : ct.mul(b).mul(a.pow(literal(exponent - 1, b.dtype)));
  }
  const flat = b.equal(0);
  return ct.mul(b).mul(where(flat, onesWhere(a), a).pow(b.sub(1)));
}
/** Blocked maps are summed as such, by the kernel of a convolution where one of them comes from it. */
const lowerAdd = (g: GraphBuilder, inputs: readonly string[], avals: readonly Aval[]): string =>
  elementwise(
    g,
    inputs,
    avals,
    (v) => (v[0] === inputs[0] || v[1] === inputs[1] ? g.op("Add", v) : blockedSum(g, v as [string, string])),
    sameShapes(avals),
  );

const sameShapes = ([a, b]: readonly Aval[]): boolean => String(a!.shape) === String(b!.shape);

/** A blocked map with one value for each channel, or undefined for other operands. */
function byChannel(
  g: GraphBuilder,
  op: "Mul" | "Add",
  inputs: readonly string[],
  avals: readonly Aval[],
): string | undefined {
  for (const [map, channels] of [
    [0, 1],
    [1, 0],
  ] as const) {
    const blocked = g.blocked.get(inputs[map]!);
    const [{ shape }, { shape: values }] = [avals[map]!, avals[channels]!];
    if (blocked === undefined || !isPerChannel(values, shape)) continue;
    return unblocked(g, withChannels(g, op, blocked, shape, inputs[channels]!, values), shape);
  }
  return undefined;
}

const isPerChannel = ([n, c, h, w]: readonly number[], [pictures, channels]: readonly number[]): boolean =>
  (n === pictures || n === 1) && c === channels && c !== 1 && h === 1 && w === 1;

/** 1 of the tensor's dtype, to stand in where a slope would be 0 times infinity. */
const onesWhere = (a: Tensor): Tensor => asTensor(1, a.dtype);

/** Ties share the gradient evenly. */
function selection(pick: (a: Tensor, b: Tensor) => Tensor): Derivative {
  return (ct, a, b) => {
    const tie = cast(a.equal(b), ct.dtype).mul(0.5);
    const first = cast(pick(a, b), ct.dtype).add(tie);
    return [ct.mul(first), ct.mul(first.neg().add(1))];
  };
}
const maximumOp = binary(
  "maximum",
  "Max",
  numbers,
  "same",
  selection((a, b) => a.greater(b)),
);
const minimumOp = binary(
  "minimum",
  "Min",
  numbers,
  "same",
  selection((a, b) => a.less(b)),
);

const modOp: BinaryOp = {
  ...binary("mod", "Mod", numbers, "same", (ct, a, b) => [ct, ct.mul(truncate(a.div(b))).neg()]),
  lower: (g, inputs, _, { inputs: [a] }) => [g.op("Mod", inputs, { fmod: isFloat(a!.dtype) ? 1 : 0 })],
};
const truncate = (x: Tensor): Tensor => x.abs().floor().mul(x.sign());

const comparison = (name: string, onnx: string, check: Check = numbers): BinaryOp =>
  binary(name, onnx, check, "bool");
const equalOp = comparison("equal", "Equal", () => {});
const lessOp = comparison("less", "Less");
const lessEqualOp = comparison("lessEqual", "LessOrEqual");
const greaterOp = comparison("greater", "Greater");
const greaterEqualOp = comparison("greaterEqual", "GreaterOrEqual");
const andOp = comparison("logicalAnd", "And", booleans);
const orOp = comparison("logicalOr", "Or", booleans);
const xorOp = comparison("logicalXor", "Xor", booleans);
const bitAndOp = binary("bitwiseAnd", "BitwiseAnd", integers, "same");
const bitOrOp = binary("bitwiseOr", "BitwiseOr", integers, "same");
const bitXorOp = binary("bitwiseXor", "BitwiseXor", integers, "same");
const unsigned: Check = (x) => {
  if (!x.dtype.startsWith("u")) throw new DTypeError(`expected unsigned integers, got ${x.dtype}`);
};
const shiftLeftOp = binary("shiftLeft", "BitShift", unsigned, "same", undefined, { direction: "LEFT" });
const shiftRightOp = binary("shiftRight", "BitShift", unsigned, "same", undefined, { direction: "RIGHT" });

const whereOp: Op<object> = {
  name: "where",
  infer: ([condition, a, b]) => {
    booleans(condition!);
    needSameDType([a!, b!]);
    return [
      { shape: broadcastShapes(condition!.shape, broadcastShapes(a!.shape, b!.shape)), dtype: a!.dtype },
    ];
  },
  lower: (g, inputs) => [g.op("Where", inputs)],
  vjp: ([ct], [condition, a, b]) => {
    if (!ct) return [];
    const zero = zerosLike(ct);
    return [
      undefined,
      sumTo(where(condition!, ct, zero), a!.shape),
      sumTo(where(condition!, zero, ct), b!.shape),
    ];
  },
};

/** Both operands as tensors; a number takes the other's dtype. */
function pair(a: TensorLike, b: TensorLike): [Tensor, Tensor] {
  if (a instanceof Tensor) return [a, asTensor(b, a.dtype)];
  const second = asTensor(b, "f32");
  return [asTensor(a, second.dtype), second];
}

/** a + b, with broadcasting; a number takes the dtype of the other operand. */
export function add(a: TensorLike, b: TensorLike): Tensor {
  return apply1(addOp, pair(a, b), {});
}
/** a - b, with broadcasting. */
export function sub(a: TensorLike, b: TensorLike): Tensor {
  return apply1(subOp, pair(a, b), {});
}
/** a b, with broadcasting. */
export function mul(a: TensorLike, b: TensorLike): Tensor {
  return apply1(mulOp, pair(a, b), {});
}
/** Quotient; integers truncate towards zero. */
export function div(a: TensorLike, b: TensorLike): Tensor {
  return apply1(divOp, pair(a, b), {});
}
/** a to the power of b, with broadcasting. */
export function pow(a: TensorLike, b: TensorLike): Tensor {
  return apply1(powOp, pair(a, b), {});
}
/** The larger of a and b, element by element, with broadcasting. */
export function maximum(a: TensorLike, b: TensorLike): Tensor {
  return apply1(maximumOp, pair(a, b), {});
}
/** The smaller of a and b, element by element, with broadcasting. */
export function minimum(a: TensorLike, b: TensorLike): Tensor {
  return apply1(minimumOp, pair(a, b), {});
}
/** Remainder: sign of the dividend for floats (C `fmod`), of the divisor for integers (Python `%`). */
export function mod(a: TensorLike, b: TensorLike): Tensor {
  return apply1(modOp, pair(a, b), {});
}
/** Where a = b, as bool. */
export function equal(a: TensorLike, b: TensorLike): Tensor {
  return apply1(equalOp, pair(a, b), {});
}
/** Where a < b, as bool. */
export function less(a: TensorLike, b: TensorLike): Tensor {
  return apply1(lessOp, pair(a, b), {});
}
/** Where a <= b, as bool. */
export function lessEqual(a: TensorLike, b: TensorLike): Tensor {
  return apply1(lessEqualOp, pair(a, b), {});
}
/** Where a > b, as bool. */
export function greater(a: TensorLike, b: TensorLike): Tensor {
  return apply1(greaterOp, pair(a, b), {});
}
/** Where a >= b, as bool. */
export function greaterEqual(a: TensorLike, b: TensorLike): Tensor {
  return apply1(greaterEqualOp, pair(a, b), {});
}
/** Where both hold. Of bool. */
export function logicalAnd(a: Tensor, b: Tensor): Tensor {
  return apply1(andOp, [a, b], {});
}
/** Where at least one holds. Of bool. */
export function logicalOr(a: Tensor, b: Tensor): Tensor {
  return apply1(orOp, [a, b], {});
}
/** Where exactly one holds. Of bool. */
export function logicalXor(a: Tensor, b: Tensor): Tensor {
  return apply1(xorOp, [a, b], {});
}
/** Bits that both have. Of integers. */
export function bitwiseAnd(a: Tensor, b: TensorLike): Tensor {
  return apply1(bitAndOp, pair(a, b), {});
}
/** Bits that at least one has. Of integers. */
export function bitwiseOr(a: Tensor, b: TensorLike): Tensor {
  return apply1(bitOrOp, pair(a, b), {});
}
/** Bits that exactly one has. Of integers. */
export function bitwiseXor(a: Tensor, b: TensorLike): Tensor {
  return apply1(bitXorOp, pair(a, b), {});
}
/** Unsigned integers only. */
export function shiftLeft(a: Tensor, b: TensorLike): Tensor {
  return apply1(shiftLeftOp, pair(a, b), {});
}
/** Unsigned integers only; zeros move in. */
export function shiftRight(a: Tensor, b: TensorLike): Tensor {
  return apply1(shiftRightOp, pair(a, b), {});
}
/** `a` where the condition holds, else `b`. */
export function where(condition: Tensor, a: TensorLike, b: TensorLike): Tensor {
  return apply1(whereOp, [condition, ...pair(a, b)], {});
}

/** Operations of arithmetic, by name. */
export const arithmeticOps = {
  add: addOp,
  sub: subOp,
  mul: mulOp,
  div: divOp,
  pow: powOp,
  maximum: maximumOp,
  minimum: minimumOp,
  mod: modOp,
  equal: equalOp,
  less: lessOp,
  lessEqual: lessEqualOp,
  greater: greaterOp,
  greaterEqual: greaterEqualOp,
  logicalAnd: andOp,
  logicalOr: orOp,
  logicalXor: xorOp,
  bitwiseAnd: bitAndOp,
  bitwiseOr: bitOrOp,
  bitwiseXor: bitXorOp,
  shiftLeft: shiftLeftOp,
  shiftRight: shiftRightOp,
  where: whereOp,
};
