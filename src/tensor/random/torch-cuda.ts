/**
 * torch's CUDA generator, computed on the host: cuRAND's Philox-4x32-10 with torch's assignment of elements to
 * GPU threads, so that an image made on a GPU from a seed can start from the same noise here.
 */
import { ArgumentError } from "../../errors.ts";
import { checkLength, philoxBlock, type Seed, seedWords } from "./philox.ts";

/** Everything a `TorchCudaGenerator` needs to go on where it stopped. Plain JSON. */
export interface TorchCudaState {
  readonly mode: "torch-cuda";
  /** Decimal. */
  readonly seed: string;
  /** Philox blocks that each thread has used; a quarter of torch's `philox_offset`. */
  readonly offset: number;
  /** Absent when unlimited. */
  readonly maxThreads?: number;
}

/** Options of `TorchCudaGenerator`. */
export interface TorchCudaOptions {
  /**
   * Threads that torch launches at most on the GPU to be matched: multiprocessors x floor(threads per
   * multiprocessor / 256) x 256, e.g. 40960 on a T4, 196608 on an RTX 4090, 221184 on an A100, 270336 on an H100
   * with 132 multiprocessors. Unlimited by default.
   */
  readonly maxThreads?: number;
  /** Blocks already used per thread; 0 by default. */
  readonly offset?: number;
}

const BLOCK_THREADS = 256;
/** torch splits larger tensors into several launches, which is not reproduced. */
const MAX_ELEMENTS = 2 ** 29;

const SCALE = 2 ** -32;
const ANGLE = 2 * Math.PI * SCALE;

/** cuRAND's f32 uniform in (0, 1]: x * 2^-32 + 2^-33. */
const openUniform = (x: number): number => Math.fround(Math.fround(x >>> 0) * SCALE + SCALE / 2);

/**
 * Result `lane` of cuRAND's normal4: lanes 0 and 2 are the sines, 1 and 3 the cosines, of pairs (w0, w1), (w2, w3),
 * with u = (x + 1/2) 2^-32, v = 2 pi (y + 1/2) 2^-32 and r = sqrt(-2 ln u).
 */
function normalLane(words: Int32Array, lane: number): number {
  const first = lane & 2;
  const r = Math.sqrt(-2 * Math.log(((words[first]! >>> 0) + 0.5) * SCALE));
  const theta = ((words[first + 1]! >>> 0) + 0.5) * ANGLE;
  return r * (lane & 1 ? Math.cos(theta) : Math.sin(theta));
}

/** Result `lane` of cuRAND's uniform4, with 1 turned into 0 as torch does. */
function uniformLane(words: Int32Array, lane: number): number {
  const value = openUniform(words[lane]!);
  return value === 1 ? 0 : value;
}

/**
 * `torch.Generator("cuda")` after `manual_seed(seed)`, for contiguous float32 tensors.
 *
 * torch launches T = min(maxThreads, 256 ceil(n / 256)) threads. Thread t runs Philox under the seed as key with
 * counter (offset + k, 0, t, 0), and its four results of round k are elements 4kT + t, 4kT + T + t, 4kT + 2T + t
 * and 4kT + 3T + t. As long as n <= T, element i is thus the first result of thread i, whatever the GPU; beyond
 * that the values depend on the GPU's size, and `maxThreads` must be given to match them.
 *
 * Uniforms follow the GPU's own roundings. Normals evaluate cuRAND's formulas in f64 and round once, whereas the GPU
 * rounds u and v to f32 and takes fast sines and cosines: expect differences of some 1e-6, and up to 3e-4 in the
 * rare elements (one in 10^7) whose u rounds to 1, which are exactly 0 on the GPU. Nothing here was compared with a
 * GPU directly; the order of the elements follows torch's kernels, and seed 0 the values published by
 * stable-diffusion-webui. Half-precision normals on the GPU are these values rounded.
 */
export class TorchCudaGenerator {
  readonly mode = "torch-cuda";
  readonly #seed: bigint;
  readonly #key: readonly [number, number];
  readonly #maxThreads: number;
  #offset: number;

  /** @throws ArgumentError for a seed outside [0, 2^64 - 1], or a thread limit that is no positive multiple of 256. */
  constructor(seed: Seed, options: TorchCudaOptions = {}) {
    const { maxThreads = Number.POSITIVE_INFINITY, offset = 0 } = options;
    this.#key = seedWords(seed);
    this.#seed = BigInt(seed);
    if (maxThreads !== Number.POSITIVE_INFINITY && !(maxThreads > 0 && maxThreads % BLOCK_THREADS === 0)) {
      throw new ArgumentError(`maxThreads must be a positive multiple of 256, got ${String(maxThreads)}`);
    }
    this.#maxThreads = maxThreads;
    this.#offset = checkLength("offset", offset);
  }

  /** `torch.randn(n, device="cuda")`, float32. @throws ArgumentError for n above 2^29. */
  normal(n: number): Float32Array {
    return this.#draw(n, normalLane);
  }

  /** `torch.rand(n, device="cuda")`, float32, in [0, 1). @throws ArgumentError for n above 2^29. */
  uniform(n: number): Float32Array {
    return this.#draw(n, uniformLane);
  }

  /** Snapshot for `TorchCudaGenerator.fromState`. */
  state(): TorchCudaState {
    const limit = Number.isFinite(this.#maxThreads) ? { maxThreads: this.#maxThreads } : {};
    return { mode: this.mode, seed: String(this.#seed), offset: this.#offset, ...limit };
  }

  /** A generator that goes on where the snapshot was taken. @throws ArgumentError for a malformed snapshot. */
  static fromState(state: TorchCudaState): TorchCudaGenerator {
    return new TorchCudaGenerator(parseSeed(state.seed), state);
  }

  #draw(n: number, lane: (words: Int32Array, lane: number) => number): Float32Array {
    if (checkLength("number of elements", n) > MAX_ELEMENTS) {
      throw new ArgumentError(`torch-cuda noise is reproduced up to 2^29 elements a call, got ${n}`);
    }
    const out = new Float32Array(n);
    if (n === 0) return out;
    const threads = Math.min(this.#maxThreads, BLOCK_THREADS * Math.ceil(n / BLOCK_THREADS));
    const rounds = Math.ceil(n / (4 * threads));
    for (let round = 0; round < rounds; round++) this.#drawRound(out, round, threads, lane);
    this.#offset += rounds;
    return out;
  }

  /** The elements that the threads make in one round: four each, `threads` apart. */
  #drawRound(
    out: Float32Array,
    round: number,
    threads: number,
    lane: (words: Int32Array, lane: number) => number,
  ): void {
    const [k0, k1] = this.#key;
    const words = new Int32Array(4);
    const start = 4 * round * threads;
    const block = this.#offset + round;
    const high = Math.floor(block / 2 ** 32);
    for (let thread = 0; thread < threads && start + thread < out.length; thread++) {
      philoxBlock(words, 0, k0, k1, block, high, thread, 0);
      for (let j = 0, at = start + thread; j < 4 && at < out.length; j++, at += threads)
        out[at] = lane(words, j);
    }
  }
}

/** The seed of a snapshot. */
export function parseSeed(text: string): bigint {
  if (typeof text === "string" && /^[0-9]{1,20}$/.test(text)) return BigInt(text);
  throw new ArgumentError(`a generator's state has its seed as a decimal string, got ${String(text)}`);
}
