/** Dropout as a pure function of a key. */
import { ArgumentError } from "../../errors.ts";
import { bernoulli, type Tensor, where } from "../../tensor/index.ts";
import { Module } from "../module.ts";

/** Options of `Dropout`. */
export interface DropoutOptions {
  /**
   * Name of the random stream. Layers of one network that share a key need different purposes to drop independently.
   */
  readonly purpose?: number | string;
}

/** Sets each value to zero with probability `p` and scales the others to keep the mean (Srivastava et al. 2014). */
export class Dropout extends Module {
  readonly p: number;
  readonly purpose: number | string;

  constructor(p: number, { purpose = "dropout" }: DropoutOptions = {}) {
    super();
    if (!(p >= 0 && p < 1)) throw new ArgumentError(`Dropout: expected a probability in [0, 1), got ${p}`);
    this.p = p;
    this.purpose = purpose;
  }

  /** x [...], dropped by the address of a key (see `makeKey`); without a key, x itself: evaluation. */
  call(x: Tensor, key?: Tensor): Tensor {
    if (!key || this.p === 0) return x;
    const keep = 1 - this.p;
    return where(bernoulli(key, x.shape, keep, { purpose: this.purpose }), x.mul(1 / keep), 0);
  }
}
