/** Normalisation layers. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { batchNorm, groupNorm, layerNorm, ones, rmsNorm, type Tensor, zeros } from "../../tensor/index.ts";
import { Module, withFields } from "../module.ts";

/** Options of `LayerNorm`, `GroupNorm` and `RMSNorm`. */
export interface NormOptions {
  /** Added to the variance. */
  readonly eps?: number;
  /** Whether there is a learned scale (and shift). Default true. */
  readonly affine?: boolean;
}

function checkLast(name: string, x: Tensor, width: number): void {
  if (x.shape.at(-1) !== width) throw new ShapeError(`${name}: expected [..., ${width}], got ${x}`);
}

function checkChannels(name: string, x: Tensor, channels: number): void {
  if (x.shape[1] !== channels) throw new ShapeError(`${name}: expected [N, ${channels}, ...], got ${x}`);
}

/** Zero mean and unit variance over the last axis (Ba et al. 2016). */
export class LayerNorm extends Module {
  readonly weight: Tensor | undefined; // [D]
  readonly bias: Tensor | undefined; // [D]
  readonly dim: number;
  readonly eps: number;

  constructor(dim: number, { eps = 1e-5, affine = true }: NormOptions = {}) {
    super();
    this.weight = affine ? ones([dim]) : undefined;
    this.bias = affine ? zeros([dim]) : undefined;
    this.dim = dim;
    this.eps = eps;
  }

  /** x [..., D]. */
  call(x: Tensor): Tensor {
    checkLast("LayerNorm", x, this.dim);
    return layerNorm(x, this.weight, this.bias, this.eps);
  }
}

/** Zero mean and unit variance over each group of channels and all points (Wu and He 2018). */
export class GroupNorm extends Module {
  readonly weight: Tensor | undefined; // [C]
  readonly bias: Tensor | undefined; // [C]
  readonly groups: number;
  readonly channels: number;
  readonly eps: number;

  constructor(groups: number, channels: number, { eps = 1e-5, affine = true }: NormOptions = {}) {
    super();
    if (!(groups >= 1) || channels % groups !== 0)
      throw new ArgumentError(`GroupNorm: ${channels} channels do not split into ${groups} groups`);
    this.weight = affine ? ones([channels]) : undefined;
    this.bias = affine ? zeros([channels]) : undefined;
    this.groups = groups;
    this.channels = channels;
    this.eps = eps;
  }

  /** x [N, C, ...]. */
  call(x: Tensor): Tensor {
    checkChannels("GroupNorm", x, this.channels);
    return groupNorm(x, this.groups, this.weight, this.bias, this.eps);
  }
}

/** Unit root mean square over the last axis (Zhang and Sennrich 2019). */
export class RMSNorm extends Module {
  readonly weight: Tensor | undefined; // [D]
  readonly dim: number;
  readonly eps: number;

  constructor(dim: number, { eps = 1e-6, affine = true }: NormOptions = {}) {
    super();
    this.weight = affine ? ones([dim]) : undefined;
    this.dim = dim;
    this.eps = eps;
  }

  /** x [..., D]. */
  call(x: Tensor): Tensor {
    checkLast("RMSNorm", x, this.dim);
    return rmsNorm(x, this.weight, this.eps);
  }
}

/** Batch norms that have seen a batch, while somebody tracks them: as they were, and as they are then. */
let tracked: Map<BatchNorm, BatchNorm> | undefined;

/**
 * Runs a function, and gives with its result the batch norms whose running statistics have moved in it, by the layer as it
 * was: how the training step finds them. The function must not be async.
 */
export function trackingStatistics<R>(f: () => R): { result: R; moved: ReadonlyMap<BatchNorm, BatchNorm> } {
  const outer = tracked;
  const moved = new Map<BatchNorm, BatchNorm>();
  tracked = moved;
  try {
    return { result: f(), moved };
  } finally {
    tracked = outer;
  }
}

/**
 * Batch norm (Ioffe and Szegedy 2015). Its running statistics are fields like the others, through which no gradient
 * flows. In training call it with "batch": the training step moves the running statistics, once for each call, so that
 * two calls on two domains mix theirs as in PyTorch. PyTorch's `num_batches_tracked` is not kept.
 */
export class BatchNorm extends Module {
  static override readonly fixed = ["runningMean", "runningVar"];
  readonly weight: Tensor; // [C]
  readonly bias: Tensor; // [C]
  readonly runningMean: Tensor; // [C]
  readonly runningVar: Tensor; // [C]
  readonly eps: number;

  constructor(channels: number, { eps = 1e-5 }: Pick<NormOptions, "eps"> = {}) {
    super();
    this.weight = ones([channels]);
    this.bias = zeros([channels]);
    this.runningMean = zeros([channels]);
    this.runningVar = ones([channels]);
    this.eps = eps;
  }

  /** x [N, C, ...] by the running statistics ("frozen"), or by those of the batch itself. */
  call(x: Tensor, statistics: "frozen" | "batch" = "frozen"): Tensor {
    checkChannels("BatchNorm", x, this.weight.size);
    if (statistics === "batch") {
      tracked?.set(this, (tracked.get(this) ?? this).updated(x));
      return batchNorm(x, this.weight, this.bias, undefined, this.eps);
    }
    const running = { mean: this.runningMean.stopGradient(), variance: this.runningVar.stopGradient() };
    return batchNorm(x, this.weight, this.bias, running, this.eps);
  }

  /** The layer after it has seen x: running statistics moved towards those of x by `momentum`. */
  updated(x: Tensor, momentum = 0.1): BatchNorm {
    checkChannels("BatchNorm", x, this.weight.size);
    const axes = x.shape.map((_, i) => i).filter((i) => i !== 1);
    const seen = x.stopGradient();
    const move = (from: Tensor, to: Tensor): Tensor => from.mul(1 - momentum).add(to.mul(momentum));
    return withFields<BatchNorm>(this, {
      runningMean: move(this.runningMean, seen.mean(axes)),
      runningVar: move(this.runningVar, seen.variance(axes, false, 1)),
    });
  }
}

/** A value per sample and channel [N, C], spread over the points of x ([N, ..., C], or [N, C, ...] with axis 1). */
function spread(v: Tensor, x: Tensor, axis: number): Tensor {
  const at = axis < 0 ? axis + x.rank : axis;
  if (v.rank !== 2 || v.shape[1] !== x.shape[at])
    throw new ShapeError(`modulate: expected [N, ${x.shape[at]}] for ${x}, got ${v}`);
  return v.reshape(x.shape.map((_, i) => (i === 0 ? v.shape[0]! : i === at ? v.shape[1]! : 1)));
}

/**
 * Adaptive norm: `x (1 + scale) + shift`, with shift and scale [N, C] computed from a condition. The channels of x are
 * its last axis, as in adaptive layer norm (Peebles and Xie 2022), or `axis` 1, as in adaptive group norm.
 */
export function modulate(x: Tensor, shift: Tensor, scale: Tensor, axis = -1): Tensor {
  return x.mul(spread(scale, x, axis).add(1)).add(spread(shift, x, axis));
}

/** `x gate`, with a gate [N, C] per sample: how adaptive blocks fade in their branches. */
export function gated(x: Tensor, gate: Tensor, axis = -1): Tensor {
  return x.mul(spread(gate, x, axis));
}
