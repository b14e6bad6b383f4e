/**
 * `scheduler_config.json` of diffusers: class names and settings become a sampler, levels and a parameterisation. Class
 * names are looked up in a table and never imported.
 */
import { ArgumentError, FormatError } from "../../errors.ts";
import { Fields } from "../../io/fields.ts";
import { createScheduler, type Scheduler, type SchedulerParts } from "../scheduler.ts";
import { CONTINUOUS_SCHEDULERS } from "./continuous.ts";
import { DISCRETE_SCHEDULERS } from "./discrete.ts";
import { FLOW_SCHEDULERS } from "./flow.ts";
import { barsOf, type SchedulerOptions } from "./levels.ts";
import type { PartsOf } from "./options.ts";
import { SIGMA_SCHEDULERS } from "./sigmas.ts";

const SCHEDULERS: Readonly<Record<string, PartsOf>> = {
  ...DISCRETE_SCHEDULERS,
  ...SIGMA_SCHEDULERS,
  ...FLOW_SCHEDULERS,
  ...CONTINUOUS_SCHEDULERS,
};

/** A parsed `scheduler_config.json`. */
export type SchedulerConfig = Readonly<Record<string, unknown>>;

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
  return SCHEDULERS[name]!(new Fields(name, config), options);
}

/**
 * Cumulative products of alphas that a scheduler's configuration trains with, for `alphaBarLevels`. // [T]
 *
 * @throws {FormatError | ArgumentError} for settings that cannot be; flow and sigma schedulers train otherwise
 */
export const trainingAlphaBars = (config: SchedulerConfig): Float32Array =>
  barsOf(new Fields(String(config._class_name), config)).bars;

/**
 * The scheduler that a parsed `scheduler_config.json` describes, for a run of so many steps. Throws `FormatError` for
 * an unknown class, which lists the known ones, and for a setting of the wrong kind; `ArgumentError` for settings that
 * make no schedule.
 */
export const schedulerFromConfig = (config: SchedulerConfig, options: SchedulerOptions): Scheduler =>
  createScheduler(schedulerParts(config, options));
