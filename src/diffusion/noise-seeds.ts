/** One seed per sample, so that a sample does not depend on its batch. */
import { ArgumentError } from "../errors.ts";
import { createNoise, type NoiseMode, type NoiseSource, perSampleNoise, type Seed } from "../tensor/index.ts";

/**
 * Noise for a batch with one seed per sample, in any mode: row i of each draw is what `createNoise(mode, seeds[i])`
 * draws for a batch of one. Throws `ArgumentError` without seeds.
 */
export const seededNoise = (mode: NoiseMode, seeds: readonly Seed[]): NoiseSource =>
  perSampleNoise(seeds.map((seed) => createNoise(mode, seed)));

const LIMIT = 1n << 64n;

/** The seeds seed, seed + 1, … of a batch, as web UIs count; after 2^64 - 1 comes 0. */
export function consecutiveSeeds(seed: Seed, count: number): Seed[] {
  if (!Number.isInteger(count) || count < 1)
    throw new ArgumentError(`consecutiveSeeds: expected a positive count, got ${count}`);
  return Array.from({ length: count }, (_, i) => {
    const value = (BigInt(seed) + BigInt(i)) % LIMIT;
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
  });
}

/**
 * A philox source that starts at sample `first` of the given one, to repeat or continue part of a batch that has a
 * single seed. Snapshots are those of the source. Throws `ArgumentError` for torch's modes, where all samples of a
 * batch share one stream.
 */
export function startingAtSample(source: NoiseSource, first: number): NoiseSource {
  if (source.mode !== "philox")
    throw new ArgumentError(`startingAtSample: only philox noise is addressed by sample, got ${source.mode}`);
  return {
    ...source,
    normal: (shape, at) => source.normal(shape, { ...at, sample: (at?.sample ?? 0) + first }),
    uniform: (shape, at) => source.uniform(shape, { ...at, sample: (at?.sample ?? 0) + first }),
  };
}
