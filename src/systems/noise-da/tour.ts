/** Noise-DA in the tour: noise whose truth training never saw, by the adapted network and by its twin, against the truth. */
import {
  dataset,
  degradedPairs,
  ownTestPicture,
  picturesToTensor,
  readAll,
  tensorToPictures,
} from "../../data/index.ts";
import type { Picture } from "../../io/index.ts";
import { openRestorationScorer } from "../../metrics/index.ts";
import { mean } from "../../study/index.ts";
import { concat, type Tensor } from "../../tensor/index.ts";
import { drained, type Work } from "../../work.ts";
import { openRestoring } from "../restoring.ts";
import type { TourContext, TourResult } from "../tour.ts";
import { DOMAINS } from "./domains.ts";
import { CHECKPOINTS } from "./options.ts";
import { RESTORING } from "./use.ts";

const SHOWN = 4;

export interface NoiseDaTourSize {
  readonly pictures: number;
  /** Their side in pixels. */
  readonly side: number;
}

const SIZE: NoiseDaTourSize = { pictures: 6, side: 96 };

/** Restores pictures with both networks, measures, shows. */
export async function* tourNoiseDa(
  { seed, threads, signal }: TourContext,
  size: Partial<NoiseDaTourSize> = {},
): Work<TourResult> {
  const { pictures, side } = { ...SIZE, ...size };
  const settings = threads === undefined ? {} : { threads };
  const clean = dataset(pictures, async (i) => ({ image: await ownTestPicture(i, side) }));
  const pairs = await readAll(degradedPairs(clean, DOMAINS.noise.real, seed));
  const [y, x] = (["degraded", "clean"] as const).map((part) =>
    picturesToTensor(
      pairs.map((pair) => pair[part]),
      "unit",
    ),
  ) as [Tensor, Tensor];
  const scorer = openRestorationScorer(settings);
  const psnr = async (restored: Tensor): Promise<number> =>
    mean((await scorer.score(restored, x)).map((one) => one.psnr));
  const restored: Tensor[] = [];
  try {
    for (const [k, { name }] of CHECKPOINTS.entries()) {
      const { model } = await RESTORING.open(name);
      const restoring = openRestoring(model, settings);
      try {
        const done: Tensor[] = [];
        for (let i = 0; i < pictures; i++) {
          done.push(await drained(restoring.restoreTensor(y.sliceAxis(0, i, i + 1), { signal })));
          const total = CHECKPOINTS.length * pictures;
          yield { type: "progress", stage: "restoring", done: k * pictures + i + 1, total, note: name };
        }
        restored.push(concat(done[0]!, done.slice(1), 0));
      } finally {
        await restoring.close();
      }
    }
    const [adapted, vanilla] = restored as [Tensor, Tensor];
    const shown = (t: Tensor) => tensorToPictures(t.sliceAxis(0, 0, Math.min(SHOWN, pictures)), "unit");
    const columns = await Promise.all([y, vanilla, adapted, x].map(shown));
    const rows = columns[0]!.flatMap((_, i): Picture[] => columns.map((column) => column[i]!));
    yield {
      type: "figure",
      name: "adapted",
      caption:
        "Our own pictures, dead leaves that cover each other, with camera noise of a strength that neither network saw a truth of. Both began alike and took as many steps; one saw other noisy pictures beside, and a diffusion model that is gone now.",
      pictures: rows,
      columns: ["degraded", "not adapted", "adapted", "truth"],
      scale: 1,
    };
    return {
      did: `took camera noise from ${pictures} pictures, with an adapted network and with its twin`,
      quality: [
        {
          name: "PSNR, adapted",
          value: await psnr(adapted),
          unit: "dB",
          better: "higher",
          baseline: { name: "not adapted", value: await psnr(vanilla) },
        },
      ],
    };
  } finally {
    await scorer.close();
  }
}
