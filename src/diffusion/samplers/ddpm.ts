/** DDPM (Ho et al. 2020), with the variances of Nichol and Dhariwal (2021). */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { samplerOf } from "../rule.ts";
import type { SampleOptions } from "../sample.ts";
import { floatsOf, isEvaluated, mapElements, scaleNoise, weightedSum } from "../weighted-sum.ts";
import type { Stage } from "./euler.ts";

/** Variance of a DDPM step: of the posterior, of the forward process, or between the two as the network says. */
export type Variance =
  | "small"
  | "large"
  | { readonly learned: "range" | "log"; readonly value: () => Tensor };

/** Variance of the posterior and of the forward step from `next` to `sigma`, for variance-preserving samples. */
export function stepVariances(sigma: number, next: number): { small: number; large: number } {
  const large = (sigma ** 2 - next ** 2) / (1 + sigma ** 2);
  const small = Math.max(((next / sigma) ** 2 * (1 + sigma ** 2) * large) / (1 + next ** 2), 1e-20);
  return { small, large };
}

/** Deviation of each element, from what the network predicted: v in [-1, 1] between the logarithms, or the logarithm. */
export function learnedDeviation(value: Tensor, kind: "range" | "log", sigma: number, next: number): Tensor {
  const { small, large } = stepVariances(sigma, next);
  const [low, high] = [Math.log(small), Math.log(large)];
  if (!isEvaluated(value)) {
    const wide = value.cast("f64");
    const log =
      kind === "log"
        ? wide
        : wide
            .add(1)
            .mul((high - low) / 2)
            .add(low);
    return log.mul(0.5).exp().cast(value.dtype);
  }
  if (kind === "log") return mapElements(value, (v) => Math.exp(v / 2));
  return mapElements(value, (v) => Math.exp((low + ((v + 1) / 2) * (high - low)) / 2));
}

/** Options of `ddpm`. */
export interface DDPMOptions extends SampleOptions {
  /** Default "small". */
  readonly variance?: Variance;
}

/** What DDPM makes a step of. */
export interface DDPMStage extends Stage {
  /** Standard normals of the shape of x. Not used when `next` is 0. */
  readonly noise?: Tensor | undefined;
  /**
   * Deviation of the noise of variance-preserving samples: a number, or one for each element. Default that of the
   * posterior.
   */
  readonly deviation?: number | Tensor;
}

/** The sample at `next` by the posterior of the forward process. Throws `ArgumentError` without noise for `next` above 0. */
export function ddpmStep({ x, denoised, sigma, next, noise, deviation }: DDPMStage): Tensor {
  const mean = scaleNoise(x, denoised, (next / sigma) ** 2);
  if (next === 0) return mean;
  if (!noise) throw new ArgumentError("ddpmStep: a step to a level above 0 needs noise");
  // Deviations are those of variance-preserving samples; x here is such a sample over alpha.
  const perAlpha = Math.sqrt(1 + next ** 2);
  if (typeof deviation === "object") return weightedSum([1, mean], [perAlpha, product(noise, deviation)]);
  const one = deviation ?? Math.sqrt(stepVariances(sigma, next).small);
  return weightedSum([1, mean], [perAlpha * one, noise]);
}

/** Element by element, on the host where the values are there. */
function product(x: Tensor, y: Tensor): Tensor {
  if (!isEvaluated(x) || !isEvaluated(y)) return x.mul(y.cast(x.dtype));
  const factors = floatsOf(y);
  return mapElements(x, (v, i) => v * factors[i]!);
}

/** DDPM (Ho et al. 2020, algorithm 2; learned variances of Nichol and Dhariwal 2021, eq. 15). */
export const ddpm = samplerOf<DDPMOptions, undefined>(function* ({ x, sigma, next, normal }, options) {
  const { variance = "small" } = options;
  const denoised = yield { x, sigma };
  if (next === 0) return { denoised, x: ddpmStep({ x, denoised, sigma, next }) };
  const deviation =
    typeof variance === "string"
      ? Math.sqrt(stepVariances(sigma, next)[variance])
      : learnedDeviation(variance.value(), variance.learned, sigma, next);
  return { denoised, x: ddpmStep({ x, denoised, sigma, next, noise: normal(), deviation }) };
});
