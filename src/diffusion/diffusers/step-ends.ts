/** Steps that end at another level than the next one begins at, as in the DDIM of diffusers. */
import type { Tensor } from "../../tensor/index.ts";
import type { SampleOptions, Sampler } from "../sample.ts";
import { weightedSum } from "../weighted-sum.ts";

/** Factor from x0 + sigma * noise to a variance-preserving sample. */
const signal = (sigma: number): number => 1 / Math.sqrt(1 + sigma * sigma);

/**
 * A sampler whose step i ends at `ends[i]`: one run of the given sampler per step, which must have no memory. The
 * variance-preserving sample then counts, unchanged, as a sample at the next level. diffusers does this in DDIM when
 * the number of steps does not divide the number of training timesteps.
 */
export const withStepEnds = <O extends SampleOptions>(
  sampler: Sampler<O>,
  ends: readonly number[],
): Sampler<O> =>
  async function* (denoise, x, sigmas, options) {
    const steps = sigmas.length - 1;
    const own = ends.slice(-steps); // a run may begin at a later step
    for (let i = 0; i < steps; i++) {
      const [begin, end, next] = [sigmas[i]!, own[i]!, sigmas[i + 1]!];
      const run = sampler(denoise, x, [begin, end], { ...(options as O), firstStep: i });
      const { done, value } = await run.next();
      if (done) return value;
      const replaced: Tensor | undefined = yield { ...value, step: i, steps };
      const sample = weightedSum([signal(end), await (replaced ?? value.x).eval()]);
      x = weightedSum([1 / signal(next), sample]);
    }
    return x;
  };
