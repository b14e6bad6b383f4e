/** Sizes of feature maps that a network can take. */
import { ShapeError } from "../errors.ts";
import type { Tensor } from "../tensor/index.ts";

const nearest = (size: number, factor: number): number =>
  Math.max(factor, Math.round(size / factor) * factor);

/** Checks a map [N, channels, H, W] that must be at least `least` high and wide. Throws `ShapeError`. */
export function checkLeast(name: string, x: Tensor, channels: number, least: number): void {
  checkMap(name, x, channels);
  const [height, width] = [x.shape[2]!, x.shape[3]!];
  if (height < least || width < least)
    throw new ShapeError(`${name}: expected at least ${least} x ${least}, got ${height} x ${width}`);
}

/**
 * Checks a map [N, channels, H, W] whose height and width must be multiples of `factor`. Throws `ShapeError`, which
 * names the nearest size that would do.
 */
export function checkMap(name: string, x: Tensor, channels: number, factor = 1): void {
  if (x.rank !== 4 || x.shape[1] !== channels)
    throw new ShapeError(`${name}: expected [N, ${channels}, H, W], got ${x}`);
  const [height, width] = [x.shape[2]!, x.shape[3]!];
  if (height > 0 && width > 0 && height % factor === 0 && width % factor === 0) return;
  throw new ShapeError(
    `${name}: expected a height and a width that are multiples of ${factor}, got ${height} x ${width}; ` +
      `the nearest is ${nearest(height, factor)} x ${nearest(width, factor)}`,
  );
}
