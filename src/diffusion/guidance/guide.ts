/** Guidance without gradients: a conditional denoiser becomes a `Denoise` that follows its condition more closely. */
import { ArgumentError } from "../../errors.ts";
import { evaluate, type Tensor, zeros } from "../../tensor/index.ts";
import type { Denoise } from "../sample.ts";
import {
  at,
  type BySigma,
  type ConditionalDenoise,
  type Conditioning,
  checkInterval,
  conditionAt,
  denoiseEach,
  fed,
  isWithin,
  type SigmaInterval,
} from "./conditions.ts";
import {
  compose,
  extrapolate,
  normalizeMasks,
  type ProjectionOptions,
  projectedGuess,
  rescaleSpread,
} from "./formulas.ts";

interface CommonOptions {
  /** Strength: 1 is the conditional guess alone, larger follows the condition more. */
  readonly scale: BySigma;
  /** Where guidance acts (Kynkäänniemi et al. 2024); elsewhere the conditional guess is taken as it is. Default: everywhere. */
  readonly interval?: SigmaInterval;
  /** One network call per condition instead of one call on a larger batch: slower, with less memory. */
  readonly separate?: boolean;
}

/** Options of guidance that keeps the spread of values (Lin et al. 2024). */
export interface RescaleOptions {
  /** phi of `rescaleSpread`, 0 to 1; diffusers calls it `guidance_rescale`. Default 0. */
  readonly rescale?: number;
  /** What the network predicts, and hence what is rescaled. Default "eps". */
  readonly prediction?: "eps" | "v" | "x0" | "flow";
}

/** Options of `classifierFreeGuidance`. */
export interface GuidanceOptions<C> extends CommonOptions, RescaleOptions {
  readonly condition: Conditioning<C>;
  /** The negative condition: the empty prompt or a negative one, or the null class. */
  readonly negative: Conditioning<C>;
}

function check(where: string, options: { interval?: SigmaInterval; rescale?: number }): void {
  checkInterval(where, options.interval);
  const { rescale = 0 } = options;
  if (!(rescale >= 0 && rescale <= 1))
    throw new ArgumentError(`${where}: rescale must be in [0, 1], got ${rescale}`);
}

/** The scale at a noise level: 1, which is no guidance, outside the interval. */
function scaleAt(where: string, { scale, interval }: CommonOptions, sigma: number): number {
  const value = isWithin(interval, sigma) ? at(scale, sigma) : 1;
  if (!Number.isFinite(value)) throw new ArgumentError(`${where}: the scale at sigma ${sigma} is ${value}`);
  return value;
}

function rescaled(
  guided: Tensor,
  conditional: Tensor,
  x: Tensor,
  sigma: number,
  { rescale = 0, prediction = "eps" }: RescaleOptions,
): Tensor {
  if (rescale === 0) return guided;
  const offset =
    prediction === "x0" ? undefined : prediction === "v" ? x.mul(fed(x, 1 / (1 + sigma * sigma))) : x;
  return rescaleSpread(guided, conditional, rescale, offset);
}

/**
 * Classifier-free guidance (Ho & Salimans 2022): `uncond + scale (cond - uncond)`, both from one network call.
 * At scale 1, and outside the interval, the network is asked for the conditional guess only.
 */
export function classifierFreeGuidance<C>(
  denoise: ConditionalDenoise<C>,
  options: GuidanceOptions<C>,
): Denoise {
  const where = "classifierFreeGuidance";
  check(where, options);
  return async (x, sigma) => {
    const scale = scaleAt(where, options, sigma);
    const condition = conditionAt(options.condition, sigma);
    if (scale === 1) return (await denoiseEach(denoise, x, sigma, [condition]))[0]!;
    const conditions = [conditionAt(options.negative, sigma), condition];
    const [base, towards] = await denoiseEach(denoise, x, sigma, conditions, options.separate);
    const guided = extrapolate(base!, towards!, fed(x, scale));
    return rescaled(guided, towards!, x, sigma, options);
  };
}

/** One of several conditions. */
export interface WeightedCondition<C> {
  readonly condition: Conditioning<C>;
  /** Default 1; negative leads away. */
  readonly weight?: number;
  /** Where it counts, 0 to 1, [N or 1, C or 1, H, W] at the sample's resolution. Default: everywhere. */
  readonly mask?: Tensor;
}

/** Options of `composedGuidance`. */
export interface ComposedOptions<C> extends CommonOptions, RescaleOptions {
  readonly conditions: readonly WeightedCondition<C>[];
  readonly negative: Conditioning<C>;
  /** Divides by the sum of weighted masks, so that overlapping regions are averaged instead of added. Default false. */
  readonly average?: boolean;
}

/** Several weighted and masked conditions at once: `compose` of their guesses. One network call for all of them. */
export function composedGuidance<C>(denoise: ConditionalDenoise<C>, options: ComposedOptions<C>): Denoise {
  const where = "composedGuidance";
  check(where, options);
  const { conditions, negative, average = false } = options;
  if (conditions.length === 0) throw new ArgumentError(`${where}: expected at least one condition`);
  const weightAndMask = conditions.map(({ weight = 1, mask }) => ({ weight, mask }));
  if (average && weightAndMask.some(({ weight }) => weight < 0))
    throw new ArgumentError(`${where}: weights to average by must not be negative`);
  return async (x, sigma) => {
    const all = [negative, ...conditions.map((c) => c.condition)].map((c) => conditionAt(c, sigma));
    const [base, ...each] = await denoiseEach(denoise, x, sigma, all, options.separate);
    const plain = weightAndMask.map(({ weight, mask }, i) => ({
      denoised: each[i]!,
      weight: fed(x, weight),
      ...(mask && { mask }),
    }));
    const guesses = average ? averaged(plain, x) : plain;
    const scale = scaleAt(where, options, sigma);
    const guided = compose(base!, guesses, fed(x, scale));
    if (!options.rescale) return guided;
    return rescaled(guided, compose(base!, guesses, 1), x, sigma, options);
  };
}

