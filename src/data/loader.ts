/**
 * Batches for training: shuffled by seed, sharded, read ahead, resumable at an exact position. The order of an epoch is
 * a function of (seed, epoch) alone, so a run that is killed goes on with the very batch that came next.
 */
import { AbortError, ArgumentError, FormatError } from "../errors.ts";
import { fillPermutation, fnv1a32, type Seed } from "../tensor/index.ts";
import type { Dataset } from "./dataset.ts";

/** Where a loader stands: the batch that comes next. Plain JSON, to be kept in a checkpoint. */
export interface LoaderPosition {
  readonly epoch: number;
  /** 0-based batch within the epoch. */
  readonly batch: number;
}

/** Options of `epochOrder` and `loadBatches`. */
export interface LoaderOptions {
  readonly batchSize: number;
  /** Seed of the order; without one samples come in the order of the dataset. */
  readonly shuffle?: Seed;
  /** Default: for ever. */
  readonly epochs?: number;
  /** Part i of n: every n-th sample of the shuffled order, so that shards share nothing and miss nothing. */
  readonly shard?: readonly [index: number, count: number];
  /** Leaves out a last batch that is not full. Default true. */
  readonly dropLast?: boolean;
  /** Batches read ahead while the caller works. Default 2. */
  readonly prefetch?: number;
  /** Where to go on. Default: the beginning. */
  readonly position?: LoaderPosition;
  /** `skip` leaves damaged samples out of their batch and lists them in `skipped`. Default `throw`. */
  readonly damaged?: "throw" | "skip";
  readonly signal?: AbortSignal;
}

/** A batch of a loader. */
export interface Batch<T> {
  readonly samples: readonly T[];
  /** Index of every sample in the dataset. */
  readonly indices: readonly number[];
  /** Samples that could not be read, with the reason. */
  readonly skipped: readonly { readonly index: number; readonly error: Error }[];
  readonly epoch: number;
  /** Position of the batch after this one. */
  readonly next: LoaderPosition;
}

const ORDER = fnv1a32("loader order");

/** Indices of an epoch, in the order they are read. */
export function epochOrder(
  length: number,
  epoch: number,
  { shuffle, shard = [0, 1] }: Pick<LoaderOptions, "shuffle" | "shard">,
): Int32Array {
  const order = new Int32Array(length);
  if (shuffle === undefined) for (let i = 0; i < length; i++) order[i] = i;
  else fillPermutation(order, { seed: shuffle, sample: 0, purpose: ORDER, step: epoch });
  const [part, parts] = shard;
  return order.filter((_, i) => i % parts === part);
}

function checkOptions(
  length: number,
  { batchSize, shard = [0, 1], prefetch = 2, position }: LoaderOptions,
): void {
  const natural = (x: number, least: number): boolean => Number.isSafeInteger(x) && x >= least;
  if (!natural(batchSize, 1))
    throw new ArgumentError(`loadBatches: batchSize must be a positive integer, got ${batchSize}`);
  if (!(natural(shard[1], 1) && natural(shard[0], 0) && shard[0] < shard[1]))
    throw new ArgumentError(`loadBatches: shard must be [i, n] with 0 <= i < n, got [${shard.join(", ")}]`);
  if (!natural(prefetch, 0))
    throw new ArgumentError(`loadBatches: prefetch must be a natural number, got ${prefetch}`);
  if (position && !(natural(position.epoch, 0) && natural(position.batch, 0)))
    throw new ArgumentError(`loadBatches: the position is ${JSON.stringify(position)}`);
  if (length === 0) throw new ArgumentError("loadBatches: the dataset has no samples");
}

/** Positions and indices of all batches from the start position on. */
function* plan(
  length: number,
  options: LoaderOptions,
): Generator<{ epoch: number; indices: number[]; next: LoaderPosition }> {
  const { batchSize, dropLast = true, epochs = Number.POSITIVE_INFINITY, position } = options;
  let { epoch, batch } = position ?? { epoch: 0, batch: 0 };
  for (; epoch < epochs; epoch++, batch = 0) {
    const order = epochOrder(length, epoch, options);
    const count = dropLast ? Math.floor(order.length / batchSize) : Math.ceil(order.length / batchSize);
    if (count === 0)
      throw new ArgumentError(`loadBatches: ${order.length} samples do not fill a batch of ${batchSize}`);
    for (; batch < count; batch++) {
      const last = batch + 1 === count;
      yield {
        epoch,
        indices: [...order.subarray(batch * batchSize, (batch + 1) * batchSize)],
        next: last ? { epoch: epoch + 1, batch: 0 } : { epoch, batch: batch + 1 },
      };
    }
  }
}

async function readBatch<T>(
  source: Dataset<T>,
  { epoch, indices, next }: { epoch: number; indices: number[]; next: LoaderPosition },
  damaged: "throw" | "skip",
): Promise<Batch<T>> {
  const results = await Promise.allSettled(indices.map(async (i) => source.get(i, epoch)));
  const batch = { samples: [] as T[], indices: [] as number[], skipped: [] as Batch<T>["skipped"][number][] };
  results.forEach((result, at) => {
    const index = indices[at]!;
    if (result.status === "fulfilled") {
      batch.samples.push(result.value);
      batch.indices.push(index);
    } else if (damaged === "skip" && result.reason instanceof FormatError)
      batch.skipped.push({ index, error: result.reason });
    else throw result.reason;
  });
  return { ...batch, epoch, next };
}

/** Batches of a dataset, read ahead. @throws ArgumentError for options that cannot be, FormatError for damaged samples. */
export async function* loadBatches<T>(source: Dataset<T>, options: LoaderOptions): AsyncGenerator<Batch<T>> {
  checkOptions(source.length, options);
  const { prefetch = 2, damaged = "throw", signal } = options;
  const ahead: Promise<Batch<T>>[] = [];
  const batches = plan(source.length, options);
  const fill = (): void => {
    while (ahead.length <= prefetch) {
      const { value } = batches.next();
      if (!value) return;
      const reading = readBatch(source, value, damaged);
      reading.catch(() => {}); // thrown when its turn comes
      ahead.push(reading);
    }
  };
  for (fill(); ahead.length > 0; fill()) {
    if (signal?.aborted) throw new AbortError();
    yield await ahead.shift()!;
  }
}
