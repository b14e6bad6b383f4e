/**
 * Noise-DA ("Denoising as Adaptation", ICLR 2025): a network that restores and a diffusion model learn together. The diffusion
 * model guesses the noise on a clean synthetic picture and sees beside it what the network made of two degraded ones: of that
 * picture, and of a real one without a truth. Its error reaches the network through both. It is used while training only.
 * Equations are numbered as in the system's README.
 */
import { addNoise, alphasCumprod, betas, levelOfAlphaBar, type NoiseLevel } from "../../diffusion/index.ts";
import { ArgumentError, ShapeError } from "../../errors.ts";
import { charbonnier, type LossParts } from "../../nn/index.ts";
import { constant, fromHost, type Tensor, where } from "../../tensor/index.ts";
import type { TrainingLevels } from "../../training/index.ts";

/** The network that is adapted. Pictures [N, 3, H, W] in [0, 1]; what it gives is not cut off. */
export interface Restoration {
  /** Degraded pictures restored, as large. // [N, 3, H, W] */
  restore(y: Tensor): Tensor;
}

/** The diffusion model: its guess of the noise in x at gamma [N] beside two pictures, with the dropout of a key. */
export interface Denoiser {
  /** The noise of x, told two restored pictures and gamma [N]. // [N, 3, H, W] */
  predict(x: Tensor, first: Tensor, second: Tensor, gamma: Tensor, key: Tensor | undefined): Tensor;
}

/** Both, as they are trained. Mode 0 needs no diffusion model. */
export interface Joint<R extends Restoration = Restoration, D extends Denoiser = Denoiser> {
  readonly restorer: R;
  readonly diffusion?: D | undefined;
}

/** Everything that is switched in the loss. The standard is the paper's method. */
export interface JointOptions {
  /** 0: the synthetic pairs alone. 1: the method. 2: noise is put on unpaired clean pictures (`reference`). Default 1. */
  readonly mode?: 0 | 1 | 2;
  /** Coins decide which of both pictures comes first. Default true. */
  readonly shuffle?: boolean;
  /** Pictures with each other's residual as conditions that must be worse. Default true; without effect in mode 2. */
  readonly swap?: boolean;
  /** What the diffusion model sees: both pictures, or one of them twice, and then nothing is swapped. Default both. */
  readonly conditions?: "both" | "synthetic" | "real";
  /** By how much the error must be larger with swapped residuals. Default 0.1. */
  readonly margin?: number;
  /** On which values losses are taken: "unit" in [0, 1] (noise), "signed" in [-1, 1] (rain, blur). Default "unit". */
  readonly range?: "unit" | "signed";
}

/** A batch: pictures [N, 3, H, W] in [0, 1] (noise may leave it), and the random parts of the step. */
export interface JointBatch {
  readonly clean: Tensor;
  readonly synthetic: Tensor;
  readonly real: Tensor;
  /** Other clean pictures, in mode 2. */
  readonly reference?: Tensor | undefined;
  /** alpha-bar of each sample, and its level. // [N] */
  readonly gamma: Tensor;
  readonly level: NoiseLevel;
  readonly noise: Tensor; // [N, 3, H, W]
  /** Where the real picture comes first, as good and as worse conditions. // [N], bool */
  readonly coins: { readonly good: Tensor; readonly worse: Tensor };
  /** Dropout of both passes. */
  readonly keys?: { readonly good: Tensor; readonly worse: Tensor } | undefined;
  /** Weight of the diffusion model's loss at this step. // [] */
  readonly alpha: Tensor;
}

/** gamma_t = prod (1 - beta), beta from 1e-6 to 1e-2 in 1000 steps. // [1000] */
export const gammas = (): Float32Array =>
  alphasCumprod(betas({ schedule: "linear", start: 1e-6, end: 1e-2, timesteps: 1000 }));

/** First and last timestep that levels are drawn between. */
export type TimestepRange = readonly [least: number, most: number];

/** Eq. 1: t of the range and u of [0, 1) drawn evenly, gamma = gamma_(t-1) + (gamma_t - gamma_(t-1)) u. */
export function gammaLevels(table: Float32Array, [least, most]: TimestepRange): TrainingLevels {
  if (![least, most].every(Number.isInteger) || least < 1 || most >= table.length || least > most)
    throw new ArgumentError(
      `Noise-DA: expected timesteps from 1 to ${table.length - 1}, the least first, got ${least} to ${most}`,
    );
  return {
    drawn: (v) => {
      const at = least + v * (most - least + 1);
      const t = Math.min(most, Math.floor(at));
      return table[t - 1]! + (table[t]! - table[t - 1]!) * (at - t);
    },
    levelOf: (gamma) => levelOfAlphaBar(fromHost("f32", [gamma.length], gamma)),
  };
}

/** How the weight of the diffusion model's loss grows. */
export interface AlphaSchedule {
  /** What it comes near to; published: 0.2. */
  readonly cap: number;
  /** Steps until it is there. */
  readonly ramp: number;
  /** Default 5. */
  readonly slope?: number;
}

/** Eq. 2: alpha = cap (2 / (1 + e^(-slope p)) - 1), p = min(step / ramp, 1): from 0 to 0.987 of the cap. */
export function alphaAt(step: number, { cap, ramp, slope = 5 }: AlphaSchedule): number {
  if (!(cap >= 0) || !Number.isFinite(cap))
    throw new ArgumentError(`Noise-DA: expected an alpha of 0 or more, got ${cap}`);
  if (!(ramp > 0)) throw new ArgumentError(`Noise-DA: expected a ramp above 0 steps, got ${ramp}`);
  return cap * (2 / (1 + Math.exp(-slope * Math.min(step / ramp, 1))) - 1);
}

