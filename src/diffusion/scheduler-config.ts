/**
 * `scheduler_config.json` of the reference library: class names and settings become a sampler, levels and a
 * parameterisation. Class names are looked up in a table and never imported.
 */
import { ArgumentError, FormatError } from "../errors.ts";
import { ConfigReader, type SchedulerConfig } from "./config-reader.ts";
import { flowPrediction, flowPredictionAtRatio, type Parameterization } from "./parameterization.ts";
import type { Sampler } from "./sample.ts";
import { ddim, ddimInversion, ddpm } from "./samplers/ancestral.ts";
import { consistency, tcd } from "./samplers/consistency.ts";
import { euler, heun } from "./samplers/euler.ts";
import { plms, pndm } from "./samplers/multistep.ts";
import { createScheduler, type Scheduler, type SchedulerParts, timestepLookup } from "./scheduler.ts";
import { CONTINUOUS_SCHEDULERS } from "./scheduler-continuous.ts";
import {
  flowMatchLevels,
  runTimesteps,
  type SchedulerOptions,
  spacingOf,
  trainingTable,
} from "./scheduler-levels.ts";
import { bind, clipOf, discrete, type PartsOf, predictionOf } from "./scheduler-options.ts";
import { SIGMA_SCHEDULERS } from "./scheduler-sigma.ts";
import { ratioOfFlow } from "./sigmas.ts";
import { distilledTimesteps, endpointTimesteps, spacedTimesteps } from "./timesteps.ts";

/** DDIM, PNDM: evenly spaced timesteps, each a fixed stride from the timestep it leads to. */
function strided(c: ConfigReader, options: SchedulerOptions, alphaToOne: boolean) {
  const table = trainingTable(c);
  const trained = table.sigmas.length;
  const { steps } = options;
  const spacing = { trained, offset: c.number("steps_offset", 0) };
  const timesteps = runTimesteps(c, table, options, () =>
    spacedTimesteps(spacingOf(c, "leading"), steps, spacing),
  );
  const end = c.boolean("set_alpha_to_one", alphaToOne) ? 0 : table.sigmas[0]!;
  const stride = Math.floor(trained / steps);
  const reached = timesteps.map((t) => (t < stride ? end : table.sigmaAt(t - stride)));
  const sigmas = [...timesteps.map(table.sigmaAt), end];
  const gaps = reached.some((sigma, i) => sigma !== sigmas[i + 1]);
  return { table, levels: { sigmas, timesteps }, stride, arrivals: gaps ? reached : undefined };
}

const ddimParts: PartsOf = (c, options) => {
  const { table, levels, arrivals } = strided(c, options, true);
  const guard = clipOf(c, true);
  const given = { eta: options.eta ?? 0, ...(guard && { clip: guard }) };
  return discrete(c, table, levels, { sampler: bind(ddim, given), ...(arrivals && { arrivals }) });
};

const ddimInverseParts: PartsOf = (c, options) => {
  const { table, levels } = strided(c, options, true);
  const sigmas = [...levels.sigmas].reverse();
  const timesteps = [...levels.timesteps].reverse();
  const parameterization = predictionOf(c);
  const guard = clipOf(c, true);
  const given = { parameterization, ...(guard && { clip: guard }) };
  const parts = discrete(c, table, { sigmas, timesteps }, { sampler: bind(ddimInversion, given) });
  // The network is asked at the level a step leads to.
  return { ...parts, timestepAt: timestepLookup(parts.sigmas.slice(1), timesteps, table.timestepAt) };
};

const pndmParts: PartsOf = (c, options) => {
  const { table, levels, stride } = strided(c, options, false);
  const middleStride = Math.floor(stride / 2);
  const middle = (sigma: number): number => table.sigmaAt(Math.round(table.timestepAt(sigma)) - middleStride);
  const given = { parameterization: predictionOf(c), middle };
  const sampler = c.boolean("skip_prk_steps", false) ? plms : pndm;
  const between = (sigma: number): number => Math.round(table.timestepAt(sigma));
  const timestepAt = timestepLookup(levels.sigmas, levels.timesteps, between);
  return discrete(c, table, levels, { sampler: bind(sampler, given), timestepAt });
};

const VARIANCES = {
  fixed_small: "small",
  fixed_small_log: "small",
  fixed_large: "large",
  fixed_large_log: "large",
} as const;
const VARIANCE_TYPES = [
  "fixed_small",
  "fixed_small_log",
  "fixed_large",
  "fixed_large_log",
  "learned",
  "learned_range",
] as const;

/** The sampler of DDPM with the configured variance. */
function posterior(c: ConfigReader, fallback: (typeof VARIANCE_TYPES)[number]) {
  const type = c.choice("variance_type", VARIANCE_TYPES, fallback);
  const guard = clipOf(c, true);
  return {
    ...(guard && { clip: guard }),
    ...(type === "learned"
      ? { sampler: ddpm, learnedVariance: "log" as const }
      : type === "learned_range"
        ? { sampler: ddpm, learnedVariance: "range" as const }
        : { sampler: bind(ddpm, { variance: VARIANCES[type] }) }),
  };
}

const ddpmParts: PartsOf = (c, options) => {
  const table = trainingTable(c);
  const spacing = { trained: table.sigmas.length, offset: c.number("steps_offset", 0) };
  const timesteps = runTimesteps(c, table, options, () =>
    spacedTimesteps(spacingOf(c, "leading"), options.steps, spacing),
  );
  const sigmas = [...timesteps.map(table.sigmaAt), 0];
  return discrete(c, table, { sigmas, timesteps }, posterior(c, "fixed_small"));
};

