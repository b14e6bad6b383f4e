/** A user's two folders: what can be learned from, and what is wrong with it, before anything is trained. */
import { type CleanPicture, type Dataset, folderPictures, listPictures, subset } from "../../data/index.ts";
import { ShapeError } from "../../errors.ts";
import { hashFile } from "../../io/index.ts";
import type { Work } from "../../work.ts";

/** Pictures that a crop fits into; the others are left out, with a warning. @throws ShapeError when none is left */
export async function* usablePictures(
  name: string,
  folder: string,
  crop: number,
  limit?: number,
): Work<Dataset<CleanPicture>> {
  const all = await folderPictures(folder, limit);
  const large: number[] = [];
  let smallest = "";
  for (let i = 0; i < all.length; i++) {
    const { image } = await all.get(i);
    if (Math.min(image.width, image.height) >= crop) large.push(i);
    else smallest = `${image.width}x${image.height}`;
    yield { type: "progress", stage: `looking at the ${name} pictures`, done: i + 1, total: all.length };
  }
  const small = all.length - large.length;
  if (large.length === 0)
    throw new ShapeError(
      `--${name} ${folder}: all ${all.length} pictures are smaller than the crop of ${crop} (one is ${smallest}); choose a smaller --crop`,
    );
  if (small > 0)
    yield {
      type: "warning",
      text: `${small} of ${all.length} ${name} pictures are smaller than the crop of ${crop} and left out`,
    };
  if (large.length === 1)
    yield { type: "warning", text: `there is one ${name} picture: the network learns that one by heart` };
  return subset(all, large);
}

/** Whether two folders hold the same pictures, to the last byte, whatever their names and order. */
export async function samePictures(a: string, b: string, limit?: number): Promise<boolean> {
  const [own, other] = await Promise.all([a, b].map(async (f) => (await listPictures(f)).slice(0, limit)));
  if (own!.length !== other!.length) return false;
  const hashes = async (paths: readonly string[]): Promise<string> =>
    (await Promise.all(paths.map(hashFile))).sort().join();
  return (await hashes(own!)) === (await hashes(other!));
}
