/** Replaces the sample between the steps of any sampler. */
import type { Tensor } from "../tensor/index.ts";
import type { SampleStep } from "./sample.ts";

/** A sampler that runs. */
export type Sampling = AsyncGenerator<SampleStep, Tensor, Tensor | undefined>;

/**
 * Runs a sampler and replaces the sample by `edit(step)` after each step, the last one included. Like a sampler, it
 * accepts a sample through `next(x)`; ending it also ends the sampler inside.
 */
export async function* replaceSample(
  steps: Sampling,
  edit: (step: SampleStep) => Tensor | Promise<Tensor>,
): Sampling {
  let last: Tensor | undefined;
  try {
    let next = await steps.next();
    while (!next.done) {
      const x = await edit(next.value);
      last = (yield { ...next.value, x }) ?? x;
      next = await steps.next(last);
    }
    return last ?? next.value;
  } finally {
    await steps.return(last as Tensor); // the value is not looked at
  }
}
