/** Integer arithmetic of quantised layers. */
import { ArgumentError, DTypeError, ShapeError } from "../../errors.ts";
import type { Aval } from "../aval.ts";
import { DTYPES, type DType, sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Op, Tensor } from "../tensor.ts";
import { bitwiseAnd, shiftRight } from "./arithmetic.ts";
import { cast } from "./cast.ts";
import { onesLike } from "./create.ts";
import { matmul } from "./matmul.ts";
import { apply, apply1, broadcastShapes, needFloat, normalizeAxis, notDifferentiable } from "./op.ts";
import { sum } from "./reduce.ts";
import { reshape, stack } from "./shape.ts";
import { sliceAxis } from "./slice.ts";

type ByteType = "i8" | "u8";

/** What a packed linear layer is recorded with. */
export interface LinearAttrs {
  readonly axis: number;
  /** Elements along the axis that share a scale; 0: one scale per index of the axis, or one for all. */
  readonly blockSize: number;
}

/** Scales are one number, one per index of the axis, or one per block along the axis. */
function checkScales(
  x: Aval,
  scale: Aval,
  zeroPoint: Aval | undefined,
  { axis, blockSize }: LinearAttrs,
): void {
  needFloat(scale);
  const expected =
    scale.shape.length === 0
      ? []
      : blockSize === 0
        ? [x.shape[axis]!]
        : x.shape.map((d, i) => (i === axis ? Math.ceil(d / blockSize) : d));
  if (scale.shape.join() !== expected.join())
    throw new ShapeError(`the scales need shape [${expected.join(", ")}], got [${scale.shape.join(", ")}]`);
  if (zeroPoint && zeroPoint.shape.join() !== scale.shape.join())
    throw new ShapeError("scales and zero points need the same shape");
}

const linearAttributes = (scale: Aval, { axis, blockSize }: LinearAttrs) =>
  scale.shape.length === 0 ? {} : { axis, block_size: blockSize };

const quantizeOp: Op<LinearAttrs & { dtype: ByteType }> = {
  name: "quantizeLinear",
  infer: ([x, scale, zeroPoint], attrs) => {
    needFloat(x!);
    checkScales(x!, scale!, zeroPoint, attrs);
    if (zeroPoint && zeroPoint.dtype !== attrs.dtype)
      throw new DTypeError(`the zero point must be ${attrs.dtype}, got ${zeroPoint.dtype}`);
    return [{ shape: x!.shape, dtype: attrs.dtype }];
  },
  lower: (g, inputs, attrs, { inputs: [, scale, zeroPoint] }) => {
    const dtype = zeroPoint ? {} : { output_dtype: DTYPES[attrs.dtype].onnx };
    return [g.op("QuantizeLinear", inputs, { ...linearAttributes(scale!, attrs), ...dtype })];
  },
  vjp: notDifferentiable,
};

const dequantizeOp: Op<LinearAttrs> = {
  name: "dequantizeLinear",
  infer: ([q, scale, zeroPoint], attrs) => {
    needBytes(q!);
    checkScales(q!, scale!, zeroPoint, attrs);
    if (zeroPoint && zeroPoint.dtype !== q!.dtype)
      throw new DTypeError(`the zero point must be ${q!.dtype}, got ${zeroPoint.dtype}`);
    return [{ shape: q!.shape, dtype: scale!.dtype }];
  },
  lower: (g, inputs, attrs, { inputs: [, scale] }) => [
    g.op("DequantizeLinear", inputs, linearAttributes(scale!, attrs)),
  ],
  // The result is linear in the scales; quantised numbers carry no gradient.
  vjp: ([ct], [q, scale, ...zeroPoint], _, attrs) => {
    if (!ct) return [];
    const slope = ct.mul(apply1(dequantizeOp, [q!, onesLike(scale!), ...zeroPoint], attrs));
    return [undefined, sumOverScale(slope, scale!, attrs)];
  },
};

