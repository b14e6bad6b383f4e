/**
 * Brownian motion that can be asked for at any level in any order and always is the same path, so that a stochastic
 * sampler's image converges as its steps grow in number. A virtual Brownian tree (Li et al. 2020, "Scalable Gradients
 * for Stochastic Differential Equations", algorithm 3) whose nodes are addresses of a counter-based generator.
 */
import { ArgumentError } from "../errors.ts";
import { fnv1a32, type NoiseSource, type Tensor, tensor } from "../tensor/index.ts";

/** A path W over the noise levels. */
export interface BrownianPath {
  /** (W(from) - W(to)) / sqrt(the time between), standard normals; f32 of the given shape [N, ...]. */
  normal(from: number, to: number, shape: readonly number[]): Tensor;
}

/** Levels of bisection: levels nearer than 1e-6 of the whole are told apart by a straight line only. */
const DEPTH = 20;
const PURPOSE = fnv1a32("brownian");

/** Noise levels 0 ... infinity as times 0 ... 1, whatever the schedule: equal schedules are not needed for equal paths. */
const timeOf = (sigma: number): number => (2 / Math.PI) * Math.atan(sigma);

/**
 * The path of a philox source. Row b of the shape is sample b's own path. Throws `ArgumentError` for other sources:
 * torch's generators cannot be asked for a number out of order.
 */
export function brownianPath(noise: NoiseSource): BrownianPath {
  if (noise.mode !== "philox") {
    throw new ArgumentError(`a Brownian path needs a philox source, which is addressed; got ${noise.mode}`);
  }
  const nodes = new Map<string, Float32Array>();
  /** Normals of a tree node, numbered as in a heap; those of the last descents are kept. */
  function node(id: number, shape: readonly number[]): Float32Array {
    const key = `${id} ${shape}`;
    const values = nodes.get(key) ?? noise.normal(shape, { purpose: PURPOSE, step: id });
    nodes.delete(key);
    nodes.set(key, values);
    if (nodes.size > 2 * DEPTH + 2) nodes.delete(nodes.keys().next().value!);
    return values;
  }

  /** W(t) by descending to the leaf that holds t; each midpoint is a bridge between its neighbours. */
  function at(t: number, shape: readonly number[]): Float64Array {
    let left = new Float64Array(shape.reduce((n, d) => n * d, 1));
    let right = Float64Array.from(node(0, shape));
    let [from, to] = [0, 1];
    for (let depth = 0, id = 1; depth < DEPTH; depth++) {
      const normals = node(id, shape);
      const deviation = Math.sqrt(to - from) / 2;
      const middle = left.map((l, i) => (l + right[i]!) / 2 + deviation * normals[i]!);
      const half = (from + to) / 2;
      const upper = t >= half ? 1 : 0;
      if (upper) [left, from] = [middle, half];
      else [right, to] = [middle, half];
      id = 2 * id + upper;
    }
    const share = (t - from) / (to - from);
    return left.map((l, i) => l + share * (right[i]! - l));
  }

  return {
    normal(from, to, shape) {
      const [a, b] = [timeOf(from), timeOf(to)];
      if (a === b) throw new ArgumentError(`a Brownian increment needs two levels, got ${from} twice`);
      const [start, end] = [at(b, shape), at(a, shape)];
      const scale = 1 / Math.sqrt(Math.abs(a - b));
      return tensor(
        Float32Array.from(end, (w, i) => (w - start[i]!) * scale),
        { shape },
      );
    },
  };
}
