/**
 * Philox-4x32-10, a counter-based random generator: every number is a pure function of its address, so there is
 * no state to save, and sample i of a batch is the same whether it is drawn alone, in a batch, or out of order.
 *
 * J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 *
 * An address maps to the cipher's input as follows; each block yields four 32-bit words w0..w3:
 *
 * ```
 * key     = (seed mod 2^32, seed div 2^32)
 * counter = (block, sample, purpose, step)
 * ```
 *
 * A fill of n elements is a prefix of every longer fill at the same address.
 */
import { ArgumentError } from "../../errors.ts";

/** A seed: an integer in [0, 2^64 - 1]. Above 2^53 - 1 it must be a bigint. */
export type Seed = number | bigint;

/** Where a stream of random numbers lives. Two addresses that differ in any field give independent streams. */
export interface RandomAddress {
  readonly seed: Seed;
  /** Index of the sample, in [0, 2^32 - 1]; 0 by default. */
  readonly sample?: number;
  /** What the numbers are for: an integer in [0, 2^32 - 1] or a name, hashed by FNV-1a; 0 by default. */
  readonly purpose?: number | string;
  /** Step of a sampler or of training, in [0, 2^32 - 1]; 0 by default. */
  readonly step?: number;
}

const MAX_U32 = 0xffffffff;

/** Checks that a value is an integer in [0, 2^32 - 1]. */
export function checkU32(name: string, value: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= MAX_U32) return value;
  throw new ArgumentError(`${name} must be an integer in [0, 2^32 - 1], got ${String(value)}`);
}

/** Checks that a value can be the length of an array. */
export function checkLength(name: string, n: number): number {
  if (Number.isSafeInteger(n) && n >= 0) return n;
  throw new ArgumentError(`${name} must be a non-negative integer, got ${String(n)}`);
}

/**
 * The low and high 32-bit words of a seed.
 * @throws ArgumentError for strings, fractions, negative or unsafe numbers, and bigints of more than 64 bits.
 */
export function seedWords(seed: Seed): readonly [low: number, high: number] {
  if (typeof seed === "bigint" && seed >= 0n && seed < 1n << 64n) {
    return [Number(seed & 0xffffffffn), Number(seed >> 32n)];
  }
  if (typeof seed === "number" && Number.isSafeInteger(seed) && seed >= 0) {
    return [seed >>> 0, Math.floor(seed / 2 ** 32)];
  }
  const shown = typeof seed === "string" ? JSON.stringify(seed) : String(seed);
  throw new ArgumentError(
    `seed must be an integer in [0, 2^53 - 1] or a bigint in [0, 2^64 - 1], got ${typeof seed} ${shown}`,
  );
}

const utf8 = new TextEncoder();

/** 32-bit FNV-1a hash of a string's UTF-8 bytes. */
export function fnv1a32(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of utf8.encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** High 32 bits of the product of two 32-bit words, by 16-bit halves: no partial sum reaches 2^32. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = (Math.imul(aHigh, bLow) + (Math.imul(aLow, bLow) >>> 16)) | 0;
  const carry = ((middle & 0xffff) + Math.imul(aLow, bHigh)) | 0;
  return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (carry >>> 16)) | 0;
}

/** One Philox-4x32-10 block: the four words of counter (c0, c1, c2, c3) under key (k0, k1) go to `out[at..at + 3]`. */
export function philoxBlock(
  out: Int32Array,
  at: number,
  k0: number,
  k1: number,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
): void {
  let x0 = c0 | 0;
  let x1 = c1 | 0;
  let x2 = c2 | 0;
  let x3 = c3 | 0;
  let key0 = k0 | 0;
  let key1 = k1 | 0;
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(x0, 0xd2511f53);
    const high1 = mulHigh(x2, 0xcd9e8d57);
    const low0 = Math.imul(x0, 0xd2511f53);
    x0 = high1 ^ x1 ^ key0;
    x1 = Math.imul(x2, 0xcd9e8d57);
    x2 = high0 ^ x3 ^ key1;
    x3 = low0;
    key0 = (key0 + 0x9e3779b9) | 0;
    key1 = (key1 + 0xbb67ae85) | 0;
  }
  out[at] = x0;
  out[at + 1] = x1;
  out[at + 2] = x2;
  out[at + 3] = x3;
}