function sumOverScale(x: Tensor, scale: Tensor, { axis, blockSize }: LinearAttrs): Tensor {
  if (scale.rank === 0) return sum(x);
  if (blockSize === 0)
    return sum(
      x,
      x.shape.map((_, i) => i).filter((i) => i !== axis),
    );
  const whole = scale.shape[axis]! * blockSize - x.shape[axis]!;
  const padded = x.pad(x.shape.map((_, i): [number, number] => [0, i === axis ? whole : 0]));
  const blocks = [...x.shape.slice(0, axis), scale.shape[axis]!, blockSize, ...x.shape.slice(axis + 1)];
  return sum(reshape(padded, blocks), axis + 1);
}

const dynamicOp: Op<object> = {
  name: "dynamicQuantize",
  infer: ([x]) => {
    if (x!.dtype !== "f32") throw new DTypeError(`expected f32, got ${x!.dtype}`);
    return [
      { shape: x!.shape, dtype: "u8" },
      { shape: [], dtype: "f32" },
      { shape: [], dtype: "u8" },
    ];
  },
  lower: (g, [x]) => g.node("DynamicQuantizeLinear", [x!], {}, 3),
  vjp: notDifferentiable,
};

function needBytes(x: Aval): void {
  if (x.dtype !== "i8" && x.dtype !== "u8") throw new DTypeError(`expected i8 or u8, got ${x.dtype}`);
}

/** Bytes as one operand of an integer product; without a zero point it is 0. */
interface ByteOperand {
  readonly codes: string;
  readonly zero: string | undefined;
  readonly dtype: DType;
}

/** Signed bytes 128 higher, as unsigned ones: constants on the host, other values in the graph. */
function raised(g: GraphBuilder, signed: string, shape?: readonly number[]): string {
  const values = shape && g.valuesOf(signed);
  if (values)
    return g.constant(
      "u8",
      shape,
      Uint8Array.from(values as Int8Array, (v) => v + 128),
    );
  const wide = g.op("Cast", [signed], { to: DTYPES.i32.onnx });
  return g.op("Cast", [g.op("Add", [wide, g.scalar("i32", 128)])], { to: DTYPES.u8.onnx });
}

/**
 * The right operand as the kernels of this device multiply it exactly. Without VNNI, products of unsigned by signed
 * bytes saturate in 16 bits (255 · 127 + 255 · 127 is too much), those of two unsigned ones do not.
 */
function exactBytes(
  g: GraphBuilder,
  { codes, zero, dtype }: ByteOperand,
  shape?: readonly number[],
): ByteOperand {
  if (dtype === "u8" || g.capabilities.exactSignedBytes) return { codes, zero, dtype };
  const zeroUp = zero ? raised(g, zero) : g.scalar("u8", 128);
  return { codes: raised(g, codes, shape), zero: zeroUp, dtype: "u8" };
}

/** Which of the optional zero points are among the inputs. */
export interface IntegerAttrs {
  readonly aZero: boolean;
  readonly bZero: boolean;
}

const matmulIntegerOp: Op<IntegerAttrs> = {
  name: "matmulInteger",
  infer: (inputs) => {
    inputs.forEach(needBytes);
    const [a, b] = inputs as [Aval, Aval];
    if (a.shape.length < 2 || b.shape.length < 2)
      throw new ShapeError("both operands need at least two axes");
    const [m, k, l, n] = [...a.shape.slice(-2), ...b.shape.slice(-2)] as [number, number, number, number];
    if (k !== l) throw new ShapeError(`inner dimensions ${k} and ${l} differ`);
    return [{ shape: [...broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2)), m, n], dtype: "i32" }];
  },
  lower: (g, [a, b, ...zeros], { aZero, bZero }, { inputs }) => {
    const za = aZero ? zeros[0]! : "";
    const right = exactBytes(
      g,
      { codes: b!, zero: bZero ? zeros.at(-1)! : undefined, dtype: inputs[1]!.dtype },
      inputs[1]!.shape,
    );
    const rest = right.zero ? [za, right.zero] : aZero ? [za] : [];
    return [g.op("MatMulInteger", [a!, right.codes, ...rest])];
  },
  vjp: notDifferentiable,
};

