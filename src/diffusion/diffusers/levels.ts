/** Levels and timesteps as diffusers' schedulers choose them. */
import { ArgumentError } from "../../errors.ts";
import { ANY_NUMBER, COUNT, type Fields, FLAG, maybeEmptyListOf, NUMBER, oneOf } from "../../io/fields.ts";
import {
  alphasCumprod,
  type BetaScheduleName,
  betas,
  checkBetas,
  linspace32,
  rescaleZeroTerminalSnr,
  trainingSigmas,
} from "../betas.ts";
import {
  betaDistributionSigmas,
  exponentialSigmas,
  flowOfRatio,
  karrasSigmas,
  luSigmas,
  shiftFlow,
  stretchToTerminal,
} from "../sigmas.ts";
import {
  type LevelTable,
  levelTable,
  linspace,
  roundHalfEven,
  solverTimesteps,
  spacedTimesteps,
} from "../spacing.ts";

/** What a run asks of a configuration. */
export interface SchedulerOptions {
  /** Number of steps. */
  readonly steps: number;
  /** Custom timesteps, falling, instead of evenly spaced ones; `steps` must be their number. */
  readonly timesteps?: readonly number[];
  /** Fresh noise of DDIM (default 0) and TCD (default 0.3). */
  readonly eta?: number;
  /** Shift of flow levels that depends on the picture's size; see `dynamicShift`. */
  readonly mu?: number;
}

/** Noise levels (with the final level where the family has one) and the timesteps that the network is given. */
export interface Levels {
  sigmas: number[];
  timesteps: number[];
}

const SPACINGS = ["leading", "trailing", "linspace"] as const;
const BETA_SCHEDULES: readonly BetaScheduleName[] = [
  "linear",
  "scaled_linear",
  "squaredcos_cap_v2",
  "sigmoid",
  "exp",
  "laplace",
];
const KINDS = ["karras", "exponential", "beta", "lu", "flow"] as const;
const KEYS = {
  karras: "use_karras_sigmas",
  exponential: "use_exponential_sigmas",
  beta: "use_beta_sigmas",
  lu: "use_lu_lambdas",
  flow: "use_flow_sigmas",
};
type Kind = (typeof KINDS)[number];

/** The kind of noise levels that is configured, apart from flow. Throws when there are several. */
function kindOf(c: Fields): Exclude<Kind, "flow"> | undefined {
  const asked = KINDS.filter((k) => k !== "flow" && c.value(KEYS[k], FLAG, false));
  if (asked.length > 1) {
    throw new ArgumentError(`configuration of ${c.name}: only one of ${asked.map((k) => KEYS[k])} can hold`);
  }
  return asked[0] as Exclude<Kind, "flow"> | undefined;
}

/** A level list of a kind between two levels. */
function levelsOfKind(kind: Exclude<Kind, "flow">, n: number, min: number, max: number): number[] {
  const make = {
    karras: karrasSigmas,
    exponential: exponentialSigmas,
    beta: betaDistributionSigmas,
    lu: luSigmas,
  };
  return make[kind](n, { min, max });
}

/** Cumulative products of alphas of a configuration, and whether the last one is 0. */
export function barsOf(
  c: Fields,
  defaults: { start?: number; end?: number; schedule?: BetaScheduleName } = {},
): { bars: Float32Array; zeroSnr: boolean } {
  const timesteps = c.value("num_train_timesteps", COUNT, 1000);
  const trained = c.optional("trained_betas", maybeEmptyListOf(NUMBER));
  const plain = trained
    ? checkBetas(Float32Array.from(trained))
    : betas({
        schedule: c.value("beta_schedule", oneOf(...BETA_SCHEDULES), defaults.schedule ?? "linear"),
        start: c.value("beta_start", NUMBER, defaults.start ?? 1e-4),
        end: c.value("beta_end", NUMBER, defaults.end ?? 0.02),
        timesteps,
      });
  const zeroSnr = c.value("rescale_betas_zero_snr", FLAG, false);
  return { bars: alphasCumprod(zeroSnr ? rescaleZeroTerminalSnr(plain) : plain), zeroSnr };
}

/** The training levels of a configuration. `least` replaces a last share of signal of exactly zero. */
export function trainingTable(
  c: Fields,
  defaults: Parameters<typeof barsOf>[1] = {},
  least?: number,
): LevelTable {
  const { bars, zeroSnr } = barsOf(c, defaults);
  if (zeroSnr && least) {
    // diffusers' value can exceed the last but one; levels must not fall.
    bars[bars.length - 1] = Math.min(least, (bars[bars.length - 2] ?? 1) / 2);
  }
  return levelTable(trainingSigmas(bars));
}

