/** Between two samples or conditions. The position comes in as data, so a sequence of frames is one compiled graph. */
import { ArgumentError, ShapeError } from "../errors.ts";
import { type Tensor, treeMap, where } from "../tensor/index.ts";
import { fed } from "./guidance/conditions.ts";

/** From a to b, by t in 0 to 1. */
export type Interpolation = (a: Tensor, b: Tensor, t: number) => Tensor;

function check(where: string, a: Tensor, b: Tensor, t: number): void {
  if (!Number.isFinite(t)) throw new ArgumentError(`${where}: expected a finite position, got ${t}`);
  if (a.shape.join() !== b.shape.join())
    throw new ShapeError(`${where}: expected one shape, got [${a.shape}] and [${b.shape}]`);
}

/** `(1 - t) a + t b`: a at 0, b at 1. For conditions. */
export const lerp: Interpolation = (a, b, t) => {
  check("lerp", a, b, t);
  return a.mul(fed(a, 1 - t)).add(b.mul(fed(a, t)));
};

/** Above this cosine the arc is as good as straight, and its formula divides by nearly nothing. */
const NEARLY_PARALLEL = 0.9995;

/**
 * Spherical interpolation (Shoemake 1985) of each sample, over all axes but the first: between noises the norm stays
 * that of noise. Samples that are nearly parallel, or opposite, are interpolated linearly.
 */
export const slerp: Interpolation = (a, b, t) => {
  check("slerp", a, b, t);
  const axes = a.shape.slice(1).map((_, i) => i + 1);
  const lengths = a.norm(axes, true).mul(b.norm(axes, true));
  const cosine = a
    .mul(b)
    .sum(axes, true)
    .div(lengths.add(lengths.equal(0).cast(a.dtype))); // [N, 1, …]
  const straight = cosine.abs().greater(NEARLY_PARALLEL);
  const angle = where(straight, 1, cosine).acos();
  const sine = where(straight, 1, angle.sin());
  const weight = (share: number): Tensor =>
    where(straight, fed(a, share), angle.mul(fed(a, share)).sin().div(sine));
  return a.mul(weight(1 - t)).add(b.mul(weight(t)));
};

/** Interpolation of all tensors of two conditions; the other contents are those of the first. */
export const interpolateConditions = <C>(a: C, b: C, t: number, how: Interpolation = lerp): C =>
  treeMap((from, _path, to) => how(from, to!, t), a, b);

/** `count` frames from a to b, both included. Throws `ArgumentError` for fewer than two. */
export function frames(a: Tensor, b: Tensor, count: number, how: Interpolation = slerp): Tensor[] {
  if (!Number.isInteger(count) || count < 2)
    throw new ArgumentError(`frames: expected at least two, got ${count}`);
  return Array.from({ length: count }, (_, i) => how(a, b, i / (count - 1)));
}