/** How packed weights lie in memory. */
export interface NBitsLayout {
  /** Input and output features. */
  readonly k: number;
  readonly n: number;
  readonly bits: 4 | 8;
  /** Weights that share a scale: a power of two, 16 at least. */
  readonly blockSize: number;
  /**
   * 4 rounds the input to signed bytes, symmetrically, with one scale for each block of each row; where there is a kernel
   * for it and the weight is a constant, integers are multiplied. NaN may be hidden. Default 0: as exact as the input.
   */
  readonly accuracyLevel?: 0 | 1 | 4;
}

/** The packed weight as floats, transposed. // [k, n] */
function lowerNBits(
  g: GraphBuilder,
  [packed, scales, zeroPoints]: readonly string[],
  { k, n, bits, blockSize }: NBitsLayout,
): string {
  const blocks = Math.ceil(k / blockSize);
  const unpacked = (x: string, shape: readonly number[]): string => {
    if (bits === 8) return g.op("Cast", [x], { to: DTYPES.f32.onnx });
    const low = g.op("BitwiseAnd", [x, g.scalar("u8", 15)]);
    const high = g.op("BitShift", [x, g.scalar("u8", 4)], { direction: "RIGHT" });
    const last = g.ints([-1]);
    const both = g.op("Concat", [g.op("Unsqueeze", [low, last]), g.op("Unsqueeze", [high, last])], {
      axis: -1,
    });
    return g.reshape(g.op("Cast", [both], { to: DTYPES.f32.onnx }), shape);
  };
  const codes = unpacked(packed!, [n, blocks, blockSize]);
  const wholeBytes = bits === 8 ? blocks : 2 * Math.ceil(blocks / 2);
  const zero = zeroPoints
    ? g.reshape(g.slice(unpacked(zeroPoints, [n, wholeBytes]), [1], [0], [blocks], [1]), [n, blocks, 1])
    : g.scalar("f32", 2 ** (bits - 1));
  const centred = g.op("Sub", [codes, zero]);
  const weight = g.op("Mul", [centred, g.reshape(scales!, [n, blocks, 1])]);
  const whole = g.reshape(weight, [n, blocks * blockSize]);
  return g.transpose(g.slice(whole, [1], [0], [k], [1]), [1, 0]);
}

/** The input rounded as the integer kernel does: to 127 steps on each side, one scale for each block of each row. */
function roundedBlocks(g: GraphBuilder, x: string, shape: readonly number[], blockSize: number): string {
  const k = shape.at(-1)!;
  const rows = sizeOf(shape.slice(0, -1));
  const blocks = Math.ceil(k / blockSize);
  const wide = g.reshape(x, [rows, k]);
  const missing = blocks * blockSize - k;
  const padded = missing > 0 ? g.op("Pad", [wide, g.ints([0, 0, 0, missing])]) : wide;
  const grouped = g.reshape(padded, [rows, blocks, blockSize]);
  const largest = g.op("ReduceMax", [g.op("Abs", [grouped]), g.ints([-1])], { keepdims: 1 });
  const least = g.scalar("f32", 1e-30); // a block of zeros stays zeros
  const scale = g.op("Div", [g.op("Max", [largest, least]), g.scalar("f32", 127)]);
  const rounded = g.op("Mul", [g.op("Round", [g.op("Div", [grouped, scale])]), scale]);
  const whole = g.reshape(rounded, [rows, blocks * blockSize]);
  return g.reshape(g.slice(whole, [1], [0], [k], [1]), shape);
}

