/** Vectors for tokens, times and positions. */
import { ArgumentError, DTypeError, ShapeError } from "../../errors.ts";
import { cast, constant, cos, fromHost, gather, isFloat, sin, type Tensor } from "../../tensor/index.ts";
import type { Initializer, Rng } from "../init.ts";
import { Module } from "../module.ts";
import { type Activation, activate } from "./activation.ts";
import { Linear } from "./linear.ts";

const standardNormal: Initializer = (rng, shape) => rng.normal(shape);

/** A table of vectors, looked up by index. */
export class Embedding extends Module {
  readonly weight: Tensor; // [entries, D]

  constructor(entries: number, dim: number, rng: Rng, options: { init?: Initializer } = {}) {
    super();
    const { init = standardNormal } = options;
    this.weight = init(rng, [entries, dim]);
  }

  /** ids [...] (i64 or i32) gives [..., D]. */
  call(ids: Tensor): Tensor {
    if (isFloat(ids.dtype)) throw new DTypeError(`Embedding: expected integer ids, got ${ids}`);
    return gather(this.weight, ids);
  }
}

/** Learned positions: one vector each for the places 0 … length - 1. */
export class LearnedPositions extends Module {
  readonly weight: Tensor; // [length, D]

  constructor(length: number, dim: number, rng: Rng, options: { init?: Initializer } = {}) {
    super();
    const { init = (source, shape) => source.normal(shape, 0.02) } = options;
    this.weight = init(rng, [length, dim]);
  }

  /** The first `length` vectors: [length, D]. */
  call(length: number): Tensor {
    const available = this.weight.shape[0]!;
    if (!(length <= available))
      throw new ShapeError(`LearnedPositions: expected at most ${available} positions, got ${length}`);
    return this.weight.slice([0], [length]);
  }
}

/** Options of `timestepEmbedding`. */
export interface TimestepEmbeddingOptions {
  /** [cos | sin] instead of [sin | cos]. Default false. */
  readonly flipSinToCos?: boolean;
  /** The frequencies end at maxPeriod^-((half - 1) / (half - freqShift)). Default 1. */
  readonly freqShift?: number;
  readonly maxPeriod?: number;
  /** The phase is multiplied by this. Default 1. */
  readonly scale?: number;
}

/**
 * Sinusoidal embedding of times t [N] as [N, dim] (Ho et al. 2020), an odd `dim` padded by a zero. Defaults, and every
 * rounding to single precision, as in diffusers: its UNets use `flipSinToCos` and `freqShift` 0.
 */
export function timestepEmbedding(t: Tensor, dim: number, options: TimestepEmbeddingOptions = {}): Tensor {
  const { flipSinToCos = false, freqShift = 1, maxPeriod = 10000, scale = 1 } = options;
  if (t.rank !== 1) throw new ShapeError(`timestepEmbedding: expected times [N], got ${t}`);
  const half = Math.floor(dim / 2);
  if (!Number.isInteger(dim) || half < 1 || half === freqShift)
    throw new ArgumentError(
      `timestepEmbedding: ${dim} channels leave no frequencies with shift ${freqShift}`,
    );
  const slope = Math.fround(-Math.log(maxPeriod));
  const exponents = Float32Array.from(
    { length: half },
    (_, i) => Math.fround(slope * i) / (half - freqShift),
  );
  const frequencies = constant("f32", [1, half], exponents.map(Math.exp));
  const plain = cast(t, "f32").unsqueeze(1).mul(frequencies);
  const phase = scale === 1 ? plain : plain.mul(scale); // [N, half]
  const [first, second] = flipSinToCos ? [cos(phase), sin(phase)] : [sin(phase), cos(phase)];
  const waves = first.concat(second, 1);
  return dim % 2
    ? waves.pad([
        [0, 0],
        [0, 1],
      ])
    : waves;
}

/** The two-layer perceptron behind a timestep embedding. */
export class TimestepEmbedding extends Module {
  static override readonly keyNames = { linear1: "linear_1", linear2: "linear_2" };
  readonly linear1: Linear;
  readonly linear2: Linear;
  readonly activation: Activation;

  constructor(
    inChannels: number,
    dim: number,
    rng: Rng,
    options: { outDim?: number; activation?: Activation } = {},
  ) {
    super();
    const { outDim = dim, activation = "silu" } = options;
    this.linear1 = new Linear(inChannels, dim, rng);
    this.linear2 = new Linear(dim, outDim, rng);
    this.activation = activation;
  }

  /** [N, C] gives [N, D]. */
  call(embedding: Tensor): Tensor {
    return this.linear2.call(activate(this.activation, this.linear1.call(embedding)));
  }
}

/** Options of `GaussianFourierFeatures`. */
export interface FourierOptions {
  /** Standard deviation of the frequencies. Default 1. */
  readonly scale?: number;
  /** Embeds the logarithm. Default false. */
  readonly log?: boolean;
  /** [cos | sin] instead of [sin | cos]. Default false. */
  readonly flipSinToCos?: boolean;
}

/** Sines and cosines of random, fixed frequencies (Tancik et al. 2020), as for the noise level in score models. */
export class GaussianFourierFeatures extends Module {
  static override readonly fixed = ["weight"];
  readonly weight: Tensor; // [half]
  readonly log: boolean;
  readonly flipSinToCos: boolean;

  constructor(half: number, rng: Rng, options: FourierOptions = {}) {
    super();
    const { scale = 1, log = false, flipSinToCos = false } = options;
    this.weight = rng.normal([half], scale);
    this.log = log;
    this.flipSinToCos = flipSinToCos;
  }

  /** t [N] gives [N, 2 half]. */
  call(t: Tensor): Tensor {
    if (t.rank !== 1) throw new ShapeError(`GaussianFourierFeatures: expected [N], got ${t}`);
    const level = this.log ? t.log() : t;
    const phase = level
      .unsqueeze(1)
      .mul(this.weight.stopGradient())
      .mul(2 * Math.PI);
    return this.flipSinToCos ? cos(phase).concat(sin(phase), 1) : sin(phase).concat(cos(phase), 1);
  }
}

/**
 * Fixed positions of a grid, row by row: [rows * columns, dim]. The first half of the channels encodes the column, the
 * second the row, each as [sin | cos] of position * 10000^(-i / (dim / 4)), in double precision. Neighbours are 1 apart
 * unless a step says otherwise, by which a grid of another size is given the extent that a model knows.
 */
export function sinCosPositions2d(
  dim: number,
  rows: number,
  columns: number,
  { rowStep = 1, columnStep = 1 }: { rowStep?: number; columnStep?: number } = {},
): Tensor {
  const quarter = dim / 4;
  if (!Number.isInteger(quarter) || quarter < 1)
    throw new ArgumentError(`sinCosPositions2d: expected a multiple of 4 channels, got ${dim}`);
  const table = new Float32Array(rows * columns * dim);
  for (let place = 0; place < rows * columns; place++) {
    const at = [(place % columns) * columnStep, Math.floor(place / columns) * rowStep];
    at.forEach((position, half) => {
      for (let i = 0; i < quarter; i++) {
        const angle = position / 10000 ** (i / quarter);
        const first = place * dim + half * 2 * quarter + i;
        table[first] = Math.sin(angle);
        table[first + quarter] = Math.cos(angle);
      }
    });
  }
  return fromHost("f32", [rows * columns, dim], table);
}
