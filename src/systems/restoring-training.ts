/** What trainings of restoring networks have alike: sets in two parts, crops for curves, a look at what is restored. */
import { type Dataset, subset, tensorToPictures } from "../data/index.ts";
import type { Restorer } from "../networks/index.ts";
import { grid } from "../report/index.ts";
import { concat, jit, type Tensor } from "../tensor/index.ts";
import { type CropSource, type RestorationBatch, restorationBatches } from "../training/index.ts";
import type { Work } from "../work.ts";

/** Every eighth picture of a folder is kept for curves. */
const EVERY = 8;

/** What is learned from, and what is kept for curves. */
export interface Split<T> {
  readonly title: string;
  readonly train: T;
  readonly heldOut: T;
}

/** Two parts of a set; a set that is too small for two is used as a whole, and has no second part. */
export function parted<T>(title: string, all: Dataset<T>): Split<Dataset<T>> {
  const indices = Array.from({ length: all.length }, (_, i) => i);
  const held = all.length < EVERY ? [] : indices.filter((i) => i % EVERY === EVERY - 1);
  const train = indices.filter((i) => !held.includes(i));
  return { title, train: subset(all, train), heldOut: subset(all, held) };
}

/** Crops that are the same every time; none of an empty source. */
export const fixedCrops = (source: CropSource, crop: number): Promise<RestorationBatch> | undefined =>
  source.length === 0
    ? undefined
    : restorationBatches(source, { batch: Math.min(48, source.length), crop, seed: 0 })(0);

/** EMA decay of short trainings: the weights at the start fade within a twentieth of the steps. */
export const shortEma = (steps: number): number => Math.max(0, Math.min(0.999, 1 - 20 / steps));

/** Shows what a network makes of crops: degraded, restored and, where it is known, the truth. // [N, C, H, W] in [0, 1] */
export async function* restoredCrops(net: Restorer, degraded: Tensor, clean?: Tensor): Work<void> {
  const few = (t: Tensor): Tensor => t.sliceAxis(0, 0, Math.min(8, t.shape[0]!));
  const run = jit((y: Tensor) => net.restore(y));
  try {
    const rows = concat(few(degraded), [await run(few(degraded)), ...(clean ? [few(clean)] : [])]);
    yield {
      type: "picture",
      name: clean ? "degraded, restored, clean" : "degraded, restored",
      picture: grid(await tensorToPictures(rows, "unit"), { columns: few(degraded).shape[0]! }),
    };
  } finally {
    await run.close();
  }
}
