/** Batches for the prior: clean crops, noised. */
import { picturesToTensor } from "../../data/index.ts";
import { createNoise, type Seed, type Tensor } from "../../tensor/index.ts";
import { alphaBarLevels, type CropSource, diffusionBatch, epochIndices } from "../../training/index.ts";

/** Clean crops for the prior, noised. */
export interface PriorBatch {
  readonly x0: Tensor; // [N, 3, S, S] in [-1, 1]
  readonly timestep: Tensor; // [N]
  readonly level: { readonly alpha: Tensor; readonly sigma: Tensor }; // [N]
  readonly noise: Tensor;
}

/** Batches of a diffusion model's training, a pure function of the step. */
export function priorBatches(
  source: CropSource,
  alphaBars: Float64Array,
  { batch, crop, seed }: { readonly batch: number; readonly crop: number; readonly seed: Seed },
): (step: number) => Promise<PriorBatch> {
  const indices = epochIndices(source.length, batch, seed);
  const noise = createNoise("philox", seed);
  const levels = alphaBarLevels(alphaBars);
  return async (step) => {
    const crops = await Promise.all(
      Array.from(indices(step), (index, i) => source.crop(index, step * batch + i, crop)),
    );
    const x0 = picturesToTensor(
      crops.map(({ clean }) => clean),
      "signed",
    );
    return { x0, ...diffusionBatch(x0.shape, { source: noise, step, levels, stratified: true }) };
  };
}
