/**
 * Distributions of the noise levels in training batches. A distribution is given by its quantile function, so that any
 * of them can be drawn independently or stratified. Draws are made on the host and are inputs of the compiled step.
 */
import { ArgumentError } from "../../errors.ts";
import type { NoiseAddress, NoiseSource } from "../../tensor/index.ts";

/** A distribution as its quantile function: maps u in (0, 1) to the value below which a share u of the draws lies. */
export type Quantile = (u: number) => number;

/** Coefficients of Acklam's rational approximation (2003) of the normal quantile; relative error below 1.2e-9. */
const CENTRE = [
  [
    -39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716,
    2.506628277459239,
  ],
  [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1],
] as const;
const TAIL = [
  [
    -0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968,
    2.938163982698783,
  ],
  [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1],
] as const;

const polynomial = (coefficients: readonly number[], x: number): number =>
  coefficients.reduce((sum, c) => sum * x + c, 0);

/** The standard normal's quantile. */
export function normalQuantile(u: number): number {
  if (u < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(u));
    return polynomial(TAIL[0], q) / polynomial(TAIL[1], q);
  }
  if (u > 1 - 0.02425) return -normalQuantile(1 - u);
  const q = u - 0.5;
  return (q * polynomial(CENTRE[0], q * q)) / polynomial(CENTRE[1], q * q);
}

const finite = (name: string, value: number, positive = false): number => {
  if (Number.isFinite(value) && (!positive || value > 0)) return value;
  throw new ArgumentError(`${name} must be ${positive ? "positive" : "finite"}, got ${value}`);
};

/** Uniform over the steps 0 to `steps` - 1. */
export function uniformSteps(steps: number): Quantile {
  if (!Number.isInteger(steps) || steps < 1)
    throw new ArgumentError(`uniformSteps: expected a positive number of steps, got ${steps}`);
  return (u) => Math.min(steps - 1, Math.floor(u * steps));
}

/** Uniform from `low` to `high`. */
export function uniformBetween(low = 0, high = 1): Quantile {
  finite("high - low", high - low, true);
  return (u) => low + (high - low) * u;
}

/** Sigmas of flow models in (0, 1), most in the middle: a sigmoid of normals (Esser et al. 2024, section 3.1). */
export function logitNormal({ mean = 0, deviation = 1 } = {}): Quantile {
  finite("mean", mean);
  finite("deviation", deviation, true);
  return (u) => 1 / (1 + Math.exp(-(mean + deviation * normalQuantile(u))));
}

/** Sigmas of EDM: exponentials of normals (Karras et al. 2022, table 1). */
export function logNormal({ mean = -1.2, deviation = 1.2 } = {}): Quantile {
  finite("mean", mean);
  finite("deviation", deviation, true);
  return (u) => Math.exp(mean + deviation * normalQuantile(u));
}

/** Sigmas in (0, 1) of mode sampling with heavy tails (Esser et al. 2024, eq. 20); scale is -1 to 1.75. */
export function heavyTailed(scale = 1.29): Quantile {
  if (!(scale >= -1 && scale <= 2 / (Math.PI - 2)))
    throw new ArgumentError(`heavyTailed: the scale must be in [-1, 1.751], got ${scale}`);
  return (u) => 1 - u - scale * (Math.cos((Math.PI / 2) * u) ** 2 - 1 + u);
}

/** Options of `drawTimesteps` and `ImportanceSampler`. */
export interface DrawOptions {
  /** Where to draw; `purpose` is set here. */
  readonly at?: Omit<NoiseAddress, "purpose">;
  /**
   * Stratified: one random offset for the batch, with the samples spread evenly over the distribution (Kingma et al.
   * 2021, "Variational diffusion models", appendix I). Every batch covers all noise levels, so the loss is less noisy.
   * Each value is distributed as before. Default false.
   */
  readonly stratified?: boolean;
}

/** Half of the spacing of 24-bit uniforms: keeps u within (0, 1). */
const HALF = 2 ** -25;

/** `count` values of a distribution, one per sample of a batch. */
export function drawTimesteps(
  quantile: Quantile,
  source: NoiseSource,
  count: number,
  { at = {}, stratified = false }: DrawOptions = {},
): Float32Array {
  const where = { ...at, purpose: "timestep" };
  if (!stratified) return source.uniform([count, 1], where).map((u) => quantile(u + HALF));
  const start = source.uniform([1, 1], where)[0]!;
  return Float32Array.from({ length: count }, (_, i) => quantile(((start + i / count) % 1) + HALF));
}

