/** Sampling with DDIM, and the samples at all noise levels that calibration and the study of errors need. */
import { type Network, type Scheduler, schedulerFromConfig } from "../../diffusion/index.ts";
import { AbortError, ArgumentError, NonFiniteError } from "../../errors.ts";
import { type DiTTransformer2DModel, guidedDiT } from "../../networks/index.ts";
import { createNoise, fromHost, jit, type Tensor, tensor } from "../../tensor/index.ts";

const CONFIG = {
  _class_name: "DDIMScheduler",
  num_train_timesteps: 1000,
  beta_schedule: "linear",
  beta_start: 1e-4,
  beta_end: 0.02,
  clip_sample: false,
  set_alpha_to_one: true,
  timestep_spacing: "trailing",
};

export const ddimScheduler = (steps: number): Scheduler => schedulerFromConfig(CONFIG, { steps });

export interface DrawOptions {
  readonly count: number;
  readonly steps: number;
  readonly seed: number;
  /** 1: none. */
  readonly guidance?: number;
  /** Samples at once. Default 100. */
  readonly batch?: number;
  /** Labels by sample; default: all classes in turn. */
  readonly label?: (sample: number) => number;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

export interface Drawn {
  /** Pictures in [-1, 1]. // [count, C, H, W] */
  readonly values: Float32Array;
  readonly labels: Int32Array;
  /** Milliseconds for each step of a batch. */
  readonly stepMilliseconds: number;
}

/** What the network saw in one step of a batch. */
export interface Seen {
  readonly step: number;
  readonly timestep: number;
  /** Index of the first sample of the batch. */
  readonly first: number;
  readonly x: Tensor;
  readonly labels: Tensor;
  readonly prediction: Tensor;
}

const checkCount = (name: string, value: number): void => {
  if (!Number.isInteger(value) || value < 0)
    throw new ArgumentError(`${name}: expected a number from 0, got ${value}`);
};

/**
 * Draws pictures. Sample i is the same whatever the batch. The weights are constants of the compiled step, so that packed
 * layers run on their integer kernels. Throws `NonFiniteError` when a prediction is not finite, `AbortError` when stopped.
 */
export async function draw(
  model: DiTTransformer2DModel,
  options: DrawOptions,
  watch?: (seen: Seen) => Promise<void> | void,
): Promise<Drawn> {
  const { count, steps, seed, guidance = 1, batch = 100, threads, signal } = options;
  checkCount("draw", count);
  const { sampleSize: size, inChannels: channels, classes } = model.config;
  const label = options.label ?? ((i: number) => i % classes);
  const plane = channels * size * size;
  const labels = Int32Array.from({ length: count }, (_, i) => label(i));
  const values = new Float32Array(count * plane);
  const noise = createNoise("philox", seed);
  const scheduler = ddimScheduler(steps);
  const predict = jit(
    (x: Tensor, t: Tensor, y: Tensor): Tensor =>
      guidance === 1 ? model.call(x, t, y) : guidedDiT(model, { x, timestep: t, labels: y, scale: guidance }),
    threads ? { threads } : {},
  );
  let [elapsed, measured] = [0, 0];
  try {
    for (let first = 0; first < count; first += batch) {
      const n = Math.min(batch, count - first);
      const y = fromHost("i32", [n], labels.slice(first, first + n));
      const start = noise.normal([n, channels, size, size], { sample: first, purpose: "start", step: 0 });
      let step = 0;
      const network: Network = async (x, timestep) => {
        if (signal?.aborted) throw new AbortError();
        const from = performance.now();
        const prediction = await predict(x, tensor([timestep]), y);
        const data = (await prediction.data()) as Float32Array;
        if (step > 0) {
          elapsed += performance.now() - from;
          measured++;
        }
        const bad = data.findIndex((v) => !Number.isFinite(v));
        if (bad >= 0)
          throw new NonFiniteError(
            `draw: the prediction of step ${step} at timestep ${timestep} holds ${data[bad]}`,
          );
        await watch?.({ step, timestep, first, x, labels: y, prediction });
        step++;
        return prediction;
      };
      const run = scheduler.sample(
        network,
        scheduler.initial(fromHost("f32", [n, channels, size, size], start)),
      );
      for (;;) {
        const { done, value } = await run.next();
        if (!done) continue;
        values.set((await value.data()) as Float32Array, first * plane);
        break;
      }
    }
  } finally {
    await predict.close();
  }
  return { values, labels, stepMilliseconds: measured ? elapsed / measured : 0 };
}

/** Inputs of the network at one noise level each. */
export interface NoisyBatch {
  readonly x: Tensor; // [N, C, H, W]
  readonly timestep: Tensor; // [N]
  readonly labels: Tensor; // [N]
}

/**
 * Calibration samples: every sample of a batch is kept at one step, and the steps of a batch are spread over the whole
 * run, so that all noise levels are there (Q-DiT's calibration set). Batches of equal size.
 */
export async function calibrationBatches(
  model: DiTTransformer2DModel,
  options: {
    samples: number;
    batch: number;
    steps: number;
    seed: number;
    guidance?: number;
    threads?: number;
  },
): Promise<NoisyBatch[]> {
  const { samples, batch, steps } = options;
  if (samples < batch || samples % batch !== 0)
    throw new ArgumentError(`calibration: ${samples} samples are no whole number of batches of ${batch}`);
  const { sampleSize: size, inChannels: channels } = model.config;
  const plane = channels * size * size;
  const x = new Float32Array(samples * plane);
  const timesteps = new Float32Array(samples);
  const drawn = await draw(
    model,
    { ...options, count: samples, batch },
    async ({ step, timestep, first, x: now }) => {
      const values = (await now.data()) as Float32Array;
      for (let i = 0; i < batch; i++) {
        // A stride that is prime to the steps visits all of them.
        if ((7 * i + first / batch) % steps !== step) continue;
        x.set(values.subarray(i * plane, (i + 1) * plane), (first + i) * plane);
        timesteps[first + i] = timestep;
      }
    },
  );
  return Array.from({ length: samples / batch }, (_, b) => ({
    x: fromHost("f32", [batch, channels, size, size], x.slice(b * batch * plane, (b + 1) * batch * plane)),
    timestep: fromHost("f32", [batch], timesteps.slice(b * batch, (b + 1) * batch)),
    labels: fromHost("i32", [batch], drawn.labels.slice(b * batch, (b + 1) * batch)),
  }));
}
