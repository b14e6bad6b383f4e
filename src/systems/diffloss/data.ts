/** Clean pictures to learn from: our own, which can be shipped, or those of a folder; and batches for the prior. */
import {
  type Dataset,
  dataset,
  deadLeaves,
  type FloatPicture,
  listPictures,
  openScenes,
  picturesToTensor,
  readPictureFile,
  toFloatPicture,
} from "../../data/index.ts";
import type { Picture } from "../../io/index.ts";
import { createNoise, type Seed, type Tensor } from "../../tensor/index.ts";
import { alphaBarLevels, type CropSource, diffusionBatch, epochIndices } from "../../training/index.ts";

/** Side of our own pictures. */
export const SIDE = 64;

/** Where the pictures of each use begin: no picture is of two uses. */
const FIRST = { prior: 0, restorer: 1_000_000, test: 2_000_000, validation: 3_000_000 } as const;
export type Use = keyof typeof FIRST;

const bytes = ({ data, ...size }: FloatPicture): Picture => ({
  ...size,
  data: Uint8Array.from(data, (v) => Math.round(255 * Math.min(1, Math.max(0, v)))),
});

const rooms = openScenes({ seed: 0, count: 4_000_000, size: SIDE });

/** Two of three pictures are dead leaves, the third is a room. */
const room = (index: number): boolean => index % 3 === 2;
/** Whether picture `i` of a use is a room. */
export const isRoom = (use: Use, i: number): boolean => room(FIRST[use] + i);

async function made(index: number, size: number): Promise<Picture> {
  if (!room(index) || size !== SIDE) return bytes(deadLeaves(index, { size }));
  const { view } = await rooms.get(index);
  return bytes({ width: view.width, height: view.height, channels: 3, data: view.image });
}

export interface CleanPicture {
  readonly name: string;
  readonly image: Picture;
}

/** Our own pictures; each is made when it is first asked for, and kept. */
export function procedural(use: Use, count: number, size = SIDE): Dataset<CleanPicture> {
  const known = new Map<number, Promise<Picture>>();
  return dataset(count, async (i) => {
    if (!known.has(i)) known.set(i, made(FIRST[use] + i, size));
    return { name: `${use} ${i}`, image: await known.get(i)! };
  });
}

/** All pictures below a folder in colour, each read once. @throws ArgumentError for an empty folder */
export async function folderPictures(folder: string, limit?: number): Promise<Dataset<CleanPicture>> {
  const paths = (await listPictures(folder)).slice(0, limit);
  const known = new Map<number, Promise<Picture>>();
  return dataset(paths.length, async (i) => {
    if (!known.has(i)) known.set(i, readPictureFile(paths[i]!));
    return { name: paths[i]!, image: await known.get(i)! };
  });
}

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

/** Nothing happens to a picture. */
export const UNCHANGED = { about: "nothing", step: <S>(sample: S): S => sample };

/** Test pair `index` of our own pictures for trying a network. */
export async function samplePicture(index: number, size = 128): Promise<FloatPicture> {
  return toFloatPicture(bytes(deadLeaves(FIRST.test + 3 * index, { size })));
}
