/**
 * Linear layers whose weights stay integers: `PackedLinear` in blocks of 4 or 8 bits, `IntegerLinear` in bytes with one
 * scale for each output channel. They run on the integer kernels of ONNX Runtime where there are any.
 */
import { ArgumentError, ShapeError } from "../../errors.ts";
import {
  dynamicQuantizeMatmul,
  fromHost,
  type HostArray,
  matmulInteger,
  matmulNBits,
  maximum,
  type NBitsLayout,
  type Tensor,
} from "../../tensor/index.ts";
import { Module } from "../module.ts";
import type { QuantizedMatrix } from "./grid.ts";

/** Block sizes that the kernel takes. */
const BLOCKS = [256, 128, 64, 32, 16] as const;

/** The largest block that the kernel takes and that divides the group; a group of several blocks repeats its scale. */
export function blockSizeFor(group: number): number {
  const block = group > 0 ? BLOCKS.find((b) => group % b === 0) : undefined;
  if (!block)
    throw new ArgumentError(
      `group: expected a multiple of 16, got ${group}; the kernel's blocks are 16, 32, 64, 128 and 256`,
    );
  return block;
}

/** The smallest container for codes of 2 to 8 bits. */
export const containerBits = (bits: number): 4 | 8 => (bits <= 4 ? 4 : 8);

/** Codes of 4 bits, two in a byte, the first in the low half; of 8 bits as they are. */
export function packCodes(codes: Uint8Array, bits: 4 | 8): Uint8Array {
  if (bits === 8) return codes.slice();
  const out = new Uint8Array(Math.ceil(codes.length / 2));
  for (let i = 0; i < codes.length; i++) out[i >> 1]! |= codes[i]! << (i % 2 ? 4 : 0);
  return out;
}

/** The inverse of `packCodes`, for `count` codes. */
export function unpackCodes(packed: Uint8Array, bits: 4 | 8, count: number): Uint8Array {
  if (bits === 8) return packed.slice(0, count);
  return Uint8Array.from({ length: count }, (_, i) => (packed[i >> 1]! >> (i % 2 ? 4 : 0)) & 15);
}

/** Arrays of a matrix in the layout of `matmulNBits`. */
export interface PackedArrays {
  readonly layout: NBitsLayout;
  readonly codes: Uint8Array; // [N, blocks, blockSize bits / 8]
  readonly scales: Float32Array; // [N, blocks]
  /** Absent when all are the middle of the range. */
  readonly zeros: Uint8Array | undefined; // [N, ceil(blocks bits / 8)]
}

/** Packs a quantised matrix. Throws `ArgumentError` when its groups are no multiple of 16. */
export function packMatrix(matrix: QuantizedMatrix): PackedArrays {
  const { rows, columns, group } = matrix;
  const bits = containerBits(matrix.bits);
  const blockSize = blockSizeFor(group);
  const blocks = columns / blockSize;
  const perGroup = group / blockSize;
  const groups = columns / group;
  const scales = new Float32Array(rows * blocks);
  const zeros = new Uint8Array(rows * blocks);
  for (let r = 0; r < rows; r++) {
    for (let b = 0; b < blocks; b++) {
      const u = r * groups + Math.floor(b / perGroup);
      scales[r * blocks + b] = matrix.scales[u]!;
      zeros[r * blocks + b] = matrix.zeros[u]!;
    }
  }
  const middle = 2 ** (bits - 1);
  const rowsOfZeros = Array.from({ length: rows }, (_, r) =>
    packCodes(zeros.subarray(r * blocks, (r + 1) * blocks), bits),
  );
  const zeroBytes = rowsOfZeros[0]?.length ?? 0;
  const packedZeros = new Uint8Array(rows * zeroBytes);
  rowsOfZeros.forEach((row, r) => {
    packedZeros.set(row, r * zeroBytes);
  });
  return {
    layout: { k: columns, n: rows, bits, blockSize },
    codes: packCodes(matrix.codes, bits),
    scales,
    zeros: zeros.every((z) => z === middle) ? undefined : packedZeros,
  };
}

/** The matrix behind the codes of a packed layer, as its kernel reads them. // [O, I] */
export async function unpackedWeight(layer: PackedLinear): Promise<Float32Array> {
  const { inFeatures, outFeatures, bits, blockSize, zeroPoints } = layer;
  const [codes, scales] = [await layer.weight.data(), await layer.scales.cast("f32").data()];
  const all = unpackCodes(codes as Uint8Array, bits, inFeatures * outFeatures);
  const blocks = inFeatures / blockSize;
  const zeroBytes = zeroPoints && ((await zeroPoints.data()) as Uint8Array);
  const perRow = Math.ceil((blocks * bits) / 8);
  const zeros = Array.from(
    { length: outFeatures },
    (_, r) => zeroBytes && unpackCodes(zeroBytes.subarray(r * perRow, (r + 1) * perRow), bits, blocks),
  );
  return Float32Array.from(all, (code, i) => {
    const u = Math.floor(i / blockSize);
    const zero = zeros[Math.floor(u / blocks)]?.[u % blocks] ?? 2 ** (bits - 1);
    return Number(scales[u]) * (code - zero);
  });
}

