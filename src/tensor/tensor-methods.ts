/** Written by tools/tensor-methods.ts: the methods of `Tensor`, which are the functions of `methods.ts`. */
import type { DType, HostArray } from "./dtype.ts";
import type { CumulativeOptions } from "./ops/cumulative.ts";
import type { GridSampleOptions, ResizeOptions } from "./ops/image.ts";
import type { Reduction } from "./ops/indexing.ts";
import type { MatmulAttrs } from "./ops/matmul.ts";
import type { BorderMode } from "./ops/pad.ts";
import type { Axes } from "./ops/reduce.ts";
import type { Pads } from "./ops/slice.ts";
import type { Tensor, TensorLike } from "./tensor.ts";

export interface TensorMethods {
  /** Computes the value now (with everything it depends on) and returns the tensor. */
  eval(): Promise<Tensor>;
  /**
   * The elements, row-major, in the dtype's typed array, which is the tensor's own memory: do not write into it. It stays as
   * it is when the tensor is donated or disposed.
   */
  data(): Promise<HostArray>;
  /** The elements as a flat array of numbers. */
  toArray(): Promise<number[]>;
  /** The single element as a number. Throws `ShapeError` when there is not exactly one. */
  item(): Promise<number>;
  /** -x. */
  neg(): Tensor;
  /** Magnitude |x|. */
  abs(): Tensor;
  /** -1, 0 or 1. */
  sign(): Tensor;
  /** e to the power of x. */
  exp(): Tensor;
  /** Natural logarithm. */
  log(): Tensor;
  /** Square root; NaN below 0. */
  sqrt(): Tensor;
  /** 1 / x. */
  reciprocal(): Tensor;
  /** 1 / sqrt(x). */
  rsqrt(): Tensor;
  /** x times x. */
  square(): Tensor;
  /** Sine of radians. */
  sin(): Tensor;
  /** Cosine of radians. */
  cos(): Tensor;
  /** Tangent of radians. */
  tan(): Tensor;
  /** Arc sine, in radians. */
  asin(): Tensor;
  /** Arc cosine, in radians. */
  acos(): Tensor;
  /** Arc tangent, in radians. */
  atan(): Tensor;
  /** Hyperbolic tangent. */
  tanh(): Tensor;
  /** Error function. */
  erf(): Tensor;
  /** 1 / (1 + exp(-x)). */
  sigmoid(): Tensor;
  /** log(1 + exp(x)). */
  softplus(): Tensor;
  /** x above 0, else 0. */
  relu(): Tensor;
  /** x sigmoid(x). */
  silu(): Tensor;
  /** x sigmoid(1.702 x), the activation of CLIP. */
  quickGelu(): Tensor;
  /** Gaussian error linear unit; `"tanh"` is the usual approximation. */
  gelu(approximate?: "none" | "tanh"): Tensor;
  /** Largest whole number that is not above x. */
  floor(): Tensor;
  /** Smallest whole number that is not below x. */
  ceil(): Tensor;
  /** Nearest integer, halves to even. */
  round(): Tensor;
  /** Where x is NaN, as bool. */
  isNan(): Tensor;
  /** Where x is infinite, of either sign, as bool. */
  isInf(): Tensor;
  /** True where x is false. Of bool. */
  logicalNot(): Tensor;
  /** All bits turned over. Of integers. */
  bitwiseNot(): Tensor;
  /** Limits to [min, max]; either bound may be infinite. The gradient is 1 inside the bounds (included), 0 outside. */
  clip(min: number, max: number): Tensor;
  /** min(max(x, -limit), limit) by tensors, for bounds that are themselves computed. */
  clipTo(min: Tensor, max: Tensor): Tensor;
  /** a + b, with broadcasting; a number takes the dtype of the other operand. */
  add(b: TensorLike): Tensor;
  /** a - b, with broadcasting. */
  sub(b: TensorLike): Tensor;
  /** a b, with broadcasting. */
  mul(b: TensorLike): Tensor;
  /** Quotient; integers truncate towards zero. */
  div(b: TensorLike): Tensor;
  /** a to the power of b, with broadcasting. */
  pow(b: TensorLike): Tensor;
  /** The larger of a and b, element by element, with broadcasting. */
  maximum(b: TensorLike): Tensor;
  /** The smaller of a and b, element by element, with broadcasting. */
  minimum(b: TensorLike): Tensor;
  /** Remainder: sign of the dividend for floats (C `fmod`), of the divisor for integers (Python `%`). */
  mod(b: TensorLike): Tensor;
  /** Where a = b, as bool. */
  equal(b: TensorLike): Tensor;
  /** Where a < b, as bool. */
  less(b: TensorLike): Tensor;
  /** Where a <= b, as bool. */
  lessEqual(b: TensorLike): Tensor;
  /** Where a > b, as bool. */
  greater(b: TensorLike): Tensor;
  /** Where a >= b, as bool. */
  greaterEqual(b: TensorLike): Tensor;
  /** Where both hold. Of bool. */
  logicalAnd(b: Tensor): Tensor;
  /** Where at least one holds. Of bool. */
  logicalOr(b: Tensor): Tensor;
  /** Where exactly one holds. Of bool. */
  logicalXor(b: Tensor): Tensor;
  /** Bits that both have. Of integers. */
  bitwiseAnd(b: TensorLike): Tensor;
  /** Bits that at least one has. Of integers. */
  bitwiseOr(b: TensorLike): Tensor;
  /** Bits that exactly one has. Of integers. */
  bitwiseXor(b: TensorLike): Tensor;
  /** Unsigned integers only. */
  shiftLeft(b: TensorLike): Tensor;
  /** Unsigned integers only; zeros move in. */
  shiftRight(b: TensorLike): Tensor;
  /** Sum over axes (all of them unless named). */
  sum(axes?: Axes, keepDims?: boolean): Tensor;
  /** Arithmetic mean over axes. */
  mean(axes?: Axes, keepDims?: boolean): Tensor;
  /** Variance over axes; `correction` 0 divides by n, 1 by n - 1. */
  variance(axes?: Axes, keepDims?: boolean, correction?: number): Tensor;
  /** Largest element over axes (all of them unless named); NaN where one is among them. */
  max(axes?: Axes, keepDims?: boolean): Tensor;
  /** Smallest element over axes (all of them unless named); NaN where one is among them. */
  min(axes?: Axes, keepDims?: boolean): Tensor;
  /** Index of the (first) largest element along an axis, as i64; that of the first NaN where there is one. */
  argmax(axis: number, keepDims?: boolean): Tensor;
  /** Index of the (first) smallest element along an axis, as i64; that of the first NaN where there is one. */
  argmin(axis: number, keepDims?: boolean): Tensor;
  /** The `k` largest (or smallest) elements along an axis, in order, and their indices. NaN counts as infinity. */
  topK(k: number, axis?: number, largest?: boolean): [values: Tensor, indices: Tensor];
  /** Elements in ascending (or descending) order along an axis, and their indices. */
  sort(axis?: number, descending?: boolean): [values: Tensor, indices: Tensor];
  /** exp(x) / sum(exp(x)) along an axis. */
  softmax(axis?: number): Tensor;
  /** log(softmax(x)) along an axis, without overflow. */
  logSoftmax(axis?: number): Tensor;
  /** Sums a tensor down to a shape that it was broadcast from. */
  sumTo(shape: readonly number[]): Tensor;
  /** Euclidean norm over axes; `eps` is added below the root. Its gradient at zero is zero. */
  norm(axes?: Axes, keepDims?: boolean, eps?: number): Tensor;
  /** log(sum(exp(x))), without overflow; -Infinity where all elements are. */
  logSumExp(axes?: Axes, keepDims?: boolean): Tensor;
  /** log(1 + x), accurate near 0 too. */
  log1p(): Tensor;
  /** exp(x) - 1, accurate near 0 too. */
  expm1(): Tensor;
  /**
   * Angle of the point (x, y) in (-pi, pi], with broadcasting: atan(y / x) in the right quadrant. 0 at the origin, where its
   * gradients are 0 too; both signs of zero count alike. Of finite numbers.
   */
  atan2(x: Tensor): Tensor;
  /** x above 0, slope times x below. */
  leakyRelu(slope?: number): Tensor;
  /** x above 0, alpha (exp(x) - 1) below. */
  elu(alpha?: number): Tensor;
  /** Where x is neither NaN nor infinite, as bool. */
  isFinite(): Tensor;
  /**
   * Standard deviation over axes; `correction` 0 divides the squares by n, 1 by n - 1. Its gradient where all elements are
   * equal is 0.
   */
  std(axes?: Axes, keepDims?: boolean, correction?: number): Tensor;
  /** Indices that put the elements of an axis in ascending (or descending) order, as i64; of equal ones the first leads. */
  argsort(axis?: number, descending?: boolean): Tensor;
  /** Running sums along an axis; with `reverse` from its end. */
  cumsum(axis: number, options?: CumulativeOptions & { readonly reverse?: boolean }): Tensor;
  /** Product of all elements along an axis, by halving; its gradient is exact where elements are zero. */
  prod(axis: number, keepDims?: boolean): Tensor;
  /**
   * Running products along an axis. With `exclusive`, of 1 - alpha, they are the transmittance along a ray. The backward
   * pass keeps the elements and their products, nothing in between.
   */
  cumprod(axis: number, options?: CumulativeOptions): Tensor;
  /**
   * Matrix product over the last two axes, batched over the others (which broadcast). `transA` and `transB` take an
   * operand transposed, `alpha` scales the product, both without an extra pass.
   */
  matmul(b: Tensor, options?: Partial<MatmulAttrs>): Tensor;
  /** Elements (or rows) of an axis at the given indices: `x[…, indices, …]`. Negative indices count from the end. */
  gather(indices: Tensor | readonly number[], axis?: number): Tensor;
  /** One element per index along an axis (NumPy `take_along_axis`). */
  gatherElements(indices: Tensor, axis: number): Tensor;
  /**
   * `x` with `updates` written at one index per element along an axis. With "add", "max" and "min" repeated indices meet in
   * turn; of equal largest or smallest elements each has its share of the gradient.
   */
  scatterElements(indices: Tensor, updates: Tensor, axis: number, reduction?: Reduction): Tensor;
  /** Elements or sub-tensors at multi-dimensional indices (last axis of `indices`). */
  gatherND(indices: Tensor): Tensor;
  /** `x` with `updates` written (added, or the larger or smaller one kept) at multi-dimensional indices. */
  scatterND(indices: Tensor, updates: Tensor, reduction?: Reduction): Tensor;
  /** Adds rows of `updates` [n, …] to rows of `x` at `indices` [n]; repeated indices add up. */
  scatterAdd(indices: Tensor, updates: Tensor): Tensor;
  /** 1 at the index, 0 elsewhere, on a new last axis of size `classes`. Indices outside give zeros. */
  oneHot(classes: number, dtype?: DType): Tensor;
  /** The same elements in another shape. One entry may be -1: whatever remains. */
  reshape(shape: readonly number[]): Tensor;
  /** Reorders axes; without a permutation, reverses them. */
  transpose(perm?: readonly number[]): Tensor;
  /** Repeats axes of size 1 (and adds leading axes) up to a shape. */
  broadcastTo(shape: readonly number[]): Tensor;
  /** A new axis of size 1 before the given one (negative: counted from the end of the result). */
  unsqueeze(axis: number): Tensor;
  /** Drops one axis of size 1, or all of them. */
  squeeze(axis?: number): Tensor;
  /** Merges the axes from `start` to `end` (included) into one. */
  flattenAxes(start?: number, end?: number): Tensor;
  /** Joins tensors along an axis. */
  concat(others: Tensor | readonly Tensor[], axis?: number): Tensor;
  /** Pieces along an axis: of equal size when `parts` is a number, else of the given sizes. */
  split(parts: number | readonly number[], axis?: number): Tensor[];
  /**
   * `x[starts:ends:steps]` on the leading axes. Negative bounds count from the end; missing ends mean the whole axis.
   * Steps are positive (see `flip`).
   */
  slice(starts: readonly number[], ends?: readonly (number | undefined)[], steps?: readonly number[]): Tensor;
  /** `x[…, start:end:step, …]` on one axis. */
  sliceAxis(axis: number, start: number, end?: number, step?: number): Tensor;
  /** One element along an axis, which disappears. */
  select(axis: number, index: number): Tensor;
  /** Reverses the order along axes. */
  flip(axes: number | readonly number[]): Tensor;
  /**
   * Extends every axis by `[before, after]` elements: a constant, the mirror image without the border ("reflect"), or the
   * border repeated ("replicate"), or the other end ("circular"). Negative pads crop (constant mode).
   */
  pad(pads: Pads, mode?: "constant" | BorderMode, value?: number): Tensor;
  /** Repeats the whole tensor `repeats[i]` times along axis i. */
  tile(repeats: readonly number[]): Tensor;
  /** Repeats each element `count` times along an axis. */
  repeat(count: number, axis: number): Tensor;
  /** Moves elements `shift` places along an axis; what leaves at one end enters at the other. */
  roll(shift: number, axis: number): Tensor;
  /**
   * `x` with `value` in place of the block that begins at `starts` (0 for axes without one). Throws `ShapeError` unless the
   * block lies inside of `x`.
   */
  setSlice(starts: readonly number[], value: Tensor): Tensor;
  /**
   * x [N, C, ...] resampled to the spatial size, with the conventions of torch's `interpolate`. Nearest takes
   * floor(i in / out); area averages (adaptive average pooling); bicubic has a = -0.75, or -0.5 with `antialias`.
   */
  resize(size: number | readonly number[], options?: ResizeOptions): Tensor;
  /** Channels to space (Shi et al. 2016): [N, C rᵏ, ...] to [N, C, ... r] with k spatial axes. */
  pixelShuffle(factor: number): Tensor;
  /** Space to channels, the inverse of `pixelShuffle`. */
  pixelUnshuffle(factor: number): Tensor;
  /**
   * x [N, C, ...] at the points of grid [N, ..., k] in [-1, 1], k = number of spatial axes, last axis first (x, y, z), as
   * torch's `grid_sample`: gives [N, C, ...]. Differentiable in both.
   */
  gridSample(grid: Tensor, options?: GridSampleOptions): Tensor;
  /**
   * Another element type. Floats to integers truncate towards zero; gradients flow between float types. A bf16 leaf is
   * widened on the host.
   */
  cast(to: DType): Tensor;
  /** The value in another element type, converted on the host: how f16 and bf16 weights are made for storage. */
  castHost(to: DType): Promise<Tensor>;
  /** The same values, through which no gradient flows. */
  stopGradient(): Tensor;
}
