/**
 * torch's CPU generator: the 32-bit Mersenne Twister and torch's own ways of turning its words into numbers.
 *
 * M. Matsumoto, T. Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998.
 */
import { ArgumentError } from "../../errors.ts";
import { checkLength, checkRange, type Seed, seedWords } from "./philox.ts";

const WORDS = 624;
const OFFSET = 397;

/** Everything a `TorchCpuGenerator` needs to go on where it stopped. Plain JSON. */
export interface TorchCpuState {
  readonly mode: "torch-cpu";
  /** The 624 words of the twister. */
  readonly words: readonly number[];
  /** Words already used, in [0, 624]; 624 means that new ones are due. */
  readonly used: number;
  /** Second half of the last double-precision pair, or null. */
  readonly kept: number | null;
}

/**
 * `torch.Generator("cpu")` after `manual_seed(seed)`. Integers and uniforms are bit-exact, normals of fewer than
 * 16 elements too; longer ones agree with torch's vectorised log, sine and cosine within 5e-7.
 *
 * Only the low 32 bits of the seed count, as in torch. Calls are ordered: each takes up where the last stopped.
 * In torch only the number of elements matters to the values, never the shape.
 */
export class TorchCpuGenerator {
  readonly mode = "torch-cpu";
  readonly #words = new Uint32Array(WORDS);
  #used = WORDS;
  #kept: number | null = null;

  /** @throws ArgumentError unless the seed is an integer in [0, 2^64 - 1]. */
  constructor(seed: Seed) {
    const words = this.#words;
    words[0] = seedWords(seed)[0];
    for (let i = 1; i < WORDS; i++) {
      const previous = words[i - 1]!;
      words[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
    }
  }

  /** `torch.randn(n)`, float32. */
  normal(n: number): Float32Array {
    const out = new Float32Array(checkLength("number of normals", n));
    if (n < 16) {
      for (let i = 0; i < n; i++) out[i] = this.#normalDouble();
      return out;
    }
    this.#fillUniform(out);
    for (let at = 0; at + 16 <= n; at += 16) boxMuller16(out, at);
    if (n % 16 !== 0) {
      // torch draws the last 16 elements afresh, overwriting some that it has already made.
      this.#fillUniform(out.subarray(n - 16));
      boxMuller16(out, n - 16);
    }
    return out;
  }

  /** `torch.rand(n)`, float32: 24 random bits, in [0, 1). */
  uniform(n: number): Float32Array {
    const out = new Float32Array(checkLength("number of uniforms", n));
    this.#fillUniform(out);
    return out;
  }

  /**
   * `torch.randint(low, high, (n,))`.
   * @throws ArgumentError for bounds outside the 32-bit integers, and for ranges of 2^28 and more, which torch
   * draws from one word or from two depending on its version.
   */
  integers(low: number, high: number, n: number): Int32Array {
    const range = checkRange(low, high);
    if (range >= 2 ** 28) {
      throw new ArgumentError(`torch versions disagree on randint over 2^28 values and more, got ${range}`);
    }
    const out = new Int32Array(checkLength("number of integers", n));
    for (let i = 0; i < n; i++) out[i] = low + (this.#next() % range);
    return out;
  }

  /**
   * `torch.randperm(n)`.
   * @throws ArgumentError for n above 2^27: torch then draws 64 bits per exchange, depending on its version.
   */
  permutation(n: number): Int32Array {
    if (checkLength("length of a permutation", n) > 2 ** 27) {
      throw new ArgumentError(`torch versions disagree on randperm beyond 2^27 elements, got ${n}`);
    }
    const out = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = 0; i < n - 1; i++) {
      const other = i + (this.#next() % (n - i));
      const value = out[i]!;
      out[i] = out[other]!;
      out[other] = value;
    }
    return out;
  }

  /** Snapshot for `TorchCpuGenerator.fromState`. */
  state(): TorchCpuState {
    return { mode: this.mode, words: Array.from(this.#words), used: this.#used, kept: this.#kept };
  }

  /** A generator that goes on where the snapshot was taken. @throws ArgumentError for a malformed snapshot. */
  static fromState(state: TorchCpuState): TorchCpuGenerator {
    const { words, used, kept } = state;
    const isWord = (w: number): boolean => Number.isInteger(w) && w >= 0 && w <= 0xffffffff;
    if (!Array.isArray(words) || words.length !== WORDS || !words.every(isWord)) {
      throw new ArgumentError(`a torch-cpu state has ${WORDS} unsigned 32-bit words`);
    }
    if (!Number.isInteger(used) || used < 0 || used > WORDS) {
      throw new ArgumentError(`a torch-cpu state has used 0 to ${WORDS} words, got ${String(used)}`);
    }
    if (kept !== null && !Number.isFinite(kept)) {
      throw new ArgumentError(`a torch-cpu state keeps a finite number or null, got ${String(kept)}`);
    }
    const generator = new TorchCpuGenerator(0);
    generator.#words.set(words);
    generator.#used = used;
    generator.#kept = kept;
    return generator;
  }

  #fillUniform(out: Float32Array): void {
    for (let i = 0; i < out.length; i++) out[i] = (this.#next() & 0xffffff) * 2 ** -24;
  }

  /** One normal in double precision; the sine half of each pair is kept for the next call. */
  #normalDouble(): number {
    const kept = this.#kept;
    if (kept !== null) {
      this.#kept = null;
      return kept;
    }
    const theta = 2 * Math.PI * this.#uniformDouble();
    const r = Math.sqrt(-2 * Math.log1p(-this.#uniformDouble()));
    this.#kept = r * Math.sin(theta);
    return r * Math.cos(theta);
  }

  /** A double with 53 random bits out of two words, the high one first. */
  #uniformDouble(): number {
    const high = this.#next() & 0x1fffff;
    return (high * 2 ** 32 + this.#next()) * 2 ** -53;
  }

  /** Next tempered word of the twister. */
  #next(): number {
    if (this.#used >= WORDS) {
      twist(this.#words);
      this.#used = 0;
    }
    let y = this.#words[this.#used++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }
}

/** Replaces the 624 words by the next 624. */
function twist(words: Uint32Array): void {
  for (let i = 0; i < WORDS; i++) {
    const y = (words[i]! & 0x80000000) | (words[(i + 1) % WORDS]! & 0x7fffffff);
    words[i] = words[(i + OFFSET) % WORDS]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
  }
}

const TWO_PI = Math.fround(2 * Math.PI);

/** torch's float kernel on 16 uniforms: element j < 8 gives the radius, j + 8 the angle, each step rounded to f32. */
function boxMuller16(data: Float32Array, at: number): void {
  for (let j = at; j < at + 8; j++) {
    const r = Math.fround(Math.sqrt(-2 * Math.fround(Math.log(1 - data[j]!))));
    const theta = Math.fround(TWO_PI * data[j + 8]!);
    data[j] = r * Math.fround(Math.cos(theta));
    data[j + 8] = r * Math.fround(Math.sin(theta));
  }
}
