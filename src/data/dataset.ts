/** Datasets: ordered collections whose samples are read one at a time, and views of them. */
import { ArgumentError } from "../errors.ts";

/** An ordered collection. `get` may be called from several places at once and gives equal samples every time. */
export interface Dataset<T> {
  readonly length: number;
  /** Sample `index`, 0 to length - 1. `epoch` only matters to random augmentations. Default 0. */
  get(index: number, epoch?: number): T | Promise<T>;
}

function checkIndex(index: number, length: number): void {
  if (!(Number.isSafeInteger(index) && index >= 0 && index < length))
    throw new ArgumentError(`dataset: sample ${index} of ${length}`);
}

/** A dataset from a length and a function of the index. @throws ArgumentError for an index out of range. */
export function dataset<T>(
  length: number,
  get: (index: number, epoch: number) => T | Promise<T>,
): Dataset<T> {
  if (!(Number.isSafeInteger(length) && length >= 0))
    throw new ArgumentError(`dataset: the length must be a non-negative integer, got ${length}`);
  return {
    length,
    get: (index, epoch = 0) => {
      checkIndex(index, length);
      return get(index, epoch);
    },
  };
}

/** The samples of an array. */
export const fromArray = <T>(samples: readonly T[]): Dataset<T> =>
  dataset(samples.length, (i) => samples[i]!);

/** Every sample through `f`, when it is read. */
export const mapDataset = <T, U>(
  source: Dataset<T>,
  f: (sample: T, index: number, epoch: number) => U | Promise<U>,
): Dataset<U> => dataset(source.length, async (i, epoch) => f(await source.get(i, epoch), i, epoch));

/** The samples at `indices`, in that order. @throws ArgumentError for an index out of range. */
export function subset<T>(source: Dataset<T>, indices: ArrayLike<number>): Dataset<T> {
  for (let i = 0; i < indices.length; i++) checkIndex(indices[i]!, source.length);
  return dataset(indices.length, (i, epoch) => source.get(indices[i]!, epoch));
}

/** All samples of several datasets, one after the other. */
export function concatDatasets<T>(...sources: readonly Dataset<T>[]): Dataset<T> {
  const length = sources.reduce((sum, s) => sum + s.length, 0);
  return dataset(length, (index, epoch) => {
    let rest = index;
    for (const source of sources) {
      if (rest < source.length) return source.get(rest, epoch);
      rest -= source.length;
    }
    throw new ArgumentError(`dataset: sample ${index} of ${length}`);
  });
}

/** Samples of two datasets of one length, in pairs. */
export function zipDatasets<A, B>(a: Dataset<A>, b: Dataset<B>): Dataset<[A, B]> {
  if (a.length !== b.length)
    throw new ArgumentError(`zipDatasets: datasets of ${a.length} and ${b.length} samples`);
  return dataset(a.length, async (i, epoch) => [await a.get(i, epoch), await b.get(i, epoch)]);
}

/** All samples, in order. */
export const readAll = <T>(source: Dataset<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: source.length }, (_, i) => source.get(i)));