function averaged(guesses: readonly { denoised: Tensor; weight: Tensor; mask?: Tensor }[], x: Tensor) {
  const one = fed(x, 1);
  const masks = normalizeMasks(
    guesses.map(({ weight, mask }) => (mask ?? one).mul(weight)),
    "none",
  );
  return guesses.map(({ denoised }, i) => ({ denoised, weight: one, mask: masks[i]! }));
}

/** Options of `perturbedAttentionGuidance`. */
export interface PerturbedOptions<C> extends GuidanceOptions<C> {
  /** Strength of the lead away from the perturbed network's guess; 0 is none. */
  readonly perturbedScale: BySigma;
}

/**
 * Perturbed-attention guidance (Ahn et al. 2024): beside classifier-free guidance, `perturbedScale (cond - perturbed)`
 * leads away from what the network makes with self-attention maps replaced by the identity. `perturbed` is that
 * network with the same condition. Alone (without negative prompt) it is the case of scale 1.
 */
export function perturbedAttentionGuidance<C>(
  denoise: ConditionalDenoise<C>,
  perturbed: ConditionalDenoise<C>,
  options: PerturbedOptions<C>,
): Denoise {
  const where = "perturbedAttentionGuidance";
  check(where, options);
  return async (x, sigma) => {
    const scale = scaleAt(where, options, sigma);
    const lead = isWithin(options.interval, sigma) ? at(options.perturbedScale, sigma) : 0;
    const condition = conditionAt(options.condition, sigma);
    const conditions = scale === 1 ? [condition] : [condition, conditionAt(options.negative, sigma)];
    const [towards, base] = await denoiseEach(denoise, x, sigma, conditions, options.separate);
    let guided = base ? extrapolate(base, towards!, fed(x, scale)) : towards!;
    if (lead !== 0) {
      const [worse] = await denoiseEach(perturbed, x, sigma, [condition]);
      guided = guided.add(towards!.sub(worse!).mul(fed(x, lead)));
    }
    return rescaled(guided, towards!, x, sigma, options);
  };
}

/** Options of `autoguidance`. */
export interface AutoguidanceOptions<C> extends Omit<CommonOptions, "separate"> {
  readonly condition: Conditioning<C>;
  /** Condition of the worse network; default: the same. */
  readonly worseCondition?: Conditioning<C>;
}

/**
 * Autoguidance (Karras et al. 2024, "Guiding a diffusion model with a bad version of itself"): `worse + scale (better -
 * worse)`, where the worse network is smaller or less trained, with the same condition.
 */
export function autoguidance<C>(
  denoise: ConditionalDenoise<C>,
  worse: ConditionalDenoise<C>,
  options: AutoguidanceOptions<C>,
): Denoise {
  const where = "autoguidance";
  check(where, options);
  const { condition, worseCondition = condition } = options;
  return async (x, sigma) => {
    const scale = scaleAt(where, options, sigma);
    const [better] = await denoiseEach(denoise, x, sigma, [conditionAt(condition, sigma)]);
    if (scale === 1) return better!;
    const [base] = await denoiseEach(worse, x, sigma, [conditionAt(worseCondition, sigma)]);
    return extrapolate(base!, better!, fed(x, scale));
  };
}

/** Options of `adaptiveProjectedGuidance`. */
export interface ProjectedOptions<C>
  extends CommonOptions,
    ProjectionOptions,
    Pick<GuidanceOptions<C>, "condition" | "negative"> {
  /** beta: the difference of guesses is averaged over steps as `d + beta previous`; below 0 damps. Default 0. */
  readonly momentum?: number;
}

/**
 * Adaptive projected guidance (Sadat et al. 2025, "Eliminating oversaturation and artifacts of high guidance scales in
 * diffusion models"). With momentum it remembers the steps before: make one per run of a sampler.
 */
export function adaptiveProjectedGuidance<C>(
  denoise: ConditionalDenoise<C>,
  options: ProjectedOptions<C>,
): Denoise {
  const where = "adaptiveProjectedGuidance";
  check(where, options);
  const { momentum = 0, separate } = options;
  let running: Tensor | undefined;
  return async (x, sigma) => {
    const scale = scaleAt(where, options, sigma);
    const condition = conditionAt(options.condition, sigma);
    if (scale === 1) return (await denoiseEach(denoise, x, sigma, [condition]))[0]!;
    const conditions = [conditionAt(options.negative, sigma), condition];
    const [base, towards] = await denoiseEach(denoise, x, sigma, conditions, separate);
    let difference = towards!.sub(base!);
    if (momentum !== 0) {
      running ??= await zeros(x.shape, x.dtype).eval();
      running = difference = difference.add(running.mul(momentum));
    }
    const guided = projectedGuess(towards!, difference, fed(x, scale - 1), options);
    if (momentum !== 0) await evaluate([guided, difference]); // or the graph would reach back over all steps
    return guided;
  };
}
