/** Schedulers of networks that were trained on continuous noise levels: EDM, consistency, score, iPNDM. */
import { ArgumentError } from "../../errors.ts";
import { COUNT, type Fields, FLAG, NUMBER, oneOf } from "../../io/fields.ts";
import { linspace32 } from "../betas.ts";
import { clip } from "../dynamic-threshold.ts";
import {
  consistencyPrediction,
  edmPrediction,
  type Parameterization,
  scorePrediction,
  vPrediction,
} from "../parameterization.ts";
import { consistency } from "../samplers/consistency.ts";
import { dpmSolverMultistep } from "../samplers/dpm-solver.ts";
import { euler } from "../samplers/euler.ts";
import { ipndm } from "../samplers/pndm.ts";
import { predictorCorrector } from "../samplers/predictor-corrector.ts";
import { type SchedulerParts, timestepLookup } from "../scheduler.ts";
import { exponentialSigmas, karrasSigmas, type LevelRange } from "../sigmas.ts";
import { checkSteps } from "../spacing.ts";
import { finalOf, type SchedulerOptions } from "./levels.ts";
import { bind, clipOf, multistepOptions, type PartsOf } from "./options.ts";

/** Defaults in which the classes with EDM's preconditioning differ. */
interface EDMDefaults {
  readonly min: number;
  readonly max: number;
  readonly kind: "karras" | "exponential";
  readonly data: number;
  readonly prediction: "epsilon" | "v_prediction";
  /** Computes the levels in f32, which shows in their sixth digit. */
  readonly single: boolean;
}

/** Levels of Karras et al. with every operation rounded to f32. */
function karrasSigmas32(steps: number, { min, max }: LevelRange, rho: number): number[] {
  const [low, high] = [min ** (1 / rho), max ** (1 / rho)];
  const range = Math.fround(low - high);
  return Array.from(linspace32(0, 1, steps), (r) => Math.fround(high + Math.fround(r * range)) ** rho);
}

/** Levels of Karras et al. or exponential ones between the configured ends. */
function edmLevels(c: Fields, steps: number, defaults: EDMDefaults) {
  const range = {
    min: c.value("sigma_min", NUMBER, defaults.min),
    max: c.value("sigma_max", NUMBER, defaults.max),
  };
  const kind = c.value("sigma_schedule", oneOf("karras", "exponential"), defaults.kind);
  const rho = c.value("rho", NUMBER, 7);
  const exact = kind === "karras" ? karrasSigmas(steps, range, rho) : exponentialSigmas(steps, range);
  const levels = kind === "karras" && defaults.single ? karrasSigmas32(steps, range, rho) : exact;
  return { levels: levels.map(Math.fround), ...range };
}

/** Parts of a scheduler with EDM's preconditioning. */
function edm(
  c: Fields,
  options: SchedulerOptions,
  rest: Pick<SchedulerParts, "sampler"> & { clip?: SchedulerParts["clip"] },
  fallback: EDMDefaults,
  timestep: (sigma: number) => number,
): SchedulerParts {
  const { levels, max, min } = edmLevels(c, options.steps, fallback);
  const velocity =
    c.value("prediction_type", oneOf("epsilon", "v_prediction"), fallback.prediction) === "v_prediction";
  const { clip: guard, sampler } = rest;
  return {
    name: c.name,
    sampler,
    space: "ve",
    sigmas: [...levels, finalOf(c, "zero") === "zero" ? 0 : Math.fround(min)],
    timesteps: levels.map(timestep),
    timestepAt: timestep,
    parameterization: edmPrediction(c.value("sigma_data", NUMBER, fallback.data), velocity ? -1 : 1),
    initialScale: Math.sqrt(max ** 2 + 1),
    ...(guard && { clip: guard }),
  };
}

const EDM: EDMDefaults = {
  min: 0.002,
  max: 80,
  kind: "karras",
  data: 0.5,
  prediction: "epsilon",
  single: false,
};
const quarterLog = (sigma: number): number => 0.25 * Math.fround(Math.log(sigma));

const edmEulerParts: PartsOf = (c, options) => edm(c, options, { sampler: euler }, EDM, quarterLog);

const edmDpmParts: PartsOf = (c, options) =>
  edm(
    c,
    options,
    { sampler: bind(dpmSolverMultistep, multistepOptions(c, options.steps)), clip: clipOf(c) },
    { ...EDM, single: true },
    quarterLog,
  );

const cosineDpmParts: PartsOf = (c, options) => {
  const given = { ...multistepOptions(c, options.steps), algorithm: "sde-dpmsolver++" } as const;
  const fallback = {
    min: 0.3,
    max: 500,
    kind: "exponential",
    data: 1,
    prediction: "v_prediction",
    single: true,
  } as const;
  const angle = (sigma: number): number => (2 / Math.PI) * Math.atan(sigma);
  return edm(c, options, { sampler: bind(dpmSolverMultistep, given) }, fallback, angle);
};

