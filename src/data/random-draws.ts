/** Random numbers of one sample: addressed by (seed, sample, epoch), so order and batching do not matter. */
import { fillUniform, fnv1a32, type Seed } from "../tensor/index.ts";

/** Random numbers that depend on seed, epoch and sample alone. */
export interface Draw {
  /** Uniform in [low, high). Default [0, 1). */
  uniform(low?: number, high?: number): number;
  /** Uniform integer in [0, n). */
  integer(n: number): number;
  /** One of the items, each as likely. */
  pick<T>(items: readonly T[]): T;
  /** True with probability p. */
  chance(p: number): boolean;
  /** Standard normal. */
  normal(): number;
}

const BLOCK = 256;

/** The draws of a sample in an epoch for one purpose, in the order in which they are asked for. */
export function createDraw(seed: Seed, sample: number, epoch = 0, purpose = "augmentation"): Draw {
  const first = fnv1a32(purpose);
  let block: Float32Array = new Float32Array(0);
  let [blocks, at] = [0, 0];
  const next = (): number => {
    if (at === block.length) {
      block = fillUniform(new Float32Array(BLOCK), {
        seed,
        sample,
        purpose: (first + blocks++) >>> 0,
        step: epoch,
      });
      at = 0;
    }
    return block[at++]!;
  };
  return {
    uniform: (low = 0, high = 1) => low + next() * (high - low),
    pick: (items) => items[Math.min(items.length - 1, Math.floor(next() * items.length))]!,
    integer: (n) => Math.min(n - 1, Math.floor(next() * n)),
    chance: (p) => next() < p,
    normal: () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
  };
}
