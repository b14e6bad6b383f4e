/** UMD in the tour: shapes drawn by their class, and generated pictures filled in where they are hidden. */
import { tensorToPictures } from "../../../data/index.ts";
import { type LabelledPictures, slicePictures, tensorOf } from "../../../data/picture-set.ts";
import { SHAPE_NAMES, shapes10 } from "../../../data/world/shapes10.ts";
import type { Picture } from "../../../io/index.ts";
import type { TourContext, TourEvent, TourResult } from "../../tour.ts";
import { reconstruct } from "../features.ts";
import { sampleUMD } from "../sample.ts";
import { openModel } from "./common.ts";

/** Number of the first test picture. */
const FIRST = 1_000_000;
const GUIDANCE = 2;
const HIDDEN = 0.75;

export interface UMDTourSize {
  /** Drawn for every class. */
  readonly perClass: number;
  /** Strides of the sampler. */
  readonly steps: number;
  /** Pictures that are filled in. */
  readonly filled: number;
}

const SIZE: UMDTourSize = { perClass: 4, steps: 50, filled: 256 };
const SHOWN = 10;

const picturesOf = (pictures: LabelledPictures): Promise<Picture[]> => tensorToPictures(tensorOf(pictures));

/** What of the pictures was not hidden, the rest gray. */
function visible(pictures: LabelledPictures, hidden: Float32Array): LabelledPictures {
  const plane = pictures.size ** 2;
  const values = pictures.values.map((v, at) => {
    const sample = Math.floor(at / (plane * pictures.channels));
    return hidden[sample * plane + (at % plane)] === 1 ? 0 : v;
  });
  return { ...pictures, values };
}

/** Draws, fills in, measures, shows. */
export async function* tourUMD(
  { seed, threads, signal }: TourContext,
  size: Partial<UMDTourSize> = {},
): AsyncGenerator<TourEvent, TourResult> {
  const { perClass, steps, filled: count } = { ...SIZE, ...size };
  const { model } = await openModel("shapes");
  const drawn = perClass * SHAPE_NAMES.length;
  const run = sampleUMD(model, {
    count: drawn,
    steps,
    seed,
    guidance: GUIDANCE,
    ...(threads && { threads }),
    ...(signal && { signal }),
  });
  for (;;) {
    const { done, value } = await run.next();
    if (!done) {
      yield { type: "progress", stage: "drawing", done: value.step, total: value.steps + 1 };
      continue;
    }
    yield {
      type: "figure",
      name: "samples",
      caption: `Drawn from noise, ${perClass} of each class, guidance ${GUIDANCE}, ${steps} strides.`,
      pictures: await picturesOf(value),
      columns: SHAPE_NAMES,
      scale: 3,
    };
    break;
  }
  const pictures = shapes10({ seed, first: FIRST, count, size: model.config.size });
  const { filled, hidden, error, meanColourError } = await reconstruct(model, pictures, {
    ratio: HIDDEN,
    seed,
    ...(threads && { threads }),
  });
  const few = (all: LabelledPictures): Promise<Picture[]> => picturesOf(slicePictures(all, 0, SHOWN));
  const rows = await Promise.all(
    [pictures, visible(pictures, hidden), { ...pictures, values: filled }].map(few),
  );
  yield {
    type: "figure",
    name: "filled-in",
    caption: `Generated pictures that training has not seen; what is left when ${100 * HIDDEN} % of the patches are hidden; and the model's guess of the rest.`,
    pictures: rows.flat(),
    columns: rows[0]!.length,
    rows: ["picture", "visible", "filled in"],
    scale: 3,
  };
  return {
    did: `drew ${drawn} shapes by their class, and filled in ${count} pictures of which ${100 * HIDDEN} % was hidden`,
    quality: [
      {
        name: "squared error where hidden",
        value: error,
        better: "lower",
        baseline: { name: "mean visible colour", value: meanColourError },
      },
    ],
  };
}
