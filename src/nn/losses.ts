/** Losses. Scalars by default, as a training step wants them; `reduction: "none"` keeps one number for each element. */
import { ArgumentError, DTypeError, ShapeError } from "../errors.ts";
import { isFloat, maximum, type Tensor, where } from "../tensor/index.ts";

/** How losses of elements become one: their mean (default), their sum, or none. */
export interface Reduced {
  /** Mean over the elements that count (default), their sum, or each by itself. */
  readonly reduction?: "mean" | "sum" | "none";
}

/** `losses` reduced; `counted`, of the same shape, is 1 where an element counts and 0 where it does not. */
function reduced(losses: Tensor, { reduction = "mean" }: Reduced, counted?: Tensor): Tensor {
  if (reduction === "none") return losses;
  if (reduction === "sum") return losses.sum();
  if (reduction !== "mean") throw new ArgumentError(`unknown reduction ${JSON.stringify(reduction)}`);
  return counted ? losses.sum().div(maximum(counted.sum(), 1)) : losses.mean();
}

function needSameShape(what: string, a: Tensor, b: Tensor): void {
  if (a.shape.join() !== b.shape.join())
    throw new ShapeError(`${what}: expected tensors of one shape, got ${a} and ${b}`);
}

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions extends Reduced {
  /** Share of the target that is spread evenly over all classes, in [0, 1]. Default 0. */
  readonly labelSmoothing?: number;
  /** Label of elements that do not count; may lie outside of the classes. Default -100. */
  readonly ignoreIndex?: number;
}

/**
 * Cross entropy of logits [N, C, …] and targets: class indices (i32 or i64) [N, …] from 0 to C - 1, or probabilities of the
 * shape of the logits. By element, the losses are [N, …]. The mean is over the elements whose label is not `ignoreIndex`;
 * with none of them it is 0.
 */
export function crossEntropy(logits: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { labelSmoothing = 0, ignoreIndex = -100 } = options;
  if (logits.rank < 2) throw new ShapeError(`crossEntropy: expected logits [N, C, …], got ${logits}`);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new ArgumentError(`crossEntropy: labelSmoothing must be in [0, 1], got ${labelSmoothing}`);
  const logs = logits.logSoftmax(1);
  const spread = (losses: Tensor): Tensor =>
    labelSmoothing === 0 ? losses : losses.mul(1 - labelSmoothing).add(logs.mean(1).mul(-labelSmoothing));
  if (isFloat(target.dtype)) {
    needSameShape("crossEntropy", logits, target);
    return reduced(spread(logs.mul(target).sum(1).neg()), options);
  }
  const expected = logits.shape.filter((_, i) => i !== 1);
  if (target.shape.join() !== expected.join())
    throw new ShapeError(
      `crossEntropy: logits ${logits} need labels [${expected.join(", ")}], got ${target}`,
    );
  if (target.dtype !== "i64" && target.dtype !== "i32")
    throw new DTypeError(`crossEntropy: labels must be i64 or i32, or probabilities, got ${target.dtype}`);
  const ignored = target.equal(ignoreIndex);
  const picked = logs.gatherElements(where(ignored, 0, target).unsqueeze(1), 1).squeeze(1);
  const losses = where(ignored, 0, spread(picked.neg()));
  return reduced(losses, options, ignored.logicalNot().cast(losses.dtype));
}

/** Options of `binaryCrossEntropyWithLogits`. */
export interface BinaryOptions extends Reduced {
  /** Weight of positive targets, by which recall is traded for precision. Default 1. */
  readonly positiveWeight?: number;
}

/** Binary cross entropy of logits and targets in [0, 1], of one shape. */
export function binaryCrossEntropyWithLogits(
  logits: Tensor,
  targets: Tensor,
  options: BinaryOptions = {},
): Tensor {
  needSameShape("binaryCrossEntropyWithLogits", logits, targets);
  const { positiveWeight = 1 } = options;
  const weight = targets.mul(positiveWeight - 1).add(1);
  // -log(1 - sigmoid(x)) = x + softplus(-x), of which the second part also is -log(sigmoid(x)).
  const losses = targets.neg().add(1).mul(logits).add(logits.neg().softplus().mul(weight));
  return reduced(losses, options);
}

