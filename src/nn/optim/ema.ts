/** Exponential moving averages of parameters. */
import { asTensor, minimum, type Tensor, treeMap } from "../../tensor/index.ts";
import { trainedPaths } from "./optimizer.ts";

/** Decay at a step (f32 scalar, 0 at the first update). */
export type EmaDecay = (step: Tensor) => Tensor;

/** The same decay throughout. */
export const constantDecay =
  (decay: number): EmaDecay =>
  () =>
    asTensor(decay, "f32");

/** Warm-up: min(decay, (1 + step) / (10 + step)). */
export const warmupDecay =
  (decay: number): EmaDecay =>
  (step) =>
    minimum(asTensor(decay, "f32"), step.add(1).div(step.add(10)));

/** 1 - (1 + step / invGamma)^-power, at most `max`: the schedule of k-diffusion and diffusers. */
export const powerDecay =
  (power = 2 / 3, invGamma = 1, max = 0.9999): EmaDecay =>
  (step) =>
    minimum(
      asTensor(max, "f32"),
      step
        .mul(1 / invGamma)
        .add(1)
        .pow(-power)
        .neg()
        .add(1),
    );

/**
 * Updates the EMA: average + (1 - decay) (parameters - average). Leaves that are not trained (integers, running
 * statistics) are copied.
 */
export function updateEma<P>(average: P, parameters: P, decay: Tensor): P {
  const weight = decay.neg().add(1);
  const trained = trainedPaths(average);
  return treeMap(
    (a, path, p) => (trained.has(path) ? a.add(p!.sub(a).mul(weight.cast(a.dtype))) : p!),
    average,
    parameters,
  );
}