/**
 * The Philox-4x32-10 function: four output words for a 128-bit counter under a 64-bit key.
 * All words are unsigned 32-bit integers, lowest first, as in Random123.
 */
export function philox4x32(
  key: readonly [number, number],
  counter: readonly [number, number, number, number],
): [number, number, number, number] {
  const out = new Int32Array(4);
  philoxBlock(out, 0, ...key, ...counter);
  return [out[0]! >>> 0, out[1]! >>> 0, out[2]! >>> 0, out[3]! >>> 0];
}

/** Words are made this many at a time, so the conversion loops run on a buffer that stays in the cache. */
const CHUNK = 2048;
const chunk = new Int32Array(CHUNK);

/** Makes the words of the address chunk by chunk and passes each chunk on: `use(words, first element, count)`. */
function eachChunk(
  address: RandomAddress,
  total: number,
  use: (words: Int32Array, start: number, count: number) => void,
): void {
  const [k0, k1] = seedWords(address.seed);
  const sample = checkU32("sample", address.sample ?? 0);
  const purpose =
    typeof address.purpose === "string"
      ? fnv1a32(address.purpose)
      : checkU32("purpose", address.purpose ?? 0);
  const step = checkU32("step", address.step ?? 0);
  for (let start = 0; start < total; start += CHUNK) {
    const count = Math.min(CHUNK, total - start);
    for (let i = 0; i < count; i += 4) philoxBlock(chunk, i, k0, k1, (start + i) / 4, sample, purpose, step);
    use(chunk, start, count);
  }
}

/** Fills with uniforms in [0, 1): element i is `(w >>> 8) * 2^-24`, w being word i mod 4 of block i div 4. */
export function fillUniform(out: Float32Array, address: RandomAddress): Float32Array {
  eachChunk(address, out.length, (words, start, count) => {
    for (let i = 0; i < count; i++) out[start + i] = (words[i]! >>> 8) * 2 ** -24;
  });
  return out;
}

/** `2^-e` for e in [0, 24]. */
const POWERS = Float64Array.from({ length: 25 }, (_, e) => 2 ** -e);

/**
 * sqrt(-2 ln(m * 2^-24)) for an integer m in [1, 2^24], relative error below 1e-11. Written in additions,
 * products and a division because Math.log may differ between engines, and a seed must give the same bits in all.
 */
function radius(m: number): number {
  // m = f * 2^e with f in [1/sqrt 2, sqrt 2], then ln f = 2 atanh((f - 1) / (f + 1)).
  const e = 31 - Math.clz32(m * Math.SQRT2);
  const f = m * POWERS[e]!;
  const s = (f - 1) / (f + 1);
  const z = s * s;
  const series = 1 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11 + z * (1 / 13))))));
  return Math.sqrt(-2 * (2 * s * series + (e - 24) * Math.LN2));
}

/** Cosine and sine of whole quarter turns: they rotate the reduced angle back without a branch. */
const QUARTER_COS = new Float64Array([1, 0, -1, 0]);
const QUARTER_SIN = new Float64Array([0, 1, 0, -1]);
const TURN = 2 ** 24;
const ANGLE_UNIT = (2 * Math.PI) / TURN;

/** Writes r cos(2 pi k / 2^24) and r sin(2 pi k / 2^24) for an integer k in [0, 2^24 - 1]; errors below 1e-11 r. */
function writePolar(out: Float32Array, at: number, r: number, k: number): void {
  // Reduce exactly, in integers, to an angle in [-pi/4, pi/4], where the Taylor series are short.
  const quarter = (k + TURN / 8) >>> 22;
  const angle = (k - quarter * (TURN / 4)) * ANGLE_UNIT;
  const z = angle * angle;
  const sin =
    angle * (1 - z * (1 / 6 - z * (1 / 120 - z * (1 / 5040 - z * (1 / 362880 - z * (1 / 39916800))))));
  const cos =
    1 -
    z * (1 / 2 - z * (1 / 24 - z * (1 / 720 - z * (1 / 40320 - z * (1 / 3628800 - z * (1 / 479001600))))));
  const turnCos = r * QUARTER_COS[quarter & 3]!;
  const turnSin = r * QUARTER_SIN[quarter & 3]!;
  out[at] = cos * turnCos - sin * turnSin;
  out[at + 1] = sin * turnCos + cos * turnSin;
}