/** The spacing of a configuration. */
export const spacingOf = (c: Fields, fallback: (typeof SPACINGS)[number]) =>
  c.value("timestep_spacing", oneOf(...SPACINGS), fallback);

/** Timesteps of a run: spaced as configured, or the custom ones, checked. */
export function runTimesteps(
  c: Fields,
  table: LevelTable,
  options: SchedulerOptions,
  spaced: () => number[],
): number[] {
  const { timesteps, steps } = options;
  if (!timesteps) return spaced();
  const trained = table.sigmas.length;
  if (timesteps.length !== steps) {
    throw new ArgumentError(`${c.name}: expected ${steps} timesteps, got ${timesteps.length}`);
  }
  timesteps.forEach((t, i) => {
    if (!(t >= 0 && t < trained && (i === 0 || t < timesteps[i - 1]!))) {
      throw new ArgumentError(
        `${c.name}: timesteps must fall within ${trained - 1} ... 0, got [${timesteps}]`,
      );
    }
  });
  return [...timesteps];
}

/** Levels of the schedulers after k-diffusion (Euler, Heun, LMS, DPM2): fractional timesteps, without the end. */
export function pointLevels(
  c: Fields,
  table: LevelTable,
  options: SchedulerOptions,
  { roundKarras = false } = {},
): Levels {
  const trained = table.sigmas.length;
  const { steps } = options;
  const spacing = { trained, offset: c.value("steps_offset", NUMBER, 0), fractional: true };
  const timesteps = runTimesteps(c, table, options, () =>
    spacedTimesteps(spacingOf(c, "linspace"), steps, spacing),
  );
  const sigmas = timesteps.map(table.sigmaAt);
  const kind = kindOf(c);
  if (!kind || steps === 1) return { sigmas, timesteps };
  const min = c.value("sigma_min", NUMBER, sigmas[steps - 1]!);
  const levels = levelsOfKind(kind, steps, min, c.value("sigma_max", NUMBER, sigmas[0]!));
  const round = kind === "karras" && roundKarras ? roundHalfEven : (t: number) => t;
  return { sigmas: levels, timesteps: levels.map((s) => round(table.timestepAt(s))) };
}

/** Euler's "log_linear" interpolation: its own levels, the last of them being the end. */
export function logLinearLevels(table: LevelTable, steps: number): number[] {
  const { sigmas } = table;
  const ends = [sigmas[sigmas.length - 1]!, sigmas[0]!].map((s) => Math.fround(Math.log(s)));
  return Array.from(linspace32(ends[0]!, ends[1]!, steps + 1), Math.exp);
}

/** How the families of DPM-Solver, UniPC, DEIS and SA-Solver differ. */
export interface SolverFamily {
  /** Where the last step ends: as configured (the default given), or at the least level there is. */
  readonly final: "zero" | "sigma_min" | "least";
  /** "table": sigma_min is training's least level; "last": the schedule's last, for levels of a kind. */
  readonly least: "table" | "last";
  /** The class has no `timestep_spacing`: its timesteps are evenly spaced whatever a configuration says. */
  readonly evenly?: boolean;
  /** Exactly spaced flow levels from pure noise, as UniPC has them. */
  readonly flowFromNoise?: boolean;
}

/** Levels of the solvers in lambda, with the end; integer timesteps. Flow levels are flow times. */
export function solverLevels(
  c: Fields,
  table: LevelTable,
  options: SchedulerOptions,
  family: SolverFamily,
): Levels {
  const { steps } = options;
  const { sigmas: training } = table;
  const trained = training.length;
  const [least, greatest] = [training[0]!, training[trained - 1]!];
  const final = family.final === "least" ? "sigma_min" : finalOf(c, family.final);
  const end = (levels: readonly number[], special: boolean): number => {
    if (final === "zero") return 0;
    return special && family.least === "last" ? levels[levels.length - 1]! : least;
  };
  const flow = c.value(KEYS.flow, FLAG, false);
  const kind = kindOf(c);
  if (kind) {
    const levels = levelsOfKind(
      kind,
      steps,
      c.value("sigma_min", NUMBER, least),
      c.value("sigma_max", NUMBER, greatest),
    );
    if (flow) return flowTimes([...levels, end(levels, true)].map(flowOfRatio), trained);
    const cosine = c.raw("beta_schedule") === "squaredcos_cap_v2";
    const rounds = kind === "karras" || kind === "lu";
    const round = rounds && !(cosine && family.least === "table") ? roundHalfEven : Math.floor;
    const timesteps = levels.map((s) => round(table.timestepAt(s)));
    return { sigmas: [...levels, end(levels, true)], timesteps };
  }
  if (flow) {
    const levels = flowLevels(c, steps, trained, options, family.flowFromNoise ?? false);
    return flowTimes([...levels, end(levels, true)], trained);
  }
  const last =
    trained - clippedCount(training, c.value("lambda_min_clipped", ANY_NUMBER, Number.NEGATIVE_INFINITY));
  const timesteps = runTimesteps(c, table, options, () =>
    solverTimesteps(family.evenly ? "linspace" : spacingOf(c, "linspace"), steps, {
      trained,
      last,
      offset: c.value("steps_offset", NUMBER, 0),
    }),
  );
  const levels = timesteps.map(table.sigmaAt);
  return { sigmas: [...levels, end(levels, false)], timesteps };
}

