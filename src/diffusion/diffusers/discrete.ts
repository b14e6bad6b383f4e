/** Schedulers whose steps begin at training timesteps: DDIM, DDPM, PNDM, latent consistency, TCD. */

import { COUNT, type Fields, FLAG, NUMBER, oneOf } from "../../io/fields.ts";
import type { Parameterization } from "../parameterization.ts";
import { consistency } from "../samplers/consistency.ts";
import { ddim, ddimInversion } from "../samplers/ddim.ts";
import { ddpm } from "../samplers/ddpm.ts";
import { plms, pndm } from "../samplers/pndm.ts";
import { tcd } from "../samplers/tcd.ts";
import { timestepLookup } from "../scheduler.ts";
import { distilledTimesteps, endpointTimesteps, spacedTimesteps } from "../spacing.ts";
import { runTimesteps, type SchedulerOptions, spacingOf, trainingTable } from "./levels.ts";
import { bind, clipOf, discrete, type PartsOf, predictionOf } from "./options.ts";
import { withStepEnds } from "./step-ends.ts";

/** DDIM, PNDM: evenly spaced timesteps; each step covers a fixed number of timesteps, the stride. */
function strided(c: Fields, options: SchedulerOptions, alphaToOne: boolean) {
  const table = trainingTable(c);
  const trained = table.sigmas.length;
  const { steps } = options;
  const spacing = { trained, offset: c.value("steps_offset", NUMBER, 0) };
  const timesteps = runTimesteps(c, table, options, () =>
    spacedTimesteps(spacingOf(c, "leading"), steps, spacing),
  );
  const end = c.value("set_alpha_to_one", FLAG, alphaToOne) ? 0 : table.sigmas[0]!;
  const stride = Math.floor(trained / steps);
  const stepEnds = timesteps.map((t) => (t < stride ? end : table.sigmaAt(t - stride)));
  const sigmas = [...timesteps.map(table.sigmaAt), end];
  return { table, levels: { sigmas, timesteps }, stride, stepEnds };
}

const ddimParts: PartsOf = (c, options) => {
  const { table, levels, stepEnds } = strided(c, options, true);
  const guard = clipOf(c, true);
  const sampler = bind(ddim, { eta: options.eta ?? 0, ...(guard && { clip: guard }) });
  const same = stepEnds.every((sigma, i) => sigma === levels.sigmas[i + 1]);
  return discrete(c, table, levels, { sampler: same ? sampler : withStepEnds(sampler, stepEnds) });
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
  const sampler = c.value("skip_prk_steps", FLAG, false) ? plms : pndm;
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
function posterior(c: Fields, fallback: (typeof VARIANCE_TYPES)[number]) {
  const type = c.value("variance_type", oneOf(...VARIANCE_TYPES), fallback);
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
  const spacing = { trained: table.sigmas.length, offset: c.value("steps_offset", NUMBER, 0) };
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
function distilled(c: Fields, options: SchedulerOptions) {
  const table = trainingTable(c, { start: 0.00085, end: 0.012, schedule: "scaled_linear" });
  const trained = table.sigmas.length;
  const known = c.value("original_inference_steps", COUNT, 50);
  const timesteps = runTimesteps(c, table, options, () => distilledTimesteps(options.steps, known, trained));
  return { table, timesteps };
}

const lcmParts: PartsOf = (c, options) => {
  const { table, timesteps } = distilled(c, options);
  const scaling = c.value("timestep_scaling", NUMBER, 10);
  const parts = discrete(
    c,
    table,
    { sigmas: [...timesteps.map(table.sigmaAt), 0], timesteps },
    { sampler: consistency },
  );
  const inner = parts.parameterization;
  const guard = clipOf(c);
  if (guard) throw c.error("clip_sample", "false (and no thresholding) for latent consistency models");
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

/** Schedulers whose steps begin at training timesteps, by class name. */
export const DISCRETE_SCHEDULERS: Readonly<Record<string, PartsOf>> = {
  DDIMScheduler: ddimParts,
  DDIMParallelScheduler: ddimParts,
  DDIMInverseScheduler: ddimInverseParts,
  DDPMScheduler: ddpmParts,
  DDPMParallelScheduler: ddpmParts,
  UnCLIPScheduler: unclipParts,
  PNDMScheduler: pndmParts,
  LCMScheduler: lcmParts,
  TCDScheduler: tcdParts,
};
