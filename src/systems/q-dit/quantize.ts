/** Q-DiT for a transformer of one's own: calibrated on what it draws itself, group sizes given or searched for. */
import type { Labelled } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import type { FeatureNetwork } from "../../metrics/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { linearLayers } from "../../nn/index.ts";
import { mean } from "../../study/index.ts";
import { during, type Work } from "../../work.ts";
import { openLab } from "./lab.ts";
import { bitBudget, type Groups, placeOf } from "./method.ts";
import { predictionErrors } from "./scores.ts";
import type { GroupsFound } from "./search.ts";
import { type CalibrationSettings, type Running, recordTrajectory } from "./trajectories.ts";

/** Plain data: it is kept with the codes. */
export interface OwnSearch {
  readonly population: number;
  readonly generations: number;
  /** The uniform group size whose bit operations are the budget. */
  readonly budget: number;
}

export interface OwnQuantization extends Running {
  readonly bits: { readonly weights: number; readonly activations: 8 | 16 };
  /** Sizes of the groups; absent: they are searched for. */
  readonly groups?: Groups | undefined;
  readonly search: OwnSearch;
  readonly calibration: Omit<CalibrationSettings, "batch">;
  /** With these, a search judges pictures by their distance to real ones; else predictions by their error. */
  readonly judged?:
    | { readonly judge: FeatureNetwork; readonly real: Labelled; readonly pictures: number }
    | undefined;
}

export interface OwnPacked {
  readonly packed: DiTTransformer2DModel;
  readonly groups: Groups;
  readonly found?: GroupsFound;
  /** Of the layers of the blocks, for one picture; of uniform groups of the budget as well. */
  readonly bitOperations: { readonly packed: number; readonly budget: number };
}

/** Sizes that are searched: those of the kernel that divide the inputs of every layer of the blocks. */
function spaceOf(model: DiTTransformer2DModel): number[] {
  const widths = [...linearLayers(model)].filter(([key]) => placeOf(key)).map(([, l]) => l.weight.shape[1]!);
  return [16, 32, 64, 128].filter((size) => widths.every((width) => width % size === 0));
}

/** The largest batch up to 32 that divides the samples. */
const batchOf = (samples: number): number => {
  let batch = Math.min(32, samples);
  while (samples % batch !== 0) batch--;
  return batch;
};

/** Trajectories on which predictions are compared: of a seed that neither calibrates nor searches. */
const HELD_OUT = { count: 16, steps: 10 };
const SEARCHED_ON = 2000;
const CHECKED_ON = 5000;

/** Rounds a transformer by Q-DiT. Throws as calibration, GPTQ and search do, and `ArgumentError` without sizes to search. */
export async function* quantizeOwn(model: DiTTransformer2DModel, options: OwnQuantization): Work<OwnPacked> {
  const { bits, calibration, search, judged, threads, signal, scheduler } = options;
  const { seed } = calibration;
  const lab = openLab({
    ...{ model, threads, signal, scheduler, judge: judged?.judge, real: judged?.real },
    stress: { seed },
    calibration: { ...calibration, batch: batchOf(calibration.samples) },
    trajectory: { ...HELD_OUT, seed: seed + SEARCHED_ON },
  });
  let { groups } = options;
  let found: GroupsFound | undefined;
  if (groups === undefined) {
    const space = spaceOf(model);
    if (!space.includes(search.budget))
      throw new ArgumentError(`budget: expected one of ${space.join(", ")}, got ${search.budget}`);
    const settings = {
      ...{ ...search, space, seed, top: 4, mutation: 0.1, calibrations: [seed + 11, seed + 12] },
      tie: judged ? 0.05 : 0.01,
    };
    const rounding = { condition: "natural", method: "q-dit", bits, groups: search.budget } as const;
    const drawing = judged && { pictures: judged.pictures, steps: 10, guidance: 1, seeds: [seed + 3000] };
    found = yield* lab.search("searching group sizes", rounding, settings, drawing ?? "predictions");
    groups = found.best;
  }
  const packing = lab.pack({ ...bits, groups });
  const told = { type: "progress", stage: "rounding by GPTQ", done: 0, total: 1 } as const;
  const packed = yield* during(packing, () => told, 1000);
  const operations = (sizes: Groups): number => bitBudget(model, sizes, bits);
  const bitOperations = { packed: operations(groups), budget: operations(search.budget) };
  return { packed, groups, ...(found && { found }), bitOperations };
}

/** Signal to noise in dB of single predictions of another form of a model, on trajectories that took no part in making it. */
export async function checkPredictions(
  model: DiTTransformer2DModel,
  other: DiTTransformer2DModel,
  seed: number,
  running: Running,
): Promise<number> {
  const trajectory = await recordTrajectory(model, { ...HELD_OUT, seed: seed + CHECKED_ON }, running);
  return mean(await predictionErrors(other, trajectory, running.threads));
}
