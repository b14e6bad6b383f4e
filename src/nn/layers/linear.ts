/** The affine map of the last axis. */

import { ShapeError } from "../../errors.ts";
import { linear, type Tensor } from "../../tensor/index.ts";
import { type Initializer, type Rng, uniformFanIn } from "../init.ts";
import { Module } from "../module.ts";
import { checkLayer } from "./check.ts";

/** Options of `Linear`. */
export interface LinearOptions {
  /** Default true. */
  readonly bias?: boolean;
  /** Initialiser of the weight; default: PyTorch's. */
  readonly init?: Initializer;
}

/** `x weightᵀ + bias`. */
export class Linear extends Module {
  readonly weight: Tensor; // [O, I]
  readonly bias: Tensor | undefined; // [O]

  constructor(inFeatures: number, outFeatures: number, rng: Rng, options: LinearOptions = {}) {
    super();
    checkLayer("Linear", { inFeatures, outFeatures }, rng);
    const { bias = true, init = uniformFanIn } = options;
    this.weight = init(rng, [outFeatures, inFeatures]);
    this.bias = bias ? uniformFanIn(rng, [outFeatures], inFeatures) : undefined;
  }

  /** x [..., I] gives [..., O]. */
  call(x: Tensor): Tensor {
    const width = this.weight.shape[1]!;
    if (x.shape.at(-1) !== width) throw new ShapeError(`Linear: expected [..., ${width}], got ${x}`);
    return linear(x, this.weight, this.bias);
  }
}
