/** Numbers of any unit, such as Hounsfield's or counts of a camera, as brightness. */
import { NonFiniteError } from "../errors.ts";
import type { Picture } from "../io/index.ts";

/**
 * Floats outside of [0, 1] scaled from the least to the greatest value of all the pictures, which share a unit, to [0, 1];
 * floats within, bytes and 16-bit numbers stay. @throws NonFiniteError naming the first value that is no finite number
 */
export function inUnits(pictures: readonly Picture[], name: string): readonly Picture[] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const [z, { data, width, channels }] of pictures.entries()) {
    if (!(data instanceof Float32Array)) return pictures;
    for (const [i, v] of data.entries()) {
      if (!Number.isFinite(v)) {
        const pixel = Math.floor(i / channels);
        const place = `(${pixel % width}, ${Math.floor(pixel / width)})`;
        throw new NonFiniteError(
          `${name}: the value ${v} at ${place}${pictures.length > 1 ? ` of slice ${z}` : ""}`,
        );
      }
      if (v < low) low = v;
      if (v > high) high = v;
    }
  }
  if (low >= 0 && high <= 1) return pictures;
  const scale = high > low ? 1 / (high - low) : 0;
  return pictures.map((picture) => ({
    ...picture,
    data: Float32Array.from(picture.data, (v) => (v - low) * scale),
  }));
}
