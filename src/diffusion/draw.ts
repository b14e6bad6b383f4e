/** Drawing samples with a compiled network, in batches, with guidance by conditions. */
import { AbortError, ArgumentError } from "../errors.ts";
import { fromHost, jit, type NoiseSource, type Tensor, treeMap } from "../tensor/index.ts";
import { extrapolate } from "./guidance/formulas.ts";
import { startingAtSample } from "./noise-seeds.ts";
import type { Network } from "./parameterization.ts";
import type { SampleStep } from "./sample.ts";
import type { Scheduler } from "./scheduler.ts";

/** A network in drawing: what it sees [N, …], its timesteps [N], its condition (a tree of tensors with N on axis 0). */
export type DrawnNetwork<C> = (x: Tensor, timestep: Tensor, condition: C) => Tensor;

/** Options of `drawSamples`. */
export interface DrawingOptions<C> {
  readonly scheduler: Scheduler;
  /** Number of samples, and the shape of one. */
  readonly count: number;
  readonly shape: readonly number[];
  /** Addressed by sample (philox): sample i is the same whatever the batch. */
  readonly noise: NoiseSource;
  /** The condition of `n` samples from number `first` on. */
  readonly condition: (first: number, n: number) => C | Promise<C>;
  /** What to lead away from; needed for a guidance other than 1. */
  readonly negative?: (first: number, n: number) => C | Promise<C>;
  /** Strength: `negative + guidance (condition - negative)`, both from one call of the network. Default 1: none. */
  readonly guidance?: number;
  /** Samples at once. Default 100. */
  readonly batch?: number;
  /** Threads of the compiled network. Default: all cores. */
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What the network was asked last, and its (guided) prediction. */
export interface NetworkCall<C> {
  readonly x: Tensor;
  readonly timestep: number;
  readonly condition: C;
  readonly prediction: Tensor;
  /** Milliseconds that the call took. */
  readonly milliseconds: number;
}

export interface DrawingStep<C> extends SampleStep {
  /** Number of the first sample of this batch: so many are finished. */
  readonly first: number;
  readonly call: NetworkCall<C>;
}

function checkDrawing<C>({ count, guidance = 1, batch = 100, negative }: DrawingOptions<C>): void {
  for (const [name, value] of Object.entries({ count, batch })) {
    if (!Number.isInteger(value) || value < (name === "batch" ? 1 : 0))
      throw new ArgumentError(`drawing: expected a whole number as ${name}, got ${value}`);
  }
  if (!Number.isFinite(guidance)) throw new ArgumentError(`drawing: the guidance is ${guidance}`);
  if (guidance !== 1 && !negative)
    throw new ArgumentError(`drawing: a guidance of ${guidance} needs a condition to lead away from`);
}

/**
 * Draws samples, [count, …shape] as one array in the model's own scale. The network is compiled with its weights as
 * constants, so that packed layers run on their integer kernels. Yields after every step of every batch.
 *
 * @throws ArgumentError for impossible options, NonFiniteError naming the step, AbortError when stopped
 */
export async function* drawSamples<C>(
  network: DrawnNetwork<C>,
  options: DrawingOptions<C>,
): AsyncGenerator<DrawingStep<C>, Float32Array> {
  checkDrawing(options);
  const { scheduler, count, shape, noise, condition, guidance = 1, batch = 100, threads, signal } = options;
  const negative = guidance === 1 ? undefined : options.negative;
  const guided = (x: Tensor, t: Tensor, wanted: C, avoided?: C): Tensor => {
    if (avoided === undefined) return network(x, t, wanted);
    const both = treeMap((a, _, b) => a.concat(b!), avoided, wanted);
    const [base, towards] = network(x.concat(x), t.concat(t), both).split(2) as [Tensor, Tensor];
    return extrapolate(base, towards, guidance);
  };
  const predict = jit(guided, threads === undefined ? {} : { threads });
  const size = shape.reduce((a, b) => a * b, 1);
  const values = new Float32Array(count * size);
  try {
    for (let first = 0; first < count; first += batch) {
      const n = Math.min(batch, count - first);
      const own = startingAtSample(noise, first);
      const [wanted, avoided] = [await condition(first, n), await negative?.(first, n)];
      let call: NetworkCall<C> | undefined;
      const asked: Network = async (x, timestep) => {
        if (signal?.aborted) throw new AbortError();
        const t = fromHost("f32", [n], new Float32Array(n).fill(timestep));
        const from = performance.now();
        const prediction = await (avoided === undefined
          ? predict(x, t, wanted)
          : predict(x, t, wanted, avoided));
        call = { x, timestep, condition: wanted, prediction, milliseconds: performance.now() - from };
        return prediction;
      };
      const start = own.normal([n, ...shape], { purpose: "start", step: 0 });
      const x = scheduler.initial(fromHost("f32", [n, ...shape], start));
      const run = scheduler.sample(asked, x, { noise: own, ...(signal && { signal }) });
      for (;;) {
        const { done, value } = await run.next();
        if (done) {
          values.set((await value.data()) as Float32Array, first * size);
          break;
        }
        yield { ...value, first, call: call! };
      }
    }
  } finally {
    await predict.close();
  }
  return values;
}
