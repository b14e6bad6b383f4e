/**
 * Guidance as formulas on guesses of the clean sample. Since every parameterisation is linear in that guess, the sums
 * below are the same as on eps, v or a flow's velocity. They are plain tensor functions, for use inside `jit` as well.
 */
import { ArgumentError } from "../../errors.ts";
import { maximum, type Tensor, type TensorLike, zerosLike } from "../../tensor/index.ts";
import { sampleAxes } from "./conditions.ts";

/** `base + scale (towards - base)`: classifier-free guidance (Ho & Salimans 2022), autoguidance (Karras et al. 2024). */
export const extrapolate = (base: Tensor, towards: Tensor, scale: TensorLike): Tensor =>
  base.add(towards.sub(base).mul(scale));

/** A guess for one of several conditions: how much it weighs, and where, [N or 1, C or 1, H, W] of numbers from 0 to 1. */
export interface WeightedGuess {
  readonly denoised: Tensor;
  readonly weight: TensorLike;
  readonly mask?: Tensor;
}

const weightOf = ({ weight, mask }: Omit<WeightedGuess, "denoised">): TensorLike =>
  mask ? mask.mul(weight) : weight;

/**
 * `base + scale sum_i w_i m_i (D_i - base)`: the conjunction of conditions (Liu et al. 2022, "Compositional visual
 * generation with composable diffusion models", eq. 11). Negative weights avoid, masks that add up to one divide the
 * image into regions.
 */
export function compose(base: Tensor, guesses: readonly WeightedGuess[], scale: TensorLike): Tensor {
  if (guesses.length === 0) throw new ArgumentError("compose: expected at least one condition");
  const pull = guesses.map((g) => g.denoised.sub(base).mul(weightOf(g))).reduce((a, b) => a.add(b));
  return base.add(pull.mul(scale));
}

/**
 * Masks divided by their sum, so that they add up to one everywhere; where they are all zero, the `rest` says what
 * happens: each gets an equal share (default), or none.
 */
export function normalizeMasks(masks: readonly Tensor[], rest: "share" | "none" = "share"): Tensor[] {
  if (masks.length === 0) throw new ArgumentError("normalizeMasks: expected at least one mask");
  const total = masks.reduce((a, b) => a.add(b));
  const uncovered = total.lessEqual(0).cast(total.dtype);
  const share = rest === "share" ? 1 / masks.length : 0;
  const divisor = total.add(uncovered);
  return masks.map((m) => m.div(divisor).add(uncovered.mul(share)));
}

const deviation = (x: Tensor): Tensor => x.variance(sampleAxes(x), true).sqrt();

/**
 * The guided guess with the spread of the conditional one, mixed in by phi in [0, 1], against over-exposure (Lin et
 * al. 2024, "Common diffusion noise schedules and sample steps are flawed", eq. 15-16). They rescale what the network
 * predicts, an affine function of the guess: proportional to D - x for eps and flow, to D - x / (1 + sigma^2) for v,
 * to D for x0. `offset` is what is taken off: x, x / (1 + sigma^2), or undefined.
 */
export function rescaleSpread(
  guided: Tensor,
  conditional: Tensor,
  phi: TensorLike,
  offset: Tensor | undefined,
): Tensor {
  const shift = offset ?? zerosLike(guided);
  const [ours, theirs] = [guided.sub(shift), conditional.sub(shift)];
  const ratio = deviation(theirs).div(maximum(deviation(ours), 1e-12)); // [N, 1, 1, 1]
  return shift.add(ours.mul(ratio.sub(1).mul(phi).add(1)));
}

/** Euclidean norm of each sample, [N, 1, …]. */
const sampleNorm = (x: Tensor): Tensor => x.norm(sampleAxes(x), true);

/** Options of `projectedGuess`. */
export interface ProjectionOptions {
  /** Share of the part along the conditional guess, which oversaturates. Default 0; 1 keeps all. */
  readonly eta?: number;
  /** Largest norm of the difference per sample (r in the paper); default: no limit. */
  readonly maxNorm?: number;
}

/**
 * Adaptive projected guidance (Sadat et al. 2025, algorithm 1): `conditional + (scale - 1) (orthogonal + eta
 * parallel)`, where the (averaged) difference of the guesses is shortened to a norm and split along the conditional
 * guess, all per sample.
 */
export function projectedGuess(
  conditional: Tensor,
  difference: Tensor,
  scaleMinusOne: TensorLike,
  options: ProjectionOptions = {},
): Tensor {
  const { eta = 0, maxNorm } = options;
  const limited = maxNorm
    ? difference.mul(maximum(sampleNorm(difference), 1e-12).reciprocal().mul(maxNorm).clip(0, 1))
    : difference;
  if (eta === 1) return conditional.add(limited.mul(scaleMinusOne));
  const axes = sampleAxes(conditional);
  const along = limited.mul(conditional).sum(axes, true);
  const parallel = conditional.mul(along.div(maximum(conditional.square().sum(axes, true), 1e-24)));
  return conditional.add(limited.sub(parallel.mul(1 - eta)).mul(scaleMinusOne));
}
