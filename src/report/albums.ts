/** Results of several pictures, each kind made of what belongs to it. `work.ts` says what an album is. */
import { ArgumentError, ShapeError } from "../errors.ts";
import type { Picture } from "../io/index.ts";
import type { Album, AlbumPart, AlbumView } from "../work.ts";

interface Named {
  /** Of the files, without their ending. */
  readonly name: string;
  readonly caption: string;
}

/** @throws ShapeError where the pictures differ in size, ArgumentError without pictures */
function album(view: AlbumView, { name, caption }: Named, parts: readonly AlbumPart[]): Album {
  const [first] = parts;
  if (!first) throw new ArgumentError(`${name}: no pictures`);
  const { width, height } = first.picture;
  for (const { label, picture } of parts)
    if (picture.width !== width || picture.height !== height)
      throw new ShapeError(
        `${name}: "${label}" has ${picture.width}x${picture.height} pixels, "${first.label}" ${width}x${height}`,
      );
  return { name, caption, view, parts };
}

/** A mask [1 channel, 0 to 255] of the size of its picture. */
export function maskOver(named: Named, picture: Picture, mask: Picture): Album {
  if (mask.channels !== 1)
    throw new ShapeError(`${named.name}: a mask has 1 channel, got ${mask.channels} channels`);
  return album("mask", named, [
    { label: "picture", picture },
    { label: "mask", picture: mask },
  ]);
}

/** A picture before and after. */
export const comparison = (named: Named, before: Picture, after: Picture): Album =>
  album("comparison", named, [
    { label: "before", picture: before },
    { label: "after", picture: after },
  ]);

/** Parts of a picture, whose sum by their weights it is. @throws ArgumentError for a weight that is not finite */
export function components(named: Named, parts: readonly Required<AlbumPart>[]): Album {
  for (const { label, weight } of parts)
    if (!Number.isFinite(weight))
      throw new ArgumentError(`${named.name}: "${label}" has the weight ${weight}`);
  return album("components", named, parts);
}

const numbered = (frames: readonly Picture[]): AlbumPart[] =>
  frames.map((picture, i) => ({ label: String(i + 1), picture }));

/** Pictures one after the other, so many a second. */
export function frames(named: Named, pictures: readonly Picture[], rate = 10): Album {
  if (!(rate > 0 && rate <= 60))
    throw new ArgumentError(`${named.name}: expected 0 < rate <= 60, got ${rate}`);
  return { ...album("frames", named, numbered(pictures)), rate };
}

/** A three-dimensional thing, by pictures of one turn around it. Its file, such as a PLY, is told apart. */
export const turntable = (named: Named, pictures: readonly Picture[]): Album =>
  album("scene", named, numbered(pictures));