const matmulNBitsOp: Op<NBitsLayout> = {
  name: "matmulNBits",
  infer: ([x, packed, scales, zeroPoints], { k, n, bits, blockSize }) => {
    if (bits !== 4 && bits !== 8) throw new ArgumentError(`bits must be 4 or 8, got ${bits}`);
    if (!(blockSize >= 16 && Number.isInteger(Math.log2(blockSize))))
      throw new ArgumentError(`the block size must be a power of two from 16, got ${blockSize}`);
    const blocks = Math.ceil(k / blockSize);
    const expect = (t: Aval, what: string, shape: readonly number[], dtype: string): void => {
      if (t.shape.join() !== shape.join() || t.dtype !== dtype)
        throw new ShapeError(`${what} must be ${dtype}[${shape.join(", ")}]`);
    };
    if (x!.dtype !== "f32" || x!.shape.at(-1) !== k)
      throw new ShapeError(`the input must be f32 with a last axis of ${k}`);
    expect(packed!, "the packed weight", [n, blocks, (blockSize * bits) / 8], "u8");
    expect(scales!, "the scales", [n, blocks], "f32");
    if (zeroPoints) expect(zeroPoints, "the zero points", [n, Math.ceil((blocks * bits) / 8)], "u8");
    return [{ shape: [...x!.shape.slice(0, -1), n], dtype: "f32" }];
  },
  lower: (g, [x, ...weight], { accuracyLevel = 0, ...layout }, { inputs }) => {
    const { k, n, bits, blockSize } = layout;
    const inKernel = g.capabilities.roundsBlocks && g.isConstant(weight[0]!);
    const rounded = accuracyLevel === 4 && !inKernel;
    const input = rounded ? roundedBlocks(g, x!, inputs[0]!.shape, blockSize) : x!;
    if (!g.contrib) return [g.op("MatMul", [input, lowerNBits(g, weight, layout)])];
    const attributes = { K: k, N: n, bits, block_size: blockSize };
    const level = rounded ? 0 : accuracyLevel;
    return [
      g.contribOp("MatMulNBits", [input, ...weight], {
        ...attributes,
        ...(level && { accuracy_level: level }),
      }),
    ];
  },
  // The weight is frozen: only the input has a gradient, through the weight unpacked.
  vjp: ([ct], [, packed, scales, zeroPoints], _, layout) => [
    ct && matmul(ct, dequantizeNBits(packed!, scales!, zeroPoints, layout)),
  ],
};

const dynamicMatmulOp: Op<object> = {
  name: "dynamicQuantizeMatmul",
  infer: ([a, b, scales]) => {
    if (a!.dtype !== "f32") throw new DTypeError(`expected f32, got ${a!.dtype}`);
    needBytes(b!);
    const [k, n] = b!.shape as [number, number];
    if (b!.shape.length !== 2 || a!.shape.at(-1) !== k)
      throw new ShapeError(`expected a weight [${a!.shape.at(-1)}, n], got [${b!.shape.join(", ")}]`);
    if (scales!.shape.join() !== String(n) || scales!.dtype !== "f32")
      throw new ShapeError(`the scales must be f32[${n}]`);
    return [{ shape: [...a!.shape.slice(0, -1), n], dtype: "f32" }];
  },
  lower: (g, [a, b, scales, bias], _, { inputs }) => {
    const { dtype, shape } = inputs[1]!;
    const right = exactBytes(g, { codes: b!, zero: undefined, dtype }, shape);
    if (g.contrib) {
      // One zero point per scale.
      const zeros = right.zero ? g.op("Expand", [right.zero, g.ints([shape[1]!])]) : "";
      const optional = bias ? [zeros, bias] : right.zero ? [zeros] : [];
      return [g.contribOp("DynamicQuantizeMatMul", [a!, right.codes, scales!, ...optional])];
    }
    const [codes, scale, zero] = g.node("DynamicQuantizeLinear", [a!], {}, 3) as [string, string, string];
    const operands = [codes, right.codes, zero, ...(right.zero ? [right.zero] : [])];
    const product = g.op("Cast", [g.op("MatMulInteger", operands)], { to: DTYPES.f32.onnx });
    const y = g.op("Mul", [product, g.op("Mul", [scale, scales!])]);
    return [bias ? g.op("Add", [y, bias]) : y];
  },
  vjp: notDifferentiable,
};

interface LinearOptions {
  /** Axis of the scales when there is more than one. Default 1. */
  readonly axis?: number;
  /** Elements along the axis that share a scale. */
  readonly blockSize?: number;
}

const linearAttrs = (x: Tensor, scale: Tensor, { axis = 1, blockSize = 0 }: LinearOptions): LinearAttrs => ({
  axis: scale.rank === 0 ? 0 : normalizeAxis(axis, x.rank),
  blockSize,
});

