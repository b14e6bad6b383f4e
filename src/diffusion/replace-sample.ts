/** Changing the sample between the steps of any sampler. */
import type { Tensor } from "../tensor/index.ts";
import type { SampleStep } from "./sample.ts";

/** A sampler that runs. */
export type Sampling = AsyncGenerator<SampleStep, Tensor, Tensor | undefined>;

/**
 * The steps of a sampling with `edit(step)` in place of each sample, the last one included. Like a sampler, it takes
 * `next(x)` in turn, and ends what it wraps when it is ended.
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
