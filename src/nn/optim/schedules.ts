/** Learning rates as functions of the step number, traced into the training step. */
import { ArgumentError } from "../../errors.ts";
import { asTensor, full, type Tensor, where } from "../../tensor/index.ts";

/** Learning rate by step, i64 from 0: a tensor, so that compiled steps need no new graph. */
export type Schedule = (step: Tensor) => Tensor;

/** The same rate throughout. */
export const constantRate =
  (rate: number): Schedule =>
  (step) =>
    full(step.shape, rate);

/** Rises linearly from 0 over the first `steps` steps, then follows another schedule (or stays). */
export function warmup(steps: number, then: number | Schedule): Schedule {
  if (!(steps >= 0)) throw new ArgumentError(`warmup: expected a number of steps, got ${steps}`);
  const after = typeof then === "number" ? constantRate(then) : then;
  return (step) =>
    steps === 0
      ? after(step)
      : after(step).mul(
          step
            .add(1)
            .mul(1 / steps)
            .clip(0, 1),
        );
}

/** Half a cosine from `rate` to `last` over `steps` steps, then `last` (Loshchilov and Hutter 2017). */
export function cosineDecay(rate: number, steps: number, last = 0): Schedule {
  return (step) => {
    const progress = step.mul(1 / Math.max(1, steps)).clip(0, 1);
    return progress
      .mul(Math.PI)
      .cos()
      .add(1)
      .mul((rate - last) / 2)
      .add(last);
  };
}

/** From `rate` to `last` over `steps` steps along a power of the remaining share; power 1 is a straight line. */
export function polynomialDecay(rate: number, steps: number, last = 0, power = 1): Schedule {
  return (step) => {
    const left = step
      .mul(-1 / Math.max(1, steps))
      .add(1)
      .clip(0, 1);
    return (power === 1 ? left : left.pow(power)).mul(rate - last).add(last);
  };
}

/** `rates[i]` before `boundaries[i]`; one rate more than boundaries. */
export function piecewiseConstant(boundaries: readonly number[], rates: readonly number[]): Schedule {
  if (rates.length !== boundaries.length + 1) {
    throw new ArgumentError(
      `piecewiseConstant: ${boundaries.length} boundaries need ${boundaries.length + 1} rates, got ${rates.length}`,
    );
  }
  return (step) =>
    boundaries.reduceRight(
      (later, boundary, i) => where(step.less(boundary), asTensor(rates[i]!, "f32"), later),
      full(step.shape, rates.at(-1)!),
    );
}
