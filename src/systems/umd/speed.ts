/** Whether hidden tokens are really dropped: time of a training step against the mask ratio. */
import { adamW, initialState, makeTrainStep } from "../../nn/index.ts";
import { evaluate, flatten } from "../../tensor/index.ts";
import { umdBatches } from "./batches.ts";
import type { UMDConfig } from "./config.ts";
import type { LabelledPictures } from "./data/pictures.ts";
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

/** Times of whole training steps: forward, backward, clipping and AdamW. */
export async function* stepTimes(
  config: UMDConfig,
  pictures: LabelledPictures,
  { batch, repeats, threads }: { batch: number; repeats: number; threads?: number },
): AsyncGenerator<StepTime> {
  for (const [name, mixture] of TIMED) {
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
    let least = Number.POSITIVE_INFINITY;
    try {
      for (let i = 0; i < repeats + 2; i++) {
        const given = batches(i);
        const from = performance.now();
        const result = await step(state, given);
        await result.loss.item();
        state = result.state;
        if (i >= 2) least = Math.min(least, performance.now() - from);
      }
    } finally {
      await step.close();
    }
    yield { name, mixture, milliseconds: least, gigaflops: (batch * trainingFlops(config, mixture)) / 1e9 };
  }
}