const consistencyParts: PartsOf = (c, options) => {
  const trained = c.value("num_train_timesteps", COUNT, 40);
  const { steps, timesteps: own } = options;
  checkSteps(steps, trained);
  const min = c.value("sigma_min", NUMBER, 0.002);
  const max = c.value("sigma_max", NUMBER, 80);
  const stride = Math.floor(trained / steps);
  const indices = own ?? Array.from({ length: steps }, (_, i) => (steps - 1 - i) * stride);
  if (indices.length !== steps || indices.some((t) => !(t >= 0 && t < trained))) {
    throw new ArgumentError(`${c.name}: expected ${steps} timesteps below ${trained}, got [${indices}]`);
  }
  const rho = c.value("rho", NUMBER, 7);
  const [low, high] = [min ** (1 / rho), max ** (1 / rho)];
  // Least index, most noise: diffusers lists the indices the other way round.
  const exact = [...indices].reverse().map((t) => (high + (t / (trained - 1)) * (low - high)) ** rho);
  const timestep = (sigma: number): number => 250 * Math.log(sigma + 1e-44);
  const sigmas = [...exact, min].map(Math.fround);
  const timesteps = exact.map(timestep);
  const guard = c.value("clip_denoised", FLAG, true) ? clip(1) : undefined;
  return {
    name: c.name,
    sampler: bind(consistency, { sigmaMin: Math.fround(min) }),
    space: "ve",
    sigmas,
    timesteps,
    timestepAt: timestepLookup(sigmas, timesteps, timestep),
    parameterization: consistencyPrediction(min, c.value("sigma_data", NUMBER, 0.5)),
    initialScale: max,
    ...(guard && { clip: guard }),
  };
};

const scoreParts: PartsOf = (c, { steps }) => {
  checkSteps(steps);
  const min = c.value("sigma_min", NUMBER, 0.01);
  const max = c.value("sigma_max", NUMBER, 1348);
  const falling = [...exponentialSigmas(Math.max(2, steps), { min, max })].slice(0, steps);
  const times = Array.from(linspace32(1, c.value("sampling_eps", NUMBER, 1e-5), steps));
  const sigmas = [...falling.map(Math.fround), 0];
  const timesteps = times.map((t) => Math.fround(min * (max / min) ** t));
  return {
    name: c.name,
    sampler: bind(predictorCorrector, {
      snr: c.value("snr", NUMBER, 0.15),
      correctorSteps: c.value("correct_steps", COUNT, 1),
      norms: "batch",
    }),
    space: "ve",
    sigmas,
    timesteps,
    timestepAt: timestepLookup(sigmas, timesteps, (sigma) => sigma),
    parameterization: scorePrediction,
    initialScale: max,
  };
};

/** Levels as angles: a variance-preserving sample of angle a pi / 2 has noise sin and signal cos. */
const ipndmParts: PartsOf = (c, { steps }) => {
  checkSteps(steps);
  const f32 = Math.fround;
  const noise = Array.from(linspace32(1, 0, steps + 1), (t) =>
    f32(f32(Math.sin(f32((t * Math.PI) / 2))) ** 2),
  );
  const signal = noise.map((b) => f32(Math.sqrt(f32(1 - f32(b * b)))));
  const sigmas = noise.map((b, i) => b / Math.max(signal[i]!, 1e-8));
  const timesteps = noise.map((b, i) => f32((Math.atan2(b, signal[i]!) / Math.PI) * 2)).slice(0, -1);
  // Pure noise says nothing of the sample: the guess there is 0, the mean of the data.
  const parameterization: Parameterization = (sigma) =>
    sigma >= 1e8 ? { input: 1 / sigma, skip: 0, output: 0 } : vPrediction(sigma);
  return {
    name: c.name,
    sampler: ipndm,
    space: "vp",
    sigmas,
    timesteps,
    timestepAt: timestepLookup(sigmas, timesteps, (sigma) => (2 / Math.PI) * Math.atan(sigma)),
    parameterization,
    initialScale: 1,
  };
};

export const CONTINUOUS_SCHEDULERS: Readonly<Record<string, PartsOf>> = {
  EDMEulerScheduler: edmEulerParts,
  EDMDPMSolverMultistepScheduler: edmDpmParts,
  CosineDPMSolverMultistepScheduler: cosineDpmParts,
  CMStochasticIterativeScheduler: consistencyParts,
  ScoreSdeVeScheduler: scoreParts,
  IPNDMScheduler: ipndmParts,
};
