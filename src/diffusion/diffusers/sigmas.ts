/** Schedulers in the noise level (after k-diffusion) and in lambda = -log sigma. */

import { ANY_NUMBER, COUNT, type Fields, FLAG, maybeEmptyListOf, NUMBER, oneOf } from "../../io/fields.ts";
import type { Sampler } from "../sample.ts";
import { deis } from "../samplers/deis.ts";
import {
  dpmSolverMultistep,
  dpmSolverSDE,
  dpmSolverSinglestep,
  singlestepOrders,
} from "../samplers/dpm-solver.ts";
import { dpm2, dpm2Ancestral } from "../samplers/dpm2.ts";
import { euler, eulerAncestral } from "../samplers/euler.ts";
import { heun } from "../samplers/heun.ts";
import { lms } from "../samplers/lms.ts";
import { saSolver } from "../samplers/sa-solver.ts";
import { unipc } from "../samplers/unipc.ts";
import type { LevelTable } from "../spacing.ts";
import {
  clippedCount,
  finalOf,
  type Levels,
  logLinearLevels,
  pointLevels,
  type SchedulerOptions,
  type SolverFamily,
  solverLevels,
  spacingOf,
  trainingTable,
} from "./levels.ts";
import {
  bind,
  clipOf,
  discrete,
  dpmOptions,
  flowRatioParts,
  LEAST_ALPHA_BAR,
  multistepOptions,
  type PartsOf,
  SOLVER_TYPES,
} from "./options.ts";

const SOFT = { start: 0.00085, end: 0.012 };

/** Keys that shape the levels between the first and the last. */
const SHAPED = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"] as const;

/** Schedulers after k-diffusion: samples are x0 + sigma * noise. */
function points(
  sampler: Sampler,
  { roundKarras = false, clipped = false, defaults = { start: 1e-4, end: 0.02 } } = {},
): PartsOf {
  return (c, options) => {
    const table = trainingTable(c, defaults, LEAST_ALPHA_BAR);
    const { sigmas, timesteps } = pointLevels(c, table, options, { roundKarras });
    const logLinear = c.value("interpolation_type", oneOf("linear", "log_linear"), "linear") === "log_linear";
    const end = finalOf(c, "zero") === "zero" ? 0 : table.sigmas[0]!;
    const shaped = SHAPED.some((key) => c.raw(key) === true); // they win over the interpolation, as in diffusers
    const levels = logLinear && !shaped ? logLinearLevels(table, options.steps) : [...sigmas, end];
    const greatest = levels[0]!;
    const plain = spacingOf(c, "linspace") !== "leading";
    const guard = clipped ? clipOf(c) : undefined;
    const parts = discrete(c, table, { sigmas: levels, timesteps }, { sampler, space: "ve" });
    const continuous =
      c.value("timestep_type", oneOf("discrete", "continuous"), "discrete") === "continuous" &&
      c.raw("prediction_type") === "v_prediction";
    return {
      ...parts,
      ...(guard && { clip: guard }),
      ...(continuous && { timestepAt: (sigma: number) => 0.25 * Math.log(sigma) }),
      initialScale: plain ? greatest : Math.sqrt(greatest ** 2 + 1),
    };
  };
}

/** Schedulers that solve in lambda, for networks that predict noise, sample, v or, over flow times, velocity. */
function solver(
  family: SolverFamily,
  sampler: (c: Fields, options: SchedulerOptions, table: LevelTable) => Sampler,
  arrange: (levels: Levels, table: LevelTable, c: Fields) => Levels = (levels) => levels,
): PartsOf {
  return (c, options) => {
    const table = trainingTable(c, {}, LEAST_ALPHA_BAR);
    const { sigmas, timesteps } = arrange(solverLevels(c, table, options, family), table, c);
    const bound = sampler(c, options, table);
    const guard = clipOf(c);
    const known = c.value("variance_type", oneOf("learned", "learned_range", "none"), "none") !== "none";
    const rest = {
      sampler: bound,
      ...(guard && { clip: guard }),
      ...(known && { learnedVariance: "ignored" as const }),
    };
    if (!c.value("use_flow_sigmas", FLAG, false)) return discrete(c, table, { sigmas, timesteps }, rest);
    if (c.raw("prediction_type") !== "flow_prediction") {
      throw c.error("prediction_type", "flow_prediction where use_flow_sigmas is true");
    }
    const flow = sigmas.map(Math.fround);
    return { name: c.name, ...flowRatioParts(flow, timesteps, table.sigmas.length), ...rest };
  };
}

