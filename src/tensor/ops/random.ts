/**
 * Random numbers made inside compiled graphs: the same Philox streams as on the host (`random/philox.ts`), from plain
 * ONNX integer operators. The address comes in as a tensor, so one compiled step draws anew at every call.
 */
import { DTypeError, ShapeError } from "../../errors.ts";
import { DTYPES, type DType, sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { checkU32, fnv1a32, type Seed, seedWords } from "../random/philox.ts";
import type { Op, Tensor } from "../tensor.ts";
import { less } from "./arithmetic.ts";
import { literal, tensor } from "./create.ts";
import { apply1, notDifferentiable } from "./op.ts";

type Distribution = "bits" | "uniform" | "normal";

/** What a drawing of random numbers is recorded with. */
export interface PhiloxAttrs {
  readonly shape: readonly number[];
  readonly purpose: number;
  readonly distribution: Distribution;
}

const RESULT: Record<Distribution, DType> = { bits: "u32", uniform: "f32", normal: "f32" };

const philoxOp: Op<PhiloxAttrs> = {
  name: "philox",
  infer: ([key], { shape, distribution }) => {
    if (key!.dtype !== "i64") throw new DTypeError(`a key must be i64, got ${key!.dtype}`);
    if (key!.shape.length !== 1 || key!.shape[0] !== 4)
      throw new ShapeError("a key has shape [4]: seed low, seed high, sample, step");
    if (shape.some((d) => !Number.isSafeInteger(d) || d < 0))
      throw new ShapeError(`a shape needs non-negative integers, got [${shape.join(", ")}]`);
    return [{ shape, dtype: RESULT[distribution] }];
  },
  lower: (g, [key], { shape, purpose, distribution }) => {
    const count = sizeOf(shape);
    const blocks = Math.ceil(count / 4);
    const words = philoxWords(g, key!, blocks, purpose); // four of [blocks], as i64
    const flat = distribution === "normal" ? boxMuller(g, words, blocks) : interleave(g, words, blocks);
    const kept = blocks * 4 === count ? flat : g.slice(flat, [0], [0], [count], [1]);
    const typed =
      distribution === "bits"
        ? to(g, kept, "u32")
        : distribution === "uniform"
          ? g.op("Mul", [to(g, high24(g, kept), "f32"), g.scalar("f32", 2 ** -24)])
          : kept;
    return [g.reshape(typed, shape)];
  },
  vjp: notDifferentiable,
};

const to = (g: GraphBuilder, x: string, dtype: DType): string =>
  g.op("Cast", [x], { to: DTYPES[dtype].onnx });

const shiftRight = (g: GraphBuilder, x: string, bits: number): string =>
  g.op("BitShift", [x, g.scalar("u64", bits)], { direction: "RIGHT" });

/** The upper 24 of 32 bits. */
const high24 = (g: GraphBuilder, word: string): string => shiftRight(g, to(g, word, "u64"), 8);

/** Ten rounds on words that are kept as i64 in [0, 2^32); a 64-bit product that wraps has the right bits all the same. */
function philoxWords(g: GraphBuilder, key: string, blocks: number, purpose: number): string[] {
  const mask = g.scalar("i64", 0xffffffff, [1]);
  const field = (i: number): string => g.slice(key, [0], [i], [i + 1], [1]);
  const xor = (a: string, b: string): string => g.op("BitwiseXor", [a, b]);
  const constant = (v: number): string => g.scalar("i64", v, [1]);
  const multiply = (x: string, factor: number): [high: string, low: string] => {
    const product = g.op("Mul", [x, constant(factor)]);
    return [to(g, shiftRight(g, to(g, product, "u64"), 32), "i64"), g.op("BitwiseAnd", [product, mask])];
  };
  const counter = g.op("Range", [g.scalar("i64", 0), g.scalar("i64", blocks), g.scalar("i64", 1)]);
  let [x0, x1, x2, x3] = [counter, field(2), constant(purpose), field(3)];
  const roundKey = (word: string, round: number, step: number): string =>
    round === 0 ? word : g.op("BitwiseAnd", [g.op("Add", [word, constant((round * step) % 2 ** 32)]), mask]);
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(x0, 0xd2511f53);
    const [high1, low1] = multiply(x2, 0xcd9e8d57);
    // The key goes to the operand that may still be a scalar: one pass less over the data in the first rounds.
    x0 = xor(high1, xor(x1, roundKey(field(0), round, 0x9e3779b9)));
    x2 = xor(high0, xor(x3, roundKey(field(1), round, 0xbb67ae85)));
    [x1, x3] = [low1, low0];
  }
  return [x0, x1, x2, x3];
}

