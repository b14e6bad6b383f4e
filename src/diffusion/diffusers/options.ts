/** Settings that all families of schedulers read in the same way. */

import { COUNT, type Fields, FLAG, NUMBER, oneOf } from "../../io/fields.ts";
import { clip, dynamicThreshold } from "../dynamic-threshold.ts";
import { flowPredictionAtRatio, PARAMETERIZATIONS, type Parameterization } from "../parameterization.ts";
import type { SampleOptions, Sampler } from "../sample.ts";
import type { DPMAlgorithm } from "../samplers/dpm-solver.ts";
import { type SchedulerParts, timestepLookup } from "../scheduler.ts";
import { flowOfRatio, ratioOfFlow } from "../sigmas.ts";
import type { LevelTable } from "../spacing.ts";
import type { Levels, SchedulerOptions } from "./levels.ts";

/** Makes the parts of a class from its settings. */
export type PartsOf = (c: Fields, options: SchedulerOptions) => SchedulerParts;

/** A sampler with some of its options given. */
export const bind =
  <O extends SampleOptions>(sampler: Sampler<O>, given: Partial<O>): Sampler<O> =>
  (denoise, x, sigmas, options) =>
    sampler(denoise, x, sigmas, { ...given, ...options } as O);

/** The configured clipping or thresholding of the predicted clean sample, if any. */
export function clipOf(c: Fields, clipByDefault = false): SchedulerParts["clip"] {
  if (c.value("thresholding", FLAG, false)) {
    return dynamicThreshold(
      c.value("dynamic_thresholding_ratio", NUMBER, 0.995),
      c.value("sample_max_value", NUMBER, 1),
    );
  }
  return c.value("clip_sample", FLAG, clipByDefault)
    ? clip(c.value("clip_sample_range", NUMBER, 1))
    : undefined;
}

const PREDICTIONS = ["epsilon", "sample", "v_prediction"] as const;

/** What the network predicts, of the variance-preserving parameterisations. */
export const predictionOf = (c: Fields): Parameterization =>
  PARAMETERIZATIONS[c.value("prediction_type", oneOf(...PREDICTIONS), "epsilon")]!;

/** Share of signal that diffusers keeps at the last timestep of a zero-SNR schedule. */
export const LEAST_ALPHA_BAR = 2 ** -24;

/** Parts of a scheduler for variance-preserving networks, given its levels. */
export function discrete(
  c: Fields,
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
export function dpmOptions(c: Fields) {
  const algorithm = c.value("algorithm_type", oneOf(...ALGORITHMS), "dpmsolver++");
  const solverType = c.value("solver_type", oneOf(...SOLVER_TYPES), "midpoint");
  return {
    order: c.value("solver_order", COUNT, 2),
    algorithm: (algorithm === "deis" ? "dpmsolver++" : algorithm) satisfies DPMAlgorithm,
    solver: solverType === "heun" ? ("heun" as const) : ("midpoint" as const),
  };
}

/** Options of a multistep run of n steps. */
export const multistepOptions = (c: Fields, steps: number) => ({
  ...dpmOptions(c),
  lowerOrderFinal: c.value("lower_order_final", FLAG, true) && steps < 15,
  eulerAtFinal: c.value("euler_at_final", FLAG, false),
  halfCurvature: true,
});

/** Parts of a scheduler that solves over ratios of noise to signal, from its flow times in [0, 1]. */
export function flowRatioParts(flow: readonly number[], timesteps: number[], trained: number) {
  const ratios = flow.map(ratioOfFlow);
  return {
    space: "flow-ratio" as const,
    sigmas: ratios,
    timesteps,
    timestepAt: timestepLookup(ratios, timesteps, (ratio) => flowOfRatio(ratio) * trained),
    parameterization: flowPredictionAtRatio,
    initialScale: 1,
  };
}
