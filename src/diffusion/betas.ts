/**
 * How training adds noise: betas, the cumulative products of 1 - beta, and the noise levels that follow. Rounded to
 * f32 exactly where torch rounds, because networks were trained with those very numbers.
 */
import { ArgumentError } from "../errors.ts";

const f32 = Math.fround;

/** Names of noise schedules, as diffusers has them. */
export type BetaScheduleName =
  | "linear"
  | "scaled_linear"
  | "squaredcos_cap_v2"
  | "sigmoid"
  | "exp"
  | "laplace";

/** Options of `betas`. */
export interface BetaOptions {
  readonly schedule?: BetaScheduleName;
  /** First and last beta; the schedules given by a formula for alpha-bar do not use them. */
  readonly start?: number;
  readonly end?: number;
  /** Number of training timesteps. */
  readonly timesteps?: number;
}

/** `torch.linspace(a, b, n)` in f32: from both ends to the middle, one rounding each. */
export function linspace32(a: number, b: number, n: number): Float32Array {
  const [first, last] = [f32(a), f32(b)];
  if (n === 1) return Float32Array.of(first);
  const step = f32((last - first) / (n - 1));
  return Float32Array.from({ length: n }, (_, i) =>
    i < n / 2 ? first + step * i : last - step * (n - 1 - i),
  );
}

/** Formulas for the share of signal that is left at time t in [0, 1]. */
const ALPHA_BAR = {
  /** Nichol and Dhariwal 2021, eq. 17. */
  squaredcos_cap_v2: (t: number) => Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2,
  exp: (t: number) => Math.exp(-12 * t),
  laplace: (t: number) => {
    const lambda = -0.5 * Math.sign(0.5 - t || 1) * Math.log(1 - 2 * Math.abs(0.5 - t) + 1e-6);
    const snr = Math.exp(lambda);
    return Math.sqrt(snr / (1 + snr));
  },
};

function betasOfAlphaBar(alphaBar: (t: number) => number, n: number): Float32Array {
  return Float32Array.from({ length: n }, (_, i) =>
    Math.min(1 - alphaBar((i + 1) / n) / alphaBar(i / n), 0.999),
  );
}

/**
 * Betas of a named schedule, f32. Throws `ArgumentError` for an unknown name, for a number of timesteps that is not a
 * positive integer, and for betas that are not finite numbers in [0, 1].
 */
export function betas(options: BetaOptions = {}): Float32Array {
  const { schedule = "linear", start = 1e-4, end = 0.02, timesteps = 1000 } = options;
  if (!Number.isInteger(timesteps) || timesteps < 1) {
    throw new ArgumentError(`the number of training timesteps must be a positive integer, got ${timesteps}`);
  }
  switch (schedule) {
    case "linear":
      return checkBetas(linspace32(start, end, timesteps));
    case "scaled_linear":
      return checkBetas(linspace32(Math.sqrt(start), Math.sqrt(end), timesteps).map((b) => b * b));
    case "sigmoid": {
      const range = f32(end - start);
      const ramp = linspace32(-6, 6, timesteps).map((x) => 1 / (1 + Math.exp(-x)));
      return checkBetas(ramp.map((s) => f32(s * range) + start));
    }
    case "squaredcos_cap_v2":
    case "exp":
    case "laplace":
      return checkBetas(betasOfAlphaBar(ALPHA_BAR[schedule], timesteps));
    default: {
      const known = "linear, scaled_linear, sigmoid, squaredcos_cap_v2, exp, laplace";
      throw new ArgumentError(`unknown beta schedule ${JSON.stringify(schedule)}; known are ${known}`);
    }
  }
}

/** The betas themselves, or an `ArgumentError` that names the first that is not a finite number in [0, 1]. */
export function checkBetas(values: Float32Array): Float32Array {
  const bad = values.findIndex((b) => !(b >= 0 && b <= 1));
  if (bad >= 0) throw new ArgumentError(`beta ${bad} must be a finite number in [0, 1], got ${values[bad]}`);
  if (values.length === 0) throw new ArgumentError("a schedule needs at least one beta");
  return values;
}

/** Products of 1 - beta up to each timestep, f32, accumulated in double precision. */
export function alphasCumprod(values: Float32Array): Float32Array {
  let product = 1;
  return values.map((b) => (product *= f32(1 - b)));
}

/**
 * Betas whose last timestep keeps no signal at all (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample
 * Steps are Flawed", algorithm 1).
 */
export function rescaleZeroTerminalSnr(values: Float32Array): Float32Array {
  const roots = alphasCumprod(values).map(Math.sqrt);
  const [first, last] = [roots[0]!, roots[roots.length - 1]!];
  const scale = f32(first / f32(first - last));
  const bars = roots.map((r) => f32(f32(r - last) * scale)).map((r) => r * r);
  return bars.map((bar, i) => 1 - f32(i === 0 ? bar : bar / bars[i - 1]!));
}

/** Least share of signal that a noise level is computed of: a level without signal would be infinite. */
const LEAST_ALPHA_BAR = 2 ** -48;

/** Noise over signal, sqrt((1 - alphaBar) / alphaBar), f32. */
export const sigmaOfAlphaBar = (alphaBar: number): number => {
  const bar = Math.max(alphaBar, LEAST_ALPHA_BAR);
  return f32(Math.sqrt(f32(f32(1 - bar) / bar)));
};

/** The noise level of every training timestep, rising, f32. */
export const trainingSigmas = (bars: Float32Array): Float32Array => bars.map(sigmaOfAlphaBar);
