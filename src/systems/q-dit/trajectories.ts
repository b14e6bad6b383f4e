/** What a model sees on its way from noise to pictures: calibration samples, and the trajectory on which errors are compared. */
import { ArgumentError, CalibrationError } from "../../errors.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { fromHost } from "../../tensor/index.ts";
import { drained } from "../../work.ts";
import type { CalibrationBatch } from "./method.ts";
import { type DrawOptions, draw } from "./use.ts";

/** Plain data: it belongs to what decides a result. */
export interface CalibrationSettings {
  readonly samples: number;
  readonly batch: number;
  /** Of DDIM. */
  readonly steps: number;
  readonly seed: number;
  readonly guidance: number;
}

/** How models are drawn with: not part of what decides, or decided elsewhere. */
export type Running = Pick<DrawOptions, "threads" | "signal" | "scheduler">;

/** Fewer noise levels than these say nothing of the others. */
const LEAST_LEVELS = 4;

const commonDivisor = (a: number, b: number): number => (b === 0 ? a : commonDivisor(b, a % b));

/** A stride that visits all steps before it comes back: it has no divisor in common with their number. */
function strideOver(steps: number): number {
  for (let stride = 7; ; stride++) if (commonDivisor(stride, steps) === 1) return stride;
}

/**
 * Calibration samples: every sample of a batch is kept at one step, and the steps of a batch are spread over the whole run,
 * so that all noise levels are there. Batches of equal size. @throws ArgumentError unless batches divide the samples, and
 * CalibrationError for too few noise levels
 */
export async function calibrationBatches(
  model: DiTTransformer2DModel,
  settings: CalibrationSettings,
  running: Running = {},
): Promise<CalibrationBatch[]> {
  const { samples, batch, steps } = settings;
  if (samples < batch || samples % batch !== 0)
    throw new ArgumentError(`calibration: ${samples} samples are no whole number of batches of ${batch}`);
  const levels = Math.min(steps, samples);
  if (levels < LEAST_LEVELS)
    throw new CalibrationError(
      `calibration: expected samples of ${LEAST_LEVELS} noise levels or more, got ${levels}; take more steps`,
    );
  const { sampleSize: size, inChannels: channels } = model.config;
  const plane = channels * size * size;
  const x = new Float32Array(samples * plane);
  const timesteps = new Float32Array(samples);
  const stride = strideOver(steps);
  const drawing = draw(model, { ...settings, ...running, count: samples });
  const { labels } = await drained(drawing, async ({ step, first, call }) => {
    const values = (await call.x.data()) as Float32Array;
    for (let i = 0; i < batch; i++) {
      if ((stride * i + first / batch) % steps !== step) continue;
      x.set(values.subarray(i * plane, (i + 1) * plane), (first + i) * plane);
      timesteps[first + i] = call.timestep;
    }
  });
  return Array.from({ length: samples / batch }, (_, b) => ({
    x: fromHost("f32", [batch, channels, size, size], x.slice(b * batch * plane, (b + 1) * batch * plane)),
    timestep: fromHost("f32", [batch], timesteps.slice(b * batch, (b + 1) * batch)),
    labels: fromHost("i32", [batch], labels.slice(b * batch, (b + 1) * batch)),
  }));
}

/** One step of the full-precision model's trajectories: what it saw and said. */
export interface TrajectoryStep {
  readonly timestep: number;
  readonly x: Float32Array; // [N, C, H, W]
  readonly prediction: Float32Array;
}

export interface Trajectory {
  readonly steps: readonly TrajectoryStep[];
  readonly labels: Int32Array;
}

export interface TrajectorySettings {
  readonly count: number;
  readonly steps: number;
  readonly seed: number;
}

/** Records what the full-precision model sees and predicts at every step. */
export async function recordTrajectory(
  model: DiTTransformer2DModel,
  settings: TrajectorySettings,
  running: Running = {},
): Promise<Trajectory> {
  const steps: TrajectoryStep[] = [];
  const drawing = draw(model, { ...settings, ...running, batch: settings.count });
  const { labels } = await drained(drawing, async ({ call: { x, timestep, prediction } }) => {
    const [seen, said] = [await x.data(), await prediction.data()] as [Float32Array, Float32Array];
    steps.push({ timestep, x: seen.slice(), prediction: said.slice() });
  });
  return { steps, labels };
}
