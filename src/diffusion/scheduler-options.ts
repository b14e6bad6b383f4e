/** What the schedulers of all families read alike from a configuration. */
import type { ConfigReader } from "./config-reader.ts";
import { PARAMETERIZATIONS, type Parameterization } from "./parameterization.ts";
import type { SampleOptions, Sampler } from "./sample.ts";
import type { DPMAlgorithm } from "./samplers/dpm-solver.ts";
import { type SchedulerParts, timestepLookup } from "./scheduler.ts";
import type { Levels, SchedulerOptions } from "./scheduler-levels.ts";
import { clip, dynamicThreshold } from "./threshold.ts";
import type { LevelTable } from "./timesteps.ts";

/** Makes the parts of a class from its settings. */
export type PartsOf = (c: ConfigReader, options: SchedulerOptions) => SchedulerParts;

/** A sampler with some of its options given. */
export const bind =
  <O extends SampleOptions>(sampler: Sampler<O>, given: Partial<O>): Sampler<O> =>
  (denoise, x, sigmas, options) =>
    sampler(denoise, x, sigmas, { ...given, ...options } as O);

/** What keeps guesses of the clean sample in range, if anything. */
export function clipOf(c: ConfigReader, clipByDefault = false): SchedulerParts["clip"] {
  if (c.boolean("thresholding", false)) {
    return dynamicThreshold(c.number("dynamic_thresholding_ratio", 0.995), c.number("sample_max_value", 1));
  }
  return c.boolean("clip_sample", clipByDefault) ? clip(c.number("clip_sample_range", 1)) : undefined;
}

const PREDICTIONS = ["epsilon", "sample", "v_prediction"] as const;

/** What the network predicts, of the variance-preserving parameterisations. */
export const predictionOf = (c: ConfigReader): Parameterization =>
  PARAMETERIZATIONS[c.choice("prediction_type", PREDICTIONS, "epsilon")]!;

/** Share of signal that the reference library keeps at the last timestep of a zero-SNR schedule. */
export const LEAST_ALPHA_BAR = 2 ** -24;

/** Parts of a scheduler for variance-preserving networks, given its levels. */
export function discrete(
  c: ConfigReader,
  table: LevelTable,
  levels: Levels,
  rest: Pick<SchedulerParts, "sampler"> & Partial<SchedulerParts>,
): SchedulerParts {
  const sigmas = levels.sigmas.map(Math.fround);
  return {
    name: c.name,
    space: "vp",
    sigmas,
    timesteps: levels.timesteps,
    timestepAt: timestepLookup(sigmas, levels.timesteps, table.timestepAt),
    parameterization: predictionOf(c),
    initialScale: 1,
    ...rest,
  };
}

const ALGORITHMS = ["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver", "deis"] as const;
/** Names of solver types over all families. */
export const SOLVER_TYPES = ["midpoint", "heun", "logrho", "bh1", "bh2"] as const;

/** Options that all DPM-Solvers share. Names of other families count as their equivalents, as when switching. */
export function dpmOptions(c: ConfigReader) {
  const algorithm = c.choice("algorithm_type", ALGORITHMS, "dpmsolver++");
  const solverType = c.choice("solver_type", SOLVER_TYPES, "midpoint");
  return {
    order: c.count("solver_order", 2),
    algorithm: (algorithm === "deis" ? "dpmsolver++" : algorithm) satisfies DPMAlgorithm,
    solver: solverType === "heun" ? ("heun" as const) : ("midpoint" as const),
  };
}

/** Options of a multistep run of n steps. */
export const multistepOptions = (c: ConfigReader, steps: number) => ({
  ...dpmOptions(c),
  lowerOrderFinal: c.boolean("lower_order_final", true) && steps < 15,
  eulerAtFinal: c.boolean("euler_at_final", false),
  halfCurvature: true,
});
