/** Clean pictures to degrade: our own, which can be shipped, or those of a folder. */
import type { Picture } from "../io/picture-codec.ts";
import { type FloatPicture, toFloatPicture } from "./augment/sample.ts";
import { type Dataset, dataset } from "./dataset.ts";
import { listPictures, readPictureFile } from "./folders.ts";
import { openScenes } from "./world/dataset.ts";
import { deadLeaves } from "./world/dead-leaves.ts";

/** Side of our own pictures. */
export const OWN_SIDE = 64;

/** Where the pictures of each use begin: no picture is of two uses. `real`: those that only a degraded form is seen of. */
const FIRST = {
  prior: 0,
  restorer: 1_000_000,
  test: 2_000_000,
  validation: 3_000_000,
  real: 4_000_000,
} as const satisfies Record<OwnUse, number>;
/** What our own pictures are used for. */
export type OwnUse = "prior" | "restorer" | "test" | "validation" | "real";

const bytes = ({ data, ...size }: FloatPicture): Picture => ({
  ...size,
  data: Uint8Array.from(data, (v) => Math.round(255 * Math.min(1, Math.max(0, v)))),
});

const rooms = openScenes({ seed: 0, count: 5_000_000, size: OWN_SIDE });

/** Two of three pictures are dead leaves, the third is a room. */
const room = (index: number): boolean => index % 3 === 2;
/** Whether picture `i` of a use is a room. */
export const isRoom = (use: OwnUse, i: number): boolean => room(FIRST[use] + i);

async function made(index: number, size: number): Promise<Picture> {
  if (!room(index) || size !== OWN_SIDE) return bytes(deadLeaves(index, { size }));
  const { view } = await rooms.get(index);
  return bytes({ width: view.width, height: view.height, channels: 3, data: view.image });
}

/** A picture and where it comes from. */
export interface CleanPicture {
  readonly name: string;
  readonly image: Picture;
}

/** Our own pictures, dead leaves and rooms; each is made when it is first asked for, and kept. */
export function ownPictures(use: OwnUse, count: number, size = OWN_SIDE): Dataset<CleanPicture> {
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

/** Our own test picture `index` of any size, for trying a network. */
export async function ownTestPicture(index: number, size = 128): Promise<FloatPicture> {
  return toFloatPicture(bytes(deadLeaves(FIRST.test + 3 * index, { size })));
}
