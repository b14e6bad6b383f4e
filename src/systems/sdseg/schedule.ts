/** The noise schedule of SDSeg (that of latent diffusion on LSUN) and the timesteps that its samplers visit. */
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

/** Training timesteps. */
export const TRAINED = 1000;
const [FIRST_BETA, LAST_BETA] = [0.0015, 0.0155];

/** Share of signal at each timestep, in double precision: 1 / sqrt of the last is 38.7, which leaves f32 few digits. */
export const ALPHA_BARS: Float64Array = (() => {
  const [first, last] = [Math.sqrt(FIRST_BETA), Math.sqrt(LAST_BETA)];
  let product = 1;
  return Float64Array.from({ length: TRAINED }, (_, i) => {
    const beta = (first + (i / (TRAINED - 1)) * (last - first)) ** 2;
    return (product *= 1 - beta);
  });
})();

/** k_t, by which the error of the clean latent exceeds that of the noise: sqrt(1 / alphaBar - 1). */
export const noiseOverSignal = (t: number): number => Math.sqrt(1 / ALPHA_BARS[t]! - 1);

/**
 * What the network's output means. `raw`: the noise, as published. `vskip`: v, of which the noise is
 * sqrt(1 - alphaBar) z + sqrt(alphaBar) v, so that the copy of the noise is exact and one step amplifies nothing.
 * `image-only`: the clean latent, of the picture alone; the control that asks whether diffusion matters.
 */
export const HEADS = ["raw", "vskip", "image-only"] as const;
export type Head = (typeof HEADS)[number];

/** The head in terms of the samplers. @throws ArgumentError for `image-only`, which has none */
export function parameterizationOf(head: Head): Parameterization {
  if (head === "raw") return epsilonPrediction;
  if (head === "vskip") return vPrediction;
  throw new ArgumentError(`SDSeg: a model with head "image-only" has no reverse process to sample`);
}

/** `leading`: from t = 1 up in equal strides, as released; `trailing`: from the last timestep down. */
export type Spacing = "leading" | "trailing";

function checkStepCount(steps: number): void {
  if (!(Number.isInteger(steps) && steps >= 1 && steps <= TRAINED))
    throw new ArgumentError(`SDSeg: steps must be an integer from 1 to ${TRAINED}, got ${steps}`);
}

/**
 * Timesteps of a run, falling. The released sampler's `leading` ones are i * stride + 1 with the stride rounded down,
 * so for steps that do not divide 1000 there is one more. @throws ArgumentError for steps outside 1 ... 1000
 */
export function samplingTimesteps(steps: number, spacing: Spacing): number[] {
  checkStepCount(steps);
  if (spacing === "trailing") return spacedTimesteps("trailing", steps, { trained: TRAINED });
  const stride = Math.floor(TRAINED / steps);
  const count = Math.ceil(TRAINED / stride);
  return Array.from({ length: count }, (_, i) => Math.min(i * stride, TRAINED - 2) + 1).reverse();
}

/** Ways to run the reverse process in several steps. */
export const SAMPLERS = ["ddim", "plms", "ddpm", "dpm-solver"] as const;
export type SamplerName = (typeof SAMPLERS)[number];

export interface ReverseOptions {
  readonly sampler: SamplerName;
  readonly steps: number;
  readonly spacing: Spacing;
  /** Fresh noise of DDIM: 1 as released, 0 none. */
  readonly eta: number;
}

/** Noise over signal at every training timestep. */
const SIGMAS = Array.from(ALPHA_BARS, (_, t) => noiseOverSignal(t));

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
