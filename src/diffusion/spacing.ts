/** Timestep spacing: which training timesteps a run visits; and the table between timesteps and noise levels. */
import { ArgumentError } from "../errors.ts";

/** How the timesteps of a run are spread over those of the training. */
export type Spacing = "leading" | "trailing" | "linspace";

/** Rounds to the nearest integer, halves to even, as numpy does. */
export function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  const rest = x - low;
  if (rest !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

/** `numpy.linspace(a, b, n)`. */
export const linspace = (a: number, b: number, n: number): number[] =>
  Array.from({ length: n }, (_, i) => (i === n - 1 && n > 1 ? b : a + i * ((b - a) / Math.max(1, n - 1))));

/** Throws `ArgumentError` unless 1 <= steps <= trained. */
export function checkSteps(steps: number, trained = Number.POSITIVE_INFINITY): void {
  if (!Number.isInteger(steps) || steps < 1) {
    throw new ArgumentError(`the number of steps must be a positive integer, got ${steps}`);
  }
  if (steps > trained) {
    throw new ArgumentError(
      `${steps} steps are more than the ${trained} timesteps the network was trained with`,
    );
  }
}

/** Options of `spacedTimesteps` and `solverTimesteps`. */
export interface SpacingOptions {
  /** Number of training timesteps. Default 1000. */
  readonly trained?: number;
  /** Added to all timesteps of spacing `leading`. Default 0. */
  readonly offset?: number;
  /** Leaves the timesteps of `linspace` between the integers. Default false. */
  readonly fractional?: boolean;
}

/**
 * Timesteps of a run, falling (Lin et al. 2023, table 2). Throws `ArgumentError` for 0 steps, for more steps than
 * training timesteps, for an unknown spacing and for an offset that leads beyond the last timestep.
 */
export function spacedTimesteps(spacing: Spacing, steps: number, options: SpacingOptions = {}): number[] {
  const { trained = 1000, offset = 0, fractional = false } = options;
  checkSteps(steps, trained);
  switch (spacing) {
    case "linspace": {
      const points = linspace(0, trained - 1, steps).reverse();
      return points.map(fractional ? Math.fround : roundHalfEven);
    }
    case "leading":
      return leading(steps, Math.floor(trained / steps), offset, trained).reverse();
    case "trailing":
      return trailing(trained, trained / steps);
    default:
      throw new ArgumentError(
        `timestep spacing must be leading, trailing or linspace, got ${JSON.stringify(spacing)}`,
      );
  }
}

/**
 * Timesteps for the solvers that count intervals, not points: one point more is spaced and the last left out.
 * `last` is the number of timesteps to use when the noisiest are cut off.
 */
export function solverTimesteps(
  spacing: Spacing,
  steps: number,
  { trained = 1000, offset = 0, last = trained }: SpacingOptions & { readonly last?: number } = {},
): number[] {
  checkSteps(steps, trained);
  switch (spacing) {
    case "linspace":
      return linspace(0, last - 1, steps + 1)
        .map(roundHalfEven)
        .reverse()
        .slice(0, -1);
    case "leading":
      return leading(steps + 1, Math.floor(last / (steps + 1)), offset, trained)
        .reverse()
        .slice(0, -1);
    case "trailing":
      return trailing(last, trained / steps);
    default:
      return spacedTimesteps(spacing, steps, { trained });
  }
}

function leading(points: number, ratio: number, offset: number, trained: number): number[] {
  const timesteps = Array.from({ length: points }, (_, i) => i * ratio + offset);
  const end = timesteps[points - 1]!;
  if (!(end < trained)) {
    throw new ArgumentError(
      `spacing "leading" with offset ${offset} reaches timestep ${end} of ${trained}: use fewer steps`,
    );
  }
  return timesteps;
}

function trailing(last: number, ratio: number): number[] {
  const count = Math.ceil(last / ratio);
  return Array.from({ length: count }, (_, i) => roundHalfEven(last - i * ratio) - 1);
}

/** Timesteps of UnCLIP: both ends included, rounded. */
export function endpointTimesteps(steps: number, trained: number): number[] {
  checkSteps(steps, trained);
  const ratio = (trained - 1) / Math.max(1, steps - 1);
  return Array.from({ length: steps }, (_, i) => roundHalfEven(i * ratio)).reverse();
}

/**
 * Timesteps of latent consistency models: every k-th of the timesteps that the network was distilled at, from the
 * noisiest. Throws `ArgumentError` for more steps than those.
 */
export function distilledTimesteps(steps: number, distilled: number, trained: number): number[] {
  checkSteps(steps, trained);
  if (steps > distilled || distilled > trained) {
    throw new ArgumentError(
      `expected steps <= distillation steps <= training steps, got ${steps}, ${distilled} and ${trained}`,
    );
  }
  const ratio = Math.floor(trained / distilled);
  return Array.from({ length: steps }, (_, i) => {
    const index = Math.floor((i * distilled) / steps);
    return (distilled - index) * ratio - 1;
  });
}

/** A table of noise levels by timestep, and its inverse. */
export interface LevelTable {
  /** Noise levels of the timesteps 0, 1, ..., rising. */
  readonly sigmas: Float32Array;
  /** The level at a timestep, linear in sigma between integers. */
  sigmaAt(timestep: number): number;
  /** The timestep at a level, linear in log sigma between integers, clamped to the table. */
  timestepAt(sigma: number): number;
}

/** Interpolation over the levels of training. Throws `ArgumentError` unless they rise. */
export function levelTable(sigmas: Float32Array): LevelTable {
  const unordered = sigmas.findIndex((s, i) => !(s >= 0) || (i > 0 && s < sigmas[i - 1]!));
  if (unordered >= 0) {
    throw new ArgumentError(`noise levels must rise with the timestep, but level ${unordered} does not`);
  }
  const logs = sigmas.map((s) => Math.log(Math.max(s, 1e-10)));
  const last = sigmas.length - 1;
  return {
    sigmas,
    sigmaAt(timestep) {
      const t = Math.min(last, Math.max(0, timestep));
      const low = Math.floor(t);
      const high = Math.min(last, low + 1);
      return sigmas[low]! + (t - low) * (sigmas[high]! - sigmas[low]!);
    },
    timestepAt(sigma) {
      if (last === 0) return 0;
      const log = Math.log(Math.max(sigma, 1e-10));
      const low = Math.min(last - 1, Math.max(0, lastAtMost(logs, log)));
      const share = (log - logs[low]!) / (logs[low + 1]! - logs[low]!);
      return low + Math.min(1, Math.max(0, share));
    },
  };
}

/** Index of the last number that is at most x, of rising numbers; -1 if none is. */
function lastAtMost(rising: Float32Array, x: number): number {
  let [low, high] = [0, rising.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rising[middle]! <= x) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