const unclipParts: PartsOf = (c, options) => {
  const table = trainingTable(c, { schedule: "squaredcos_cap_v2" });
  const timesteps = runTimesteps(c, table, options, () =>
    endpointTimesteps(options.steps, table.sigmas.length),
  );
  const sigmas = [...timesteps.map(table.sigmaAt), 0];
  return discrete(c, table, { sigmas, timesteps }, posterior(c, "fixed_small_log"));
};

/** Timesteps that a distilled network knows. */
function distilled(c: ConfigReader, options: SchedulerOptions) {
  const table = trainingTable(c, { start: 0.00085, end: 0.012, schedule: "scaled_linear" });
  const trained = table.sigmas.length;
  const known = c.count("original_inference_steps", 50);
  const timesteps = runTimesteps(c, table, options, () => distilledTimesteps(options.steps, known, trained));
  return { table, timesteps };
}

const lcmParts: PartsOf = (c, options) => {
  const { table, timesteps } = distilled(c, options);
  const scaling = c.number("timestep_scaling", 10);
  const parts = discrete(
    c,
    table,
    { sigmas: [...timesteps.map(table.sigmaAt), 0], timesteps },
    { sampler: consistency },
  );
  const inner = parts.parameterization;
  const guard = clipOf(c);
  if (guard) throw c.wrong("clip_sample, thresholding", "off for latent consistency models", true);
  // Boundary condition of Luo et al. 2023, eq. 9, in scaled timesteps and with a data deviation of 1/2.
  const parameterization: Parameterization = (sigma) => {
    const t = parts.timestepAt(sigma) * scaling;
    const { input, skip, output } = inner(sigma);
    const keep = 0.25 / (t * t + 0.25);
    const use = t / Math.sqrt(t * t + 0.25);
    return { input, skip: use * skip + keep * input, output: use * output };
  };
  return { ...parts, parameterization };
};

const tcdParts: PartsOf = (c, options) => {
  const { table, timesteps } = distilled(c, options);
  const sigmas = [...timesteps.map(table.sigmaAt), table.sigmas[0]!];
  const target = (next: number, eta: number): number =>
    table.sigmaAt(Math.floor((1 - eta) * Math.round(table.timestepAt(next))));
  const guard = clipOf(c);
  const sampler = bind(tcd, { eta: options.eta ?? 0.3, target });
  return discrete(c, table, { sigmas, timesteps }, { sampler, ...(guard && { clip: guard }) });
};

const flowMatch =
  (sampler: Sampler): PartsOf =>
  (c, options) => {
    const { sigmas: levels, timesteps } = flowMatchLevels(c, options);
    if (c.boolean("invert_sigmas", false)) throw c.wrong("invert_sigmas", "false: it is not supported", true);
    const flow = [...levels, 0].map(Math.fround);
    const trained = c.count("num_train_timesteps", 1000);
    if (!c.boolean("stochastic_sampling", false)) {
      return {
        name: c.name,
        sampler,
        space: "flow",
        sigmas: flow,
        timesteps,
        timestepAt: timestepLookup(flow, timesteps, (s) => s * trained),
        parameterization: flowPrediction,
        initialScale: 1,
      };
    }
    const ratios = flow.map(ratioOfFlow);
    return {
      name: c.name,
      sampler: consistency,
      space: "flow-ratio",
      sigmas: ratios,
      timesteps,
      timestepAt: timestepLookup(ratios, timesteps, (r) => (r / (1 + r)) * trained),
      parameterization: flowPredictionAtRatio,
      initialScale: 1,
    };
  };

const SCHEDULERS: Readonly<Record<string, PartsOf>> = {
  DDIMScheduler: ddimParts,
  DDIMParallelScheduler: ddimParts,
  DDIMInverseScheduler: ddimInverseParts,
  DDPMScheduler: ddpmParts,
  DDPMParallelScheduler: ddpmParts,
  UnCLIPScheduler: unclipParts,
  PNDMScheduler: pndmParts,
  LCMScheduler: lcmParts,
  TCDScheduler: tcdParts,
  ...SIGMA_SCHEDULERS,
  FlowMatchEulerDiscreteScheduler: flowMatch(euler),
  FlowMatchHeunDiscreteScheduler: flowMatch(heun),
  ...CONTINUOUS_SCHEDULERS,
};

/** Class names that `schedulerFromConfig` knows. */
export const SCHEDULER_CLASSES: readonly string[] = Object.keys(SCHEDULERS);

/** The parts of the scheduler that a configuration describes. Throws as `schedulerFromConfig` does. */
export function schedulerParts(config: SchedulerConfig, options: SchedulerOptions): SchedulerParts {
  const name = config._class_name;
  if (typeof name !== "string" || !Object.hasOwn(SCHEDULERS, name)) {
    throw new FormatError(
      `unknown scheduler class ${JSON.stringify(name)}; known are ${SCHEDULER_CLASSES.join(", ")}`,
    );
  }
  if (!Number.isInteger(options.steps) || options.steps < 1) {
    throw new ArgumentError(`the number of steps must be a positive integer, got ${options.steps}`);
  }
  return SCHEDULERS[name]!(new ConfigReader(config, name), options);
}

/**
 * The scheduler that a parsed `scheduler_config.json` describes, for a run of so many steps. Throws `FormatError` for
 * an unknown class, which lists the known ones, and for a setting of the wrong kind; `ArgumentError` for settings that
 * make no schedule.
 */
export const schedulerFromConfig = (config: SchedulerConfig, options: SchedulerOptions): Scheduler =>
  createScheduler(schedulerParts(config, options));