const singlestepSampler = (c: Fields, { steps }: SchedulerOptions): Sampler => {
  const { order, ...rest } = dpmOptions(c);
  const asked = c.value("lower_order_final", FLAG, false);
  const needed = steps % order !== 0 || finalOf(c, "zero") === "zero";
  return bind(dpmSolverSinglestep, {
    ...rest,
    order,
    orders: singlestepOrders(steps, order, asked || needed),
  });
};

const unipcSampler = (c: Fields): Sampler => {
  const type = c.value("solver_type", oneOf(...SOLVER_TYPES), "bh2");
  return bind(unipc, {
    order: c.value("solver_order", COUNT, 2),
    variant: type === "bh1" ? "bh1" : "bh2",
    predict: c.value("predict_x0", FLAG, true) ? "denoised" : "noise",
    lowerOrderFinal: c.value("lower_order_final", FLAG, true),
    disableCorrector: c.optional("disable_corrector", maybeEmptyListOf(NUMBER)) ?? [],
  });
};

const saSampler = (c: Fields, _: SchedulerOptions, table: LevelTable): Sampler =>
  bind(saSolver, {
    predictorOrder: c.value("predictor_order", COUNT, 2),
    correctorOrder: c.value("corrector_order", COUNT, 2),
    predict:
      c.value("algorithm_type", oneOf("data_prediction", "noise_prediction"), "data_prediction") ===
      "data_prediction"
        ? "denoised"
        : "noise",
    lowerOrderFinal: c.value("lower_order_final", FLAG, true),
    tau: (sigma) => {
      const t = Math.round(table.timestepAt(sigma));
      return t >= 200 && t <= 800 ? 1 : 0;
    },
  });

/** Rising levels: each timestep's own, and the noisiest as end. */
function rising({ sigmas, timesteps }: Levels, table: LevelTable, c: Fields): Levels {
  const { sigmas: training } = table;
  const noisiest =
    training.length -
    1 -
    clippedCount(training, c.value("lambda_min_clipped", ANY_NUMBER, Number.NEGATIVE_INFINITY));
  const kinds = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas"];
  if (kinds.some((key) => c.raw(key) === true)) {
    const up = sigmas.slice(0, -1).reverse();
    return { sigmas: [...up, up[up.length - 1]!], timesteps: [...timesteps].reverse() };
  }
  return risingPoints(timesteps, noisiest, table, c);
}

/** The falling timesteps leave out the least one; the rising ones leave out the noisiest. */
function risingPoints(falling: number[], noisiest: number, table: LevelTable, c: Fields): Levels {
  const offset = c.value("steps_offset", NUMBER, 0);
  const spacing = spacingOf(c, "linspace");
  const up = [...falling].reverse();
  const least = spacing === "leading" ? offset : 0;
  const timesteps = spacing === "trailing" ? up : [least, ...up.slice(0, -1)];
  return { sigmas: [...timesteps, noisiest].map(table.sigmaAt), timesteps };
}

const DPM = { final: "zero", least: "table" } as const;
const ADAMS = { final: "least", least: "last" } as const;

export const SIGMA_SCHEDULERS: Readonly<Record<string, PartsOf>> = {
  EulerDiscreteScheduler: points(euler),
  EulerAncestralDiscreteScheduler: points(eulerAncestral),
  HeunDiscreteScheduler: points(heun, { clipped: true, defaults: SOFT }),
  LMSDiscreteScheduler: points(lms),
  KDPM2DiscreteScheduler: points(dpm2, { roundKarras: true, defaults: SOFT }),
  KDPM2AncestralDiscreteScheduler: points(dpm2Ancestral, { roundKarras: true, defaults: SOFT }),
  DPMSolverSDEScheduler: points(dpmSolverSDE, { defaults: SOFT }),
  DPMSolverMultistepScheduler: solver(DPM, (c, { steps }) =>
    bind(dpmSolverMultistep, multistepOptions(c, steps)),
  ),
  DPMSolverMultistepInverseScheduler: solver(
    DPM,
    (c, { steps }) => bind(dpmSolverMultistep, multistepOptions(c, steps)),
    rising,
  ),
  DPMSolverSinglestepScheduler: solver({ ...DPM, evenly: true }, singlestepSampler),
  DEISMultistepScheduler: solver(ADAMS, (c, { steps }) =>
    bind(deis, {
      order: c.value("solver_order", COUNT, 2),
      lowerOrderFinal: c.value("lower_order_final", FLAG, true) && steps < 15,
    }),
  ),
  UniPCMultistepScheduler: solver({ final: "zero", least: "last", flowFromNoise: true }, unipcSampler),
  SASolverScheduler: solver(ADAMS, saSampler),
};
