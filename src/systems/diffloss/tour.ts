/** DiffLoss in the tour: noise and rain taken from pictures that the networks have not seen, against the truth. */
import {
  DEGRADATIONS,
  type Degradation,
  dataset,
  degradedPairs,
  noiseOf,
  ownTestPicture,
  picturesToTensor,
  type RestorationPair,
  readAll,
  tensorToPictures,
} from "../../data/index.ts";
import type { Picture } from "../../io/index.ts";
import { openRestorationScorer } from "../../metrics/index.ts";
import { mean } from "../../study/index.ts";
import { concat, type Tensor } from "../../tensor/index.ts";
import { restorerFile } from "../../training/index.ts";
import { drained, type Work } from "../../work.ts";
import { openRestoring } from "../restoring.ts";
import type { Quality, TourContext, TourResult } from "../tour.ts";
import { restorerPath } from "./model.ts";

const SHOWN = 4;

export interface DiffLossTourSize {
  /** Pictures of each task. */
  readonly pictures: number;
  /** Their side in pixels. */
  readonly side: number;
}

const SIZE: DiffLossTourSize = { pictures: 6, side: 96 };

interface Task {
  readonly model: string;
  readonly name: string;
  readonly degradation: Degradation;
}

const TASKS: readonly Task[] = [
  { model: "denoise", name: "noise of sigma 25", degradation: noiseOf(25) },
  { model: "derain", name: "rain", degradation: DEGRADATIONS.rain },
];

const batchOf = (pairs: readonly RestorationPair[], side: "degraded" | "clean"): Tensor =>
  picturesToTensor(
    pairs.map((pair) => pair[side]),
    "unit",
  );

/** Restores pictures, measures, shows. */
export async function* tourDiffLoss(
  { seed, threads, signal }: TourContext,
  size: Partial<DiffLossTourSize> = {},
): Work<TourResult> {
  const { pictures, side } = { ...SIZE, ...size };
  const settings = threads === undefined ? {} : { threads };
  const scorer = openRestorationScorer(settings);
  const quality: Quality[] = [];
  const rows: Picture[] = [];
  try {
    for (const [k, { model, name, degradation }] of TASKS.entries()) {
      const { model: net } = await restorerFile.load(await restorerPath(model));
      const clean = dataset(pictures, async (i) => ({ image: await ownTestPicture(i, side) }));
      const pairs = await readAll(degradedPairs(clean, degradation, seed));
      const [y, x] = [batchOf(pairs, "degraded"), batchOf(pairs, "clean")];
      const restoring = openRestoring(net, settings);
      try {
        const done: Tensor[] = [];
        for (let i = 0; i < pictures; i++) {
          done.push(await drained(restoring.restoreTensor(y.sliceAxis(0, i, i + 1), { signal })));
          const total = TASKS.length * pictures;
          yield { type: "progress", stage: "restoring", done: k * pictures + i + 1, total, note: name };
        }
        const restored = concat(done[0]!, done.slice(1), 0);
        const [own, before] = [await scorer.score(restored, x), await scorer.score(y, x)];
        quality.push({
          name: `PSNR, ${name}`,
          value: mean(own.map(({ psnr }) => psnr)),
          unit: "dB",
          better: "higher",
          baseline: { name: "the degraded picture", value: mean(before.map(({ psnr }) => psnr)) },
        });
        const shown = (t: Tensor) => tensorToPictures(t.sliceAxis(0, 0, Math.min(SHOWN, pictures)), "unit");
        const [a, b, c] = [await shown(y), await shown(restored), await shown(x)];
        rows.push(...a.flatMap((picture, i) => [picture, b[i]!, c[i]!]));
      } finally {
        await restoring.close();
      }
    }
  } finally {
    await scorer.close();
  }
  yield {
    type: "figure",
    name: "restored",
    caption:
      "Our own pictures, dead leaves that cover each other, which the networks have not seen: noise above, rain below. The networks have about 290,000 parameters and run once for a picture.",
    pictures: rows,
    columns: ["degraded", "restored", "truth"],
    scale: 1,
  };
  return { did: `took noise and rain from ${2 * pictures} pictures, in one call of a network each`, quality };
}
