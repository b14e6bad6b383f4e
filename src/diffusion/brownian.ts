/**
 * Brownian motion that can be asked for at any level in any order and always is the same path, so that a stochastic
 * sampler's image converges as its steps grow in number. A virtual Brownian tree (Li et al. 2020, "Scalable Gradients
 * for Stochastic Differential Equations", algorithm 3) whose nodes are addresses of a counter-based generator.
 *
 * The time is 1 / sigma^2: the posterior noise of one large step is then the sum of that of any smaller ones, since
 * x / sigma^2 has independent increments when the clean sample is known.
 */
import { ArgumentError } from "../errors.ts";
import { fnv1a32, type NoiseSource, type Tensor, tensor } from "../tensor/index.ts";

/** A path W over the noise levels. */
export interface BrownianPath {
  /** (W(to) - W(from)) / sqrt(the time between), standard normals; f32 of the given shape [N, ...]. */
  normal(from: number, to: number, shape: readonly number[]): Tensor;
}

/** Levels of bisection: what lies nearer than 1.5e-5 of the whole is told apart by a straight line only. */
const DEPTH = 16;
const PURPOSE = fnv1a32("brownian");
/** Values of the path that are kept: a step begins where the last one ended. */
const KEPT = 4;

/**
 * Levels 0 ... infinity as positions 1 ... 0, and the time of a bridge over them: 1 / (1 + sigma^2). A bridge B from 0
 * to 0 makes Brownian motion in 1 / sigma^2 as W = (1 + 1 / sigma^2) B.
 */
const positionOf = (sigma: number): number => 1 - (2 / Math.PI) * Math.atan(sigma);
const bridgeTime = (position: number): number => Math.sin((position * Math.PI) / 2) ** 2;

/**
 * The path of a philox source. Row b of the shape is sample b's own path. Throws `ArgumentError` for other sources:
 * torch's generators cannot be asked for a number out of order.
 */
export function brownianPath(noise: NoiseSource): BrownianPath {
  if (noise.mode !== "philox") {
    throw new ArgumentError(`a Brownian path needs a philox source, which is addressed; got ${noise.mode}`);
  }
  const node = remember(2 * DEPTH, (id: number, shape) =>
    noise.normal(shape, { purpose: PURPOSE, step: id }),
  );
  const bridge = remember(KEPT, (position: number, shape) =>
    descend(position, (id) => node(id, shape), shape),
  );

  return {
    normal(from, to, shape) {
      const time = 1 / to ** 2 - 1 / from ** 2;
      if (!(from > 0 && to > 0 && time !== 0)) {
        throw new ArgumentError(`a Brownian increment needs two positive levels, got ${from} and ${to}`);
      }
      const [start, end] = [bridge(positionOf(from), shape), bridge(positionOf(to), shape)];
      const scale = 1 / Math.sqrt(Math.abs(time));
      const [ofStart, ofEnd] = [scale * (1 + 1 / from ** 2), scale * (1 + 1 / to ** 2)];
      const values = new Float32Array(end.length);
      for (let i = 0; i < values.length; i++) values[i] = ofEnd * end[i]! - ofStart * start[i]!;
      return tensor(values, { shape });
    },
  };
}

/** The bridge at a position, by descending to the leaf that holds it; each node is a bridge between its neighbours. */
function descend(
  position: number,
  normals: (id: number) => Float32Array,
  shape: readonly number[],
): Float64Array {
  const size = shape.reduce((n, d) => n * d, 1);
  let [left, right] = [new Float64Array(size), new Float64Array(size)];
  let [from, to] = [0, 1];
  for (let depth = 0, id = 1; depth < DEPTH; depth++) {
    const middle = (from + to) / 2;
    const [before, at, after] = [from, middle, to].map(bridgeTime) as [number, number, number];
    const share = (at - before) / (after - before);
    const deviation = Math.sqrt(share * (after - at));
    const z = normals(id);
    const values = new Float64Array(size);
    for (let i = 0; i < size; i++) {
      values[i] = left[i]! + share * (right[i]! - left[i]!) + deviation * z[i]!;
    }
    const upper = position >= middle ? 1 : 0;
    if (upper) [left, from] = [values, middle];
    else [right, to] = [values, middle];
    id = 2 * id + upper;
  }
  const [before, after] = [bridgeTime(from), bridgeTime(to)];
  const share = (bridgeTime(position) - before) / (after - before);
  return left.map((l, i) => l + share * (right[i]! - l));
}

/** A function of a number and a shape that keeps its latest results. */
function remember<T>(capacity: number, f: (key: number, shape: readonly number[]) => T) {
  const kept = new Map<string, T>();
  return (key: number, shape: readonly number[]): T => {
    const name = `${key} ${shape}`;
    const value = kept.get(name) ?? f(key, shape);
    kept.delete(name);
    kept.set(name, value);
    if (kept.size > capacity) kept.delete(kept.keys().next().value!);
    return value;
  };
}
