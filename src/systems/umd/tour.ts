/** UMD in the tour: clothes drawn by their class, and generated pictures filled in where they are hidden. */
import { type LabelledPictures, resizePicture, slicePictures } from "../../data/index.ts";
import { shapes10 } from "../../data/world/shapes10.ts";
import { extractFeatures, labelAgreement, openFeatureNetwork } from "../../metrics/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import { shippedFile } from "../shipped.ts";
import type { TourContext, TourResult } from "../tour.ts";
import { modelOf } from "./actions.ts";
import { SHAPES, toPictures } from "./data.ts";
import { reconstruct, sampleUMD, visible } from "./use.ts";

const CLOTHES = "t-shirt trouser pullover dress coat sandal shirt sneaker bag boot".split(" ");
/** The network that judges what is drawn, and its pictures' side. */
const JUDGE = { file: "checkpoints/fashion-features.safetensors", side: 28 };
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

/** Share of gray pictures that a classifier trained on real ones takes for what was asked for. */
async function rightClass(drawn: LabelledPictures, threads: number | undefined): Promise<number> {
  const { count, size, values, labels } = drawn;
  const { network } = await openFeatureNetwork(await shippedFile(JUDGE.file));
  const judged = new Float32Array(count * JUDGE.side ** 2);
  for (let i = 0; i < count; i++) {
    const data = values.subarray(i * size ** 2, (i + 1) * size ** 2);
    const one = resizePicture({ width: size, height: size, channels: 1, data }, JUDGE.side, JUDGE.side);
    judged.set(one.data, i * JUDGE.side ** 2);
  }
  return labelAgreement(await extractFeatures(network, judged, count, threads), labels!);
}

/** Draws, fills in, measures, shows. */
export async function* tourUMD(
  { seed, threads, signal }: TourContext,
  size: Partial<UMDTourSize> = {},
): Work<TourResult> {
  const { perClass, steps, filled: count } = { ...SIZE, ...size };
  const drawn = perClass * CLOTHES.length;
  const drawing = { count: drawn, steps, seed, guidance: GUIDANCE, threads, signal };
  const run = sampleUMD(await modelOf("fashion"), drawing);
  const samples = yield* told(run, ({ step, steps: total }): WorkEvent => {
    return { type: "progress", stage: "drawing", done: step, total };
  });
  const right = await rightClass(samples, threads);
  yield {
    type: "figure",
    name: "samples",
    caption: `Clothes from noise, ${perClass} of each class, guidance ${GUIDANCE}, ${steps} strides. A classifier trained on real ones takes ${Math.round(100 * right)} % for what was asked for; chance is 10 %.`,
    pictures: await toPictures(samples),
    columns: CLOTHES,
    scale: 3,
  };
  const model = await modelOf("shapes");
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
    did: `drew ${drawn} pieces of clothing by their class, and filled in ${count} pictures of which ${100 * HIDDEN} % was hidden`,
    quality: [
      {
        ...{ name: "right class", value: right, better: "higher" },
        baseline: { name: "chance", value: 1 / CLOTHES.length },
      },
      { name: "squared error where hidden", value: error, better: "lower", baseline },
    ],
  };
}
