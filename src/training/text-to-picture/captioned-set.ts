/** A captioned set of any kind as what a training takes: pictures of one size in memory, a caption drawn for each epoch. */
import { type CaptionedSample, createDraw, type Dataset, dataset } from "../../data/index.ts";
import { ArgumentError, FormatError } from "../../errors.ts";
import type { Seed } from "../../tensor/index.ts";
import { assertFits } from "../../tensor/memory.ts";
import type { Work } from "../../work.ts";
import type { CaptionedPicture } from "./train.ts";

/** How the pictures of a set are used. */
export interface SetOptions {
  /** Side in pixels. */
  readonly size: number;
  /** Mirrors half of the pictures, anew in every epoch. */
  readonly flip: boolean;
  readonly seed: Seed;
  readonly signal?: AbortSignal | undefined;
}

/** A row of pixels backwards. */
function mirrored(data: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(data.length);
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++)
      for (let c = 0; c < 3; c++) out[3 * (y * size + size - 1 - x) + c] = data[3 * (y * size + x) + c]!;
  return out;
}

/** Reads all pictures, decoded at this size already. @throws FormatError naming a damaged picture, ArgumentError when they do not fit */
export async function* loadedSet(
  set: Dataset<CaptionedSample>,
  { size, flip, seed, signal }: SetOptions,
): Work<Dataset<CaptionedPicture>> {
  const bytes = 3 * size * size;
  assertFits(set.length * bytes, `${set.length} pictures of ${size}x${size} pixels`);
  const all = new Uint8Array(set.length * bytes);
  const captions: (readonly string[])[] = [];
  for (let i = 0; i < set.length; i++) {
    if (signal?.aborted) throw new ArgumentError("stopped while the pictures were read");
    const { image, captions: own, name } = await set.get(i);
    if (
      image.width !== size ||
      image.height !== size ||
      image.channels !== 3 ||
      !(image.data instanceof Uint8Array)
    )
      throw new FormatError(`${name}: expected ${size}x${size} pixels in colours of 8 bits`);
    all.set(image.data, i * bytes);
    captions.push(own);
    if (i % 50 === 0 || i + 1 === set.length)
      yield { type: "progress", stage: "pictures are read", done: i + 1, total: set.length };
  }
  return dataset(set.length, (i, epoch): CaptionedPicture => {
    const draw = createDraw(seed, i, epoch, "captioned picture");
    const data = all.slice(i * bytes, (i + 1) * bytes);
    const own = captions[i]!;
    const caption = own.length > 0 ? draw.pick(own) : "";
    const image = { width: size, height: size, channels: 3, data };
    return { image: flip && draw.chance(0.5) ? { ...image, data: mirrored(data, size) } : image, caption };
  });
}

/** Sizes and lengths that suit a set, by the number of its pictures. */
export interface SetDefaults {
  readonly channels: readonly number[];
  readonly steps: number;
  readonly flip: boolean;
}

const SIDES = /\b(left|right)\b/i;

/**
 * Defaults for a set: a few hundred pictures are learnt by a small network, more of them need a wider one and more steps.
 * Pictures are mirrored unless there are many, or captions speak of left and right.
 */
export function setDefaults(count: number, captions: readonly string[]): SetDefaults {
  const flip = count < 20_000 && !captions.some((caption) => SIDES.test(caption));
  if (count < 300) return { channels: [32, 64, 64], steps: 3000, flip };
  if (count < 5000) return { channels: [48, 96, 96], steps: 8000, flip };
  return { channels: [64, 128, 128], steps: 15_000, flip };
}

/** EMA decay for a training of so many steps: the start has faded after a tenth of them. */
export const emaFor = (steps: number): number => Math.max(0, Math.min(0.9995, 1 - 10 / steps));
