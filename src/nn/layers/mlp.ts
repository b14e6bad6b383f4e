/** Perceptrons. */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import type { Rng } from "../init.ts";
import { Module } from "../module.ts";
import { type Activation, activate } from "./activation.ts";
import { Dropout } from "./dropout.ts";
import { Linear } from "./linear.ts";

/** Linear layers with an activation between them (none after the last). */
export class MLP extends Module {
  readonly layers: readonly Linear[];
  readonly activation: Activation;

  /** `widths` are those of the input, of the hidden layers and of the output. */
  constructor(
    widths: readonly number[],
    rng: Rng,
    options: { activation?: Activation; bias?: boolean } = {},
  ) {
    super();
    if (widths.length < 2) throw new ArgumentError(`MLP: expected at least two widths, got [${widths}]`);
    const { activation = "silu", bias = true } = options;
    this.layers = widths.slice(1).map((width, i) => new Linear(widths[i]!, width, rng, { bias }));
    this.activation = activation;
  }

  /** x [..., I] gives [..., O]. */
  call(x: Tensor): Tensor {
    return this.layers.reduce((y, layer, i) => layer.call(i ? activate(this.activation, y) : y), x);
  }
}

/** A projection and its activation; `geglu` projects to twice the width, value | gate (Shazeer 2020). */
export class ActivatedProjection extends Module {
  readonly proj: Linear;
  readonly activation: Activation;
  readonly gated: boolean;

  constructor(dim: number, inner: number, activation: Activation, gated: boolean, bias: boolean, rng: Rng) {
    super();
    this.proj = new Linear(dim, gated ? 2 * inner : inner, rng, { bias });
    this.activation = activation;
    this.gated = gated;
  }

  /** x [..., I] gives [..., O]. */
  call(x: Tensor): Tensor {
    const y = this.proj.call(x);
    if (!this.gated) return activate(this.activation, y);
    const [value, gate] = y.split(2, -1) as [Tensor, Tensor];
    return value.mul(activate(this.activation, gate));
  }
}

/** Options of `FeedForward`. */
export interface FeedForwardOptions {
  /** `geglu` (the default) is a gate by the exact GELU. */
  readonly activation?: Activation | "geglu";
  /** Inner width; default: 4 dim. */
  readonly innerDim?: number;
  readonly outDim?: number;
  readonly bias?: boolean;
  /** Probability of dropping an inner value. Default 0. */
  readonly dropout?: number;
  /** See `DropoutOptions`. */
  readonly purpose?: number | string;
}

/** The perceptron of a transformer block, in the layout of diffusers: `net.0.proj`, `net.2`. */
export class FeedForward extends Module {
  readonly net: readonly [ActivatedProjection, Dropout, Linear];

  constructor(dim: number, rng: Rng, options: FeedForwardOptions = {}) {
    super();
    const { activation = "geglu", innerDim = 4 * dim, outDim = dim, bias = true, dropout = 0 } = options;
    const gated = activation === "geglu";
    this.net = [
      new ActivatedProjection(dim, innerDim, gated ? "gelu" : activation, gated, bias, rng),
      new Dropout(dropout, { purpose: options.purpose }),
      new Linear(innerDim, outDim, rng, { bias }),
    ];
  }

  /** x [..., D]; with a key, inner values are dropped. */
  call(x: Tensor, key?: Tensor): Tensor {
    const [project, drop, out] = this.net;
    return out.call(drop.call(project.call(x), key));
  }
}
