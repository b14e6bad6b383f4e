/** The tour: pictures of two blocks taken apart, drawn again, and mixed with the next one. */
import { tensorOf } from "../../data/index.ts";
import type { Picture } from "../../io/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import type { TourContext, TourResult } from "../tour.ts";
import { dataVariance, madeSet } from "./data.ts";
import { modelOf, shown } from "./run.ts";
import { floorsOf, halfMask, rolled, scoresOf } from "./scores.ts";
import { apart, mixed, openDecomposer, type Pick, whole } from "./use.ts";

export interface DecompTourSize {
  /** Pictures that are measured, of which the first are shown. */
  readonly pictures: number;
  readonly steps: number;
}

const SIZE: DecompTourSize = { pictures: 24, steps: 20 };
const SHOWN = 8;

/** Takes apart, measures, shows. */
export async function* tourDecomp(
  { seed, threads, signal }: TourContext,
  size: Partial<DecompTourSize> = {},
): Work<TourResult> {
  const { pictures: count, steps } = { ...SIZE, ...size };
  const model = await modelOf("blocks");
  const { size: side, components: k } = model.config;
  const set = await madeSet("blocks2", "test", side, count);
  const decomposer = openDecomposer([model], { threads });
  const seeds = Array.from({ length: count }, (_, i) => seed * 1000 + i);
  let finished = 0;
  async function* draw(picks: readonly Pick[], own: readonly number[]): Work<Float32Array> {
    const values = yield* told(
      decomposer.compose(picks, { steps, seeds: own, batch: 256, signal }),
      ({ step }): WorkEvent => {
        return { type: "progress", stage: "taking apart", done: finished + step, total: 3 * steps };
      },
    );
    finished += steps;
    return values.map((v) => Math.min(1, Math.max(0, v)));
  }
  try {
    const latents = await decomposer.encode(tensorOf(set.pictures));
    const reconstruction = yield* draw([whole(latents)], seeds);
    const components = yield* draw(
      [apart(latents)],
      seeds.flatMap((one) => Array.from({ length: k }, () => one)),
    );
    const mixtures = yield* draw(mixed(latents, rolled(latents), halfMask(k)), seeds);
    const scores = scoresOf({ latents, reconstruction, components, mixtures }, set);
    const floor = floorsOf(set);
    const rows = await Promise.all(
      [set.pictures.values, components, reconstruction, mixtures].map((values) => shown(values, side)),
    );
    yield figure(rows as [Picture[], Picture[], Picture[], Picture[]], k);
    return {
      did: `took ${count} pictures of two blocks apart, without ever having seen a label, and mixed their parts`,
      quality: [
        {
          ...{ name: "component mIoU", value: scores.miou!, better: "higher" },
          baseline: { name: "all blocks in both", value: floor.whole },
        },
        {
          name: "overlap of components",
          value: scores.overlap!,
          better: "lower",
          baseline: { name: "all blocks in both", value: 1 },
        },
        {
          ...{ name: "squared error", value: scores.error, better: "lower" },
          baseline: { name: "mean picture", value: await dataVariance(set) },
        },
      ],
    };
  } finally {
    await decomposer.close();
  }
}

/** A row for each picture: itself, what each latent draws alone, all of them, and its first with the next one's second. */
function figure(
  [pictures, components, together, mixtures]: readonly [Picture[], Picture[], Picture[], Picture[]],
  k: number,
): WorkEvent {
  const parts = Array.from({ length: k }, (_, j) => `component ${j + 1}`);
  const cells = pictures
    .slice(0, SHOWN)
    .flatMap((picture, i) => [
      ...[picture, ...components.slice(i * k, (i + 1) * k)],
      ...[together[i]!, mixtures[i]!],
    ]);
  return {
    type: "figure",
    name: "blocks",
    caption:
      "Pictures of two blocks that training has not seen; what each of their two latents draws alone; what both draw together; and the first component with the second one of the next row's picture. No label, mask or number of blocks was ever given.",
    pictures: cells,
    columns: ["picture", ...parts, "together", "with the next"],
    scale: 10,
  };
}
