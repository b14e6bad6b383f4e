/** Calibration: ranges, magnitudes and second moments of the inputs of a network's linear layers. */
import { ArgumentError, CalibrationError, NonFiniteError } from "../../errors.ts";
import { type Jitted, jit, type Tensor } from "../../tensor/index.ts";
import { withHooks } from "../capture.ts";

/** Statistics of the inputs of one layer, per input channel. */
export interface InputStatistics {
  /** Rows of inputs (tokens) seen. */
  readonly rows: number;
  /** Moving averages of each batch's minimum and maximum. */
  readonly low: Float32Array; // [K]
  readonly high: Float32Array; // [K]
  /** Largest magnitude ever seen. */
  readonly magnitude: Float32Array; // [K]
  /** Mean of x xᵀ times 2, the Hessian of the squared error, when it was asked for. */
  readonly hessian: Float64Array | undefined; // [K, K]
}

/** Options of `calibrate`. */
export interface CalibrateOptions<M, B> {
  /** Batches of calibration samples of one shape. */
  readonly batches: readonly B[];
  /** Runs the model on a batch, so that its layers see their inputs. Traced once. */
  readonly run: (model: M, batch: B) => Tensor;
  /** Samples in all, for the check that they suffice. */
  readonly samples: number;
  /** Fewest samples that are accepted. Default 16. */
  readonly leastSamples?: number;
  /** Whether second moments are wanted (for GPTQ). */
  readonly moments?: boolean;
}

/** Decay of the moving averages of the ranges. */
const MEMORY = 0.9;

interface Collected {
  readonly rows: Tensor;
  readonly low: Tensor;
  readonly high: Tensor;
  readonly moments?: Tensor;
}

/** Statistics of a layer's input x [..., K], inside the graph. */
function collect(x: Tensor, moments: boolean): Collected {
  const flat = x.reshape([-1, x.shape.at(-1)!]); // [M, K]
  return {
    rows: flat.sliceAxis(1, 0, 1).mul(0).add(1).sum(),
    low: flat.min(0),
    high: flat.max(0),
    ...(moments && { moments: flat.transpose([1, 0]).matmul(flat) }),
  };
}

class Accumulator {
  private rows = 0;
  private readonly low: Float32Array;
  private readonly high: Float32Array;
  private readonly magnitude: Float32Array;
  private readonly sum: Float64Array | undefined;
  private batches = 0;

  constructor(width: number, moments: boolean) {
    this.low = new Float32Array(width);
    this.high = new Float32Array(width);
    this.magnitude = new Float32Array(width);
    this.sum = moments ? new Float64Array(width * width) : undefined;
  }

  async add({ rows, low, high, moments }: Collected, key: string): Promise<void> {
    const [lows, highs] = [await low.data(), await high.data()] as [Float32Array, Float32Array];
    const memory = this.batches++ === 0 ? 0 : MEMORY;
    for (let i = 0; i < lows.length; i++) {
      const [a, b] = [lows[i]!, highs[i]!];
      if (!Number.isFinite(a) || !Number.isFinite(b))
        throw new NonFiniteError(
          `calibration: input channel ${i} of "${key}" is ${Number.isFinite(a) ? b : a}`,
        );
      this.low[i] = memory * this.low[i]! + (1 - memory) * a;
      this.high[i] = memory * this.high[i]! + (1 - memory) * b;
      this.magnitude[i] = Math.max(this.magnitude[i]!, Math.abs(a), Math.abs(b));
    }
    this.rows += await rows.item();
    if (!this.sum) return;
    const products = (await moments!.data()) as Float32Array;
    for (let i = 0; i < products.length; i++) this.sum[i]! += products[i]!;
  }

  result(): InputStatistics {
    const { rows, low, high, magnitude, sum } = this;
    return { rows, low, high, magnitude, hessian: sum?.map((v) => (2 * v) / rows) };
  }
}

/**
 * Runs calibration batches and collects what the layers of the given keys see. Throws `CalibrationError` for fewer samples
 * than needed, `NonFiniteError` naming the layer and the channel for NaN and infinity, `TreeError` for unknown keys.
 */
export async function calibrate<M extends object, B>(
  model: M,
  keys: readonly string[],
  options: CalibrateOptions<M, B>,
): Promise<Map<string, InputStatistics>> {
  const { batches, run, samples, leastSamples = 16, moments = false } = options;
  if (samples < leastSamples || batches.length === 0)
    throw new CalibrationError(
      `calibration: expected at least ${leastSamples} samples, got ${samples} in ${batches.length} batches`,
    );
  const collector: Jitted<[M, B], Record<string, Collected>> = jit((m: M, batch: B) => {
    const found: Record<string, Collected> = {};
    const hook = (output: unknown, args: readonly unknown[], key: string): unknown => {
      if (key in found) throw new ArgumentError(`calibration: "${key}" is called more than once`);
      found[key] = collect(args[0] as Tensor, moments);
      return output;
    };
    run(withHooks(m, Object.fromEntries(keys.map((key) => [key, hook]))), batch);
    return found;
  });
  const sums = new Map<string, Accumulator>();
  try {
    for (const batch of batches) {
      const found = await collector(model, batch);
      for (const key of keys) {
        const one = found[key];
        if (!one) throw new CalibrationError(`calibration: the samples never reach "${key}"`);
        if (!sums.has(key)) sums.set(key, new Accumulator(one.low.size, moments));
        await sums.get(key)!.add(one, key);
      }
    }
  } finally {
    await collector.close();
  }
  return new Map([...sums].map(([key, sum]) => [key, sum.result()]));
}
