/** Whether hidden tokens are really dropped: time of a training step against the mask ratio. */

import type { LabelledPictures } from "../../data/picture-set.ts";
import { adamW, initialState, makeTrainStep } from "../../nn/index.ts";
import { evaluate, flatten } from "../../tensor/index.ts";
import { umdBatches } from "./batches.ts";
import type { UMDConfig } from "./config.ts";
import { trainingFlops } from "./flops.ts";
import { initUMD } from "./model.ts";
import { MIXTURES, type Mixture, umdLoss } from "./objective.ts";

export interface StepTime {
  readonly name: string;
  readonly mixture: Mixture;
  /** Fastest of the repeats, by which busy neighbours count least. */
  readonly milliseconds: number;
  readonly gigaflops: number;
}

const noised = (noisedMask: number): Mixture => ({ cleanShare: 0, noisedMask, cleanMask: 0.75 });
const clean = (cleanMask: number): Mixture => ({ cleanShare: 1, noisedMask: 0, cleanMask });

/** What is timed: noised pictures at four ratios, clean ones at two, and the mixture of the method. */
export const TIMED: readonly (readonly [name: string, Mixture])[] = [
  ["noised, mask 0 (DiT)", noised(0)],
  ["noised, mask 0.25", noised(0.25)],
  ["noised, mask 0.5 (MaskDiT)", noised(0.5)],
  ["noised, mask 0.75", noised(0.75)],
  ["clean, mask 0.75 (MAE)", clean(0.75)],
  ["UMD", MIXTURES.umd],
];

/** A compiled training step with its state and batches. */
async function prepared(
  config: UMDConfig,
  pictures: LabelledPictures,
  mixture: Mixture,
  options: SpeedOptions,
) {
  const { batch, threads } = options;
  const model = initUMD(config, 0);
  const optimizer = adamW({ learningRate: 1e-4, weightDecay: 0.05 });
  const step = makeTrainStep({
    loss: umdLoss(mixture),
    optimizer,
    clipNorm: 1,
    ...(threads && { jit: { threads } }),
  });
  const batches = umdBatches(config, pictures, { mixture, batch, seed: 0, augment: { flip: false } });
  let state = initialState(model, optimizer);
  await evaluate(flatten(state).leaves);
  let taken = 0;
  return {
    close: () => step.close(),
    /** Milliseconds of one step. */
    async time(): Promise<number> {
      const given = batches(taken++);
      const from = performance.now();
      const result = await step(state, given);
      await result.loss.item();
      ({ state } = result);
      return performance.now() - from;
    },
  };
}

export interface SpeedOptions {
  readonly batch: number;
  readonly repeats: number;
  readonly threads?: number;
}

/**
 * Times of whole training steps: forward, backward, clipping and AdamW. The mixtures take turns, so that a machine that
 * is busy for a while slows all of them; the fastest of each counts.
 */
export async function stepTimes(
  config: UMDConfig,
  pictures: LabelledPictures,
  options: SpeedOptions,
): Promise<StepTime[]> {
  const steps = await Promise.all(TIMED.map(([, mixture]) => prepared(config, pictures, mixture, options)));
  const least = new Float64Array(steps.length).fill(Number.POSITIVE_INFINITY);
  try {
    for (let round = 0; round < options.repeats + 2; round++)
      for (const [k, step] of steps.entries()) {
        const time = await step.time();
        if (round >= 2) least[k] = Math.min(least[k]!, time); // the first two compile and fill memory
      }
  } finally {
    await Promise.all(steps.map((step) => step.close()));
  }
  return TIMED.map(([name, mixture], k) => ({
    name,
    mixture,
    milliseconds: least[k]!,
    gigaflops: (options.batch * trainingFlops(config, mixture)) / 1e9,
  }));
}
