/** Compiled functions over a set of pictures. */
import { AbortError } from "../errors.ts";
import { jit, type Tensor } from "../tensor/index.ts";
import { type LabelledPictures, slicePictures, tensorOf } from "./picture-set.ts";

/** Options of `overPictures`. */
export interface OverOptions<I> {
  /** Pictures at once. Default 250. */
  readonly batch?: number | undefined;
  /** What else the function takes of `n` pictures from number `first` on. */
  readonly inputs?: (first: number, n: number) => I;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A tensor on the host. */
export interface Joined {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** A function, compiled, over all pictures in batches: each of its outputs, joined along the first axis. */
export async function overPictures<K extends string, I extends object = object>(
  pictures: LabelledPictures,
  f: (x: Tensor, inputs: I) => Readonly<Record<K, Tensor>>,
  { batch = 250, inputs = () => ({}) as I, threads, signal }: OverOptions<I> = {},
): Promise<Record<K, Joined>> {
  const run = jit(f, threads === undefined ? {} : { threads });
  const found = new Map<string, { row: readonly number[]; values: Float32Array }>();
  const { count } = pictures;
  try {
    for (let first = 0; first < count; first += batch) {
      if (signal?.aborted) throw new AbortError();
      const n = Math.min(batch, count - first);
      const out = await run(tensorOf(slicePictures(pictures, first, first + n)), inputs(first, n));
      for (const [name, t] of Object.entries<Tensor>(out)) {
        const width = t.size / n;
        if (!found.has(name))
          found.set(name, { row: t.shape.slice(1), values: new Float32Array(count * width) });
        found.get(name)!.values.set((await t.data()) as Float32Array, first * width);
      }
    }
  } finally {
    await run.close();
  }
  const joined = [...found].map(([name, { row, values }]) => [name, { shape: [count, ...row], values }]);
  return Object.fromEntries(joined) as Record<K, Joined>;
}
