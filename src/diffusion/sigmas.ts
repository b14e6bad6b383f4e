/**
 * Noise levels of a run, from the noisiest down. The functions give n positive levels; `withZero` appends the clean
 * sample's 0.
 */
import { ArgumentError } from "../errors.ts";
import { betaQuantile } from "./beta-distribution.ts";
import { checkSteps, linspace } from "./spacing.ts";

/** Ends of a range of levels; of noise levels 0 < min < max. */
export interface LevelRange {
  readonly min: number;
  readonly max: number;
}

function checkRange(steps: number, { min, max }: LevelRange): void {
  checkSteps(steps);
  if (!(Number.isFinite(min) && Number.isFinite(max) && min > 0 && min < max)) {
    throw new ArgumentError(`noise levels need 0 < sigma_min < sigma_max, got ${min} and ${max}`);
  }
}

/** n numbers from 0 to 1; a single one is 0. */
const ramp = (n: number): number[] => linspace(0, 1, n);

/** Karras et al. 2022, eq. 5. */
export function karrasSigmas(steps: number, range: LevelRange, rho = 7): number[] {
  checkRange(steps, range);
  const [min, max] = [range.min ** (1 / rho), range.max ** (1 / rho)];
  return ramp(steps).map((r) => (max + r * (min - max)) ** rho);
}

/** Evenly spaced in the logarithm. */
export function exponentialSigmas(steps: number, range: LevelRange): number[] {
  checkRange(steps, range);
  return linspace(Math.log(range.max), Math.log(range.min), steps).map(Math.exp);
}

/** Powers of a ramp in the logarithm; rho 1 is exponential. */
export function polyexponentialSigmas(steps: number, range: LevelRange, rho = 1): number[] {
  checkRange(steps, range);
  const [min, max] = [Math.log(range.min), Math.log(range.max)];
  return ramp(steps).map((r) => Math.exp((1 - r) ** rho * (max - min) + min));
}

/** The continuous variance-preserving process (Song et al. 2021, eq. 33) at evenly spaced times. */
export function vpSigmas(steps: number, { betaRange = 19.9, betaMin = 0.1, end = 1e-3 } = {}): number[] {
  checkSteps(steps);
  return linspace(1, end, steps).map((t) => Math.sqrt(Math.expm1((betaRange * t * t) / 2 + betaMin * t)));
}

/** Evenly spaced in lambda = -log sigma (Lu et al. 2022): what configurations call Lu's lambdas. */
export const luSigmas = exponentialSigmas;

/** Quantiles of the beta distribution ("Beta Sampling is All You Need", Lee et al. 2024). */
export function betaDistributionSigmas(steps: number, range: LevelRange, a = 0.6, b = 0.6): number[] {
  checkRange(steps, range);
  return ramp(steps).map((r) => range.min + betaQuantile(1 - r, a, b) * (range.max - range.min));
}

/** The levels with the clean sample's 0 after them. */
export const withZero = (sigmas: readonly number[]): number[] => [...sigmas, 0];

/** Shift of flow levels in (0, 1] towards noise for larger pictures (Esser et al. 2024, eq. 23). */
export const shiftFlow = (sigma: number, shift: number): number =>
  (shift * sigma) / (1 + (shift - 1) * sigma);

/** mu as a straight line in the number of latent patches, given its values at two numbers. */
export function dynamicShift(
  patches: number,
  { basePatches = 256, maxPatches = 4096, base = 0.5, max = 1.15 } = {},
): number {
  return base + ((max - base) / (maxPatches - basePatches)) * (patches - basePatches);
}

/** Stretches flow levels so that the last becomes `terminal`. */
export function stretchToTerminal(sigmas: readonly number[], terminal: number): number[] {
  const scale = (1 - sigmas[sigmas.length - 1]!) / (1 - terminal);
  return sigmas.map((s) => 1 - (1 - s) / scale);
}

/** Least and greatest share of signal that keep the ratio of a flow level finite. */
const LEAST_SIGNAL = 1e-10;

/** Flow level to noise over signal: where x = (1 - sigma) x0 + sigma noise, x / (1 - sigma) = x0 + ratio * noise. */
export const ratioOfFlow = (sigma: number): number => sigma / Math.max(1 - sigma, LEAST_SIGNAL);

/** Inverse of `ratioOfFlow`. */
export const flowOfRatio = (ratio: number): number => ratio / (1 + ratio);