/** Whether a run ends at the clean sample or at the least level of training. */
export const finalOf = (c: Fields, fallback: "zero" | "sigma_min"): "zero" | "sigma_min" =>
  c.value("final_sigmas_type", oneOf("zero", "sigma_min"), fallback);

/** Number of the noisiest levels whose lambda = -log sigma lies below a bound. */
export const clippedCount = (training: Float32Array, lambdaMin: number): number =>
  training.reduce((n, sigma) => (-Math.log(sigma) < lambdaMin ? n + 1 : n), 0);

const flowTimes = (sigmas: number[], trained: number): Levels => ({
  sigmas,
  timesteps: sigmas.slice(0, -1).map((s) => Math.floor(s * trained)),
});

/** The shift of a configuration's flow levels: fixed, or given for the picture at hand. */
export function flowShift(c: Fields, options: SchedulerOptions, key: string): (sigma: number) => number {
  const { mu } = options;
  if (!c.value("use_dynamic_shifting", FLAG, false)) {
    const shift = mu === undefined ? c.value(key, NUMBER, 1) : Math.exp(mu);
    return (sigma) => shiftFlow(sigma, shift);
  }
  if (mu === undefined) {
    throw new ArgumentError(`${c.name}: use_dynamic_shifting needs the picture's shift as options.mu`);
  }
  const shift =
    c.value("time_shift_type", oneOf("exponential", "linear"), "exponential") === "linear"
      ? mu
      : Math.exp(mu);
  return (sigma) => shiftFlow(sigma, shift);
}

/** Flow levels of the solvers in lambda: shifted, the first a little below 1. */
function flowLevels(
  c: Fields,
  steps: number,
  trained: number,
  options: SchedulerOptions,
  fromNoise: boolean,
): number[] {
  const shift = flowShift(c, options, "flow_shift");
  if (!fromNoise) {
    const rising = linspace(1, 1 / trained, steps + 1).map((a) => shift(1 - a));
    return rising.reverse().slice(0, -1);
  }
  const falling = linspace(1, 1 / trained, steps + 1)
    .slice(0, -1)
    .map(shift);
  const terminal = c.value("shift_terminal", NUMBER, 0);
  const levels = terminal ? stretchToTerminal(falling, terminal) : falling;
  if (Math.abs(levels[0]! - 1) < 1e-6) levels[0]! -= 1e-6;
  return levels;
}

/** Levels of flow matching (Euler, Heun): times from 1 down, without the end. */
export function flowMatchLevels(c: Fields, options: SchedulerOptions): Levels {
  const { steps } = options;
  const trained = c.value("num_train_timesteps", COUNT, 1000);
  const shift = flowShift(c, options, "shift");
  const least = c.value("use_dynamic_shifting", FLAG, false)
    ? 1 / trained
    : shiftFlow(1 / trained, c.value("shift", NUMBER, 1));
  const own = options.timesteps?.map((t) => t / trained);
  const even = linspace(1, least, steps);
  const shifted = (own ?? even).map(shift);
  const terminal = c.value("shift_terminal", NUMBER, 0);
  const stretched = terminal ? stretchToTerminal(shifted, terminal) : shifted;
  const kind = kindOf(c);
  const sigmas =
    kind && steps > 1 ? levelsOfKind(kind, steps, stretched[steps - 1]!, stretched[0]!) : stretched;
  return { sigmas, timesteps: sigmas.map((s) => Math.fround(Math.fround(s) * trained)) };
}