/** log(sigmoid(x)), without overflow: what preferences are trained with (Rafailov et al. 2023). */
export const logSigmoid = (x: Tensor): Tensor => x.neg().softplus().neg();

/** Options of `huber`. */
export interface HuberOptions extends Reduced {
  /** Where the parabola becomes a line, above 0. Default 1. */
  readonly delta?: number;
}

/** Huber's loss: half the square of a difference up to `delta`, a line beyond. Tensors of one shape. */
export function huber(x: Tensor, target: Tensor, options: HuberOptions = {}): Tensor {
  needSameShape("huber", x, target);
  const { delta = 1 } = options;
  if (!(delta > 0)) throw new ArgumentError(`huber: delta must be positive, got ${delta}`);
  const difference = x.sub(target);
  const near = difference.clip(-delta, delta);
  // For |d| > delta, near (d - near / 2) = delta (|d| - delta / 2).
  return reduced(near.mul(difference.sub(near.mul(0.5))), options);
}

/** Options of `charbonnier`. */
export interface CharbonnierOptions extends Reduced {
  /** Size of the differences below which it is flat, above 0. Default 1e-3. */
  readonly eps?: number;
}

/** Charbonnier's loss, sqrt(d² + eps²): an absolute difference that is smooth at 0. Tensors of one shape. */
export function charbonnier(x: Tensor, target: Tensor, options: CharbonnierOptions = {}): Tensor {
  needSameShape("charbonnier", x, target);
  const { eps = 1e-3 } = options;
  if (!(eps > 0)) throw new ArgumentError(`charbonnier: eps must be positive, got ${eps}`);
  return reduced(
    x
      .sub(target)
      .square()
      .add(eps ** 2)
      .sqrt(),
    options,
  );
}

/** A normal with independent elements: mean and logarithm of the variance, of one shape. */
export interface Gaussian {
  readonly mean: Tensor;
  readonly logvar: Tensor;
}

/** Kullback-Leibler divergence of two normals, KL(p | q), for each element; q is the standard normal by default. */
export function gaussianDivergence({ mean, logvar }: Gaussian, other?: Gaussian): Tensor {
  if (!other) return mean.square().add(logvar.exp()).sub(1).sub(logvar).mul(0.5);
  const inverse = other.logvar.neg().exp();
  const squares = mean.sub(other.mean).square().add(logvar.exp()).mul(inverse);
  return squares.sub(1).sub(logvar).add(other.logvar).mul(0.5);
}

/**
 * Kullback-Leibler divergence KL(p | q) of two distributions over the classes of an axis, from their logits of one shape
 * (teacher and student). The result has the other axes.
 */
export function categoricalDivergence(p: Tensor, q: Tensor, axis = 1): Tensor {
  needSameShape("categoricalDivergence", p, q);
  const [logP, logQ] = [p.logSoftmax(axis), q.logSoftmax(axis)];
  return logP.exp().mul(logP.sub(logQ)).sum(axis);
}

/**
 * Total variation of pictures or volumes [N, C, …]: the mean absolute difference of neighbours along each spatial axis,
 * summed over those axes. Axes of size 1 count as flat.
 */
export function totalVariation(x: Tensor): Tensor {
  if (x.rank < 3) throw new ShapeError(`totalVariation: expected [N, C, …] with spatial axes, got ${x}`);
  const along = (axis: number): Tensor => {
    const size = x.shape[axis]!;
    if (size < 2) return x.sum().mul(0);
    return x
      .sliceAxis(axis, 1, size)
      .sub(x.sliceAxis(axis, 0, size - 1))
      .abs()
      .mean();
  };
  return Array.from({ length: x.rank - 2 }, (_, i) => along(i + 2)).reduce((a, b) => a.add(b));
}