/** Element 4 b + i is entry b of vector i. */
function interleave(g: GraphBuilder, vectors: readonly string[], length: number): string {
  const columns = vectors.map((v) => g.reshape(v, [length, 1]));
  return g.reshape(g.op("Concat", columns, { axis: 1 }), [length * vectors.length]);
}

/** Box-Muller in double precision, rounded once, as on the host. */
function boxMuller(g: GraphBuilder, words: readonly string[], blocks: number): string {
  const unit = g.scalar("f64", 2 ** -24);
  const fraction = (word: string): string => to(g, high24(g, word), "f64"); // times 2^24
  const columns = [0, 2].flatMap((even) => {
    const u = g.op("Mul", [g.op("Add", [fraction(words[even]!), g.scalar("f64", 1)]), unit]);
    const radius = g.op("Sqrt", [g.op("Mul", [g.op("Log", [u]), g.scalar("f64", -2)])]);
    const angle = g.op("Mul", [fraction(words[even + 1]!), g.scalar("f64", 2 * Math.PI * 2 ** -24)]);
    return ["Cos", "Sin"].map((f) => to(g, g.op("Mul", [radius, g.op(f, [angle])]), "f32"));
  });
  return interleave(g, columns, blocks);
}

/** Where numbers inside a graph come from: see `makeKey`. */
export interface RandomOptions {
  /** What the numbers are for: an integer or a name. Draws of one graph under one key need different purposes. */
  readonly purpose?: number | string;
}

/**
 * The address of a stream as a tensor, to be passed to compiled functions. With the same seed, sample, step and purpose
 * a graph draws the numbers that the host's `fillUniform` and `fillNormal` give.
 */
export function makeKey(seed: Seed, at: { sample?: number; step?: number } = {}): Tensor {
  const words = [...seedWords(seed), checkU32("sample", at.sample ?? 0), checkU32("step", at.step ?? 0)];
  return tensor(BigInt64Array.from(words, BigInt));
}

function philox(
  key: Tensor,
  shape: readonly number[],
  distribution: Distribution,
  { purpose = 0 }: RandomOptions,
): Tensor {
  const word = typeof purpose === "string" ? fnv1a32(purpose) : checkU32("purpose", purpose);
  return apply1(philoxOp, [key], { shape: [...shape], purpose: word, distribution });
}

/** 32 random bits per element, as u32. */
export function randomBits(key: Tensor, shape: readonly number[], options: RandomOptions = {}): Tensor {
  return philox(key, shape, "bits", options);
}

/** Uniform numbers in [0, 1), multiples of 2^-24: the host's, bit for bit. */
export function randomUniform(key: Tensor, shape: readonly number[], options: RandomOptions = {}): Tensor {
  return philox(key, shape, "uniform", options);
}

/** Standard normals: the host's up to the last bit of f32. */
export function randomNormal(key: Tensor, shape: readonly number[], options: RandomOptions = {}): Tensor {
  return philox(key, shape, "normal", options);
}

/** True with probability `p`. */
export function bernoulli(
  key: Tensor,
  shape: readonly number[],
  p: number,
  options: RandomOptions = {},
): Tensor {
  return less(randomUniform(key, shape, options), literal(p));
}

/** Drawing of random numbers, by name. */
export const randomOps = { philox: philoxOp };