/** How many bits the activations of a packed layer have: 8, per block of a token; or they stay floats. */
export type PackedActivations = 8 | 16;

/**
 * `x weightᵀ + bias` with a packed weight. Activations of 8 bits are rounded too, symmetrically, with one scale for each
 * block of each token. The integer kernel does it where the weights are constants of the compiled function: capture the
 * model in `jit` instead of passing it. As inputs, and on devices without that kernel, they are rounded before a product
 * in floats, with the same result.
 */
export class PackedLinear extends Module {
  readonly weight: Tensor; // u8 [O, blocks, blockSize bits / 8]
  readonly scales: Tensor; // [O, blocks]
  readonly zeroPoints: Tensor | undefined; // u8 [O, ceil(blocks bits / 8)]
  readonly bias: Tensor | undefined; // [O]
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly bits: 4 | 8;
  readonly blockSize: number;
  readonly activations: PackedActivations;

  constructor(arrays: PackedArrays, bias: Tensor | undefined, activations: PackedActivations) {
    super();
    const { k, n, bits, blockSize } = arrays.layout;
    const blocks = k / blockSize;
    this.weight = fromHost("u8", [n, blocks, (blockSize * bits) / 8], arrays.codes);
    this.scales = fromHost("f32", [n, blocks], arrays.scales);
    this.zeroPoints = arrays.zeros && fromHost("u8", [n, Math.ceil((blocks * bits) / 8)], arrays.zeros);
    this.bias = bias;
    this.inFeatures = k;
    this.outFeatures = n;
    this.bits = bits;
    this.blockSize = blockSize;
    this.activations = activations;
  }

  /** x [..., I] gives [..., O]. */
  call(x: Tensor): Tensor {
    const { inFeatures: k, outFeatures: n, bits, blockSize } = this;
    if (x.shape.at(-1) !== k) throw new ShapeError(`PackedLinear: expected [..., ${k}], got ${x}`);
    const layout = { k, n, bits, blockSize, accuracyLevel: this.activations === 8 ? 4 : 0 } as const;
    const y = matmulNBits(x, this.weight, this.scales, this.zeroPoints, layout);
    return this.bias ? y.add(this.bias) : y;
  }
}

/** Largest magnitude of a code. */
const LARGEST = 127;

/**
 * `x weightᵀ + bias` with a weight of bytes, one scale for each output channel, and activations of unsigned bytes with
 * one scale for everything ("tensor", the fastest, in which the samples of a batch influence each other) or one for each
 * token.
 */
export class IntegerLinear extends Module {
  readonly weight: Tensor; // i8 [I, O]
  readonly scales: Tensor; // [O]
  readonly bias: Tensor | undefined; // [O]
  readonly activations: "tensor" | "token";

  constructor(
    { codes, scales }: { readonly codes: Int8Array; readonly scales: Float32Array },
    bias: Tensor | undefined,
    activations: "tensor" | "token",
  ) {
    super();
    const outFeatures = scales.length;
    this.weight = fromHost("i8", [codes.length / outFeatures, outFeatures], codes as HostArray);
    this.scales = fromHost("f32", [outFeatures], scales);
    this.bias = bias;
    this.activations = activations;
  }

  /** x [..., I] gives [..., O]. */
  call(x: Tensor): Tensor {
    const width = this.weight.shape[0]!;
    if (x.shape.at(-1) !== width) throw new ShapeError(`IntegerLinear: expected [..., ${width}], got ${x}`);
    if (this.activations === "tensor") return dynamicQuantizeMatmul(x, this.weight, this.scales, this.bias);
    const scale = maximum(x.abs().max(-1, true), 1e-12).div(127);
    const codes = x.div(scale).round().add(128).cast("u8");
    const product = matmulInteger(codes, this.weight, fromHost("u8", [], new Uint8Array([128]))).cast("f32");
    const y = product.mul(scale).mul(this.scales);
    return this.bias ? y.add(this.bias) : y;
  }
}

/** A weight [O, I] in signed codes of 8 bits, transposed, with one scale for each output channel. */
export function transposedCodes(
  values: Float32Array,
  outFeatures: number,
): { codes: Int8Array; scales: Float32Array } {
  const inFeatures = values.length / outFeatures;
  const codes = new Int8Array(values.length);
  const scales = new Float32Array(outFeatures);
  for (let o = 0; o < outFeatures; o++) {
    const row = values.subarray(o * inFeatures, (o + 1) * inFeatures);
    let most = 1e-12;
    for (const w of row) most = Math.max(most, Math.abs(w));
    scales[o] = most / LARGEST;
    for (let i = 0; i < inFeatures; i++) codes[i * outFeatures + o] = Math.round(row[i]! / scales[o]!);
  }
  return { codes, scales };
}