/** State of an importance sampler, as plain JSON. */
export interface ImportanceState {
  readonly steps: number;
  /** Losses seen last at each step, oldest first. */
  readonly history: readonly (readonly number[])[];
}

/** Options of `ImportanceSampler`. */
export interface ImportanceOptions {
  /** Losses remembered per step; the sampler is uniform until it has as many of each. Default 10. */
  readonly remember?: number;
  /** Share of draws that stay uniform. Default 0.001. */
  readonly uniformShare?: number;
}

/**
 * Steps in proportion to the root mean square of the losses that were seen at each (Nichol & Dhariwal 2021, "Improved
 * denoising diffusion", eq. 18), with weights that keep the expected loss what it is under uniform steps. Give each
 * step's `sampleLosses` to `update`.
 */
export class ImportanceSampler {
  readonly steps: number;
  readonly #remember: number;
  readonly #uniformShare: number;
  readonly #history: number[][];

  /** Resumes from `state` if given. Throws `ArgumentError` for invalid settings or a malformed state. */
  constructor(steps: number, options: ImportanceOptions = {}, state?: ImportanceState) {
    const { remember = 10, uniformShare = 0.001 } = options;
    for (const [name, value] of Object.entries({ steps, remember })) {
      if (!Number.isInteger(value) || value < 1)
        throw new ArgumentError(`ImportanceSampler: ${name} must be a positive integer, got ${value}`);
    }
    if (!(uniformShare > 0 && uniformShare <= 1))
      throw new ArgumentError(`ImportanceSampler: uniformShare must be in (0, 1], got ${uniformShare}`);
    const { history = Array.from({ length: steps }, () => []) } = state ?? {};
    const wellFormed = (losses: readonly number[]): boolean =>
      Array.isArray(losses) && losses.length <= remember && losses.every(Number.isFinite);
    if ((state && state.steps !== steps) || history.length !== steps || !history.every(wellFormed))
      throw new ArgumentError(
        `ImportanceSampler: the state is not one of ${steps} steps with up to ${remember} losses each`,
      );
    this.steps = steps;
    this.#remember = remember;
    this.#uniformShare = uniformShare;
    this.#history = history.map((losses) => [...losses]);
  }

  /** Whether every step has been seen often enough for its losses to count. */
  get warm(): boolean {
    return this.#history.every((losses) => losses.length === this.#remember);
  }

  /** Probability of each step. */
  probabilities(): Float64Array {
    const { steps } = this;
    if (!this.warm) return new Float64Array(steps).fill(1 / steps);
    const sizes = this.#history.map((losses) =>
      Math.sqrt(losses.reduce((sum, l) => sum + l * l, 0) / losses.length),
    );
    const total = sizes.reduce((a, b) => a + b, 0);
    const share = this.#uniformShare;
    return Float64Array.from(sizes, (s) =>
      total > 0 ? ((1 - share) * s) / total + share / steps : 1 / steps,
    );
  }

  /** Steps [count] and the weights [count] for their losses, 1 / (steps p). */
  draw(
    source: NoiseSource,
    count: number,
    options: DrawOptions = {},
  ): { timesteps: Float32Array; weights: Float32Array } {
    const p = this.probabilities();
    let sum = 0;
    const upTo = p.map((value) => (sum += value));
    const find: Quantile = (u) => {
      const step = upTo.findIndex((bound) => u * sum < bound);
      return step < 0 ? this.steps - 1 : step;
    };
    const timesteps = drawTimesteps(find, source, count, options);
    return { timesteps, weights: timesteps.map((t) => 1 / (this.steps * p[t]!)) };
  }

  /** Records the losses [N] at the given steps. Throws `ArgumentError` for an invalid step or loss. */
  update(timesteps: ArrayLike<number>, losses: ArrayLike<number>): void {
    if (timesteps.length !== losses.length)
      throw new ArgumentError(
        `ImportanceSampler: got ${timesteps.length} timesteps and ${losses.length} losses`,
      );
    for (let i = 0; i < losses.length; i++) {
      const seen = this.#history[timesteps[i]!];
      if (!seen || !Number.isFinite(losses[i]))
        throw new ArgumentError(
          `ImportanceSampler: got a loss of ${losses[i]} at step ${timesteps[i]} of ${this.steps}`,
        );
      seen.push(losses[i]!);
      if (seen.length > this.#remember) seen.shift();
    }
  }

  /** Snapshot for the constructor. */
  state(): ImportanceState {
    return { steps: this.steps, history: this.#history.map((losses) => [...losses]) };
  }
}