/**
 * Fills with standard normals by Box-Muller. Block b has words w0..w3; the pair (w0, w1) makes elements 4b and
 * 4b + 1, the pair (w2, w3) makes 4b + 2 and 4b + 3:
 *
 * ```
 * u = ((w_even >>> 8) + 1) * 2^-24      in (0, 1], exact in f32
 * v =  (w_odd  >>> 8)      * 2^-24      in [0, 1), exact in f32
 * r = sqrt(-2 ln u)
 * even element = r cos(2 pi v),  odd element = r sin(2 pi v)
 * ```
 *
 * Computed in f64 and rounded once to f32; the largest magnitude is sqrt(48 ln 2) = 5.77. The same bits come out
 * of every conforming engine. A graph that evaluates these formulas in f32 agrees within about 2e-6.
 */
export function fillNormal(out: Float32Array, address: RandomAddress): Float32Array {
  const whole = out.length - (out.length % 2);
  eachChunk(address, out.length, (words, start, count) => {
    for (let i = 0; i + 1 < count; i += 2) {
      writePolar(out, start + i, radius((words[i]! >>> 8) + 1), words[i + 1]! >>> 8);
    }
    if (start + count > whole) {
      const pair = new Float32Array(2);
      writePolar(pair, 0, radius((words[count - 1]! >>> 8) + 1), words[count]! >>> 8);
      out[whole] = pair[0]!;
    }
  });
  return out;
}

/**
 * `floor(x * range / 2^64)` for the 64-bit x = high * 2^32 + low: maps x to [0, range) with a bias of at most
 * range * 2^-64 per value, and always from two words, so that element i stays where it is.
 */
function scaleTo(range: number, high: number, low: number): number {
  const fraction = (Math.imul(high, range) >>> 0) + (mulHigh(low, range) >>> 0);
  return (mulHigh(high, range) >>> 0) + (fraction > MAX_U32 ? 1 : 0);
}

/**
 * Fills with integers uniform in [low, high). Element i takes words 2i and 2i + 1 of the stream as a 64-bit
 * fraction of the range (high word first), so the bias is below 2^-32 relative to 1 / range.
 * @throws ArgumentError unless low and high are integers, -2^31 <= low < high <= 2^31.
 */
export function fillIntegers(out: Int32Array, low: number, high: number, address: RandomAddress): Int32Array {
  const range = checkRange(low, high);
  // A range of 2^32 does not fit a word, and needs no scaling.
  const full = range > MAX_U32;
  eachChunk(address, 2 * out.length, (words, start, count) => {
    for (let i = 0; i < count; i += 2) {
      out[(start + i) / 2] = full ? words[i]! : low + scaleTo(range, words[i]!, words[i + 1]!);
    }
  });
  return out;
}

/** Size of the range [low, high) of 32-bit integers. */
export function checkRange(low: number, high: number): number {
  const inside = (x: number): boolean => Number.isInteger(x) && x >= -(2 ** 31) && x <= 2 ** 31;
  if (inside(low) && inside(high) && low < high) return high - low;
  throw new ArgumentError(
    `integers need -2^31 <= low < high <= 2^31, got low ${String(low)} and high ${String(high)}`,
  );
}

/**
 * Fills with a uniformly random permutation of 0 .. length - 1 by the Fisher-Yates shuffle. Exchange t (t = 0, 1,
 * ...) swaps element t with element t + j, j uniform in [0, length - t) from words 2t and 2t + 1 of the stream.
 */
export function fillPermutation(out: Int32Array, address: RandomAddress): Int32Array {
  const n = out.length;
  for (let i = 0; i < n; i++) out[i] = i;
  eachChunk(address, 2 * Math.max(0, n - 1), (words, start, count) => {
    for (let i = 0; i < count; i += 2) {
      const t = (start + i) / 2;
      const other = t + scaleTo(n - t, words[i]!, words[i + 1]!);
      const value = out[t]!;
      out[t] = out[other]!;
      out[other] = value;
    }
  });
  return out;
}
