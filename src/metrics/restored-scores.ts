/** What restored pictures are worth: the usual scores, LPIPS where its weights are there, and how much fine detail they have. */
import { type Dataset, picturesToTensor, type RestorationPair } from "../data/index.ts";
import { jit, resize, type Tensor } from "../tensor/index.ts";
import { drained, type Work } from "../work.ts";
import type { Lpips } from "./lpips.ts";
import { openRestorationScorer, type RestorationScores } from "./restoration.ts";

/** Numbers of one picture. */
export interface PictureScores extends RestorationScores {
  readonly name: string;
  /** Mean slope of the restored picture over that of the clean one: 1 is right, less is blurred, more is noise that is left. */
  readonly detail: number;
  /** LPIPS (squeeze), of pictures under 100 pixels enlarged twice; absent without its weights. */
  readonly lpips?: number;
}

/** Total variation: mean of the absolute differences of neighbours, down and right. // [N, C, H, W] to [N] */
export function totalVariation(x: Tensor): Tensor {
  const [height, width] = x.shape.slice(2) as [number, number];
  const down = x.sliceAxis(2, 1, height).sub(x.sliceAxis(2, 0, height - 1));
  const right = x.sliceAxis(3, 1, width).sub(x.sliceAxis(3, 0, width - 1));
  return down
    .abs()
    .mean([1, 2, 3])
    .add(right.abs().mean([1, 2, 3]));
}

/** Restores a picture. // [1, C, H, W] in [0, 1] */
export type Restore = (degraded: Tensor) => Promise<Tensor>;

/** Pictures smaller than this are enlarged for LPIPS, whose network has a stride of 16. */
const LEAST_SIDE = 100;

/** What restored pictures are scored by. */
export interface ScoreOptions {
  readonly lpips?: Lpips | undefined;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Scores of every way to restore on every pair, in the order of the pairs. Tells progress as `stage`. */
export async function* scored<Name extends string>(
  stage: string,
  ways: Readonly<Record<Name, Restore>>,
  pairs: Dataset<RestorationPair>,
  { lpips, threads, signal }: ScoreOptions = {},
): Work<Record<Name, PictureScores[]>> {
  const settings = threads === undefined ? {} : { threads };
  const scorer = openRestorationScorer(settings);
  const slopes = jit(
    (restored: Tensor, clean: Tensor) => totalVariation(restored.clip(0, 1)).div(totalVariation(clean)),
    settings,
  );
  const distance = jit((net: Lpips, a: Tensor, b: Tensor) => {
    const seen = (t: Tensor): Tensor => {
      const [h, w] = t.shape.slice(2) as [number, number];
      const large = Math.min(h, w) < LEAST_SIDE ? resize(t, [2 * h, 2 * w]) : t;
      return large.clip(0, 1).mul(2).sub(1);
    };
    return net.call(seen(a), seen(b));
  }, settings);
  const names = Object.keys(ways) as Name[];
  const found = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<
    Name,
    PictureScores[]
  >;
  try {
    for (let i = 0; i < pairs.length; i++) {
      signal?.throwIfAborted();
      const { name: picture, degraded, clean } = await pairs.get(i);
      const [y, x] = [degraded, clean].map((one) => picturesToTensor([one], "unit")) as [Tensor, Tensor];
      for (const name of names) {
        const restored = await ways[name](y);
        const [scores] = await scorer.score(restored, x);
        const detail = await (await slopes(restored, x)).item();
        const seen =
          lpips && x.shape[1] === 3 ? { lpips: await (await distance(lpips, restored, x)).item() } : {};
        found[name].push({ name: picture, ...scores!, detail, ...seen });
      }
      yield { type: "progress", stage, done: i + 1, total: pairs.length };
    }
  } finally {
    await Promise.all([scorer.close(), slopes.close(), distance.close()]);
  }
  return found;
}

/** The whole of a restoring network as a way. */
export const wayOf =
  ({ restoreTensor }: { restoreTensor(y: Tensor): AsyncGenerator<unknown, Tensor> }): Restore =>
  (y) =>
    drained(restoreTensor(y));

/** Pictures as they are: the floor. */
export const unchanged: Restore = async (y) => y;
