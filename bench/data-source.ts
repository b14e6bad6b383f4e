/** What the data benchmark opens in worker threads. */
import {
  augmented,
  colourJitter,
  type Dataset,
  type FloatPicture,
  inOrder,
  openPictureFolder,
  openScenes,
  randomCrop,
  randomFlip,
  type WorldOptions,
} from "../src/data/index.ts";

export interface AugmentedSample {
  readonly image: FloatPicture;
}

export const scenes = (options: WorldOptions) => openScenes(options);

export async function augmentedFolder(folder: string): Promise<Dataset<AugmentedSample>> {
  const steps = inOrder(
    randomCrop(32),
    randomFlip(),
    colourJitter({ brightness: 0.2, contrast: 0.2, hue: 0.05 }),
  );
  return augmented(await openPictureFolder(folder), steps, 0);
}
