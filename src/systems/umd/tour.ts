/** UMD in the tour: shapes drawn by their class, and generated pictures filled in where they are hidden. */
import { slicePictures } from "../../data/index.ts";
import { SHAPE_NAMES, shapes10 } from "../../data/world/shapes10.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import type { TourContext, TourResult } from "../tour.ts";
import { modelOf } from "./actions.ts";
import { SHAPES, toPictures } from "./data.ts";
import { reconstruct, sampleUMD, visible } from "./use.ts";

const GUIDANCE = 2;
const HIDDEN = 0.75;
const SHOWN = 10;

export interface UMDTourSize {
  /** Drawn for every class. */
  readonly perClass: number;
  /** Strides of the sampler. */
  readonly steps: number;
  /** Pictures that are filled in. */
  readonly filled: number;
}

const SIZE: UMDTourSize = { perClass: 4, steps: 50, filled: 256 };

/** Draws, fills in, measures, shows. */
export async function* tourUMD(
  { seed, threads, signal }: TourContext,
  size: Partial<UMDTourSize> = {},
): Work<TourResult> {
  const { perClass, steps, filled: count } = { ...SIZE, ...size };
  const model = await modelOf("shapes");
  const drawn = perClass * SHAPE_NAMES.length;
  const run = sampleUMD(model, { count: drawn, steps, seed, guidance: GUIDANCE, threads, signal });
  const samples = yield* told(run, ({ step, steps: total }): WorkEvent => {
    return { type: "progress", stage: "drawing", done: step, total };
  });
  yield {
    type: "figure",
    name: "samples",
    caption: `Drawn from noise, ${perClass} of each class, guidance ${GUIDANCE}, ${steps} strides.`,
    pictures: await toPictures(samples),
    columns: SHAPE_NAMES,
    scale: 3,
  };
  const pictures = shapes10({ seed, first: SHAPES.test.first, count, size: model.config.size });
  const { filled, hidden, error, meanColourError } = await reconstruct(model, pictures, {
    ...{ ratio: HIDDEN, seed, threads, signal },
  });
  const sets = [pictures, visible(pictures, hidden), { ...pictures, values: filled }];
  const rows = await Promise.all(sets.map((set) => toPictures(slicePictures(set, 0, SHOWN))));
  yield {
    type: "figure",
    name: "filled-in",
    caption: `Generated pictures that training has not seen; what is left when ${100 * HIDDEN} % of the patches are hidden; and the model's guess of the rest.`,
    pictures: rows.flat(),
    columns: rows[0]!.length,
    rows: ["picture", "visible", "filled in"],
    scale: 3,
  };
  const baseline = { name: "mean visible colour", value: meanColourError };
  return {
    did: `drew ${drawn} shapes by their class, and filled in ${count} pictures of which ${100 * HIDDEN} % was hidden`,
    quality: [{ name: "squared error where hidden", value: error, better: "lower", baseline }],
  };
}
