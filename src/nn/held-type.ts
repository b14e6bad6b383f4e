/** In which type a checkpoint holds floats when half precision is asked for. */
import type { DType } from "../tensor/index.ts";

/** From here on half precision rounds to infinity, and below that it has fewer than its 11 digits. */
const [OVERFLOW, LEAST_NORMAL] = [65520, 2 ** -14];

/**
 * The type that is wanted, or f32 for values that would become infinite in f16, and for scales of packed layers that
 * would lose digits or vanish, since all codes of their group are multiplied by them.
 */
export function heldType(key: string, values: ArrayLike<number | bigint>, wanted: DType): DType {
  if (wanted !== "f16") return wanted;
  const least = key.endsWith(".scales") ? LEAST_NORMAL : 0;
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(Number(values[i]));
    if ((size >= OVERFLOW && size < Number.POSITIVE_INFINITY) || (size > 0 && size < least)) return "f32";
  }
  return wanted;
}