/** Eq. 4: two pictures in the order of the coins; whole pictures change places, not single channels. */
export function inOrder(coins: Tensor, a: Tensor, b: Tensor): readonly [first: Tensor, second: Tensor] {
  const swap = coins.reshape([-1, 1, 1, 1]);
  return [where(swap, b, a), where(swap, a, b)];
}

/** Eq. 5: each picture with the other's residual: n_s = y_s + r_r, n_r = y_r + r_s. */
export function swappedResiduals(batch: JointBatch, s: Tensor, r: Tensor): readonly [Tensor, Tensor] {
  const { synthetic, real } = batch;
  return [synthetic.add(r.sub(real)), real.add(s.sub(synthetic))];
}

/** L_pos, L_neg, L_con and L_dif of what was restored, s and r [N, 3, H, W] in [0, 1]; gradients reach both. */
export function diffusionTerms(
  diffusion: Denoiser,
  batch: JointBatch,
  [s, r]: readonly [synthetic: Tensor, real: Tensor],
  options: JointOptions = {},
): Readonly<Record<"positive" | "negative" | "contrast" | "diffusion", Tensor>> {
  const { mode = 1, shuffle = true, swap = true, conditions = "both", margin = 0.1 } = options;
  const ranged = rangeOf(options);
  const { gamma, level, noise, coins, keys } = batch;
  const target = mode === 2 ? batch.reference! : batch.clean;
  const x = addNoise(ranged(target), noise, level); // eq. 3: x_t = sqrt(gamma) x + sqrt(1 - gamma) e
  const error = (pair: readonly [Tensor, Tensor], order: Tensor, key: Tensor | undefined): Tensor => {
    const [a, b] = pair.map(ranged) as [Tensor, Tensor];
    const [first, second] = shuffle ? inOrder(order, a, b) : [a, b];
    return noise
      .sub(diffusion.predict(x, first, second, gamma, key))
      .square()
      .mean();
  };
  const seen = { both: [s, r], synthetic: [s, s], real: [r, r] } as const;
  const positive = error(seen[conditions], coins.good, keys?.good);
  if (mode === 2) return { positive, negative: ZERO, contrast: ZERO, diffusion: positive };
  if (!swap || conditions !== "both")
    return { positive, negative: ZERO, contrast: ZERO, diffusion: positive.mul(0.5) };
  const negative = error(swappedResiduals(batch, s, r), coins.worse, keys?.worse);
  const contrast = positive.sub(negative).add(margin).relu(); // eq. 6
  return { positive, negative, contrast, diffusion: positive.add(contrast).mul(0.5) }; // eq. 7
}

/** Eq. 8: L = L_pix + alpha L_dif, for both networks; nothing is detached. */
export function jointLoss(
  { restorer, diffusion }: Joint,
  batch: JointBatch,
  options: JointOptions = {},
): LossParts {
  const { mode = 1, range = "unit" } = options;
  const ranged = rangeOf({ range });
  const s = restorer.restore(batch.synthetic);
  const pixels = charbonnier(ranged(s), ranged(batch.clean)); // sqrt(d^2 + 1e-6)
  if (mode === 0) return { loss: pixels, metrics: { pixels } };
  const r = restorer.restore(batch.real); // a call of its own: batch norms do not mix the domains
  const terms = diffusionTerms(diffusion!, batch, [s, r], options);
  return { loss: pixels.add(terms.diffusion.mul(batch.alpha)), metrics: { pixels, ...terms } };
}

const ZERO = constant("f32", [], [0]);

const rangeOf =
  ({ range = "unit" }: JointOptions) =>
  (x: Tensor): Tensor =>
    range === "signed" ? x.mul(2).sub(1) : x;

/** @throws ArgumentError for switches that cannot be */
export function checkJoint({
  mode = 1,
  margin = 0.1,
  conditions = "both",
  range = "unit",
}: JointOptions): void {
  if (![0, 1, 2].includes(mode)) throw new ArgumentError(`Noise-DA: expected mode 0, 1 or 2, got ${mode}`);
  if (!(margin >= 0) || !Number.isFinite(margin))
    throw new ArgumentError(`Noise-DA: expected a margin of 0 or more, got ${margin}`);
  if (!["both", "synthetic", "real"].includes(conditions))
    throw new ArgumentError(`Noise-DA: expected conditions both, synthetic or real, got ${conditions}`);
  if (!["unit", "signed"].includes(range))
    throw new ArgumentError(`Noise-DA: expected the range unit or signed, got ${range}`);
}

/** @throws ShapeError for batches of two shapes or without pixels, ArgumentError in mode 2 without references */
export function checkJointBatch(batch: JointBatch, { mode = 1 }: JointOptions = {}): void {
  const { clean, synthetic, real, reference } = batch;
  if (mode === 2 && !reference)
    throw new ArgumentError(
      "Noise-DA: mode 2 puts noise on other clean pictures; the batch has no reference",
    );
  const others = { synthetic, real, ...(mode === 2 && { reference }) };
  if (clean.rank !== 4 || clean.shape[1] !== 3 || clean.shape.some((side) => side === 0))
    throw new ShapeError(`Noise-DA: expected clean pictures [N, 3, H, W], got ${clean}`);
  for (const [name, t] of Object.entries(others))
    if (t!.shape.join() !== clean.shape.join())
      throw new ShapeError(`Noise-DA: clean ${clean} and ${name} ${t} differ in shape`);
}
