/** Time embeddings, with an optional further condition. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import {
  type Activation,
  activate,
  Linear,
  Module,
  type Rng,
  TimestepEmbedding,
  timestepEmbedding,
} from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";

/** Options of `Timesteps`. */
export interface TimestepsOptions {
  readonly flipSinToCos: boolean;
  readonly freqShift: number;
}

/** Sines and cosines of times, without parameters: see `timestepEmbedding`. */
export class Timesteps extends Module {
  readonly dim: number;
  readonly flipSinToCos: boolean;
  readonly freqShift: number;

  constructor(dim: number, { flipSinToCos, freqShift }: TimestepsOptions) {
    super();
    this.dim = dim;
    this.flipSinToCos = flipSinToCos;
    this.freqShift = freqShift;
  }

  /** t [N] gives [N, D]. */
  call(t: Tensor): Tensor {
    return timestepEmbedding(t, this.dim, this);
  }
}

/** Options of `ConditionedTimestepEmbedding`. */
export interface ConditionedTimestepOptions {
  readonly activation?: Activation;
  /** Applied to the result. */
  readonly postActivation?: Activation;
  /** Width of a further condition, such as the guidance scale of distilled models (Meng et al. 2023). */
  readonly conditionDim?: number;
}

/** `TimestepEmbedding` to whose input a projected condition may be added. */
export class ConditionedTimestepEmbedding extends TimestepEmbedding {
  readonly condProj: Linear | undefined;
  readonly postActivation: Activation;

  constructor(inChannels: number, dim: number, rng: Rng, options: ConditionedTimestepOptions = {}) {
    super(inChannels, dim, rng, { activation: options.activation });
    const { conditionDim, postActivation = "identity" } = options;
    this.condProj =
      conditionDim === undefined ? undefined : new Linear(conditionDim, inChannels, rng, { bias: false });
    this.postActivation = postActivation;
  }

  /** [N, C] and, if any, the condition [N, K] give [N, D]. */
  override call(embedding: Tensor, condition?: Tensor): Tensor {
    if (condition && !this.condProj)
      throw new ArgumentError(
        "ConditionedTimestepEmbedding: got a condition of time, but the network was built without time_cond_proj_dim",
      );
    const input = condition ? embedding.add(this.condProj!.call(condition)) : embedding;
    return activate(this.postActivation, super.call(input));
  }
}

/** Times [N] for a batch of `count`, from one for each or one for all ([1] or a scalar). */
export function timesOf(t: Tensor, count: number): Tensor {
  const flat = t.rank === 0 ? t.reshape([1]) : t;
  if (flat.rank !== 1 || (flat.shape[0] !== 1 && flat.shape[0] !== count))
    throw new ShapeError(`timestep: expected [${count}] or [1], got ${t}`);
  return flat;
}
