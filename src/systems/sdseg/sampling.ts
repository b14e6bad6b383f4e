/** The reverse process of several steps, which one step is compared with: the timesteps it visits, and its samplers. */
import {
  createScheduler,
  ddim,
  ddpm,
  dpmSolverMultistep,
  epsilonPrediction,
  type Parameterization,
  plms,
  type Sampler,
  type Scheduler,
  spacedTimesteps,
  timestepLookup,
  vPrediction,
} from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import { type Head, noiseOverSignal, TRAINED } from "./method.ts";
import type { SAMPLERS, SPACINGS } from "./options.ts";

/** The head in terms of the samplers. @throws ArgumentError for `image-only`, which has none */
function parameterizationOf(head: Head): Parameterization {
  if (head === "raw") return epsilonPrediction;
  if (head === "vskip") return vPrediction;
  throw new ArgumentError(`SDSeg: a model with head "image-only" has no reverse process to sample`);
}

export type Spacing = (typeof SPACINGS)[number];

/**
 * Timesteps of a run, falling. The released sampler's `leading` ones are i * stride + 1 with the stride rounded down,
 * so for steps that do not divide 1000 there is one more. @throws ArgumentError for steps outside 1 ... 1000
 */
export function samplingTimesteps(steps: number, spacing: Spacing): number[] {
  if (!(Number.isInteger(steps) && steps >= 1 && steps <= TRAINED))
    throw new ArgumentError(`SDSeg: steps must be an integer from 1 to ${TRAINED}, got ${steps}`);
  if (spacing === "trailing") return spacedTimesteps("trailing", steps, { trained: TRAINED });
  const stride = Math.floor(TRAINED / steps);
  const count = Math.ceil(TRAINED / stride);
  return Array.from({ length: count }, (_, i) => Math.min(i * stride, TRAINED - 2) + 1).reverse();
}

export type SamplerName = (typeof SAMPLERS)[number];

export interface ReverseOptions {
  readonly sampler: SamplerName;
  readonly steps: number;
  readonly spacing: Spacing;
  /** Fresh noise of DDIM: 1 as released, which is DDPM; 0 none, the deterministic sampler. */
  readonly eta: number;
}

/** Noise over signal at every training timestep. */
const SIGMAS = Array.from({ length: TRAINED }, (_, t) => noiseOverSignal(t));

/** The timestep of a level between those of a run, for solvers that look inside a step. */
function timestepBetween(sigma: number): number {
  const above = SIGMAS.findIndex((s) => s >= sigma);
  if (above <= 0) return above === 0 ? 0 : TRAINED - 1;
  const [low, high] = [Math.log(SIGMAS[above - 1]!), Math.log(SIGMAS[above]!)];
  return above - 1 + (Math.log(sigma) - low) / (high - low);
}

function samplerOf({ sampler, eta }: ReverseOptions): Sampler {
  switch (sampler) {
    case "ddim":
      return (denoise, x, sigmas, options) => ddim(denoise, x, sigmas, { ...options, eta });
    case "plms":
      return plms;
    case "ddpm":
      return ddpm;
    case "dpm-solver":
      return dpmSolverMultistep;
  }
}

/** The reverse process of a model: levels, timesteps, sampler. The last step ends at the level of t = 0. */
export function reverseProcess(head: Head, options: ReverseOptions): Scheduler {
  const parameterization = parameterizationOf(head);
  const timesteps = samplingTimesteps(options.steps, options.spacing);
  // A run that visits t = 0 itself must still fall.
  const end = timesteps.at(-1) === 0 ? 0 : SIGMAS[0]!;
  const sigmas = [...timesteps.map((t) => SIGMAS[t]!), end];
  return createScheduler({
    name: `SDSeg ${options.sampler}`,
    sampler: samplerOf(options),
    space: "vp",
    sigmas,
    timesteps,
    timestepAt: timestepLookup(sigmas, timesteps, timestepBetween),
    parameterization,
    initialScale: 1,
  });
}