/** round(x / scale) + zeroPoint, halves to even, saturated to the range of `dtype` (i8 unless the zero point says). */
export function quantizeLinear(
  x: Tensor,
  scale: Tensor,
  zeroPoint?: Tensor,
  options: LinearOptions & { dtype?: ByteType } = {},
): Tensor {
  const dtype = options.dtype ?? (zeroPoint?.dtype as ByteType | undefined) ?? "i8";
  const inputs = zeroPoint ? [x, scale, zeroPoint] : [x, scale];
  return apply1(quantizeOp, inputs, { ...linearAttrs(x, scale, options), dtype });
}

/** (q - zeroPoint) scale. Differentiable in the scales. */
export function dequantizeLinear(
  q: Tensor,
  scale: Tensor,
  zeroPoint?: Tensor,
  options: LinearOptions = {},
): Tensor {
  const inputs = zeroPoint ? [q, scale, zeroPoint] : [q, scale];
  return apply1(dequantizeOp, inputs, linearAttrs(q, scale, options));
}

/** Quantises by the tensor's own range (which is extended to hold 0). */
export function dynamicQuantize(x: Tensor): [q: Tensor, scale: Tensor, zeroPoint: Tensor] {
  return apply(dynamicOp, [x], {}) as [Tensor, Tensor, Tensor];
}

/** (a - aZero)(b - bZero) in i32; zero points are scalars, or one per row of a and per column of b. */
export function matmulInteger(a: Tensor, b: Tensor, aZero?: Tensor, bZero?: Tensor): Tensor {
  const inputs = [a, b, ...(aZero ? [aZero] : []), ...(bZero ? [bZero] : [])];
  return apply1(matmulIntegerOp, inputs, { aZero: !!aZero, bZero: !!bZero });
}

/**
 * x wᵀ with w [n, k] in blocks of 4- or 8-bit numbers: packed u8 [n, blocks, blockSize bits / 8] (low bits first),
 * scales [n, blocks], zero points packed likewise along the blocks, u8 [n, ceil(blocks bits / 8)]; without them the
 * middle of the range. Devices without the kernel unpack the weight.
 */
export function matmulNBits(
  x: Tensor,
  packed: Tensor,
  scales: Tensor,
  zeroPoints: Tensor | undefined,
  layout: NBitsLayout,
): Tensor {
  const inputs = [x, packed, scales, ...(zeroPoints ? [zeroPoints] : [])];
  return apply1(matmulNBitsOp, inputs, layout);
}

/**
 * a w (+ bias) with a [..., k] rounded to unsigned bytes by its own range (all of it shares one scale) and w [k, n] in
 * bytes with scales [n]: integers inside.
 */
export function dynamicQuantizeMatmul(a: Tensor, w: Tensor, scales: Tensor, bias?: Tensor): Tensor {
  return apply1(dynamicMatmulOp, [a, w, scales, ...(bias ? [bias] : [])], {});
}

/** Splits bytes along the last axis into numbers of 4 or 8 bits, low bits first. */
function unpack(x: Tensor, bits: 4 | 8): Tensor {
  if (bits === 8) return x;
  return reshape(stack([bitwiseAnd(x, 15), shiftRight(x, 4)], -1), [...x.shape.slice(0, -1), -1]);
}

/** The weight [n, k] behind `matmulNBits`, from operations that every device has. */
export function dequantizeNBits(
  packed: Tensor,
  scales: Tensor,
  zeroPoints: Tensor | undefined,
  { k, n, bits, blockSize }: NBitsLayout,
): Tensor {
  const blocks = sizeOf(scales.shape) / n;
  const q = cast(unpack(packed, bits), scales.dtype); // [n, blocks, blockSize]
  const zero = zeroPoints && cast(sliceAxis(unpack(zeroPoints, bits), 1, 0, blocks), scales.dtype);
  const centred = q.sub(zero ? reshape(zero, [n, blocks, 1]) : 2 ** (bits - 1));
  const weight = reshape(centred.mul(reshape(scales, [n, blocks, 1])), [n, blocks * blockSize]);
  return sliceAxis(weight, 1, 0, k);
}

/** Operations on packed weights, by name. */
export const quantOps = {
  quantizeLinear: quantizeOp,
  dequantizeLinear: dequantizeOp,
  dynamicQuantize: dynamicOp,
  matmulInteger: matmulIntegerOp,
  dynamicQuantizeMatmul: dynamicMatmulOp,
  matmulNBits: matmulNBitsOp,
};
